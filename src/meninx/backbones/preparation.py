"""From images of any size to the square tensors a backbone takes.

Two steps, so that a change of view (a flip, a turn, a shift) can go between them: first a
square in [0, 1], where black is 0 whatever the backbone, then the backbone's normalisation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from meninx.errors import ImageError


def to_square(images: Sequence[np.ndarray], size: int) -> torch.Tensor:
    """Pad each image to a square with black and resize it, keeping its aspect ratio.

    Parameters
    ----------
    images
        Each float, ``(h, w)`` grey or ``(h, w, 3)`` colour, in [0, 1], of any size.
    size
        Side of the squares, pixels.

    Returns
    -------
    torch.Tensor
        ``(n, 3, size, size)`` float32 in [0, 1]; grey is repeated over the channels.

    Raises
    ------
    ImageError
        An image has another shape, kind of number or range.
    """
    if not images:
        return torch.zeros(0, 3, size, size)
    return torch.cat([_square_one(image, size) for image in images])


def normalise(
    squares: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Subtract the mean and divide by the standard deviation of each channel.

    Parameters
    ----------
    squares
        ``(n, 3, h, w)`` in [0, 1], or ``(n, 1, h, w)`` where the three channels are equal.
    mean, std
        One number a channel.

    Returns
    -------
    torch.Tensor
        ``(n, 3, h, w)``; its channels may share their memory.
    """
    if len(set(mean)) == len(set(std)) == 1:
        mean, std = mean[:1], std[:1]  # so that equal channels are computed once
    shape = (1, len(mean), 1, 1)
    centred = squares - squares.new_tensor(mean).view(shape)
    # In place: another eight views' memory takes as long as the division.
    return centred.div_(squares.new_tensor(std).view(shape)).expand(-1, 3, -1, -1)


def _square_one(image: np.ndarray, size: int) -> torch.Tensor:
    _check(image)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))  # a copy: it may be shared
    x = pixels.permute(2, 0, 1)[None] if pixels.ndim == 3 else pixels[None, None]
    height, width = x.shape[-2:]
    missing_rows, missing_columns = max(width - height, 0), max(height - width, 0)
    left, top = missing_columns // 2, missing_rows // 2
    x = functional.pad(x, (left, missing_columns - left, top, missing_rows - top))
    if x.shape[-1] != size:
        x = functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x.expand(1, 3, size, size).clamp(0, 1)


def _check(image: np.ndarray) -> None:
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_image or image.size == 0:
        raise ImageError(f"an image must be (h, w) or (h, w, 3), this one is {image.shape}")
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"an image must be float in [0, 1], this one is {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ImageError(f"an image must lie in [0, 1], this one goes from {low:g} to {high:g}")
