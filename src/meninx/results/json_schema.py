"""Publish what the JSON files of a run folder hold, for other programs.

``python -m meninx.results.json_schema`` prints what ``docs/results.schema.json`` holds: a JSON
schema of an object whose fields are the names of the files.
"""

import json
import sys
from typing import Any, Literal

from pydantic import TypeAdapter

from meninx.results.run_folder import JSON_FILES
from meninx.results.schema import BundleFile, Example, ModelFile
from meninx.results.typed_files import find_adapter

FILES: dict[str, Any] = {
    **{name: shape for shape, name in JSON_FILES.items()},
    "examples.json": tuple[Example, ...],
    "models/<model>/model.json": ModelFile,
    "bundle/bundle.json": BundleFile,
}


def make_json_schema() -> str:
    """Make the schema of every JSON file of a run folder, as text."""
    adapters: list[tuple[str, Literal["serialization"], TypeAdapter[Any]]] = [
        (name, "serialization", find_adapter(shape)) for name, shape in FILES.items()
    ]
    places, definitions = TypeAdapter.json_schemas(adapters)
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The JSON files of a Meninx run folder",
        "type": "object",
        "properties": {name: places[name, "serialization"] for name in FILES},
        **definitions,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(make_json_schema())
