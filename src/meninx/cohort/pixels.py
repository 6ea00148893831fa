"""Images in whichever form a caller has them: a sample, a file, or pixels already."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meninx.cohort.framing import FRAMING, frame_head
from meninx.cohort.images import fingerprint_pixels, read_head, read_image
from meninx.cohort.sample import Sample

# A sample of a cohort, a file, or pixels in [0, 1].
Image = Sample | Path | str | np.ndarray
Images = Sequence[Image] | np.ndarray


def as_pixels(image: Image) -> np.ndarray:
    """Give an image's pixels, float32 in [0, 1], ``(h, w)`` or ``(h, w, 3)``.

    Of a framed sample it is the head alone.

    Raises
    ------
    ImageError
        It cannot be read, or is not an image.
    """
    if isinstance(image, Sample | Path | str):
        return read_image(image)
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def as_head(image: Image) -> np.ndarray:
    """Give the head in an image, as a framed sample's pixels are; see :func:`frame_head`.

    Raises
    ------
    ImageError
        It cannot be read, or is not an image.
    """
    if isinstance(image, Sample | Path | str):
        return read_head(image)
    return frame_head(as_pixels(image))


def fingerprint_of(image: Image) -> str:
    """Give the checksum of an image's pixels; a sample of a cohort carries it already.

    A framed sample has another than the same image whole, and by another rule of framing.
    """
    if isinstance(image, Sample):
        return f"{FRAMING}-{image.fingerprint}" if image.is_framed else image.fingerprint
    return fingerprint_pixels(as_pixels(image))
