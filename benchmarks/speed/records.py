"""Records: one JSON line for each thing measured, there whole or not at all."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.machine import describe_machine, describe_moment

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


def measure_once(
    path: Path, key: Mapping[str, object], measure: Callable[[], Mapping[str, Any]]
) -> Record | None:
    """Measure something and add it to a file of records, unless it is there already.

    Parameters
    ----------
    path
        The file.
    key
        What tells this record from others.
    measure
        Gives what else the record says, the moment and the machine apart.

    Returns
    -------
    dict or None
        The new record; None where there was one.
    """
    if has_record(path, **key):
        return None
    # Before it is measured, which makes the machine busy.
    about = {**key, **describe_moment(), "machine": describe_machine()}
    record = {**about, **measure()}
    append_record(path, record)
    return record
