"""Calibration error: how far the stated confidence is from how often it is right.

Images are sorted by the probability of their most probable class and divided into bins of
equal size; the expected calibration error is the mean distance between confidence and share
right (Naeini, Cooper and Hauskrecht 2015; equal-mass bins after Nixon et al. 2019). With few
images chance alone makes that distance large, so what a perfectly calibrated model would show
is computed beside it, and the interval is that of the distances under which what was seen would
not be surprising.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.intervals import LEVEL, Estimate
from meninx.evaluate.predictions import Predictions

IMAGES_PER_BIN = 10
FEWEST_BINS, MOST_BINS = 2, 15
LUCKY_DRAWS = 400
# How far confidence is supposed to be off, in turn; closer together where it is off by little.
DISTANCES = np.linspace(0, 1, 26) ** 1.5
# What the estimate of how far a patient's answers are right together is drawn towards "all the
# way" by, in the covariance of pairs of answers. As found (0.5), the interval held the truth of
# a model that is much too sure, with four images of 53 patients, in 92 % of studies.
PULL_TOGETHER = 30.0


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
        Of one model, n images.
    seed
        Of the draws.

    Notes
    -----
    The interval holds the true distances at which what was seen is not surprising: a test
    turned round (Neyman 1937). Every confidence is supposed to be off by the same distance, and
    whether each answer is right is drawn with the probability that is left. With each bin off
    in the direction in which it was seen to be, an error like the one seen must be neither
    among the largest nor the smallest 2.5 %; so 0 is held wherever a perfectly calibrated model
    (:func:`expect_error_if_perfect`) often shows as much. Where hardly an answer is wrong that
    direction is "not sure enough", whatever the truth is; so the upper limit is also no lower
    than how much too sure the model may be, by how many answers are right in all.

    Other patients would also be given other confidences. Each limit is moved out by that, the
    spread of the supposed distance over draws of patients, square added to square.
    """
    value = measure_calibration_error(predictions)
    right = predictions.predicted == predictions.labels
    gaps = _confidences(predictions) - right
    is_too_sure = np.einsum("rn,rnb->b", gaps, _assign(predictions)) >= 0
    directions = _assign(predictions) @ np.where(is_too_sure, 1.0, -1.0)
    luck = _draw_luck(predictions, seed)
    errors, excesses = [], []
    for distance in DISTANCES:
        errors.append(
            _measure_errors(predictions, luck < _suppose(predictions, distance, directions))
        )
        is_lucky = luck < _suppose(predictions, distance, 1.0)
        excesses.append((_confidences(predictions)[:, None] - is_lucky).mean(axis=(0, 2)))
    tail = (1 - LEVEL) / 2
    reached = np.quantile(errors, 1 - tail, axis=1)
    # No error is below 0: a perfectly calibrated model can be missed on one side only, which has
    # the chance of both.
    reached[0] = np.quantile(errors[0], LEVEL)
    lowest = _find_first(reached, value)
    highest = _find_last(np.quantile(errors, tail, axis=1), value)
    surest = _find_last(np.quantile(excesses, tail, axis=1), gaps.mean())
    return Estimate(
        value,
        _move_out(predictions, value, lowest, directions, -1, seed),
        max(
            _move_out(predictions, value, highest, directions, 1, seed),
            _move_out(predictions, value, surest, np.ones_like(directions), 1, seed),
        ),
    )


def expect_error_if_perfect(predictions: Predictions, seed: int = 0) -> float:
    """Give the calibration error that a perfectly calibrated model would show on average.

    The confidences stay; whether each is right is drawn with just that probability, 400 times,
    the images of a patient being right together as far as they are seen to be.
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


def _suppose(
    predictions: Predictions, distance: float, directions: np.ndarray | float
) -> np.ndarray:
    """Give each answer's chance to be right if its confidence is off so far, ``(r, 1, n)``."""
    chances: np.ndarray = np.clip(_confidences(predictions) - distance * directions, 0, 1)
    return chances[:, None]


def _find_first(limits: np.ndarray, value: float) -> float:
    """Find the smallest distance whose limit reaches a value; 0 where all do."""
    rising = np.maximum.accumulate(limits) + 1e-9 * np.arange(len(limits))
    return float(np.interp(value, rising, DISTANCES))


def _find_last(limits: np.ndarray, value: float) -> float:
    """Find the largest distance whose limit is not above a value; 0 where all are."""
    rising = np.maximum.accumulate(limits) - 1e-9 * np.arange(len(limits))[::-1]
    return float(np.interp(value, rising, DISTANCES))


def _move_out(
    predictions: Predictions,
    value: float,
    distance: float,
    directions: np.ndarray,
    side: int,
    seed: int,
) -> float:
    """Give the limit of the error, below (-1) or above (1) the value, at a supposed distance."""
    off = _confidences(predictions) - _suppose(predictions, distance, directions)[:, 0]
    draws = draw_weights(predictions.labels, predictions.patients, LUCKY_DRAWS, seed)
    counts = np.vstack([np.ones(len(predictions.labels)), draws])
    in_bins = np.einsum("kn,rnb->krb", counts, off[:, :, None] * _assign(predictions))
    true = np.abs(in_bins).sum(axis=2).mean(axis=1) / counts.sum(axis=1)
    room = max(side * (true[0] - value), 0)
    deviations = norm.ppf((1 + LEVEL) / 2)
    return float(np.clip(value + side * np.hypot(room, deviations * true[1:].std()), 0, 1))


def _draw_luck(predictions: Predictions, seed: int) -> np.ndarray:
    """Draw each answer's luck, ``(r, d, n)`` in [0, 1).

    It is the patient's own in as many answers as they are right together in these predictions,
    and else the answer's.
    """
    random = np.random.default_rng(seed)
    names, member = np.unique(predictions.patients, return_inverse=True)
    of_patients = random.random((LUCKY_DRAWS, len(names)))[None, :, member]
    shape = (len(predictions.probabilities), LUCKY_DRAWS, len(member))
    if len(predictions.probabilities) * len(member) == len(names):
        return of_patients
    is_shared = random.random(shape) < np.sqrt(_measure_togetherness(predictions, member))
    return np.where(is_shared, of_patients, random.random(shape))


def _measure_togetherness(predictions: Predictions, member: np.ndarray) -> float:
    """Measure how far a patient's answers are right together, in [0, 1].

    The part that their covariance, summed over the pairs of answers of each patient, has of
    what it would be with all luck shared; drawn towards 1, the most that chance can do, since
    with few patients, or hardly an answer wrong, it is not seen.
    """
    right = predictions.predicted == predictions.labels
    confidences = _confidences(predictions)
    chances = np.clip(confidences - (confidences - right).mean(), 0, 1)
    found = most = PULL_TOGETHER
    for patient in range(member.max() + 1):
        own = chances[:, member == patient].ravel()
        rest = right[:, member == patient].ravel() - own
        found += rest.sum() ** 2 - (rest**2).sum()
        shared = np.minimum.outer(own, own) - np.outer(own, own)
        most += shared.sum() - np.trace(shared)
    return float(np.clip(found / most, 0, 1))


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
