"""What every file format looks like to the rest of the stage: one or more images in a row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meninx.errors import ImageError
from meninx.language import Message

# More than any medical image has, and little enough to be held in memory: a small file
# whose header promises more is broken or a decompression bomb.
MAXIMUM_PIXELS = 100_000_000
MAXIMUM_FRAMES = 100_000


@dataclass(frozen=True)
class FrameSource:
    """The images in one file, decoded one at a time.

    Attributes
    ----------
    count
        How many images the file holds, at least 1.
    decode
        Takes an index in 0 … count − 1 and gives its values as stored, an array
        (h, w) or (h, w, 3) of any real type, bright meaning bright.
    """

    count: int
    decode: Callable[[int], np.ndarray]


def refuse_oversized(pixels: int) -> None:
    """Raise ImageError when a header promises more pixels than are safe to decode."""
    if pixels > MAXIMUM_PIXELS:
        limit = MAXIMUM_PIXELS / 1e6
        raise ImageError(Message("reason_megapixels", pixels=pixels / 1e6, limit=limit))


def invert(pixels: np.ndarray) -> np.ndarray:
    """Swap bright and dark, keeping the range of values; for formats where 0 is white."""
    values = pixels.astype(np.float64)
    return values.max() + values.min() - values


def flatten_alpha(pixels: np.ndarray) -> np.ndarray:
    """Lay grey + alpha (h, w, 2) or colour + alpha (h, w, 4) on black, the ground of MRI."""
    if pixels.ndim != 3 or pixels.shape[2] not in (2, 4):
        return pixels
    opaque = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    flat = pixels[..., :-1] * (pixels[..., -1:] / opaque)
    return flat[..., 0] if flat.shape[2] == 1 else flat
