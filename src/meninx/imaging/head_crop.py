"""Crop to the head, whatever a scanner, a viewer or a web page drew around it.

A network reads a white border, a hospital's name in a corner or the width of the padding as
gladly as it reads a lesion. So the head is found in every image by the same rule, all that is
outside it becomes background, the image is cropped to it, and its intensities are scaled by
the head's own percentiles, which a bright label or a wide black margin cannot move.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from meninx.imaging.slices import find_otsu_threshold

# Raise it when framed pixels could change: stored activations are named by it.
HEAD_CROP = "framed-1"

WORKING_SIDE = 128  # pixels of the longer side that the head is searched in
MARGIN = 0.025  # of its longer side, kept around the head
SURROUNDING = 0.12  # of its sides, around the head, that it is looked for in again
EVEN = 0.06  # of the intensity range: lines of an edge that vary less belong to a border
SMALLEST_HEAD = 0.05  # of the image, without its even border
MOST_EDGE_TOUCHED = 0.5  # of the edge; a part that touches more is no head
LARGEST_PARTS = 5  # that are tried; the head is among them
DARK = 0.15  # of the intensity range: three quarters of a head's background are below it
DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles of the head that become 0 and 1


@dataclass(frozen=True)
class Head:
    """Where the head is in an image, in some kilobytes, so that it can be kept.

    Attributes
    ----------
    shape
        Of the image, ``(h, w)``.
    window
        The rows and columns of the image that the outline was drawn in.
    outline_shape
        Of the outline, at most 128 a side.
    outline
        The head with its margin, made small: one bit a pixel, row by row.
    """

    shape: tuple[int, int]
    window: tuple[slice, slice]
    outline_shape: tuple[int, int]
    outline: bytes

    @property
    def region(self) -> np.ndarray:
        """``(h, w)`` bool: the head with its margin."""
        bits = np.frombuffer(self.outline, dtype=np.uint8)
        height, width = self.outline_shape
        small = np.unpackbits(bits, count=height * width).reshape(height, width)
        rows, columns = self.window
        view = (rows.stop - rows.start, columns.stop - columns.start)
        region = np.zeros(self.shape, dtype=bool)
        region[self.window] = resize(small.astype(np.float32), view) > 0.5
        return region

    @property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns that hold the region."""
        return _find_box(self.region)

    def scaled_to(self, shape: tuple[int, int]) -> "Head":
        """Give the same head in the image made larger or smaller, ``(h, w)``."""
        rows, columns = (
            slice(int(part.start * to / side), math.ceil(part.stop * to / side))
            for part, to, side in zip(self.window, shape, self.shape, strict=True)
        )
        return replace(self, shape=shape, window=(rows, columns))


def crop_to_head(pixels: np.ndarray) -> np.ndarray:
    """Crop an image to the head, and make all else in the crop background.

    Parameters
    ----------
    pixels
        ``(h, w)`` or ``(h, w, 3)``, float, on any scale, bright meaning bright.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1], ``(h', w')`` or ``(h', w', 3)``; 0 outside the head. Where no head
        stands out from a background (a photograph that fills its frame), the whole image.
    """
    return cut_out(pixels, find_head(pixels))


def cut_out(pixels: np.ndarray, head: Head | None) -> np.ndarray:
    """Crop an image to a head that was found in it; see :func:`crop_to_head`."""
    if head is None:
        return scale_between(pixels, pixels)
    region = head.region
    box = _find_box(region)
    cropped, region = pixels[box], region[box]
    scaled = scale_between(cropped, cropped[region])
    scaled[~region] = 0
    return scaled


def find_head(pixels: np.ndarray) -> Head | None:
    """Find the largest bright thing that stands before a darker background.

    The even border is peeled off, the rest is made small and smooth, divided by Otsu's
    threshold (Otsu 1979, IEEE Trans. SMC 9:62) on square roots, so that dim tissue counts,
    and the part that encloses most is kept with its holes filled. It is looked for once more
    near where it was found, so that its outline does not depend on how much was around it.

    Parameters
    ----------
    pixels
        As for :func:`crop_to_head`.

    Returns
    -------
    Head or None
        None when nothing stands out from a dark background, or what does touches most of
        the edge.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    peeled = peel_even_border(grey)
    roughly = _find_foreground(shrink(grey[peeled], WORKING_SIDE))
    if roughly is None:
        return None
    window = _surround(roughly, peeled, grey.shape)
    view = grey[window]
    found = _find_foreground(shrink(view, WORKING_SIDE))
    if found is None:
        return None
    rows, columns = _find_box(found)
    margin = MARGIN * max(rows.stop - rows.start, columns.stop - columns.start)
    near = ndimage.distance_transform_edt(~found) <= margin
    return Head(grey.shape, window, near.shape, np.packbits(near).tobytes())


def scale_between(pixels: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Map the 0.5th and 99.5th percentile of some of an image's values to 0 and 1, and clip.

    Parameters
    ----------
    pixels
        The image; float of any shape.
    sample
        The values whose percentiles count.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1] of the image's shape.
    """
    low, high = np.percentile(sample, (DARKEST, BRIGHTEST)).astype(np.float64)
    if low == high:  # something small on an even ground
        low, high = float(sample.min()), float(sample.max())
    if low == high:
        return np.zeros(pixels.shape, dtype=np.float32)
    return np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)


def peel_even_border(grey: np.ndarray, evenness: float = EVEN) -> tuple[slice, slice]:
    """Give the rows and columns that are left when even lines are taken off at the edges.

    Padding is even, and so is each line of a drawn frame, whatever its brightness. Lines
    are taken from all four sides in turn, because a frame's upper line is even only once the
    padding beside it is gone.

    Parameters
    ----------
    grey
        ``(h, w)``.
    evenness
        What part of the image's range an even line may vary by.
    """
    low, high = np.percentile(grey, (1, 99))
    tolerance = evenness * (high - low)
    top, bottom, left, right = 0, grey.shape[0], 0, grey.shape[1]
    peeled = True
    while peeled and bottom - top > 8 and right - left > 8:
        view = grey[top:bottom, left:right]
        even = [_is_even(line, tolerance) for line in (view[0], view[-1], view[:, 0], view[:, -1])]
        peeled = any(even)
        top, bottom, left, right = top + even[0], bottom - even[1], left + even[2], right - even[3]
    return slice(top, bottom), slice(left, right)


def _is_even(line: np.ndarray, tolerance: float) -> bool:
    ordered = np.sort(line)  # some hundred values: quicker than percentiles
    outliers = len(line) // 50
    return bool(ordered[-1 - outliers] - ordered[outliers] <= tolerance)


def _is_dark(background: np.ndarray, small: np.ndarray) -> bool:
    if background.size == 0:
        return False
    low, high = np.percentile(small, (1, 98))
    return bool(np.percentile(background, 75) <= low + DARK * (high - low))


def _find_box(region: np.ndarray) -> tuple[slice, slice]:
    """Give the rows and columns that hold a region, which is not empty."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _surround(
    found: np.ndarray, window: tuple[slice, slice], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Give the rows and columns of an image around what was found in a window of it."""
    sides = []
    for part, inside, small, whole in zip(
        _find_box(found), window, found.shape, shape, strict=True
    ):
        scale = (inside.stop - inside.start) / small
        start, stop = inside.start + part.start * scale, inside.start + part.stop * scale
        room = SURROUNDING * (stop - start)
        sides.append(slice(max(0, round(start - room)), min(whole, round(stop + room))))
    return sides[0], sides[1]


def shrink(grey: np.ndarray, side: int) -> np.ndarray:
    """Make an image ``(h, w)`` at most `side` long, by averaging."""
    factor = min(1.0, side / max(grey.shape))
    height, width = (max(1, round(length * factor)) for length in grey.shape)
    return resize(grey, (height, width))


def resize(grey: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize an image ``(h, w)``, averaging where it becomes smaller."""
    image = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _find_foreground(small: np.ndarray) -> np.ndarray | None:
    """Mark what stands before a dark background, its holes filled; None if nothing does.

    Where the brightest tissue alone leaves a background that is not dark, as a dim scalp is,
    the threshold between the dim and the dark is tried.
    """
    smooth = ndimage.gaussian_filter(small, 1.0)
    low, high = np.percentile(smooth, (1, 98))
    if not high > low:
        return None
    roots = np.sqrt(np.clip((smooth - low) / (high - low), 0, 1))
    for threshold in _find_thresholds(roots):
        part = _find_largest_part(roots > threshold)
        if part is None or part.mean() < SMALLEST_HEAD:
            continue
        near = ndimage.binary_dilation(part, iterations=2)
        if _is_dark(small[~near], small):
            return part
    return None


def _find_thresholds(values: np.ndarray) -> Iterator[float]:
    """Find what parts the bright from the rest, and then, if asked, the dim from the dark."""
    border = find_otsu_threshold(values)
    yield border
    yield find_otsu_threshold(values[values <= border])


def _find_largest_part(bright: np.ndarray) -> np.ndarray | None:
    """Mark the bright part that encloses most, its holes filled; None if there is none.

    What it encloses counts, not what is bright: a bright skull around a dark brain is a head.
    A part that touches most of the edge is a frame, or a photograph, and does not count.
    """
    parts, _ = ndimage.label(ndimage.binary_opening(bright))
    sizes, boxes = np.bincount(parts.ravel())[1:], ndimage.find_objects(parts)
    largest, most = None, 0
    for part in np.argsort(-sizes)[:LARGEST_PARTS]:
        box = boxes[part]
        # Neither closing nor filling leads out of the box, so most parts cannot become largest.
        if most >= (box[0].stop - box[0].start) * (box[1].stop - box[1].start):
            continue
        filled = np.zeros(bright.shape, dtype=bool)
        filled[box] = _fill(parts[box] == 1 + part)
        enclosed = int(np.count_nonzero(filled))
        if enclosed > most and _measure_contact(filled) <= MOST_EDGE_TOUCHED:
            largest, most = filled, enclosed
    return largest


def _fill(part: np.ndarray) -> np.ndarray:
    """Close the gaps of a connected part and fill its holes."""
    padded = np.pad(part, 4)  # so that closing does not end at the edge
    closed = ndimage.binary_closing(padded, iterations=3)[4:-4, 4:-4]
    filled: np.ndarray = ndimage.binary_fill_holes(closed)
    return filled


def _measure_contact(part: np.ndarray) -> float:
    """Measure how much of the image's edge a part touches, 0 to 1."""
    edge = np.concatenate([part[[0, -1]].ravel(), part[:, [0, -1]].ravel()])
    return float(edge.mean())
