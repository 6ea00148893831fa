"""Losses: the interval of a mean above 0 to which a few patients may add most.

Where nearly all answers are right, a study of few patients has hardly seen a large loss, and
an interval that trusts the spread it saw ends too low. A bootstrap of the studentised mean
learns from draws without the large losses how far such studies fall short.
"""

import numpy as np

from meninx.evaluate.bootstrap import stratify
from meninx.evaluate.intervals import LEVEL, Estimate
from meninx.evaluate.predictions import Predictions

# A draw's relative error is taken for no less than this part of the cohort's: where a class has
# two or three patients, a draw may hold one of them only, and say nothing of how they vary.
LEAST_ERROR = 0.5


def estimate_loss(losses: np.ndarray, predictions: Predictions, draws: np.ndarray) -> Estimate:
    """Give the interval of the images' mean loss.

    Parameters
    ----------
    losses
        ``(n,)`` of each image, not below 0.
    predictions
        What they are of.
    draws
        ``(b, n)``: how often each image counts, see
        :func:`meninx.evaluate.bootstrap.draw_weights`.

    Notes
    -----
    Bootstrap-t (Efron 1981, Canadian Journal of Statistics 9:139; DiCiccio and Efron 1996,
    Statistical Science 11:189) of the logarithm of the mean, with the error of a mean of
    clusters in strata: patients in classes, as they are drawn.
    """
    counts = np.vstack([np.ones(len(losses)), draws])
    means, errors = _measure_means(losses, predictions, counts)
    value = float(means[0])
    if errors[0] == 0:
        return Estimate(value, value, value)
    # Draws of patients without any loss tell as little as those of one patient.
    means = np.maximum(means, value * np.finfo(float).eps)
    relative = errors / means
    distances = np.log(means[1:] / value) / np.maximum(relative[1:], LEAST_ERROR * relative[0])
    tail = (1 - LEVEL) / 2
    low, high = value * np.exp(-np.quantile(distances, [1 - tail, tail]) * relative[0])
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def _measure_means(
    losses: np.ndarray, predictions: Predictions, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the mean loss and its standard error for every way of counting, each ``(b,)``."""
    first, member, strata = stratify(predictions.labels, predictions.patients)
    sums, images = np.bincount(member, losses), np.bincount(member).astype(float)
    times = counts[:, first]
    total = times @ images
    means = times @ sums / total
    variance = np.zeros(len(counts))
    for stratum in np.unique(strata):
        those = strata == stratum
        size, weights = those.sum(), times[:, those]
        loss, seen = sums[those], images[those]
        # Of each patient's summed distance from the mean: its sum, and that of its squares.
        summed = weights @ loss - means * (weights @ seen)
        squared = (
            weights @ loss**2
            - 2 * means * (weights @ (loss * seen))
            + means**2 * (weights @ seen**2)
        )
        variance += (squared - summed**2 / size) * size / max(size - 1, 1)
    return means, np.sqrt(np.maximum(variance, 0)) / total
