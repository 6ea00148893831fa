"""Manifests made from what others deliver: a folder of DICOM studies, or the CE-MRI set.

A manifest stays with the user. Even so patients stand in it under keyed pseudonyms only.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meninx.cohort.file_index import NO_LABELS, read_table
from meninx.cohort.pseudonyms import Pseudonyms
from meninx.errors import CohortError, ImageError
from meninx.files import write_whole
from meninx.imaging.dicom_headers import SliceHeader
from meninx.imaging.images import decode_frame, open_frames
from meninx.imaging.series import Series, SeriesKind, find_series
from meninx.imaging.slices import SliceChoice, choose_slices

DICOM_COLUMNS = ("image", "label", "patient", "slice", "sequence", "series", "kind")
KEYS = ("patient", "series", "folder")


@dataclass(frozen=True)
class WrittenManifest:
    """What was written, to be told to the user.

    Attributes
    ----------
    path
        The manifest.
    images, patients
        How many are in it.
    left_out
        What is not, and why: reason → how many series or files.
    """

    path: Path
    images: int
    patients: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class Wanted:
    """Which slices of which series go into a manifest.

    Attributes
    ----------
    series
        A regular expression searched, whatever the case, in the description, protocol and
        sequence name of each series; None takes all.
    kinds
        Of series.
    slices
        How many of each series; None takes all.
    choose
        By which rule.
    """

    series: str | None = None
    kinds: Collection[SeriesKind] = (SeriesKind.ORIGINAL,)
    slices: int | None = None
    choose: SliceChoice = SliceChoice.EVEN


def write_dicom_manifest(
    folder: Path,
    labels: Path,
    manifest: Path,
    key_file: Path,
    wanted: Wanted,
    skip_bad: bool = False,
) -> WrittenManifest:
    """List the slices of a folder of DICOM studies with their labels and patients.

    Parameters
    ----------
    folder
        Holds DICOM files at any depth, of any number of patients, with a DICOMDIR or without.
    labels
        A CSV file with the column `label` and one of `patient` (PatientID), `series`
        (SeriesInstanceUID) or `folder` (below `folder`; it then also stands for the patient
        where files name none).
    manifest
        The CSV file to write.
    key_file
        The key of the pseudonyms; made if it is not there.
    wanted
        Which series and slices.
    skip_bad
        Leave out files that cannot be read and series that have no label.

    Raises
    ------
    CohortError
        The folder or the labels cannot be used, or nothing is left; every bad file is named.
    """
    is_wanted = _make_filter(wanted)
    labelled = _Labels.read(labels, folder)
    found, bad = find_series(folder)
    left_out: Counter[str] = Counter({"cannot be read": len(bad)})
    rows: list[dict[str, object]] = []
    used, names = set(), Pseudonyms.open(key_file)
    for series in found:
        if reason := is_wanted(series):
            left_out[reason] += 1
            continue
        try:
            key, patient = labelled.find(series)
            used.add(key)
            chosen = _choose(series, wanted)
        except ImageError as problem:
            bad[series.first.path] = str(problem)
            left_out["series cannot be used"] += 1
            continue
        rows += [
            {
                "image": relate(header.path, manifest),
                "label": labelled.label_of[key],
                "patient": names.give("P", patient),
                "slice": "" if header.frame is None else header.frame,
                "sequence": header.sequence,
                "series": names.give("R", header.series),
                "kind": series.kind,
            }
            for header in chosen
        ]
    if bad and not skip_bad:
        raise CohortError(tell_all(bad))
    left_out["labels name nothing that was found"] = len(labelled.label_of.keys() - used)
    return write_manifest(manifest, DICOM_COLUMNS, rows, left_out)


def _make_filter(wanted: Wanted) -> Callable[[Series], str | None]:
    """Give the function that says why a series is not wanted, or None when it is."""
    try:
        pattern = re.compile(wanted.series or "", re.IGNORECASE)
    except re.error as problem:
        raise CohortError(f"series pattern {wanted.series!r} is not a regex: {problem}") from None

    def judge(series: Series) -> str | None:
        if series.kind not in wanted.kinds:
            return f"series are {series.kind}"
        if not pattern.search(series.first.description):
            return "series do not match the pattern"
        return None

    return judge


@dataclass(frozen=True)
class _Labels:
    """What labels are given by (one of `KEYS`), and the label of each; folders are absolute."""

    by: str
    label_of: dict[str, str]

    @classmethod
    def read(cls, labels: Path, folder: Path) -> "_Labels":
        columns, rows = read_table(labels)
        given = [key for key in KEYS if key in columns]
        if len(given) != 1 or "label" not in columns:
            raise CohortError(
                f"{labels}: it needs the column label and one of the columns {', '.join(KEYS)}"
            )
        (by,) = given
        label_of: dict[str, str] = {}
        for line, row in rows:
            key, label = row[by], row["label"]
            if not key or label.lower() in NO_LABELS:
                raise CohortError(f"{labels}: line {line} has no {by} or no label")
            if by == "folder":
                key = os.path.normpath(folder.absolute() / key)
            if label_of.setdefault(key, label) != label:
                raise CohortError(f"{labels}: line {line} gives another label than an earlier line")
        return cls(by, label_of)

    def find(self, series: Series) -> tuple[str, str]:
        """Give the key under which a series' label stands, and the patient's own name.

        Of nested folders the innermost counts. Raise ImageError when there is no label or patient.
        """
        first = series.first
        keys = [first.patient if self.by == "patient" else first.series]
        if self.by == "folder":
            own = Path(os.path.normpath(first.path.absolute()))
            keys = [str(parent) for parent in own.parents]
        key = next((key for key in keys if key in self.label_of), None)
        if key is None:
            raise ImageError(f"the labels name no {self.by} that its series is of")
        patient = first.patient or (key if self.by == "folder" else "")
        if not patient:
            raise ImageError("it does not say who the patient is; give labels by folder")
        return key, patient


def _choose(series: Series, wanted: Wanted) -> Sequence[SliceHeader]:
    slices = series.slices
    if wanted.slices is None:
        return slices

    def decode(index: int) -> np.ndarray:
        header = slices[index]
        return decode_frame(header.path, open_frames(header.path), header.frame or 0)

    return [slices[i] for i in choose_slices(len(slices), wanted.slices, wanted.choose, decode)]


def relate(path: Path, manifest: Path) -> str:
    """Give a path as it stands in a manifest: relative, with forward slashes."""
    relative = os.path.relpath(path.absolute(), manifest.absolute().parent)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise CohortError(f"{path}: its name is not UTF-8; rename it") from None
    return Path(relative).as_posix()


def tell_all(bad: Mapping[Path, str]) -> str:
    """Name every file that cannot be used, and why, in one line."""
    told = "; ".join(f"{path}: {why.removeprefix(f'{path}: ')}" for path, why in bad.items())
    return f"{len(bad)} cannot be used (--skip-bad leaves them out): {told}"


def write_manifest(
    manifest: Path,
    columns: Sequence[str],
    rows: Sequence[dict[str, object]],
    left_out: Counter[str],
) -> WrittenManifest:
    """Write a manifest and say what is in it and what is not, and why.

    Raises
    ------
    CohortError
        There are no rows.
    """
    told = {reason: count for reason, count in left_out.items() if count}
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in told.items())
        raise CohortError(f"no image is left for the manifest ({reasons})")
    # A column that says nothing is left out: an empty one would have a meaning of its own.
    kept = [column for column in columns if any(row[column] != "" for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, kept, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(manifest, text.getvalue().encode())
    patients = len({row["patient"] for row in rows})
    return WrittenManifest(manifest, len(rows), patients, told)
