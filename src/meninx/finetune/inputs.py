"""Inputs: images in any form become a list that every stage can read, each with its weight."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image as Picture
from sklearn.utils.class_weight import compute_sample_weight

from meninx.cohort import Image, Sample, as_array, as_head
from meninx.errors import CohortError, ImageError
from meninx.imaging import scale_intensity

Inputs = Iterable[Image | Picture] | np.ndarray | Path | str


def list_images(X: Inputs, crop_head: bool) -> list[Image]:
    """List images so that the same picture is the same pixels, whatever it is given as.

    Parameters
    ----------
    X
        Samples of a cohort, paths, arrays or PIL images; one path; or one array of n images
        ``(n, h, w)``, ``(n, h, w, 3)`` or ``(n, 3, h, w)``. Arrays are float in [0, 1], taken as
        they are, or whole numbers, scaled by their own percentiles as files are.
    crop_head
        Whether each is cropped to the head; of arrays and files that show none, it is scaled and
        left whole.

    Returns
    -------
    list
        Samples, which are read when they are needed, and arrays float32 in [0, 1], ``(h, w)`` or
        ``(h, w, 3)``.

    Raises
    ------
    CohortError
        There is no image, or an array is not one of images.
    ImageError
        An image cannot be read, or is none.
    """
    if isinstance(X, np.ndarray) and X.dtype != object and X.ndim not in (3, 4):
        raise CohortError(
            f"X is an array of shape {X.shape}; images are (n, h, w), (n, h, w, 3) or (n, 3, h, w)"
        )
    images = [X] if isinstance(X, Path | str) else list(X)
    if not images:
        raise CohortError("X holds no images: Found array with 0 sample(s)")
    return [_take_one(image, crop_head) for image in images]


def weigh_images(
    labels: np.ndarray,
    class_weight: Mapping[Any, float] | str | None,
    sample_weight: Sequence[float] | None,
) -> np.ndarray:
    """Join class and sample weights, ``(n,)``, 1 on average.

    Raises
    ------
    CohortError
        There are not as many as images, or one is negative or no number.
    """
    weights: np.ndarray = compute_sample_weight(class_weight, labels)
    if sample_weight is not None:
        if len(sample_weight) != len(labels):
            raise CohortError(f"{len(sample_weight)} weights were given with {len(labels)} labels")
        weights = weights * np.asarray(sample_weight, dtype=float)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise CohortError("sample weights are numbers of at least 0, not all of them 0")
    return weights / weights.mean()


def _take_one(image: Image | Picture, crop_head: bool) -> Image:
    if isinstance(image, Sample):
        return image if image.is_cropped == crop_head else replace(image, is_cropped=crop_head)
    if isinstance(image, Path | str):
        return as_head(image) if crop_head else as_array(image)
    if isinstance(image, Picture):
        image = np.asarray(_unpack(image))
    return _take_array(np.asarray(image), crop_head)


def _take_array(pixels: np.ndarray, crop_head: bool) -> np.ndarray:
    if pixels.dtype.kind not in "buif" or pixels.ndim not in (2, 3):
        raise ImageError(
            f"an image is an array (h, w) or (h, w, 3) of numbers, not {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    values = as_array(pixels)
    if not np.isfinite(values).all():
        raise ImageError("an image has NaN or infinite values; replace them, for example by 0")
    if crop_head:
        return as_head(values)
    return scale_intensity(values) if pixels.dtype.kind in "bui" else values


def _unpack(picture: Picture) -> Picture:
    """Bring a picture's colours into channels: palettes, CMYK and transparency have none."""
    if picture.mode == "1":
        return picture.convert("L")
    is_plain = picture.mode in ("L", "RGB", "F") or picture.mode.startswith("I")
    return picture if is_plain else picture.convert("RGB")
