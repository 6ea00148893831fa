"""Calibration: what a predicted probability is worth, learned from out-of-fold predictions.

Two things are learned: a temperature, and the thresholds of prediction sets. Both are judged
by :func:`cross_fit`, which learns them again without each patient who is judged.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from meninx.evaluate.intervals import count_patients
from meninx.evaluate.predictions import SMALLEST_PROBABILITY, Predictions

SET_LEVEL = 0.90
TEMPERATURES = np.geomspace(1 / 20, 20, 601)
# Patients are left out one by one up to this many, and in as many groups beyond.
MOST_GROUPS = 100


@dataclass(frozen=True)
class Calibration:
    """How to turn logits into probabilities and prediction sets.

    Attributes
    ----------
    temperature
        What logits are divided by; above 1 the model was too sure of itself (Guo et al. 2017).
        Never below 1 where patients are not known.
    set_threshold
        A class is in the prediction set when its probability is at least this, where
        ``class_thresholds`` is empty.
    set_level
        Part of new patients' images whose set is meant to hold the true class.
    class_thresholds
        The threshold of each class, where each class had enough patients to hold the level by
        itself; empty where not.
    """

    temperature: float
    set_threshold: float
    set_level: float = SET_LEVEL
    class_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_thresholds", tuple(self.class_thresholds))

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits ``(n, k)`` into probabilities ``(n, k)``."""
        probabilities: np.ndarray = softmax(logits / self.temperature, axis=1)
        return probabilities

    def choose_set(self, probabilities: np.ndarray) -> np.ndarray:
        """Tell which classes are in each image's set, ``(n, k)`` booleans; none may be."""
        thresholds = np.asarray(self.class_thresholds or self.set_threshold)
        chosen: np.ndarray = probabilities >= thresholds
        return chosen


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Predictions calibrated without the patient they are of.

    Attributes
    ----------
    predictions
        With calibrated probabilities.
    sets
        ``(r, n, k)`` booleans: the classes in each image's prediction set.
    """

    predictions: Predictions
    sets: np.ndarray


def calibrate(predictions: Predictions, level: float = SET_LEVEL) -> Calibration:
    """Fit the temperature and the thresholds of prediction sets.

    Parameters
    ----------
    predictions
        Out-of-fold ones: logits of images that the model was trained on would look surer
        than those of new images.
    level
        Part of new patients' images whose set is meant to hold the true class.

    Notes
    -----
    Where patients are not known, images of one may be on both sides of a split, and the model
    then looks better out of fold than it is; so the temperature may take assurance away there,
    but not add any. (Training on 53 CE-MRI images whose patients were kept back, the fitted
    temperature was 0.55; on 400 images of other patients 0.92 would have been right.)

    Thresholds are those of cross-conformal prediction with the least ambiguous sets (Vovk
    2015; Sadinle, Lei and Wasserman 2019): the true class's probability that all but the
    level's complement of the patients reach, with the finite-sample correction. Where every
    class has enough patients, each class has its own threshold (Mondrian sets, Vovk 2012), so
    that a rare class is not covered less than others. Every patient has the same weight,
    however many images and repeats (Dunn, Wasserman and Ramdas 2023). MAPIE 1.6 is not used:
    its cross-conformal classifier takes no out-of-fold predictions, and its split-conformal one,
    which can be given them class by class, counts each image and repeat as an independent case;
    with five repeats its sets fall short of the level (``docs/statistics.md``). Where there is
    one image a patient and one repeat, the tests compare its sets with these: they are the same.
    """
    temperature = _find_temperature(predictions, _measure_losses(predictions).sum(axis=1))
    calibrated = _divide_logits(predictions, temperature)
    common = _find_threshold(calibrated, np.ones(len(predictions.labels), bool), level)
    by_class: tuple[float, ...] = ()
    if allows_class_thresholds(predictions, level):
        by_class = tuple(
            _find_threshold(calibrated, predictions.labels == index, level)
            for index in range(len(predictions.classes))
        )
    return Calibration(temperature, common, level, by_class)


def allows_class_thresholds(predictions: Predictions, level: float = SET_LEVEL) -> bool:
    """Tell whether each class has enough patients for a threshold by itself.

    It takes one more than the finite-sample correction needs, since a patient is left out when
    sets are judged: ten patients at a level of 0.9.
    """
    labels, patients = predictions.labels, predictions.patients
    fewest = count_patients(labels, patients, len(predictions.classes)).min()
    return bool(_rank(fewest - 1, level) <= fewest - 1)


def cross_fit(predictions: Predictions, level: float = SET_LEVEL) -> CrossFit:
    """Calibrate each patient's predictions by what all other patients teach.

    The thresholds and the temperature for a patient never saw that patient's labels, so that
    coverage and calibration are not measured on what they were fitted to.
    """
    groups = np.unique(predictions.patients, return_inverse=True)[1] % MOST_GROUPS
    losses = _measure_losses(predictions)
    total = losses.sum(axis=1)
    has_own = allows_class_thresholds(predictions, level)
    probabilities = np.empty_like(predictions.probabilities)
    sets = np.empty(probabilities.shape, bool)
    for group in np.unique(groups):
        judged = groups == group
        temperature = _find_temperature(predictions, total - losses[:, judged].sum(axis=1))
        calibrated = _divide_logits(predictions, temperature)
        thresholds = [
            _find_threshold(calibrated, ~judged & (calibrated.labels == index), level)
            if has_own
            else _find_threshold(calibrated, ~judged, level)
            for index in range(len(predictions.classes))
        ]
        probabilities[:, judged] = calibrated.probabilities[:, judged]
        sets[:, judged] = calibrated.probabilities[:, judged] >= thresholds
    return CrossFit(replace(predictions, probabilities=probabilities), sets)


def _find_temperature(predictions: Predictions, losses: np.ndarray) -> float:
    """Give the temperature of the smallest of losses ``(t,)``, one a temperature."""
    allowed = (0 if predictions.patients_known else 1) <= TEMPERATURES
    return float(TEMPERATURES[allowed][losses[allowed].argmin()])


def _find_threshold(predictions: Predictions, members: np.ndarray, level: float) -> float:
    """Give the probability that the level's part of the patients' true classes reach."""
    labels, patients = predictions.labels[members], predictions.patients[members]
    true = predictions.probabilities[:, np.flatnonzero(members), labels]
    names, member, images = np.unique(patients, return_inverse=True, return_counts=True)
    weights = np.broadcast_to(1 / images[member] / len(true), true.shape).ravel()
    order = np.argsort(-true, axis=None, kind="stable")
    reached = np.cumsum(weights[order])
    rank = _rank(len(names), level)
    if rank > len(names):
        return 0.0
    return float(true.ravel()[order][np.searchsorted(reached, rank - 1e-9)])


def _rank(patients: int, level: float) -> float:
    """Give how many of the patients, in votes, the threshold must let pass."""
    return round((patients + 1) * level, 9)


def _measure_losses(predictions: Predictions) -> np.ndarray:
    """Measure each image's log loss at every temperature, mean over repeats, ``(t, n)``."""
    return np.stack(
        [_divide_logits(predictions, value).losses.mean(axis=0) for value in TEMPERATURES]
    )


def _divide_logits(predictions: Predictions, temperature: float) -> Predictions:
    logits = np.log(np.clip(predictions.probabilities, SMALLEST_PROBABILITY, 1))
    return replace(predictions, probabilities=softmax(logits / temperature, axis=2))
