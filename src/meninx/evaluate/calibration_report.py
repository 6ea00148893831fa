"""What probabilities and prediction sets are worth on patients they did not learn from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.calibration import SET_LEVEL, allows_class_thresholds, calibrate, cross_fit
from meninx.evaluate.calibration_error import (
    Bin,
    divide_by_confidence,
    estimate_calibration_error,
    expect_error_if_perfect,
)
from meninx.evaluate.intervals import Estimate, estimate_share
from meninx.evaluate.losses import estimate_loss
from meninx.evaluate.predictions import Predictions


@dataclass(frozen=True)
class ClassSetScores:
    """What the prediction sets of some images are like; counts are means over repeats.

    Attributes
    ----------
    images
        How many.
    coverage
        Share of them whose set holds the true class.
    mean_size
        Classes in a set.
    empty, several
        Images whose set holds no class, or more than one: "cannot tell".
    """

    images: int
    coverage: Estimate
    mean_size: float
    empty: float
    several: float


@dataclass(frozen=True)
class SetScores(ClassSetScores):
    """What the prediction sets of all images are like.

    Attributes
    ----------
    level
        The share that is meant to be covered.
    is_class_conditional
        Whether each class has its own threshold.
    by_class
        The same for the images of each class.
    """

    level: float
    is_class_conditional: bool
    by_class: Mapping[str, ClassSetScores]


@dataclass(frozen=True)
class Reliability:
    """How far confidence is from how often it is right.

    Attributes
    ----------
    error
        Expected calibration error.
    error_if_perfect
        What chance alone would show on average.
    log_loss
        In nats.
    bins
        Of the reliability diagram.
    """

    error: Estimate
    error_if_perfect: float
    log_loss: Estimate
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class CalibrationReport:
    """What a model's prediction sets and probabilities are worth.

    Attributes
    ----------
    sets
        Of cross-conformal prediction sets.
    temperature
        Fitted on all out-of-fold predictions, what a bundle uses.
    before, after
        Reliability of the probabilities as they are, and at temperatures that were each fitted
        without the patient they are used for.
    """

    sets: SetScores
    temperature: float
    before: Reliability
    after: Reliability


def assess_calibration(predictions: Predictions, seed: int = 0) -> CalibrationReport:
    """Judge prediction sets and calibration on patients they did not learn from.

    Parameters
    ----------
    predictions
        Out-of-fold ones, of one model.
    seed
        Of the bootstrap.
    """
    fitted = cross_fit(predictions)
    return CalibrationReport(
        sets=_judge_sets(predictions, fitted.sets, seed),
        temperature=calibrate(predictions).temperature,
        before=_judge_reliability(predictions, seed),
        after=_judge_reliability(fitted.predictions, seed),
    )


def _judge_reliability(predictions: Predictions, seed: int) -> Reliability:
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    return Reliability(
        error=estimate_calibration_error(predictions, seed),
        error_if_perfect=expect_error_if_perfect(predictions, seed),
        log_loss=estimate_loss(predictions.losses.mean(axis=0), predictions, draws),
        bins=divide_by_confidence(predictions),
    )


def _judge_sets(predictions: Predictions, sets: np.ndarray, seed: int) -> SetScores:
    by_class = {
        label: _judge_set_of(predictions, sets, predictions.labels == index, seed)
        for index, label in enumerate(predictions.classes)
    }
    everyone = np.ones(len(predictions.labels), bool)
    return SetScores(
        **vars(_judge_set_of(predictions, sets, everyone, seed)),
        level=SET_LEVEL,
        is_class_conditional=allows_class_thresholds(predictions),
        by_class=by_class,
    )


def _judge_set_of(
    predictions: Predictions, sets: np.ndarray, members: np.ndarray, seed: int
) -> ClassSetScores:
    """Judge the sets of some images."""
    some, chosen = predictions.take(np.flatnonzero(members)), sets[:, members]
    sizes = chosen.sum(axis=2)
    covered = chosen[:, np.arange(len(some.labels)), some.labels].mean(axis=0)
    draws = draw_weights(some.labels, some.patients, seed=seed)
    return ClassSetScores(
        images=len(some.labels),
        coverage=estimate_share(
            float(covered.mean()),
            draws @ covered / draws.sum(axis=1),
            len(np.unique(some.patients)),
        ),
        mean_size=float(sizes.mean()),
        empty=float((sizes == 0).sum(axis=1).mean()),
        several=float((sizes > 1).sum(axis=1).mean()),
    )
