"""Records: one JSON line for each thing measured, there whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meninx.files import write_whole

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Read a file of records; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file, which is replaced as a whole."""
    lines = [json.dumps(one) + "\n" for one in (*read_records(path), record)]
    write_whole(path, "".join(lines).encode())


def has_record(path: Path, **key: object) -> bool:
    """Tell whether there is a record with these values."""
    return any(
        all(record.get(name) == value for name, value in key.items())
        for record in read_records(path)
    )
