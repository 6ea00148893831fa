"""A folder of DICOM files, of any number of patients and studies, as series in order.

In: a folder as a scanner, an archive or a disc gave it. Out: :class:`Series`, each with its
slices from one end to the other. Only headers are read. A DICOMDIR is not needed and not
believed: it may be old, or name files elsewhere.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from meninx.errors import CohortError, ImageError
from meninx.imaging.dicom_headers import SliceHeader, is_dicom, read_headers
from meninx.imaging.file_walk import is_junk, walk_files
from meninx.imaging.geometry import read_directions

LOCALISER = r"locali[sz]er|\bloc\b|scout|pilot|survey|topogram|3.?plane|\baahead"
# Values of ImageType that say a slice was computed from others.
DERIVED_TYPES = {
    "DERIVED", "SECONDARY", "MPR", "MIP", "MNIP", "PROJECTION IMAGE", "SUBTRACTION", "SUBTRACT",
    "ADC", "FA", "TRACEW", "REFORMATTED", "RESAMPLED", "CSA MPR", "CSAPARALLEL",
}  # fmt: skip
NOT_SCANNED = {"SC", "OT", "SR", "PR", "KO", "SEG", "DOC"}  # modalities that are no scanner's
SAME_PLACE = 0.01  # mm
SAME_DIRECTION = 0.02  # difference of unit vectors


class SeriesKind(StrEnum):
    """What a series is for."""

    ORIGINAL = "original"
    DERIVED = "derived"
    LOCALISER = "localiser"


@dataclass(frozen=True)
class Series:
    """The slices of one DICOM series at distinct places, in order along their normal.

    Attributes
    ----------
    slices
        From one end to the other; at each place the first in time. Without positions, in the
        order of their instance numbers.
    kind
        Scanned, computed from other slices, or a localiser.
    repeats
        How many further slices lie at the same places: later time points, echoes, b values.
    """

    slices: tuple[SliceHeader, ...]
    kind: SeriesKind
    repeats: int

    @property
    def first(self) -> SliceHeader:
        """The slice that speaks for the series."""
        return self.slices[0]


def find_series(folder: Path) -> tuple[list[Series], dict[Path, str]]:
    """Find the series below a folder.

    Returns
    -------
    series
        By patient, study, number and UID.
    bad
        DICOM files whose header cannot be read, and why. Files that are no DICOM are passed over.

    Raises
    ------
    CohortError
        There is no such folder, it cannot be read, or no DICOM image is in it.
    """
    if not folder.is_dir():
        raise CohortError(f"{folder}: there is no such folder")
    found: defaultdict[tuple[str, str, str], dict[tuple[str, int | None], SliceHeader]]
    found, bad = defaultdict(dict), {}
    for path in walk_files(folder, is_junk):
        try:
            headers = read_headers(path) if is_dicom(path) else []
        except OSError as problem:
            bad[path] = f"it cannot be read ({problem.strerror})"
            continue
        except ImageError as problem:
            bad[path] = problem.reason.text
            continue
        for header in headers:
            slices = found[(header.patient, header.study, header.series)]
            # A copy of a file has the same instance UID; the first by name is kept.
            slices.setdefault((header.instance or str(path), header.frame), header)
    if not found and not bad:
        raise CohortError(f"{folder}: no DICOM image is in it")
    series = [arrange_slices(list(slices.values())) for slices in found.values()]
    return sorted(series, key=_series_order), bad


def _series_order(series: Series) -> tuple[str, str, int, str]:
    first = series.first
    return first.patient, first.study, first.number, first.series


def arrange_slices(headers: Sequence[SliceHeader]) -> Series:
    """Sort a series' slices along their normal, and tell what kind of series it is."""
    kind = _tell_kind(headers)
    places = _measure_places(headers)
    if places is None:
        in_time = sorted(headers, key=lambda header: (header.moment[-2:], str(header.path)))
        return Series(tuple(in_time), kind, repeats=0)
    order = sorted(
        range(len(headers)),
        key=lambda index: (
            round(float(places[index]) / SAME_PLACE),
            headers[index].moment,
            str(headers[index].path),
        ),
    )
    kept: list[int] = []
    for index in order:
        if not kept or places[index] - places[kept[-1]] > SAME_PLACE:
            kept.append(index)
    chosen = tuple(headers[index] for index in kept)
    return Series(chosen, kind, repeats=len(headers) - len(chosen))


def _measure_places(headers: Sequence[SliceHeader]) -> np.ndarray | None:
    """Measure where each slice lies along the common normal, (n,) mm, or None if not known."""
    directions = [read_directions(header.orientation) for header in headers]
    if directions[0] is None or not all(len(header.position) == 3 for header in headers):
        return None
    positions = np.array([header.position for header in headers])
    places = positions @ np.cross(*directions[0])
    return places if np.isfinite(places).all() else None


def _tell_kind(headers: Sequence[SliceHeader]) -> SeriesKind:
    first = headers[0]
    types = {part for header in headers for part in header.image_type}
    is_named_so = re.search(LOCALISER, first.description.lower().replace("_", " "))
    if "LOCALIZER" in types or is_named_so:
        return SeriesKind.LOCALISER
    if types & DERIVED_TYPES or first.modality in NOT_SCANNED:
        return SeriesKind.DERIVED
    return SeriesKind.LOCALISER if _has_several_planes(headers) else SeriesKind.ORIGINAL


def _has_several_planes(headers: Sequence[SliceHeader]) -> bool:
    known = [
        directions
        for header in headers
        if (directions := read_directions(header.orientation)) is not None
    ]
    return any(np.abs(other - known[0]).max() > SAME_DIRECTION for other in known[1:])
