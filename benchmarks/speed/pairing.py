"""Comparing two competitors draw by draw: what differs between draws cancels."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PairedDifference:
    """The mean over draws of one competitor's figure minus another's.

    Attributes
    ----------
    mean
        Of the differences.
    low, high
        95 % t interval over draws; infinite with one draw.
    larger, smaller
        In how many draws the first one's figure was larger, and in how many smaller.
    draws
        How many.
    """

    mean: float
    low: float
    high: float
    larger: int
    smaller: int
    draws: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def compare_paired(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Compare figures ``(d,)`` of the same d draws."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    count = len(differences)
    mean = float(differences.mean())
    half = np.inf
    if count > 1:
        error = differences.std(ddof=1) / np.sqrt(count)
        half = float(stats.t.ppf(0.975, count - 1) * error)
    larger, smaller = int((differences > 0).sum()), int((differences < 0).sum())
    return PairedDifference(mean, mean - half, mean + half, larger, smaller, count)


@dataclass(frozen=True)
class LinearFit:
    """Seconds as a straight line over images.

    Attributes
    ----------
    fixed, each
        Seconds at no image, and for one more.
    exponent
        Slope between the logarithms of the two largest sizes: 1 where time is proportional.
    largest_deviation
        Of a measurement from the line, as a part of it.
    """

    fixed: float
    each: float
    exponent: float
    largest_deviation: float


def fit_line(images: np.ndarray, seconds: np.ndarray) -> LinearFit:
    """Fit a line by least squares of the relative errors, so that small sizes count as well."""
    each, fixed = np.polyfit(images, seconds, 1, w=1 / seconds)
    order = np.argsort(images)[-2:]
    exponent = np.diff(np.log(seconds[order]))[0] / np.diff(np.log(images[order]))[0]
    deviation = np.abs((fixed + each * images) / seconds - 1).max()
    return LinearFit(float(fixed), float(each), float(exponent), float(deviation))
