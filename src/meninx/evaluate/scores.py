"""Scores of out-of-fold predictions, for the cohort as it is and for resampled ones.

Every score is a function of the predictions and of how often each image counts. Counting each
once gives the score; counting as a patient bootstrap draws gives its interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.intervals import (
    Estimate,
    count_effectively,
    count_patients,
    estimate_distance,
    estimate_loss,
    estimate_share,
)
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.reliability import expect_error_if_perfect, measure_calibration_error

# How the interval of each score is made; that of the calibration error needs one thing more.
ESTIMATORS = {
    "balanced_accuracy": estimate_share,
    "macro_f1": estimate_share,
    "sensitivity": estimate_share,
    "specificity": estimate_share,
    "auc": estimate_share,
    "log_loss": estimate_loss,
    "brier": estimate_loss,
}


@dataclass(frozen=True)
class Scores:
    """How well one cell does, by its out-of-fold predictions.

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
        Of one cell.
    seed
        Of the bootstrap.
    """
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    counts = np.vstack([np.ones(len(predictions.labels)), draws])
    overall, by_class = measure(predictions, counts)
    classes = len(predictions.classes)
    patients = count_patients(predictions.labels, predictions.patients, classes)
    together = count_effectively(patients)
    return Scores(
        repeats=len(predictions.probabilities),
        overall={
            **{
                name: estimate(overall[name][0], overall[name][1:], together, classes)
                for name, estimate in ESTIMATORS.items()
            },
            "calibration_error": estimate_distance(
                overall["calibration_error"][0],
                overall["calibration_error"][1:],
                expect_error_if_perfect(predictions, seed),
                together,
                classes,
            ),
        },
        by_class={
            label: _estimate_class(
                {name: values[:, index] for name, values in by_class.items()},
                patients[index],
                len(np.unique(predictions.patients[predictions.labels != index])),
            )
            for index, label in enumerate(predictions.classes)
        },
        confusion=count_confusions(predictions, counts[:1]).mean(axis=0)[0],
    )


def _estimate_class(
    values: Mapping[str, np.ndarray], inside: int, outside: int
) -> dict[str, Estimate]:
    """Give a class's scores: each rests on the patients of the class, of the rest, or of both."""
    patients = {
        "sensitivity": inside,
        "specificity": outside,
        "auc": count_effectively(np.array([inside, outside])),
    }
    return {
        name: estimate_share(values[name][0], values[name][1:], max(size, 1))
        for name, size in patients.items()
    }


def measure(
    predictions: Predictions, counts: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute every score for every way of counting images.

    Parameters
    ----------
    predictions
        Of one cell, n images.
    counts
        ``(b, n)``: how often each image counts, in b ways.

    Returns
    -------
    dict
        Name of an overall score to ``(b,)``, means over repeats; NaN where a class has no image.
    dict
        Name of a class's score to ``(b, k)``, see :func:`measure_classes`.
    """
    by_class = measure_classes(predictions, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        confusion = count_confusions(predictions, counts)
        right = np.diagonal(confusion, axis1=2, axis2=3)
        true, given = confusion.sum(axis=3), confusion.sum(axis=2)
        f1 = np.where(true + given > 0, 2 * right / (true + given), 0.0)
    balanced_accuracy = measure_balanced_accuracy(predictions, counts)
    overall = {
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": np.where(np.isnan(balanced_accuracy), np.nan, f1.mean(axis=(0, 2))),
        "sensitivity": by_class["sensitivity"].mean(axis=1),
        "specificity": by_class["specificity"].mean(axis=1),
        "auc": by_class["auc"].mean(axis=1),
        "log_loss": measure_log_loss(predictions, counts),
        "brier": counts @ predictions.squared_errors.mean(axis=0) / counts.sum(axis=1),
        "calibration_error": measure_calibration_error(predictions, counts),
    }
    return overall, by_class


def measure_balanced_accuracy(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Compute the mean of the classes' sensitivities for every way of counting images.

    Parameters
    ----------
    predictions
        Of one cell, n images.
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


def measure_classes(predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute each class's scores against the rest.

    Returns
    -------
    dict
        ``sensitivity``, ``specificity`` and ``auc``, each ``(b, k)``, means over repeats.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        confusion = count_confusions(predictions, counts)
        right = np.diagonal(confusion, axis1=2, axis2=3)
        true, given = confusion.sum(axis=3), confusion.sum(axis=2)
        rest = counts.sum(axis=1)[None, :, None] - true
        return {
            "sensitivity": (right / true).mean(axis=0),
            "specificity": ((rest - (given - right)) / rest).mean(axis=0),
            "auc": _measure_aucs(predictions, counts),
        }


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
