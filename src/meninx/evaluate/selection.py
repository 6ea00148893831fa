"""The score of "pick the best cell", which pays for the picking.

The best of many cells looks better than it is: part of what made it the best was luck on
these very patients. Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and
Borboudakis 2018, Machine Learning 107:1895) repeats the picking on resampled patients and
scores each pick on the patients that were not drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_patients, draw_weights
from meninx.evaluate.intervals import (
    LEVEL,
    Estimate,
    count_effectively,
    count_patients,
    estimate_share,
)
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import (
    average_by_class,
    measure_balanced_accuracy,
    measure_log_loss,
)


@dataclass(frozen=True)
class Selection:
    """Which cell is best, and what that claim is worth.

    Attributes
    ----------
    chosen
        The cell with the highest balanced accuracy on all patients; among equals the one with
        the lowest log loss.
    headline
        Balanced accuracy of the whole procedure, choice included.
    naive
        Balanced accuracy of the chosen cell as if it had not been chosen: too good.
    shares
        Cell to the part of the draws in which it was picked.
    """

    chosen: str
    headline: Estimate
    naive: Estimate
    shares: Mapping[str, float]


def select_best(candidates: Mapping[str, Predictions], seed: int = 0) -> Selection:
    """Pick the best candidate and score the picking.

    Parameters
    ----------
    candidates
        Cell to its out-of-fold predictions, all of the same images; at least one.
    seed
        Of the bootstrap.

    Notes
    -----
    As in the paper: in each of 2,000 draws the pick is made on the drawn patients and scored on
    those left out; the headline is the mean of these scores, its interval their middle 95 %.
    That interval is wide, since some 37 % of the patients are left out of a draw: measured, it
    holds the truth in 93 to 100 % of studies of 53 patients. Narrower ones (the spread of
    patients' mean scores when left out; Efron and Tibshirani's delta method, 1997) held it in
    63 to 95 % and were not taken. Draws are stratified by class and a draw is of patients, which
    the paper leaves open. Where all answers are right no draw varies; so the interval reaches
    at least as far as Wilson's for patients' mean scores when left out.
    """
    any_cell = next(iter(candidates.values()))
    drawn = draw_patients(any_cell.labels, any_cell.patients, seed=seed)
    once = np.ones((1, len(any_cell.labels)))
    chosen = list(candidates)[int(rank_cells(candidates, once)[:, 0].argmax())]
    picked = rank_cells(candidates, drawn).argmax(axis=0)
    return Selection(
        chosen=chosen,
        headline=_score_picks(candidates, picked, drawn == 0, seed),
        naive=estimate_balanced_accuracy(candidates[chosen], seed),
        shares={cell: float((picked == index).mean()) for index, cell in enumerate(candidates)},
    )


def rank_cells(candidates: Mapping[str, Predictions], counts: np.ndarray) -> np.ndarray:
    """Give what a pick is made by, the more the better, for every way of counting images.

    Parameters
    ----------
    candidates
        c cells, all of the same n images.
    counts
        ``(b, n)``: how often each image counts, in b ways.

    Returns
    -------
    np.ndarray
        ``(c, b)``: balanced accuracy, and log loss only where that is equal.
    """
    return np.vstack(
        [
            measure_balanced_accuracy(predictions, counts)
            - 1e-6 * measure_log_loss(predictions, counts)
            for predictions in candidates.values()
        ]
    )


def estimate_balanced_accuracy(predictions: Predictions, seed: int = 0) -> Estimate:
    """Score a cell, or a procedure, that was not chosen by these predictions."""
    return _estimate_mean(predictions.share_right, predictions, seed)


def _score_picks(
    candidates: Mapping[str, Predictions], picked: np.ndarray, left_out: np.ndarray, seed: int
) -> Estimate:
    """Score each draw's pick ``(b,)`` on those it was not picked by, ``(b, n)``."""
    any_cell = next(iter(candidates.values()))
    right = np.stack([predictions.share_right for predictions in candidates.values()])[picked]
    counts = left_out.astype(float)
    scores = np.zeros(len(picked))
    with np.errstate(invalid="ignore"):
        for index in range(len(any_cell.classes)):
            inside = any_cell.labels == index
            weights = counts[:, inside]
            scores += (weights * right[:, inside]).sum(axis=1) / weights.sum(axis=1)
        scores /= len(any_cell.classes)
        by_image = (counts * right).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    value = float(np.nanmean(scores))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(scores, [tail, 1 - tail])
    least = _estimate_mean(by_image, any_cell, seed)
    return Estimate(value, float(min(low, least.low)), float(max(high, least.high)))


def _estimate_mean(values: np.ndarray, predictions: Predictions, seed: int) -> Estimate:
    """Estimate the mean over classes of images' values in [0, 1]."""
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    counts = np.vstack([np.ones(len(values)), draws])
    means = average_by_class(values, predictions, counts)
    classes = len(predictions.classes)
    patients = count_effectively(count_patients(predictions.labels, predictions.patients, classes))
    return estimate_share(means[0], means[1:], patients, classes)
