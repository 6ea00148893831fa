"""Intervals: how far a score may be from what new patients would show.

All rest on one thing, the spread of the score over draws of patients, so that the images and
the repeats of a patient count as what they are. What is made of that spread differs by score.
The percentiles of a bootstrap, the usual choice, hold the truth too rarely with few patients:
in 87 to 94 % of studies of 53 patients, and in 53 to 84 % where nearly all answers are right,
since most draws then say 1 (``docs/statistics.md``, by ``benchmarks/intervals.py``).

What an interval covers is the draw of patients. It does not cover the draw of the training
sets beyond what the repeats average out, nor another hospital or scanner: the score is that of
models trained on some (k - 1) / k of these very patients.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
# What an effective number of patients is drawn towards the real one by, in observations.
PULL = 0.25
# The area under a ROC curve, a mean over pairs, varies less near 1 than a proportion does. A few
# wrong pairs say badly how far below the true area may be, and well how far above: drawn as much
# for both limits, too many intervals hold the truth, drawn as little, too few.
PULL_DOWN_OF_AREAS = 0.02
PULL_UP_OF_AREAS = 0.001


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval.

    Attributes
    ----------
    value
        On the cohort as it is, mean over repeats. NaN where it cannot be computed.
    low, high
        Limits of the interval; its kind depends on the score.
    """

    value: float
    low: float
    high: float


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def count_patients(labels: np.ndarray, patients: np.ndarray, classes: int) -> np.ndarray:
    """Count the patients who have images of each class, ``(k,)``."""
    return np.array([len(np.unique(patients[labels == index])) for index in range(classes)])


def effective_sample_size(patients: np.ndarray, everyone: float = np.inf) -> float:
    """Give how many patients a mean over classes is worth.

    Parameters
    ----------
    patients
        ``(k,)`` of each class.
    everyone
        How many there are in all: fewer than the sum where some are of several classes.

    Returns
    -------
    float
        The size of the one group of patients whose proportion would vary as the mean of the k
        classes' proportions: k² / Σ 1 / m, at most the number of all patients.
    """
    return float(min(len(patients) ** 2 / (1 / np.maximum(patients, 1)).sum(), everyone))


def count_worth(labels: np.ndarray, patients: np.ndarray, classes: int) -> float:
    """Give how many patients a mean over the classes of these images is worth."""
    by_class = count_patients(labels, patients, classes)
    return effective_sample_size(by_class, len(np.unique(patients)))


def count_as_independent(
    value: float, draws: np.ndarray, patients: float, pull: float = PULL
) -> float:
    """Give how many independent patients, one image each, would spread as the draws do.

    Parameters
    ----------
    value
        The score, in [0, 1].
    draws
        ``(b,)``: it on draws of :func:`meninx.evaluate.bootstrap.draw_weights`.
    patients
        How many it rests on, see :func:`effective_sample_size`.
    pull
        How many observations draw it towards ``patients``.

    Notes
    -----
    The effective sample size of Korn and Graubard (1998, Survey Methodology 24:193), drawn a
    little towards ``patients``: when all answers are right no draw varies, which says nothing.
    """
    prior = pull / patients**2
    design_effect = (float(np.nanvar(draws)) + prior) / (value * (1 - value) / patients + prior)
    return patients / design_effect


def estimate_share(value: float, draws: np.ndarray, patients: float, classes: int = 1) -> Estimate:
    """Give the interval of a score in [0, 1].

    Parameters
    ----------
    value, draws, patients
        As of :func:`count_as_independent`.
    classes
        How many proportions it is the mean of.

    Notes
    -----
    Wilson's interval for a proportion, of as many patients as would give the spread of the
    draws; for a mean of several proportions with Student's quantile in place of the normal one.
    Measured coverage at 53 patients of nominal 95 %: see ``docs/statistics.md``.
    """
    if np.isnan(value):
        return UNKNOWN
    size = count_as_independent(value, draws, patients)
    low, high = _bound(value, size, _find_quantile(patients, classes))
    return Estimate(float(value), low, high)


def estimate_area(value: float, draws: np.ndarray, patients: float, classes: int = 1) -> Estimate:
    """Give the interval of an area under a ROC curve, or of the mean of several.

    Parameters
    ----------
    value, draws, patients, classes
        As of :func:`estimate_share`.

    Notes
    -----
    As :func:`estimate_share`, but each limit has an effective number of patients of its own,
    drawn towards the real one by less: in simulated studies, with areas from 0.5 to 0.9995,
    one image a patient or four, such intervals held the truth in 92 to 98 %
    (``docs/statistics.md``).
    """
    if np.isnan(value):
        return UNKNOWN
    quantile = _find_quantile(patients, classes)
    down, up = (
        count_as_independent(value, draws, patients, pull)
        for pull in (PULL_DOWN_OF_AREAS, PULL_UP_OF_AREAS)
    )
    low, high = _bound(value, down, quantile)[0], _bound(value, up, quantile)[1]
    return Estimate(float(value), low, high)


def expect_width(
    value: float, draws: np.ndarray, patients: float, classes: int, expected: float, factor: float
) -> float:
    """Give how wide the interval of a share would be in a larger study.

    Parameters
    ----------
    value, draws, patients, classes
        As of :func:`estimate_share`, in this study.
    expected
        The score that the larger study is expected to find.
    factor
        How many times as many patients it has.
    """
    size = factor * count_as_independent(value, draws, patients)
    low, high = _bound(expected, size, _find_quantile(factor * patients, classes))
    return high - low


def estimate_difference(
    one: Estimate, other: Estimate, one_draws: np.ndarray, other_draws: np.ndarray
) -> Estimate:
    """Give the interval of the difference of two scores in [0, 1] of the same patients.

    Parameters
    ----------
    one, other
        The scores with their intervals.
    one_draws, other_draws
        ``(b,)``: them on the same draws, for how far they go together.

    Notes
    -----
    Newcombe's square-and-add method for paired proportions (1998, Statistics in Medicine
    17:2635), the correlation taken from the draws.
    """
    together = _correlate(one_draws, other_draws)
    down = (one.value - one.low, other.high - other.value)
    up = (one.high - one.value, other.value - other.low)
    value = one.value - other.value
    return Estimate(value, value - _add(*down, together), value + _add(*up, together))


def _find_quantile(patients: float, classes: int) -> float:
    """Give the quantile for a 95 % interval: normal for one proportion, Student's for a mean.

    The spread of one proportion follows from its value, that of a mean is estimated.
    """
    if classes == 1:
        return float(norm.ppf((1 + LEVEL) / 2))
    return float(t.ppf((1 + LEVEL) / 2, max(patients - classes, 1)))


def _bound(value: float, size: float, deviations: float) -> tuple[float, float]:
    """Give Wilson's limits for a share of ``size`` observations, widened to hold the value."""
    tail = 2 * norm.sf(deviations)
    low, high = proportion_confint(value * size, size, tail, "wilson")
    return float(min(low, value)), float(max(high, value))


def _add(one: float, other: float, together: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * together * one * other, 0)))


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    spreads = one.std() * other.std()
    if spreads == 0:
        return 0.0
    return float(((one - one.mean()) * (other - other.mean())).mean() / spreads)
