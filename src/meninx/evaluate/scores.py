"""Scores of out-of-fold predictions, for the cohort as it is and for resampled ones.

Every score is a function of the predictions and of how often each image counts. Counting each
once gives the score; counting as a patient bootstrap draws gives its interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.calibration_error import estimate_calibration_error
from meninx.evaluate.intervals import (
    Estimate,
    count_patients,
    count_worth,
    effective_sample_size,
    estimate_area,
    estimate_share,
)
from meninx.evaluate.losses import estimate_loss
from meninx.evaluate.predictions import Predictions


@dataclass(frozen=True)
class Scores:
    """How well one model does, by its out-of-fold predictions.

    Attributes
    ----------
    repeats
        How many times each image was predicted; scores are means over them.
    overall
        ``balanced_accuracy``, ``macro_f1``, ``sensitivity`` and ``specificity`` (means over
        classes, one against the rest), ``auc`` (mean over classes, one against the rest), all
        in [0, 1], ``log_loss`` (nats), ``brier`` (summed over classes, 0 to 2: Brier 1950) and
        ``calibration_error`` (in [0, 1]).
    by_class
        ``sensitivity``, ``specificity`` and ``auc`` of each class against the rest.
    confusion
        ``(k, k)``: images of the true class (row) that were given the class (column), mean
        over repeats.
    """

    repeats: int
    overall: Mapping[str, Estimate]
    by_class: Mapping[str, Mapping[str, Estimate]]
    confusion: np.ndarray


def evaluate(predictions: Predictions, seed: int = 0) -> Scores:
    """Score out-of-fold predictions, with intervals by a bootstrap over patients.

    Parameters
    ----------
    predictions
        Of one model.
    seed
        Of the bootstrap.
    """
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    shares = measure(predictions, np.vstack([np.ones(len(predictions.labels)), draws]))
    classes = len(predictions.classes)
    patients = count_patients(predictions.labels, predictions.patients, classes)
    everyone = len(np.unique(predictions.patients))
    together = count_worth(predictions.labels, predictions.patients, classes)
    return Scores(
        repeats=len(predictions.probabilities),
        overall={
            **{
                name: _estimate(name, values, together, classes)
                for name, values in shares.overall.items()
            },
            "log_loss": estimate_loss(predictions.losses.mean(axis=0), predictions, draws),
            "brier": estimate_loss(predictions.squared_errors.mean(axis=0), predictions, draws),
            "calibration_error": estimate_calibration_error(predictions, seed),
        },
        by_class={
            label: _estimate_class(
                {name: values[:, index] for name, values in shares.by_class.items()},
                patients[index],
                len(np.unique(predictions.patients[predictions.labels != index])),
                everyone,
            )
            for index, label in enumerate(predictions.classes)
        },
        confusion=shares.confusions[:, 0].mean(axis=0),
    )


def _estimate_class(
    values: Mapping[str, np.ndarray], inside: int, outside: int, everyone: int
) -> dict[str, Estimate]:
    """Give a class's scores: each rests on the patients of the class, of the rest, or of both."""
    patients = {
        "sensitivity": inside,
        "specificity": outside,
        "auc": effective_sample_size(np.array([inside, outside]), everyone),
    }
    return {
        name: _estimate(name, values[name], max(size, 1), classes=1)
        for name, size in patients.items()
    }


def _estimate(name: str, values: np.ndarray, patients: float, classes: int) -> Estimate:
    estimate = estimate_area if name == "auc" else estimate_share
    return estimate(values[0], values[1:], patients, classes)


@dataclass(frozen=True, eq=False)
class Shares:
    """Scores in [0, 1] for b ways of counting images, means over repeats.

    Attributes
    ----------
    overall
        Name to ``(b,)``; NaN where a class has no image.
    by_class
        ``sensitivity``, ``specificity`` and ``auc`` of each class against the rest, ``(b, k)``.
    confusions
        ``(r, b, k, k)``, see :func:`count_confusions`.
    """

    overall: Mapping[str, np.ndarray]
    by_class: Mapping[str, np.ndarray]
    confusions: np.ndarray


def measure(predictions: Predictions, counts: np.ndarray) -> Shares:
    """Compute every score in [0, 1] for every way of counting images.

    Parameters
    ----------
    predictions
        Of one model, n images.
    counts
        ``(b, n)``: how often each image counts, in b ways.
    """
    confusions = count_confusions(predictions, counts)
    right = np.diagonal(confusions, axis1=2, axis2=3)
    true, given = confusions.sum(axis=3), confusions.sum(axis=2)
    rest = counts.sum(axis=1)[None, :, None] - true
    with np.errstate(invalid="ignore", divide="ignore"):
        by_class = {
            "sensitivity": (right / true).mean(axis=0),
            "specificity": ((rest - (given - right)) / rest).mean(axis=0),
            "auc": _measure_aucs(predictions, counts),
        }
        f1 = np.where(true + given > 0, 2 * right / (true + given), 0.0).mean(axis=(0, 2))
    balanced_accuracy = measure_balanced_accuracy(predictions, counts)
    overall = {
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": np.where(np.isnan(balanced_accuracy), np.nan, f1),
        **{name: values.mean(axis=1) for name, values in by_class.items()},
    }
    return Shares(overall, by_class, confusions)


def measure_balanced_accuracy(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Compute the mean of the classes' sensitivities for every way of counting images.

    Parameters
    ----------
    predictions
        Of one model, n images.
    counts
        ``(b, n)``: how often each image counts, in b ways.

    Returns
    -------
    np.ndarray
        ``(b,)``, mean over repeats; NaN where a class has no image.
    """
    return average_by_class(predictions.share_right, predictions, counts)


def average_by_class(
    values: np.ndarray, predictions: Predictions, counts: np.ndarray
) -> np.ndarray:
    """Average images' values ``(n,)`` within each class, and those means over classes, ``(b,)``."""
    mean = np.zeros(len(counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        for index in range(len(predictions.classes)):
            inside = predictions.labels == index
            weights = counts[:, inside]
            mean += weights @ values[inside] / weights.sum(axis=1)
    return mean / len(predictions.classes)


def measure_log_loss(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Compute the mean of minus the log of the true class's probability, ``(b,)``, nats."""
    mean: np.ndarray = counts @ predictions.losses.mean(axis=0) / counts.sum(axis=1)
    return mean


def count_confusions(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Count true and given classes for every way of counting images: ``(r, b, k, k)``."""
    size = len(predictions.classes)
    pairs = predictions.labels * size + predictions.predicted
    indicators = np.eye(size * size)[pairs]
    return (counts @ indicators).reshape(len(indicators), len(counts), size, size)


def _measure_aucs(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Compute each class's area under the ROC curve, ``(b, k)``, mean over repeats.

    It is the part of pairs, one image of the class and one of the rest, in which the former
    has the higher probability; a tie counts half (Mann and Whitney 1947).
    """
    size = len(predictions.classes)
    areas = np.empty((len(counts), size))
    for index in range(size):
        inside, outside = predictions.labels == index, predictions.labels != index
        pairs = counts[:, inside].sum(axis=1) * counts[:, outside].sum(axis=1)
        wins = np.zeros((inside.sum(), outside.sum()))
        for probabilities in predictions.probabilities[:, :, index]:
            gap = probabilities[inside][:, None] - probabilities[outside][None, :]
            wins += (gap > 0) + 0.5 * (gap == 0)
        won = ((counts[:, inside] @ wins) * counts[:, outside]).sum(axis=1)
        areas[:, index] = won / pairs
    return areas / len(predictions.probabilities)
