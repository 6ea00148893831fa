"""Reliability: how far the stated confidence is from how often it is right.

Images are sorted by the probability of their most probable class and divided into bins of
equal size; the expected calibration error is the mean distance between confidence and share
right (Naeini, Cooper and Hauskrecht 2015; equal-mass bins after Nixon et al. 2019). With few
images chance alone makes that distance large, so what a perfectly calibrated model would show
is computed beside it.
"""

from dataclasses import dataclass

import numpy as np

from meninx.evaluate.predictions import Predictions

IMAGES_PER_BIN = 10
FEWEST_BINS, MOST_BINS = 2, 15
PERFECT_DRAWS = 500


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


def measure_calibration_error(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Measure the expected calibration error for every way of counting images.

    Parameters
    ----------
    predictions
        Of one cell, n images.
    counts
        ``(b, n)``: how often each image counts, in b ways. Bins stay as they are.

    Returns
    -------
    np.ndarray
        ``(b,)`` in [0, 1], mean over repeats; see :func:`expect_error_if_perfect` for how much
        of it is chance.
    """
    gaps = _confidences(predictions) - (predictions.predicted == predictions.labels)
    errors = [
        np.abs(counts @ (gap[:, None] * members)).sum(axis=1)
        for gap, members in zip(gaps, _assign(predictions), strict=True)
    ]
    mean: np.ndarray = np.mean(errors, axis=0) / counts.sum(axis=1)
    return mean


def expect_error_if_perfect(predictions: Predictions, seed: int = 0) -> float:
    """Give the calibration error that a perfectly calibrated model would show on average.

    The confidences stay; whether each is right is drawn with just that probability, 500 times.
    All images of a patient, in all repeats, share one draw, so that they are right together:
    the most that chance can do.
    """
    random = np.random.default_rng(seed)
    names, member = np.unique(predictions.patients, return_inverse=True)
    luck = random.random((PERFECT_DRAWS, len(names)))[:, member]
    errors = [
        np.abs((confidence - (luck < confidence)) @ members).sum(axis=1).mean()
        for confidence, members in zip(_confidences(predictions), _assign(predictions), strict=True)
    ]
    return float(np.mean(errors) / len(predictions.labels))


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
