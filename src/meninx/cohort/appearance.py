"""What an image looks like and comes from, measured once when a cohort is opened.

The audit works from these, so that it never opens an image again. They look at the image as
stored, never at the framed one: what framing hides, the audit must still see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from meninx.imaging.head_crop import (
    Head,
    cut_out,
    find_head,
    peel_even_border,
    resize,
    scale_between,
    shrink,
)
from meninx.imaging.silence_loggers import silence_loggers

# Numbers, or a word, that say something of an image which is not anatomy.
Fact = tuple[float, ...] | str

THUMBNAIL = 64  # pixels of a side
SIDE = 192  # pixels of the longer side that borders and corners are looked at on
CORNER = 0.2  # of a side
BRIGHT = 0.4  # of the intensity range
EDGE = 0.05  # of the intensity range, a pixel: text has it, noise has not
EVEN = 0.02  # of the intensity range: less than a head's background varies
BIT_DEPTHS = (8, 12, 16)
# What a DICOM file says of its origin. The values stay in memory: the audit names the fact.
WORD_TAGS = {
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "scanner model",
    "MagneticFieldStrength": "field strength",
    "ScanningSequence": "scanning sequence",
    "SequenceName": "sequence name",
    "ProtocolName": "protocol",
    "StationName": "station",
    "BitsStored": "stored bits",
}
# Of these it is told which is larger or later, not only which are the same.
NUMBER_TAGS = {
    "EchoTime": "echo time",
    "RepetitionTime": "repetition time",
    "StudyDate": "date",
}
TAGS = WORD_TAGS | NUMBER_TAGS
ABSENT = (0.0, 0.0)  # a number that a file does not give; one that it gives is (1, number)
# Decimals of what is measured in intensities and shares; in sides, one more. Finer differences
# come of rounding when a file was written, and say nothing of where it is from.
DECIMALS = 2


@dataclass(frozen=True)
class Appearance:
    """Measurements of one image.

    Attributes
    ----------
    thumbnail
        A small picture of the head, as :func:`make_thumbnail` gives.
    shown
        What part of the pixels differs from the median, 0 to 1: next to nothing in a blank
        image.
    facts
        What is not anatomy: a name → numbers, or a word.
    head
        Where the head is; None where none stands out.
    """

    thumbnail: bytes
    shown: float
    facts: Mapping[str, Fact] = field(default_factory=dict)
    head: Head | None = None

    def __reduce__(self) -> tuple[type, tuple[bytes, float, dict[str, Fact], Head | None]]:
        return Appearance, (self.thumbnail, self.shown, dict(self.facts), self.head)


def measure_appearance(path: Path, pixels: np.ndarray) -> Appearance:
    """Measure an image as it is stored.

    Parameters
    ----------
    path
        Its file; only its suffix and, of DICOM, some elements of its header are looked at.
    pixels
        ``(h, w)`` or ``(h, w, 3)``, values as stored.
    """
    height, width = pixels.shape[:2]
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    # Of the image itself, so that whoever reads it again need not look for the head.
    head = find_head(grey)
    shrunk = shrink(grey, SIDE)
    small_head = None if head is None else head.scaled_to(shrunk.shape)
    small = scale_between(shrunk, shrunk)
    facts: dict[str, Fact] = {
        "file format": path.suffix.lower(),
        "image size": (float(np.log(height * width)),),
        "aspect": (round(float(np.log(width / height)), DECIMALS),),
        "colour": "grey" if pixels.ndim == 2 else "colour",
        "bit depth": _guess_bit_depth(pixels),
        "border": _measure_border(small),
        "text in the corners": _measure_corners(small, small_head),
        "mean intensity": (round(float(small.mean()), DECIMALS),),
        **_read_origin(path),
    }
    shown = float((grey != np.median(grey)).mean())
    thumbnail = make_thumbnail(cut_out(shrunk, small_head))
    return Appearance(thumbnail, shown, MappingProxyType(facts), head)


def make_thumbnail(head: np.ndarray) -> bytes:
    """Make a small grey picture of a head.

    Parameters
    ----------
    head
        ``(h, w)`` in [0, 1], as :func:`meninx.cohort.crop_to_head` gives it.

    Returns
    -------
    bytes
        64 × 64 values, 0 to 255, row by row.
    """
    return (resize(head, (THUMBNAIL, THUMBNAIL)) * 255).round().astype(np.uint8).tobytes()


def _guess_bit_depth(pixels: np.ndarray) -> str:
    if (pixels != np.round(pixels)).any():
        return "real"
    largest = float(np.abs(pixels).max())
    return next((str(bits) for bits in BIT_DEPTHS if largest < 2**bits), "more")


def _measure_border(small: np.ndarray) -> tuple[float, ...]:
    """Measure the even border on all four sides: its width, and the edge's brightness."""
    rows, columns = peel_even_border(small, EVEN)
    height, width = small.shape
    widths = (rows.start, height - rows.stop, columns.start, width - columns.stop)
    edge = np.concatenate([small[[0, -1]].ravel(), small[:, [0, -1]].ravel()])
    width, brightness = min(widths) / max(small.shape), float(np.median(edge))
    return round(width, DECIMALS + 1), round(brightness, DECIMALS)


def _measure_corners(small: np.ndarray, head: Head | None) -> tuple[float, ...]:
    """Measure in each corner, outside the head, which part is bright and which part is edge."""
    outside = np.ones(small.shape, dtype=bool) if head is None else ~head.region
    bright = (small > BRIGHT) & outside
    edges = (ndimage.gaussian_gradient_magnitude(small, 0.7) > EDGE) & outside
    rows, columns = (max(1, round(CORNER * side)) for side in small.shape)
    measured: list[float] = []
    for vertical in (slice(None, rows), slice(-rows, None)):
        for horizontal in (slice(None, columns), slice(-columns, None)):
            shares = (part[vertical, horizontal].mean() for part in (bright, edges))
            # In whole percent: a pixel or two of a neck or an artefact are no text.
            measured += [round(float(share), DECIMALS) for share in shares]
    return tuple(measured)


def _read_origin(path: Path) -> dict[str, Fact]:
    """Read what a DICOM file says of its scanner, sequence and date; nothing of other files."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return {}
    from pydicom import dcmread

    try:
        with silence_loggers():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        values = {tag: str(header.get(tag) or "") for tag in TAGS}
    except Exception:  # a header that cannot be read says nothing; the pixels could be
        return {}
    return {
        **{name: values[tag] for tag, name in WORD_TAGS.items()},
        **{name: _as_number(values[tag]) for tag, name in NUMBER_TAGS.items()},
    }


def _as_number(text: str) -> Fact:
    """Read a number, or a date, YYYYMMDD, which is ordered as a number is."""
    try:
        number = float(text)
    except ValueError:
        return ABSENT
    return (1.0, number) if isfinite(number) else ABSENT
