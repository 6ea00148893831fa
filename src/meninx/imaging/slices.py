"""Which slices of a volume or a series are taken, by the same rules wherever they are stored."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

LARGE_SLICE = 0.6  # of the largest head area: such slices pass through the brain
THUMBNAIL = 64  # pixels of the longer side that head area is measured on


class Axis(StrEnum):
    """The direction across which a volume is sliced."""

    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    AXIAL = "axial"


class SliceChoice(StrEnum):
    """How slices are chosen."""

    EVEN = "even"
    MIDDLE = "middle"
    BRAIN = "brain"


def choose_frames(count: int, slices: int) -> list[int]:
    """Choose `slices` of `count` frames, evenly spaced in the central half.

    Of one slice it is the middle one. The outer quarters of a head volume show neck, skull
    or air. Fewer are given when the central half does not hold as many.
    """
    fractions = 0.25 + 0.5 * (np.arange(slices) + 0.5) / slices
    return [int(frame) for frame in np.unique((count * fractions).astype(int))]


def choose_slices(
    count: int, slices: int, choice: SliceChoice, decode: Callable[[int], np.ndarray]
) -> list[int]:
    """Choose `slices` of `count` slices by a rule.

    Parameters
    ----------
    count
        How many there are.
    slices
        How many to take; all, in order, when there are not more.
    choice
        `even`: evenly spaced in the central half. `middle`: neighbours around the middle.
        `brain`: evenly spaced among those in which the head fills at least
        0.6 of what it fills in its largest slice, which leaves out vertex and neck.
    decode
        Gives the pixels of one slice; asked only for `brain`.
    """
    if slices >= count:
        return list(range(count)) if choice != SliceChoice.EVEN else choose_frames(count, slices)
    if choice == SliceChoice.EVEN:
        return choose_frames(count, slices)
    if choice == SliceChoice.MIDDLE:
        first = (count - slices + 1) // 2
        return list(range(first, first + slices))
    areas = measure_head_areas([decode(index) for index in range(count)])
    large = np.flatnonzero(areas >= LARGE_SLICE * areas.max())
    places = ((np.arange(slices) + 0.5) / slices * len(large)).astype(int)
    return [int(index) for index in np.unique(large[places])]


def measure_head_areas(volume: list[np.ndarray]) -> np.ndarray:
    """Measure what part of each slice is brighter than the volume's own background, (n,).

    The border between background and head is Otsu's, over all slices together.
    """
    small = [_shrink(pixels) for pixels in volume]
    border = find_otsu_threshold(np.concatenate([pixels.ravel() for pixels in small]))
    return np.array([(pixels > border).mean() for pixels in small])


def _shrink(pixels: np.ndarray) -> np.ndarray:
    step = max(1, max(pixels.shape[:2]) // THUMBNAIL)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    return np.nan_to_num(grey[::step, ::step].astype(np.float64))


def find_otsu_threshold(values: np.ndarray) -> float:
    """Find the border that parts values best in two (Otsu 1979), on 256 levels."""
    counts, edges = np.histogram(np.clip(values, *np.percentile(values, (0, 99.5))), bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(centres[int(np.nan_to_num(spread).argmax())])
