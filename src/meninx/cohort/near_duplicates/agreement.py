"""Agreement: whether two pictures, laid over one another, agree in detail everywhere.

In: pictures, and the maps that lay them over one another. Out: one number a pair, about 1 for
copies. The pictures are divided into tiles and the details of each tile are correlated (zero-mean
normalised cross-correlation, Lewis 1995, "Fast normalized cross-correlation"), so that neither
brightness nor contrast plays a part. Of the tiles a low quantile counts: two hands or two skulls
share their outline, and a burned-in ruler its own place, but only copies agree in the rest too.
"""

import numpy as np

from meninx.cohort.near_duplicates.registration import look_through, register
from meninx.cohort.near_duplicates.search import flip_picture, keep_details
from meninx.imaging.head_crop import resize

LARGEST, SMALLEST = 224, 64  # pixels of a side that pictures are compared at
TEXTURE = (0.7, 2.5)  # pixels between which the details lie that only copies share
QUANTILE = 0.35  # of the tiles, by their detail, that may agree less
EMPTY = 0.1  # of the detail of a rich tile: one that has less says nothing
COVERED = 0.4  # of a tile that both pictures must show
FEWEST_TILES = 4  # that both pictures must show
MANY_TILES_FROM = 96  # pixels of a side, from which there are 8 × 8 tiles; else 4 × 4
# Registered in turn at full resolution: at what part of it, with what details, by how many steps.
FINER = ((0.5, (1.0, 4.0), 4), (1.0, (1.0, 3.0), 3))
HOPELESS = 0.5  # agreement at half the resolution: at the full one it is lower still
HALVED_FROM = 160  # pixels of a side, from which the half is registered first


def compare_at_full_resolution(
    part: np.ndarray, whole: np.ndarray, flip: np.ndarray, warp: np.ndarray
) -> float:
    """Register two pictures more finely and measure how they agree.

    They are compared at the scale that both have: details that the coarser one lost when it was
    made smaller do not count against it.

    Parameters
    ----------
    part, whole
        ``(h, w)`` in [0, 1], of any two sizes.
    flip, warp
        ``(2,)`` and ``(2, 3)``, as of :class:`meninx.cohort.near_duplicates.search.Alignments`.

    Returns
    -------
    float
        -1 to 1; -1 where they hardly overlap.
    """
    side = int(np.clip(min(max(part.shape), max(whole.shape)), SMALLEST, LARGEST)) // 8 * 8
    pictures = _resize_both((part, flip_picture(whole, flip)), side)
    warps = warp[None].astype(np.float32)
    for scale, band, steps in FINER:
        if scale < 1 and side < HALVED_FROM:
            continue
        seen = pictures if scale == 1 else _resize_both(pictures, round(side * scale))
        details = keep_details(seen, *band)
        warps = register(details[:1], details[1:], warps, 1, steps)
        agreement = float(measure_agreement(seen[:1], seen[1:], warps)[0])
        if agreement < HOPELESS:
            break
    return agreement


def measure_agreement(part: np.ndarray, whole: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Measure how pairs of registered pictures agree in detail, ``(m,)``, -1 to 1.

    Parameters
    ----------
    part, whole
        ``(m, s, s)`` in [0, 1], `whole` flipped as it must be.
    warp
        ``(m, 2, 3)`` maps from `part` to `whole`.
    """
    one = keep_details(part, *TEXTURE)
    other, inside = look_through(keep_details(whole, *TEXTURE), warp)
    a, b, seen = (_divide(it.reshape(one.shape)) for it in (one, other, inside))
    share = seen.mean(axis=2)
    count = np.maximum(seen.sum(axis=2), 1)
    a, b = ((it - ((it * seen).sum(axis=2) / count)[:, :, None]) * seen for it in (a, b))
    strength = [np.sqrt((it**2).sum(axis=2) / count) for it in (a, b)]
    detail = np.sqrt(strength[0] * strength[1])
    correlation = (a * b).sum(axis=2) / count / np.maximum(detail**2, 1e-9)
    shown = share > COVERED
    rich = np.quantile(np.where(shown, detail, 0), 0.9, axis=1, keepdims=True)
    weight = np.where(shown & (detail > EMPTY * rich), detail, 0)
    order = np.argsort(correlation, axis=1)
    reached = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    at = (reached >= QUANTILE * reached[:, -1:]).argmax(axis=1)[:, None]
    quantile = np.take_along_axis(np.take_along_axis(correlation, order, axis=1), at, axis=1)[:, 0]
    enough = (weight > 0).sum(axis=1) >= FEWEST_TILES
    agreement: np.ndarray = np.where(enough, quantile, -1.0)
    return agreement


def _resize_both(pictures: np.ndarray | tuple[np.ndarray, np.ndarray], side: int) -> np.ndarray:
    """Give two pictures ``(2, s, s)``, in [0, 1]."""
    return np.clip(np.stack([resize(picture, (side, side)) for picture in pictures]), 0, 1)


def _divide(pictures: np.ndarray) -> np.ndarray:
    """Divide pictures ``(m, s, s)`` into tiles, ``(m, tiles, pixels)``."""
    count, side = pictures.shape[:2]
    tiles = 8 if side >= MANY_TILES_FROM else 4
    step = side // tiles
    even = pictures[:, : tiles * step, : tiles * step].reshape(count, tiles, step, tiles, step)
    return even.transpose(0, 1, 3, 2, 4).reshape(count, tiles**2, step**2)
