"""What a DICOM file says of its slices, read without its pixels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meninx.errors import ImageError
from meninx.imaging.dicom import find_value, refuse_inflated
from meninx.imaging.frame_source import MAXIMUM_FRAMES
from meninx.imaging.silence_loggers import silence_loggers

if TYPE_CHECKING:
    from pydicom import Dataset

# All that is read of a file: what is not named here is not even parsed.
TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "DiffusionBValue",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "ScanningSequence",
    "ContrastBolusAgent",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "ImageType",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
]
# In this order: the first that fits names the sequence. The names hold nothing of a patient.
SEQUENCES = {
    "FLAIR": r"flair|dark.?fluid|\btirm\b",
    "SWI": r"\bswi\b|suscept|swan|venbold",
    "DWI": r"\bdwi\b|diff|\bep2d_d|trace",
    "ADC": r"\badc\b|apparent",
    "PERFUSION": r"perf|\bdsc\b|\bdce\b|\basl\b",
    "ANGIOGRAPHY": r"\btof\b|angio|\bmra\b",
    "T2*": r"t2.?\*|t2.?star|hemo|gre.?t2",
    "T1": r"t1|mprage|mp.?rage|bravo|spgr|\btfl\b|vibe|flash|tfe",
    "T2": r"t2",
    "PD": r"\bpd\b|proton",
}
CONTRAST = r"post|gado|\bgd\b|\+ ?c\b|\bce\b|contrast|\bkm\b|\+gd"
WITHOUT_CONTRAST = r"\bpre\b|without|non.?contrast|no contrast"


@dataclass(frozen=True)
class SliceHeader:
    """One slice of a series: where it lies and what it is.

    `patient`, `study`, `series` and `instance` are the file's own, and must not leave the stage.
    `moment` orders slices that lie at the same place: time point, echo, b value, acquisition,
    instance.
    """

    path: Path
    frame: int | None
    patient: str
    study: str
    series: str
    instance: str
    number: int
    description: str
    sequence: str
    image_type: tuple[str, ...]
    modality: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    moment: tuple[float, ...]


def is_dicom(path: Path) -> bool:
    """Tell by its first bytes whether a file is DICOM with a preamble, or might be without."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start[:2] in (b"\x08\0", b"\x02\0", b"\0\x08", b"\0\x02")


def read_headers(path: Path) -> list[SliceHeader]:
    """Read the slices of a DICOM file, none when it is no image (a report, a plan, a directory).

    Raises
    ------
    ImageError
        It is damaged; the message says no more, since its tags hold the patient.
    """
    from pydicom import dcmread

    try:
        with silence_loggers():
            refuse_inflated(path)
            dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*TAGS])
            if not (dataset.get("Rows") and dataset.get("Columns")):
                return []
            return list(_describe_slices(path, dataset))
    except ImageError as problem:
        raise ImageError(problem.reason, path) from None
    except Exception as problem:
        raise ImageError("its DICOM header is damaged", path) from problem


def _describe_slices(path: Path, dataset: "Dataset") -> Iterator[SliceHeader]:
    count = int(dataset.get("NumberOfFrames") or 1)
    if count > MAXIMUM_FRAMES:
        raise ImageError(f"it promises {count:,} frames, more than the {MAXIMUM_FRAMES:,} allowed")
    description = " ".join(
        _read_text(dataset, keyword)
        for keyword in ("SeriesDescription", "ProtocolName", "SequenceName")
    ).strip()
    series = _read_text(dataset, "SeriesInstanceUID")
    # Without a UID, what lies in one folder under one number is taken for a series.
    series = series or f"{path.parent}\0{_read_text(dataset, 'SeriesNumber')}\0{description}"
    for frame in range(count):
        yield SliceHeader(
            path=path,
            frame=frame if count > 1 else None,
            patient=_read_text(dataset, "PatientID"),
            study=_read_text(dataset, "StudyInstanceUID"),
            series=series,
            instance=_read_text(dataset, "SOPInstanceUID"),
            number=int(_read_number(dataset.get("SeriesNumber"))),
            description=description,
            sequence=name_sequence(dataset, description),
            image_type=tuple(str(part).upper() for part in dataset.get("ImageType") or ()),
            modality=_read_text(dataset, "Modality").upper(),
            position=_read_numbers(
                find_value(dataset, "PlanePositionSequence", "ImagePositionPatient", frame), 3
            ),
            orientation=_read_numbers(
                find_value(dataset, "PlaneOrientationSequence", "ImageOrientationPatient", frame), 6
            ),
            moment=_read_moment(dataset, frame),
        )


def _read_moment(dataset: "Dataset", frame: int) -> tuple[float, ...]:
    places = (
        ("FrameContentSequence", "TemporalPositionIndex"),
        ("", "TemporalPositionIdentifier"),
        ("MREchoSequence", "EffectiveEchoTime"),
        ("", "EchoNumbers"),
        ("MRDiffusionSequence", "DiffusionBValue"),
        ("", "AcquisitionNumber"),
        ("", "InstanceNumber"),
    )
    values = [_read_number(find_value(dataset, place, keyword, frame)) for place, keyword in places]
    return (*values, float(frame))


def name_sequence(dataset: "Dataset", description: str) -> str:
    """Name a series' MR sequence in a word of a fixed list, such as T1, T1+C or FLAIR.

    The series' own description comes first. Where it says nothing: FLAIR has an inversion time
    above 1,500 ms, T1 an echo time below 30 ms and a repetition time below 1,200 ms, T2 an echo
    time of 60 ms and more.
    """
    text = re.sub(r"[_\-]", " ", description.lower())
    found = next((name for name, form in SEQUENCES.items() if re.search(form, text)), None)
    if found is None:
        inversion = _read_number(dataset.get("InversionTime"))
        repetition = _read_number(dataset.get("RepetitionTime"))
        echo = _read_number(dataset.get("EchoTime"))
        if inversion > 1500:
            found = "FLAIR"
        elif 0 < echo < 30 and 0 < repetition < 1200:
            found = "T1"
        else:
            found = "T2" if echo >= 60 else "unknown"
    is_enhanced = bool(dataset.get("ContrastBolusAgent")) or re.search(CONTRAST, text)
    return f"{found}+C" if is_enhanced and not re.search(WITHOUT_CONTRAST, text) else found


def _read_text(dataset: "Dataset", keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \0")


def _read_number(value: object) -> float:
    try:
        return float(value or 0)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of several values, the first
        several = _read_numbers(value, None)
        return several[0] if several else 0.0


def _read_numbers(value: object, count: int | None) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in value or ())  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return ()
    return numbers if count in (None, len(numbers)) else ()
