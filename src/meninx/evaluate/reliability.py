"""Reliability: how far the stated confidence is from how often it is right.

Images are sorted by the probability of their most probable class and divided into bins of
equal size; the expected calibration error is the mean distance between confidence and share
right (Naeini, Cooper and Hauskrecht 2015; equal-mass bins after Nixon et al. 2019). With few
images chance alone makes that distance large, so what a perfectly calibrated model would show
is computed beside it, and the interval is that of the distances under which what was seen would
not be surprising.
"""

from dataclasses import dataclass

import numpy as np

from meninx.evaluate.intervals import LEVEL, Estimate
from meninx.evaluate.predictions import Predictions

IMAGES_PER_BIN = 10
FEWEST_BINS, MOST_BINS = 2, 15
LUCKY_DRAWS = 400
# How far confidence is supposed to be off, in turn; closer together where it is off by little.
DISTANCES = np.linspace(0, 1, 26) ** 1.5


@dataclass(frozen=True)
class Bin:
    """Images of like confidence.

    Attributes
    ----------
    confidence
        Mean probability of their most probable class.
    accuracy
        Share of them in which that class is the true one.
    images
        How many, in each repeat.
    """

    confidence: float
    accuracy: float
    images: int


def choose_bins(images: int) -> int:
    """Choose the number of bins: about ten images each."""
    return int(np.clip(images // IMAGES_PER_BIN, FEWEST_BINS, MOST_BINS))


def measure_calibration_error(predictions: Predictions) -> float:
    """Measure the expected calibration error, in [0, 1], mean over repeats.

    See :func:`expect_error_if_perfect` for how much of it is chance.
    """
    right = predictions.predicted == predictions.labels
    return float(_measure_errors(predictions, right[:, None]).item())


def estimate_calibration_error(predictions: Predictions, seed: int = 0) -> Estimate:
    """Give the calibration error with its interval, which chance alone does not make larger.

    Parameters
    ----------
    predictions
        Of one cell, n images.
    seed
        Of the draws.

    Notes
    -----
    The interval holds the true distances at which an error like the one seen is not surprising
    (neither among the largest nor the smallest 2.5 %): a test turned round (Neyman 1937). What
    would be seen is simulated: every confidence is supposed to be off by the same distance, in
    the direction in which its bin is off, and whether each answer is right is drawn with the
    probability that is left. Where the distance is 0, that is
    :func:`expect_error_if_perfect`.
    """
    confidences, members = _confidences(predictions), _assign(predictions)
    value = measure_calibration_error(predictions)
    gaps = confidences - (predictions.predicted == predictions.labels)
    is_too_sure = np.einsum("rn,rnb->b", gaps, members) >= 0
    directions = members @ np.where(is_too_sure, 1.0, -1.0)
    luck = _draw_luck(predictions, seed)
    tail = (1 - LEVEL) / 2
    true, limits = [], []
    for distance in DISTANCES:
        chances = np.clip(confidences - distance * directions, 0, 1)
        true.append(np.abs(np.einsum("rn,rnb->rb", confidences - chances, members)).sum(axis=1))
        seen = _measure_errors(predictions, luck < chances[:, None])
        limits.append(np.quantile(seen, [tail, 1 - tail]))
    distances = np.mean(true, axis=1) / len(predictions.labels)
    smallest, largest = np.maximum.accumulate(limits, axis=0).T
    low, high = np.interp(value, largest, distances), np.interp(value, smallest, distances)
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def expect_error_if_perfect(predictions: Predictions, seed: int = 0) -> float:
    """Give the calibration error that a perfectly calibrated model would show on average.

    The confidences stay; whether each is right is drawn with just that probability, 400 times.
    All images of a patient, in all repeats, share one draw, so that they are right together:
    the most that chance can do.
    """
    right = _draw_luck(predictions, seed) < _confidences(predictions)[:, None]
    return float(_measure_errors(predictions, right).mean())


def divide_by_confidence(predictions: Predictions) -> tuple[Bin, ...]:
    """Give the bins of a reliability diagram, means over repeats."""
    right = predictions.predicted == predictions.labels
    members = _assign(predictions)
    sizes = members[0].sum(axis=0)
    confidence = np.einsum("rn,rnb->b", _confidences(predictions), members)
    accuracy = np.einsum("rn,rnb->b", right.astype(float), members)
    total = sizes * len(members)
    return tuple(
        Bin(float(confidence[index] / total[index]), float(accuracy[index] / total[index]), int(n))
        for index, n in enumerate(sizes)
    )


def _draw_luck(predictions: Predictions, seed: int) -> np.ndarray:
    """Draw each patient's luck, shared by all images: ``(d, n)`` in [0, 1)."""
    names, member = np.unique(predictions.patients, return_inverse=True)
    return np.random.default_rng(seed).random((LUCKY_DRAWS, len(names)))[:, member]


def _measure_errors(predictions: Predictions, right: np.ndarray) -> np.ndarray:
    """Measure the error where these answers ``(r, d, n)`` are right, ``(d,)``."""
    gaps = _confidences(predictions)[:, None] - right
    error: np.ndarray = np.abs(gaps @ _assign(predictions)).sum(axis=2).mean(axis=0)
    return error / len(predictions.labels)


def _confidences(predictions: Predictions) -> np.ndarray:
    highest: np.ndarray = predictions.probabilities.max(axis=2)
    return highest


def _assign(predictions: Predictions) -> np.ndarray:
    """Tell which bin each image is in, ``(r, n, bins)`` of 0 and 1."""
    images = len(predictions.labels)
    bins = choose_bins(images)
    ranks = _confidences(predictions).argsort(axis=1, kind="stable").argsort(axis=1)
    members: np.ndarray = np.eye(bins)[ranks * bins // images]
    return members
