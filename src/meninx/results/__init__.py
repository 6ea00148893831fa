"""Results: what a study finds, as files that a person, a program and a report can read.

It stands behind the bundle and before the report. The dataclasses of ``schema`` and
``evaluation`` say what each file of a run folder holds; ``typed_files`` writes them and reads them
back checked; :class:`RunFolder` is the folder itself. ``docs/results.schema.json`` is the same for
other programs, written by ``python -m meninx.results.json_schema``.
"""

from meninx.results.run_folder import RunFolder
from meninx.results.typed_files import convert

__all__ = ["RunFolder", "convert"]
