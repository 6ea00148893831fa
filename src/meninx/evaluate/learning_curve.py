"""The learning curve: how a score grows with the number of patients, and how many are needed.

One model is trained on parts of the patients of each fold and scored on the same held-out
images. The error of the balanced accuracy falls as asymptote + scale · patients ^ -exponent
(Figueroa et al. 2012, BMC Medical Informatics and Decision Making 12:8; Viering and Loog 2022
for when it does not). With a handful of noisy points many such curves fit; all of them, each
as much as it fits, make the forecast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, truncnorm

from meninx.errors import StudyError
from meninx.evaluate.bootstrap import draw_weights, stratify
from meninx.evaluate.intervals import (
    LEVEL,
    Estimate,
    count_worth,
    estimate_share,
    expect_width,
)
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import measure_balanced_accuracy
from meninx.evaluate.splits import Split

FACTORS = (2.0, 4.0)
FEWEST_SIZES = 3
CURVE_POINTS = 30
# What exponents are thought possible before seeing the data: learning curves of classifiers
# lie between very slow and the 1/n of a realisable problem, or faster where few patients are
# far too few.
EXPONENTS = np.linspace(0.1, 2.0, 39)
ASYMPTOTES = 31
# How much larger the points' variances are taken: no curve is just a power law.
MISFIT = 1.3
SAMPLES = 4000


@dataclass(frozen=True)
class Point:
    """A balanced accuracy at a number of training patients."""

    patients: float
    balanced_accuracy: Estimate


@dataclass(frozen=True)
class PowerLaw:
    """error = asymptote + scale · patients ^ -exponent."""

    asymptote: float
    scale: float
    exponent: float

    def score(self, patients: float) -> float:
        """Give the balanced accuracy at a number of training patients."""
        return float(1 - self.asymptote - self.scale * patients**-self.exponent)


@dataclass(frozen=True)
class Forecast:
    """What a larger study is expected to find.

    Attributes
    ----------
    factor
        How many times as many patients it has.
    patients
        How many that is, of the whole cohort.
    balanced_accuracy
        Expected, with what the fitted curves leave open.
    interval_width
        Of the 95 % interval that the larger study would itself report.
    """

    factor: float
    patients: int
    balanced_accuracy: Estimate
    interval_width: float


@dataclass(frozen=True)
class LearningCurve:
    """Scores by the number of training patients, and what follows from them.

    Attributes
    ----------
    points
        What was measured.
    fit
        The one power law that fits best.
    curve
        The power laws together, from the smallest measured size to the largest forecast one.
    forecast
        For studies 2 and 4 times as large.
    """

    points: tuple[Point, ...]
    fit: PowerLaw
    curve: tuple[Point, ...]
    forecast: tuple[Forecast, ...]


def subsample_patients(
    split: Split, fraction: float, labels: np.ndarray, patients: np.ndarray, seed: int = 0
) -> Split:
    """Keep a part of a split's training patients, class by class.

    Parameters
    ----------
    split
        Its test side stays as it is.
    fraction
        Of the training patients of each class that is kept, in (0, 1]; at least one patient.
        Patients with images of several labels are a group of their own, from which more are kept
        where a class would be lost.
    labels, patients
        ``(n,)`` of each image of the cohort.
    seed
        Of the order in which patients are taken: with the same seed a smaller part lies within
        a larger one.

    Raises
    ------
    StudyError
        The fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise StudyError(f"a part of the patients must be above 0 and at most 1, not {fraction}")
    random = np.random.default_rng([seed, split.repeat, split.fold])
    own_labels, own_patients = labels[split.train], patients[split.train]
    first, _, strata = stratify(own_labels, own_patients)
    names = own_patients[first]
    kept: list[np.ndarray] = []
    for stratum in np.unique(strata):
        those = random.permutation(names[strata == stratum])
        kept.append(those[: max(round(fraction * len(those)), 1)])
    is_kept = np.isin(own_patients, np.concatenate(kept))
    # What only patients of several labels show, none of whom was kept: they come last, in `those`.
    for label in np.setdiff1d(own_labels, own_labels[is_kept]):
        showing = own_patients[own_labels == label]
        is_kept |= own_patients == next(name for name in those if name in showing)
    return Split(split.repeat, split.fold, split.train[is_kept], split.test)


def count_training_patients(splits: Sequence[Split], patients: np.ndarray) -> float:
    """Count the training patients of a split, mean over splits."""
    return float(np.mean([len(np.unique(patients[split.train])) for split in splits]))


def fit_learning_curve(sizes: Mapping[float, Predictions], seed: int = 0) -> LearningCurve:
    """Fit a power law to the scores at several numbers of training patients.

    Parameters
    ----------
    sizes
        Mean number of training patients to the out-of-fold predictions of one model trained on
        that many; all of the same images, the largest being the whole training sides.
    seed
        Of the bootstrap and of the sampled curves.

    Raises
    ------
    StudyError
        Fewer than three sizes.

    Notes
    -----
    The points' errors and how far they go together (they are of the same patients) come from a
    bootstrap over patients. Curves are weighed by their Gaussian likelihood under those errors,
    tempered by a third since the law is a model (Grünwald and van Ommen 2017, Bayesian Analysis
    12:1069); a priori exponents from 0.1 to 2 are alike, low asymptotes likelier than high
    ones, and scales not below 0. The interval is for the expected score. It rests on the curve
    being a power law and on more patients like these; measured coverage is in
    ``docs/statistics.md``.
    """
    if len(sizes) < FEWEST_SIZES:
        raise StudyError(f"a learning curve needs {FEWEST_SIZES} sizes; there are {len(sizes)}")
    patients = np.array(sorted(sizes), float)
    full = sizes[max(sizes)]
    draws = draw_weights(full.labels, full.patients, seed=seed)
    counts = np.vstack([np.ones(len(full.labels)), draws])
    scores = np.stack([measure_balanced_accuracy(sizes[size], counts) for size in sorted(sizes)])
    classes = len(full.classes)
    worth = count_worth(full.labels, full.patients, classes)
    points = tuple(
        Point(float(size), estimate_share(values[0], values[1:], worth, classes))
        for size, values in zip(patients, scores, strict=True)
    )
    spread = MISFIT * np.cov(scores[:, 1:]) + np.eye(len(patients)) * 0.25 / worth**2
    laws, best = _weigh_power_laws(patients, 1 - scores[:, 0], spread, seed)
    total = len(np.unique(full.patients))
    return LearningCurve(
        points=points,
        fit=best,
        curve=tuple(
            Point(float(size), _predict(laws, size))
            for size in np.geomspace(patients[0], patients[-1] * max(FACTORS), CURVE_POINTS)
        ),
        forecast=tuple(
            Forecast(
                factor,
                round(total * factor),
                (expected := _predict(laws, patients[-1] * factor)),
                expect_width(scores[-1, 0], scores[-1, 1:], worth, classes, expected.value, factor),
            )
            for factor in FACTORS
        ),
    )


def _weigh_power_laws(
    patients: np.ndarray, errors: np.ndarray, spread: np.ndarray, seed: int
) -> tuple[np.ndarray, PowerLaw]:
    """Sample power laws by how well they fit.

    Returns
    -------
    np.ndarray
        ``(s, 3)``: asymptote, scale and exponent of each.
    PowerLaw
        The best one.
    """
    precision = np.linalg.inv(spread)
    exponents = np.repeat(EXPONENTS, ASYMPTOTES)
    # Low asymptotes are a priori more likely than high ones, and few points cannot tell.
    asymptotes = np.tile(errors.max() * np.linspace(0, 1, ASYMPTOTES) ** 2, len(EXPONENTS))
    falls = patients[None, :] ** -exponents[:, None]
    rests = errors[None, :] - asymptotes[:, None]
    strength = np.einsum("gi,ij,gj->g", falls, precision, falls)
    scales = np.einsum("gi,ij,gj->g", falls, precision, rests) / strength
    misfit = np.einsum("gi,ij,gj->g", rests, precision, rests) - strength * scales**2
    # The scale is uniform in units of the error at the smallest size, and not below 0.
    at_smallest = patients[0] ** -exponents
    likelihood = (
        -misfit / 2
        + np.log(at_smallest)
        - np.log(strength) / 2
        + norm.logcdf(scales * np.sqrt(strength))
    )
    kept_scales = np.maximum(scales, 0)
    best = int((misfit + strength * (kept_scales - scales) ** 2).argmin())
    weights = np.exp(likelihood - likelihood.max())
    random = np.random.default_rng(seed)
    picked = random.choice(len(weights), SAMPLES, p=weights / weights.sum())
    deviation = 1 / np.sqrt(strength[picked])
    sampled = truncnorm.rvs(
        -scales[picked] / deviation,
        np.inf,
        loc=scales[picked],
        scale=deviation,
        random_state=random,
    )
    laws = np.column_stack([asymptotes[picked], sampled, exponents[picked]])
    return laws, PowerLaw(float(asymptotes[best]), float(kept_scales[best]), float(exponents[best]))


def _predict(laws: np.ndarray, patients: float) -> Estimate:
    scores = np.clip(1 - laws[:, 0] - laws[:, 1] * patients ** -laws[:, 2], 0, 1)
    tail = (1 - LEVEL) / 2
    low, middle, high = np.quantile(scores, [tail, 0.5, 1 - tail])
    return Estimate(float(middle), float(low), float(high))
