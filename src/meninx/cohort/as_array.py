"""Images in whichever form a caller has them, as arrays: a sample, a file, or pixels already."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meninx.cohort.pixel_cache import PixelCache
from meninx.cohort.sample import Sample
from meninx.imaging import crop_to_head, read_head, read_image, scale_intensity
from meninx.imaging.head_crop import HEAD_CROP, cut_out
from meninx.imaging.images import fingerprint_pixels

# A sample of a cohort, a file, or pixels in [0, 1].
Image = Sample | Path | str | np.ndarray
Images = Sequence[Image] | np.ndarray

_cache = PixelCache()


def as_array(image: Image) -> np.ndarray:
    """Give an image's pixels, float32 in [0, 1], ``(h, w)`` or ``(h, w, 3)``.

    Of a cropped sample it is the head alone.

    Raises
    ------
    ImageError
        It cannot be read, or is not an image.
    """
    if isinstance(image, Sample):
        if image.is_cropped:
            return as_head(image)
        if (kept := _cache.get(image.fingerprint)) is not None:
            return kept
        pixels = read_image(image.path, image.frame, image.axis)
        if image.fingerprint:
            _cache.put(image.fingerprint, pixels)
        return pixels
    if isinstance(image, Path | str):
        return read_image(image)
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def as_head(image: Image) -> np.ndarray:
    """Give the head in an image, as a cropped sample's pixels are; see :func:`crop_to_head`.

    Raises
    ------
    ImageError
        It cannot be read, or is not an image.
    """
    if isinstance(image, Sample):
        name = _name_head(image)
        if (kept := _cache.get(name)) is not None:
            return kept
        known = image.appearance.head if image.appearance else None
        pixels = read_head(image.path, image.frame, image.axis, known)
        if image.fingerprint:
            _cache.put(name, pixels)
        return pixels
    if isinstance(image, Path | str):
        return read_head(image)
    return crop_to_head(as_array(image))


def fingerprint_of(image: Image) -> str:
    """Give the checksum of an image's pixels; a sample of a cohort carries it already.

    A cropped sample has another than the same image whole, and by another rule of cropping.
    """
    if isinstance(image, Sample):
        return _name_head(image) if image.is_cropped else image.fingerprint
    return fingerprint_pixels(as_array(image))


def remember(sample: Sample, stored: np.ndarray) -> None:
    """Keep the pixels of a sample that was just decoded, so that it is not decoded again."""
    if sample.is_cropped and sample.appearance:
        _cache.put(_name_head(sample), cut_out(stored, sample.appearance.head))
    else:
        _cache.put(fingerprint_of(sample), scale_intensity(stored))


def _name_head(sample: Sample) -> str:
    return f"{HEAD_CROP}-{sample.fingerprint}"
