"""Write dataclasses as JSON and CSV, and read such files back checked, field by field.

In: a dataclass of :mod:`meninx.results.schema`, or a file. Out: the other. A number that is none
is written as null, or as an empty field of a table, and read as `None`.
"""

import csv
import io
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from meninx.errors import StudyError

Shape = TypeVar("Shape")

WHAT_TO_DO = "run the study again"


_make_adapter = cache(TypeAdapter)


def find_adapter(shape: type[Shape]) -> TypeAdapter[Shape]:
    """Give what checks values against a shape; to make one takes longer than to use it."""
    adapter: TypeAdapter[Shape] = _make_adapter(cast(Any, shape))
    return adapter


def convert(shape: type[Shape], source: object, **further: object) -> Shape:
    """Make a dataclass from the like-named fields of something else, however deep they lie.

    Parameters
    ----------
    shape
        A dataclass of the schema; of its fields those that are neither in the source nor given
        keep their default.
    source
        Any dataclass or dictionary. Arrays in it become lists, numbers that are none `None`.
    further
        Fields that the source lacks, or has in another form.
    """
    known = {**(source if isinstance(source, Mapping) else vars(source)), **further}
    found = {name: known[name] for name in _list_names(shape) if name in known}
    plain = to_jsonable_python(found, fallback=lambda array: array.tolist(), inf_nan_mode="null")
    return find_adapter(shape).validate_python(plain)


def to_json(content: Any, shape: Any = None) -> bytes:  # noqa: ANN401
    """Write a dataclass, or a list of them of the `shape` that is named, as JSON."""
    return find_adapter(shape or type(content)).dump_json(content, indent=1)


def to_csv(rows: Sequence[Any], shape: type) -> bytes:
    """Write dataclasses of one shape as a table with a head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_list_names(shape))
    for row in rows:
        writer.writerow("" if _is_missing(value) else value for value in vars(row).values())
    return text.getvalue().encode()


def read_bytes(path: Path) -> bytes:
    """Read a file of a run.

    Raises
    ------
    StudyError
        It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(
            f"{path} cannot be read ({error.strerror}): no finished study? "
            "`meninx study` goes on where it stopped"
        ) from error


def read_json(path: Path, shape: type[Shape], cure: str = WHAT_TO_DO) -> Shape:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    shape
        What it must hold; fields that the shape does not name are let be.
    cure
        What to do where it does not, for the end of the sentence.

    Raises
    ------
    StudyError
        It cannot be read, is no JSON, or lacks a field or has one of another type.
    """
    content = read_bytes(path)
    try:
        return find_adapter(shape).validate_json(content, strict=True)
    except ValidationError as error:
        raise StudyError(f"{_tell(path, error.errors()[0])}; {cure}") from error


def read_csv(path: Path, shape: type[Shape]) -> tuple[Shape, ...]:
    """Read the columns of a table that a dataclass names; an empty field becomes `None`.

    Raises
    ------
    StudyError
        It cannot be read, lacks a column, or has a text where a number should be.
    """
    table = csv.DictReader(read_bytes(path).decode("utf-8-sig", "replace").splitlines())
    names = _list_names(shape)
    missing = [name for name in names if name not in (table.fieldnames or ())]
    if missing:
        raise StudyError(f"{path} lacks the columns {', '.join(missing)}; {WHAT_TO_DO}")
    rows = [{name: row[name] or None for name in names} for row in table]
    try:
        return find_adapter(tuple[shape, ...]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError as error:
        raise StudyError(f"{_tell(path, error.errors()[0])}; {WHAT_TO_DO}") from error


def _tell(path: Path, error: ErrorDetails) -> str:
    """Say in which field of a file what is wrong."""
    if error["type"] == "json_invalid":
        return f"{path} is not JSON ({error['ctx']['error']})"
    is_missing, place = error["type"] == "missing", error["loc"]
    where = str(path)
    for part in place[:-1] if is_missing else place:
        where += f"[{part}]" if isinstance(part, int) else f": {part}"
    if is_missing:
        return f"{where} lacks {place[-1]}"
    message = error["msg"].removeprefix("Input ")
    return f"{where} is {reprlib.repr(error['input'])}, it {message}"


def _list_names(shape: Any) -> list[str]:  # noqa: ANN401
    return [field.name for field in fields(shape)]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
