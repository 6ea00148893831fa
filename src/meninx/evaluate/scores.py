"""Scores of out-of-fold predictions, for the cohort as it is and for resampled ones.

Every score is a function of the predictions and of how often each image counts. Counting each
once gives the score; counting as a patient bootstrap draws gives its interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_patients
from meninx.evaluate.predictions import Predictions

METRICS = ("balanced_accuracy", "macro_f1", "sensitivity", "specificity", "auc", "log_loss")
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval.

    Attributes
    ----------
    value
        On the cohort as it is, mean over repeats.
    low, high
        Limits of the interval, percentiles of a bootstrap over patients.
    """

    value: float
    low: float
    high: float

    @classmethod
    def from_draws(cls, value: float, draws: np.ndarray) -> "Estimate":
        """Take the middle 95 % of bootstrap draws; draws without a value are left out."""
        tail = (1 - LEVEL) / 2
        low, high = np.nanquantile(draws, [tail, 1 - tail])
        return cls(float(value), float(low), float(high))


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
        in [0, 1], and ``log_loss`` (nats).
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
    draws = draw_patients(predictions.labels, predictions.patients, seed=seed)
    once = np.ones((1, len(predictions.labels)))
    values, resampled = measure(predictions, once), measure(predictions, draws)
    class_values = measure_classes(predictions, once)
    class_resampled = measure_classes(predictions, draws)
    return Scores(
        repeats=len(predictions.probabilities),
        overall={name: Estimate.from_draws(values[name][0], resampled[name]) for name in METRICS},
        by_class={
            label: {
                name: Estimate.from_draws(
                    class_values[name][0, index], class_resampled[name][:, index]
                )
                for name in class_values
            }
            for index, label in enumerate(predictions.classes)
        },
        confusion=_count_confusions(predictions, once).mean(axis=0)[0],
    )


def measure(predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
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
        Score name to ``(b,)``, the mean over repeats; NaN where a class has no image.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        confusion = _count_confusions(predictions, counts)
        right = np.diagonal(confusion, axis1=2, axis2=3)
        true, given = confusion.sum(axis=3), confusion.sum(axis=2)
        f1 = np.where(true + given > 0, 2 * right / (true + given), 0.0)
        by_class = measure_classes(predictions, counts)
    balanced_accuracy = measure_balanced_accuracy(predictions, counts)
    return {
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": np.where(np.isnan(balanced_accuracy), np.nan, f1.mean(axis=(0, 2))),
        "sensitivity": by_class["sensitivity"].mean(axis=1),
        "specificity": by_class["specificity"].mean(axis=1),
        "auc": by_class["auc"].mean(axis=1),
        "log_loss": measure_log_loss(predictions, counts),
    }


def measure_balanced_accuracy(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Compute the mean of the classes' sensitivities, ``(b,)``; see :func:`measure`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        confusion = _count_confusions(predictions, counts)
        recalls = np.diagonal(confusion, axis1=2, axis2=3) / confusion.sum(axis=3)
    mean: np.ndarray = recalls.mean(axis=(0, 2))
    return mean


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
        confusion = _count_confusions(predictions, counts)
        right = np.diagonal(confusion, axis1=2, axis2=3)
        true, given = confusion.sum(axis=3), confusion.sum(axis=2)
        rest = counts.sum(axis=1)[None, :, None] - true
        return {
            "sensitivity": (right / true).mean(axis=0),
            "specificity": ((rest - (given - right)) / rest).mean(axis=0),
            "auc": _measure_aucs(predictions, counts),
        }


def _count_confusions(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Count true and given classes: ``(r, b, k, k)``."""
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
    areas = np.empty((len(predictions.probabilities), len(counts), size))
    for index in range(size):
        inside, outside = predictions.labels == index, predictions.labels != index
        pairs = counts[:, inside].sum(axis=1) * counts[:, outside].sum(axis=1)
        for repeat, probabilities in enumerate(predictions.probabilities[:, :, index]):
            gap = probabilities[inside][:, None] - probabilities[outside][None, :]
            wins = (gap > 0) + 0.5 * (gap == 0)
            won = ((counts[:, inside] @ wins) * counts[:, outside]).sum(axis=1)
            areas[repeat, :, index] = won / pairs
    return areas.mean(axis=0)
