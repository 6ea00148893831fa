"""Predictive values: what an answer is worth where the classes are as common as one says."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.errors import StudyError
from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.intervals import LEVEL, UNKNOWN, Estimate, count_as_independent
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import count_confusions

SAMPLES = 4000


@dataclass(frozen=True)
class PredictiveValues:
    """What a class's answers are worth.

    Attributes
    ----------
    prevalence
        Of the class, where the values hold.
    is_cohort_prevalence
        Whether it is that of this cohort's images, rather than one that was stated.
    ppv
        Of those given the class, the part that has it.
    npv
        Of those not given the class, the part that does not have it.
    """

    prevalence: float
    is_cohort_prevalence: bool
    ppv: Estimate
    npv: Estimate


def measure_predictive_values(
    predictions: Predictions, prevalence: Mapping[str, float] | None = None, seed: int = 0
) -> dict[str, PredictiveValues]:
    """Measure the positive and negative predictive value of each class.

    Parameters
    ----------
    predictions
        Of one model.
    prevalence
        Class to its share where the classifier would be used; they sum to 1. By default the
        cohort's own, which a study that was balanced on purpose does not have in the clinic.
    seed
        Of the bootstrap.

    Raises
    ------
    StudyError
        The prevalences do not name the classes, or do not sum to 1.

    Notes
    -----
    Values by Bayes' rule from the rates at which each true class is given each class. Their
    intervals hold the middle 95 % of what follows from Jeffreys' posteriors of sensitivity and
    specificity, for as many patients as the rates' spread is worth.
    """
    shares = _read_prevalence(predictions, prevalence)
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    counts = np.vstack([np.ones(len(predictions.labels)), draws])
    confusion = count_confusions(predictions, counts).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = confusion / confusion.sum(axis=2, keepdims=True)
    return {
        label: _measure_class(predictions, rates, shares, index, prevalence is None, seed)
        for index, label in enumerate(predictions.classes)
    }


def _read_prevalence(
    predictions: Predictions, prevalence: Mapping[str, float] | None
) -> np.ndarray:
    if prevalence is None:
        classes = len(predictions.classes)
        return np.bincount(predictions.labels, minlength=classes) / len(predictions.labels)
    if set(prevalence) != set(predictions.classes):
        raise StudyError(
            f"prevalences are stated for {', '.join(sorted(prevalence))}; the classes are "
            f"{', '.join(predictions.classes)}"
        )
    shares = np.array([prevalence[label] for label in predictions.classes])
    if not (shares > 0).all() or not np.isclose(shares.sum(), 1, atol=1e-3):
        raise StudyError(
            f"prevalences must be above 0 and sum to 1; they sum to {shares.sum():.3f}"
        )
    return shares / shares.sum()


def _measure_class(
    predictions: Predictions,
    rates: np.ndarray,
    shares: np.ndarray,
    index: int,
    is_cohort: bool,
    seed: int,
) -> PredictiveValues:
    """Combine a class's sensitivity with its specificity in the stated mixture of the rest."""
    share, rest = shares[index], np.arange(len(shares)) != index
    sensitivity = rates[:, index, index]
    specificity = 1 - rates[:, rest, index] @ shares[rest] / (1 - share)
    inside = predictions.labels == index
    random = np.random.default_rng([seed, index])
    likely = _sample_rate(sensitivity, predictions.patients[inside], random)
    unlikely = _sample_rate(specificity, predictions.patients[~inside], random)
    return PredictiveValues(
        prevalence=float(share),
        is_cohort_prevalence=is_cohort,
        ppv=_combine(share * likely, (1 - share) * (1 - unlikely)),
        npv=_combine((1 - share) * unlikely, share * (1 - likely)),
    )


def _sample_rate(
    rates: np.ndarray, patients: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Give a rate, then samples of what it may really be: Jeffreys' posterior."""
    size = count_as_independent(float(rates[0]), rates[1:], len(np.unique(patients)))
    right = size * min(max(rates[0], 0.0), 1.0)
    return np.append(rates[0], random.beta(right + 0.5, size - right + 0.5, size=SAMPLES))


def _combine(right: np.ndarray, wrong: np.ndarray) -> Estimate:
    """Give the part that is right, of the rates themselves and of their samples."""
    if right[0] + wrong[0] <= 0:
        return UNKNOWN
    parts = right / (right + wrong)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(parts[1:], [tail, 1 - tail])
    return Estimate(float(parts[0]), float(min(low, parts[0])), float(max(high, parts[0])))
