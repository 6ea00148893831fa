"""Read JSON and CSV files that must have the shape of a typed dictionary."""

import csv
import json
import math
import types
from pathlib import Path
from typing import NotRequired, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from meninx.errors import StudyError

Shape = TypeVar("Shape")


def read_bytes(path: Path) -> bytes:
    """Read a file of a run.

    Raises
    ------
    StudyError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(
            f"{path} cannot be read ({error.strerror}); is the study finished? "
            "`meninx study` goes on where it stopped"
        ) from error


def read_json(path: Path, shape: type[Shape]) -> Shape:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    shape
        What it must hold: typed dictionaries, lists, dictionaries, plain types and unions of
        plain types, or of one typed dictionary and `None`, nested as they come. Fields that the
        shape does not name are let be.

    Raises
    ------
    StudyError
        If it cannot be read, is no JSON, or lacks a field or has one of another type.
    """
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise StudyError(f"{path} is not JSON ({error}); run the study again") from error
    _check_shape(content, shape, str(path))
    shaped: Shape = content
    return shaped


def read_json_if_there(path: Path, shape: type[Shape]) -> Shape | None:
    """Read a JSON file that a run may do without, as :func:`read_json` does."""
    return read_json(path, shape) if path.exists() else None


def read_csv(path: Path, shape: type[Shape]) -> list[Shape]:
    """Read the columns of a CSV file that a typed dictionary of texts and numbers names.

    An empty number, or one that is not finite, becomes `None`.

    Raises
    ------
    StudyError
        If it cannot be read, lacks a column, or has a text where a number should be.
    """
    hints = get_type_hints(shape)
    rows = csv.DictReader(read_bytes(path).decode("utf-8-sig", "replace").splitlines())
    missing = [name for name in hints if name not in (rows.fieldnames or ())]
    if missing:
        raise StudyError(f"{path} lacks the columns {', '.join(missing)}; run the study again")
    return [
        shape(
            **{
                name: (row[name] or "") if kind is str else _read_number(row[name], name, path)
                for name, kind in hints.items()
            }
        )
        for row in rows
    ]


def _read_number(text: str | None, name: str, path: Path) -> float | None:
    try:
        number = float(text) if text else math.nan
    except ValueError as error:
        raise StudyError(f"{path}: {name} is {text!r}, not a number") from error
    return number if math.isfinite(number) else None


def _check_shape(content: object, shape: object, where: str) -> None:
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is NotRequired:
        _check_shape(content, arguments[0], where)
    elif origin is list:
        for number, item in enumerate(_expect(content, list, where)):
            _check_shape(item, arguments[0], f"{where}[{number}]")
    elif origin is dict:
        for name, item in _expect(content, dict, where).items():
            _check_shape(item, arguments[1], f"{where}: {name}")
    elif _has_fields(shape):
        _check_fields(_expect(content, dict, where), shape, where)
    elif any(map(_has_fields, arguments)) and content is not None:
        _check_shape(content, next(filter(_has_fields, arguments)), where)
    else:
        kinds = arguments if origin in (Union, types.UnionType) else (shape,)
        if not any(_has_plain_type(content, kind) for kind in kinds):
            raise _misshapen(content, shape, where)


def _has_fields(shape: object) -> TypeGuard[type]:
    """Tell whether a shape is a typed dictionary."""
    return isinstance(shape, type) and hasattr(shape, "__required_keys__")


def _check_fields(fields: dict[str, object], shape: type, where: str) -> None:
    hints = get_type_hints(shape, include_extras=True)
    required = [name for name, kind in hints.items() if get_origin(kind) is not NotRequired]
    missing = [name for name in required if name not in fields]
    if missing:
        raise StudyError(f"{where} lacks {', '.join(missing)}; run the study again")
    for name in hints.keys() & fields.keys():
        _check_shape(fields[name], hints[name], f"{where}: {name}")


def _expect(content: object, kind: type[Shape], where: str) -> Shape:
    if not isinstance(content, kind):
        raise _misshapen(content, kind, where)
    return content


def _has_plain_type(content: object, kind: object) -> bool:
    """Tell whether a value is of a plain JSON type; an integer will do as a float."""
    if isinstance(content, bool):
        return kind is bool
    if kind is float:
        return isinstance(content, int | float)
    return isinstance(kind, type) and not _has_fields(kind) and isinstance(content, kind)


def _misshapen(content: object, shape: object, where: str) -> StudyError:
    expected = shape.__name__ if isinstance(shape, type) else str(shape)
    return StudyError(f"{where} is {type(content).__name__}, not {expected}; run the study again")
