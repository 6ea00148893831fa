"""Calibration: what a predicted probability is worth, learned from out-of-fold predictions."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from meninx.evaluate.predictions import SMALLEST_PROBABILITY, Predictions

SET_LEVEL = 0.90
LARGEST_LOG_TEMPERATURE = np.log(20)


@dataclass(frozen=True)
class Calibration:
    """How to turn logits into probabilities and prediction sets.

    Attributes
    ----------
    temperature
        What logits are divided by; above 1 the model was too sure of itself (Guo et al. 2017).
    set_threshold
        A class is in the prediction set when its probability is at least this.
    set_level
        Part of new patients' images whose set is meant to hold the true class.
    """

    temperature: float
    set_threshold: float
    set_level: float = SET_LEVEL

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits ``(n, k)`` into probabilities ``(n, k)``."""
        probabilities: np.ndarray = softmax(logits / self.temperature, axis=1)
        return probabilities

    def choose_set(self, probabilities: np.ndarray) -> np.ndarray:
        """Tell which classes are in each image's set, ``(n, k)`` booleans; none may be."""
        chosen: np.ndarray = probabilities >= self.set_threshold
        return chosen


def calibrate(predictions: Predictions) -> Calibration:
    """Fit the temperature and the threshold of prediction sets.

    Parameters
    ----------
    predictions
        Out-of-fold ones: logits of images that the model was trained on would look surer
        than those of new images.

    Notes
    -----
    The threshold is that of cross-conformal prediction with the least ambiguous sets (Vovk
    2015; Sadinle, Lei and Wasserman 2019): the level's quantile, with the finite-sample
    correction, of one minus the true class's probability.
    """
    logits = np.log(np.clip(predictions.probabilities, SMALLEST_PROBABILITY, 1))

    def loss(log_temperature: float) -> float:
        scaled = softmax(logits / np.exp(log_temperature), axis=2)
        true = scaled[:, np.arange(len(predictions.labels)), predictions.labels]
        return float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1)).mean())

    bounds = (-LARGEST_LOG_TEMPERATURE, LARGEST_LOG_TEMPERATURE)
    temperature = float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
    calibrated = softmax(logits / temperature, axis=2).mean(axis=0)
    scores = 1 - calibrated[np.arange(len(predictions.labels)), predictions.labels]
    rank = min(np.ceil((len(scores) + 1) * SET_LEVEL) / len(scores), 1.0)
    quantile = float(np.quantile(scores, rank, method="higher"))
    return Calibration(temperature, set_threshold=1 - quantile)
