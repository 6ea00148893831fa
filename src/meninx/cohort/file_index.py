"""What a folder or a manifest says there is, before any image is opened.

In: a folder with one sub-folder a class, or a CSV file. Out: entries in a fixed order.
"""

import csv
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO
from unicodedata import normalize

from meninx.errors import CohortError
from meninx.imaging.file_walk import is_junk, walk_files
from meninx.imaging.slices import Axis
from meninx.language import Message

logger = logging.getLogger(__name__)

MASK_NAME = re.compile(r"(.+?)[ _-](?:mask|seg|segmentation)(?:_\d+)?", re.IGNORECASE)

# What folders are called that divide images for another study, above the classes.
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
NO_LABELS = {"", "?", "nan", "n/a", "null", "unknown"}
# A class may be called so, a patient is not.
NO_PATIENTS = NO_LABELS | {"na", "none", "-"}


@dataclass(frozen=True)
class Entry:
    """One listed file; `frame` is None when the file's slices are still to be chosen.

    `name` is its path below the listed folder with forward slashes: the same on every
    machine, it gives the order. `patient` is None when it is not known, `axis` when the whole
    cohort's applies.
    """

    path: Path
    name: str
    label: str
    patient: str | None
    frame: int | None = None
    fold: int | None = None
    mask: Path | None = None
    synthetic: bool = False
    axis: Axis | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that is listed but cannot be used, and was left out because that was asked for.

    Attributes
    ----------
    path
        The file, for the user's own eyes.
    label
        The class it was listed under; empty when it had none.
    reason
        What is wrong with it, without its name.
    """

    path: Path
    label: str
    reason: Message


def list_folder(folder: Path, patient_pattern: str | None) -> list[Entry]:
    """List the images of a folder that has one sub-folder a class, at any depth below it."""
    if not folder.is_dir():
        raise CohortError(f"{folder}: there is no such folder")
    entries = []
    for class_folder in _find_class_folders(folder):
        files = walk_files(class_folder, is_junk)
        if not files:
            raise CohortError(f"{class_folder}: this class folder holds no image; add or remove it")
        label = normalize("NFC", class_folder.name.strip())
        if not label.isprintable():  # bytes that are no text are not printable either
            raise CohortError(f"{class_folder}: a class cannot have this name; rename the folder")
        entries += [
            Entry(file, file.relative_to(folder).as_posix(), label, patient=None, mask=mask)
            for file, mask in _set_masks_apart(files)
        ]
    if not entries:
        raise CohortError(f"{folder}: it holds no images; it needs one sub-folder for each class")
    return _in_order(_with_patients(entries, patient_pattern) if patient_pattern else entries)


def _find_class_folders(folder: Path) -> list[Path]:
    """Find the class folders: below `train` and `test` where such stand above the classes."""
    found = _list_sub_folders(folder)
    if len(found) < 2 or {part.name.lower() for part in found} - PARTS:
        return found
    logger.warning(
        "%s stand above the classes: they are joined, and the study divides patients anew",
        " and ".join(sorted(part.name for part in found)),
    )
    return [child for part in found for child in _list_sub_folders(part)]


def _list_sub_folders(folder: Path) -> list[Path]:
    """List the folders in a folder that may hold images; refuse images beside them."""
    try:
        visible = [
            child
            for child in folder.iterdir()
            if not is_junk(child.relative_to(folder)) and not _is_own_output(child)
        ]
    except OSError as problem:
        raise CohortError(f"{folder}: this folder cannot be read ({problem.strerror})") from None
    strays = sorted(child.name for child in visible if not child.is_dir())
    if strays:
        raise CohortError(
            f"{folder}: {name_some(strays)} is not in a class folder; put each class's images "
            "in a sub-folder of its own, or list them in a manifest.csv"
        )
    return visible


def _is_own_output(folder: Path) -> bool:
    """Tell whether a folder is a run folder or a bundle, whose pictures are no data."""
    return any((folder / name).is_file() for name in ("study.toml", "bundle.json"))


def _set_masks_apart(files: list[Path]) -> list[tuple[Path, Path | None]]:
    """Give each image with the mask beside it: a file of its name with `_mask` or `_seg` behind."""
    named = {(file.parent, file.stem): file for file in reversed(files)}
    masks: dict[Path, Path] = {}
    for file in files:
        match = MASK_NAME.fullmatch(file.stem)
        image = named.get((file.parent, match[1])) if match else None
        if image is not None:
            masks[file] = image
    mask_of = {image: mask for mask, image in reversed(masks.items())}
    return [(file, mask_of.get(file)) for file in files if file not in masks]


def list_manifest(
    csv_file: Path, patient_pattern: str | None, allow_outside: bool
) -> tuple[list[Entry], list[Skipped]]:
    """List the images of a CSV file; its paths are relative to the file's own folder.

    Returns
    -------
    entries
        The rows that can be read.
    unlabelled
        Those that have no label.

    Raises
    ------
    CohortError
        The file is no manifest, or rows of it mean nothing; all of these are named.
    """
    columns, rows = read_table(csv_file)
    missing = {"image", "label"} - set(columns)
    if missing:
        raise CohortError(
            f"{csv_file}: it has no column {' and no column '.join(sorted(missing))}; a manifest "
            "has the columns image and label, and patient, fold, slice, mask, synthetic if known"
        )
    if patient_pattern and "patient" in columns:
        raise CohortError(
            f"{csv_file}: it has a column patient, so a patient pattern cannot be given as well"
        )
    locate = _file_locator(csv_file.parent, allow_outside)
    entries, unlabelled, wrong = [], [], []
    for line, row in rows:
        try:
            entry = _read_row(row, locate)
            if entry.label.lower() in NO_LABELS:
                reason = Message("reason_no_label", label=entry.label, line=line)
                unlabelled.append(Skipped(entry.path, "", reason))
            else:
                entries.append(entry)
        except ValueError as problem:
            wrong.append(f"line {line}: {problem}")
    if wrong:
        raise CohortError(f"{csv_file}: {'; '.join(wrong)}")
    if not entries and not unlabelled:
        raise CohortError(f"{csv_file}: it lists no images")
    _refuse_duplicate_rows(csv_file, entries)
    known = _with_patients(entries, patient_pattern) if patient_pattern else entries
    return _in_order(known), unlabelled


def name_some(names: Iterable[str], separator: str = ", ", shown: int = 3) -> str:
    """Join the first few names and count the rest, for one line of an error."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return separator.join(names[:shown]) + more


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.label, entry.name, entry.frame or 0))


def _with_patients(entries: list[Entry], pattern: str) -> list[Entry]:
    """Take each patient from the file name: the pattern's first group, or all it matches."""
    try:
        expression = re.compile(pattern)
    except re.error as problem:
        raise CohortError(f"patient pattern {pattern!r} is not a regex: {problem}") from None
    found, unmatched = [], []
    for entry in entries:
        # In a folder's name, too: many keep a folder for each patient.
        match = expression.search(entry.path.name) or expression.search(entry.name)
        patient = match and match[1 if expression.groups else 0]
        if patient:
            found.append(replace(entry, patient=patient))
        else:
            unmatched.append(entry.name)
    if unmatched:
        raise CohortError(
            f"patient pattern {pattern!r} finds no patient in {name_some(unmatched)}; "
            "it must match every file name, or a folder above it"
        )
    return found


def read_table(csv_file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV file as its columns and its rows, each with its line, all text stripped."""
    try:
        with csv_file.open(encoding="utf-8-sig", newline="") as file:
            table = _read_lines(file)
    except FileNotFoundError:
        raise CohortError(f"{csv_file}: there is no such file") from None
    except UnicodeDecodeError:
        raise CohortError(f"{csv_file}: it is not UTF-8 text; save it as CSV UTF-8") from None
    except OSError as problem:
        raise CohortError(f"{csv_file}: it cannot be read ({problem.strerror})") from None
    except csv.Error as problem:
        raise CohortError(f"{csv_file}: it cannot be read as CSV ({problem})") from None
    table = [(line, cells) for line, cells in table if any(cells)]
    if not table:
        raise CohortError(f"{csv_file}: it is empty")
    columns = [name.lower() for name in table[0][1]]
    while columns and not columns[-1] and all(not any(row[len(columns) - 1 :]) for _, row in table):
        # A spreadsheet leaves columns behind that hold nothing.
        table = [(line, row[: len(columns) - 1]) for line, row in table]
        columns.pop()
    if len(set(columns)) < len(columns):
        raise CohortError(f"{csv_file}: two of its columns have the same name")
    for line, cells in table[1:]:
        if len(cells) != len(columns):
            raise CohortError(
                f"{csv_file}: line {line} has {len(cells)} cells, but there are "
                f"{len(columns)} columns"
            )
    return columns, [(line, dict(zip(columns, cells, strict=True))) for line, cells in table[1:]]


def _read_lines(file: TextIO) -> list[tuple[int, list[str]]]:
    """Read the lines of a CSV file, each with its number and its cells."""
    header = file.readline()
    said = re.fullmatch(r"sep=([,;\t])", header.rstrip("\r\n"))  # as Excel says it
    if not said:
        file.seek(0)
    # Spreadsheets of half the world separate by semicolon.
    sign = said[1] if said else max(",;\t", key=header.count)
    reader = csv.reader(file, delimiter=sign, strict=True)
    above = 1 if said else 0
    return [(reader.line_num + above, [cell.strip() for cell in row]) for row in reader]


def _read_row(row: dict[str, str], locate: Callable[[str], tuple[Path, str]]) -> Entry:
    """Read one row; raise ValueError saying what is wrong with it."""
    path, name = locate(row["image"])
    # However an accent is composed, it is one letter.
    label = normalize("NFC", row["label"])
    patient = row.get("patient")
    if patient is not None and patient.lower() in NO_PATIENTS:
        raise ValueError(
            f"{name} has no patient (but {patient!r}); fill the column or leave it out altogether"
        )
    synthetic = row.get("synthetic", "").lower()
    if synthetic not in ("", "0", "1", "true", "false", "yes", "no"):
        raise ValueError(f"synthetic is {synthetic!r}, not true or false")
    mask = row.get("mask")
    if mask and not os.path.isfile(locate(mask)[0]):  # noqa: PTH113 (Path raises on long names)
        raise ValueError(f"there is no file {mask}")
    return Entry(
        path,
        name,
        label,
        patient,
        frame=_read_whole_number(row, "slice"),
        fold=_read_whole_number(row, "fold"),
        mask=locate(mask)[0] if mask else None,
        synthetic=synthetic in ("1", "true", "yes"),
        axis=_read_axis(row),
    )


def _read_axis(row: dict[str, str]) -> Axis | None:
    text = row.get("axis", "").lower()
    if text and text not in list(Axis):
        raise ValueError(f"axis is {text!r}, not {', '.join(Axis)}")
    return Axis(text) if text else None


def _read_whole_number(row: dict[str, str], column: str) -> int | None:
    text = row.get(column)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(f"{column} is {text!r}, not a whole number")
    return int(text)


def _file_locator(folder: Path, allow_outside: bool) -> Callable[[str], tuple[Path, str]]:
    """Give the function that finds a manifest's files: text → path, name below the folder."""
    # Not resolved: links inside a data folder to files elsewhere were laid by its owner.
    home = Path(os.path.abspath(folder))  # noqa: PTH100

    def locate(text: str) -> tuple[Path, str]:
        if not text:
            raise ValueError("the column image is empty")
        if "\0" in text:
            raise ValueError("the column image holds what is in no file's name")
        if "\\" in text and not os.path.exists(home / text):  # noqa: PTH110 (as below)
            text = text.replace("\\", "/")  # as Windows writes a path
        absolute = Path(os.path.normpath(home / text))
        is_inside = absolute.is_relative_to(home)
        if not is_inside and not allow_outside:
            raise ValueError(
                f"{text} is outside the manifest's folder; move it inside, or add --allow-outside"
            )
        name = absolute.relative_to(home) if is_inside else absolute
        return (folder / name if is_inside else absolute), name.as_posix()

    return locate


def _refuse_duplicate_rows(csv_file: Path, entries: list[Entry]) -> None:
    frames_of = defaultdict(list)
    for entry in entries:
        frames_of[entry.name].append(entry.frame)
    # A row without a slice means slices chosen later, which may be any.
    repeated = [
        name
        for name, frames in frames_of.items()
        if len(set(frames)) < len(frames) or (len(frames) > 1 and None in frames)
    ]
    if repeated:
        raise CohortError(f"{csv_file}: {name_some(repeated)} is listed more than once")
