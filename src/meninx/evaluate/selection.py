"""The score of "pick the best model", which pays for the picking.

The best of many models looks better than it is: part of what made it the best was luck on
these very patients. Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and
Borboudakis 2018, Machine Learning 107:1895) repeats the picking on resampled patients and
scores each pick on the patients that were not drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_patients, draw_weights
from meninx.evaluate.intervals import (
    UNKNOWN,
    Estimate,
    count_worth,
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
    """Which model is best, and what that claim is worth.

    Attributes
    ----------
    chosen
        The model with the highest balanced accuracy on all patients; among equals the one with
        the lowest log loss.
    headline
        Balanced accuracy of the whole procedure, choice included.
    naive
        Balanced accuracy of the chosen model as if it had not been chosen: too good.
    shares
        Model to the part of the draws in which it was picked.
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
        Model to its out-of-fold predictions, all of the same images; at least one.
    seed
        Of the bootstrap.

    Notes
    -----
    As in the paper, in each of 2,000 draws the pick is made on the drawn patients and scored on
    those left out, and the headline is the mean of these scores. Draws are stratified by class
    and a draw is of patients, which the paper leaves open.

    The interval is not the paper's, the middle 95 % of these scores: they are of 37 % of the
    patients, so they spread more than the headline would among studies. Two variances enclose
    its own. That of the scores, less what follows from scoring on a part, is that of a single
    pick. That of the patients' mean scores when left out takes the picks for given. The interval
    is Wilson's for as many patients as would spread by the mean of the two. Measured coverage is
    in ``docs/statistics.md``.
    """
    any_model = next(iter(candidates.values()))
    drawn = draw_patients(any_model.labels, any_model.patients, seed=seed)
    once = np.ones((1, len(any_model.labels)))
    chosen = list(candidates)[int(rank_models(candidates, once)[:, 0].argmax())]
    picked = rank_models(candidates, drawn).argmax(axis=0)
    return Selection(
        chosen=chosen,
        headline=_score_picks(candidates, picked, drawn == 0, seed),
        naive=estimate_balanced_accuracy(candidates[chosen], seed),
        shares={model: float((picked == index).mean()) for index, model in enumerate(candidates)},
    )


def rank_models(candidates: Mapping[str, Predictions], counts: np.ndarray) -> np.ndarray:
    """Give what a pick is made by, the more the better, for every way of counting images.

    Parameters
    ----------
    candidates
        c models, all of the same n images.
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
    """Score a model, or a procedure, that was not chosen by these predictions."""
    return _estimate_mean(predictions.share_right, predictions, seed)


def _score_picks(
    candidates: Mapping[str, Predictions], picked: np.ndarray, left_out: np.ndarray, seed: int
) -> Estimate:
    """Score each draw's pick ``(b,)`` on those it was not picked by, ``(b, n)``."""
    any_model = next(iter(candidates.values()))
    labels, patients, classes = any_model.labels, any_model.patients, len(any_model.classes)
    is_scored = np.all([left_out[:, labels == index].any(axis=1) for index in range(classes)], 0)
    if not is_scored.any():
        return UNKNOWN
    counts = left_out[is_scored].astype(float)
    share_right = np.stack([predictions.share_right for predictions in candidates.values()])
    right = share_right[picked[is_scored]]
    value, of_one_pick = 0.0, np.zeros(len(counts))
    for index in range(classes):
        inside = labels == index
        among = counts[:, inside]
        scores = (among * right[:, inside]).sum(axis=1) / among.sum(axis=1)
        value += scores.mean() / classes
        excess = _expect_excess(among, patients[inside])
        of_one_pick += (scores - scores.mean()) / np.sqrt(excess) / classes
    by_image = (counts * right).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    draws = draw_weights(labels, patients, seed=seed)
    of_all_picks = average_by_class(by_image, any_model, draws)
    spread = np.concatenate([of_one_pick, of_all_picks - of_all_picks.mean()])
    worth = count_worth(labels, patients, classes)
    return estimate_share(float(value), spread, worth, classes)


def _expect_excess(left_out: np.ndarray, patients: np.ndarray) -> float:
    """Give how many times the variance of a mean of all is that of those left out around it.

    Parameters
    ----------
    left_out
        ``(b, n)``: 1 for the images of one class left out of each draw, at least one.
    patients
        ``(n,)`` of them.

    Notes
    -----
    A mean of l of m patients, taken without replacement, varies around the mean of all m by
    m / l - 1 times the variance of the latter (Cochran 1977, Sampling Techniques, chapter 2);
    1.7 times where 37 % are left out of every draw.
    """
    _, first = np.unique(patients, return_index=True)
    return float((len(first) / left_out[:, first].sum(axis=1)).mean() - 1)


def _estimate_mean(values: np.ndarray, predictions: Predictions, seed: int) -> Estimate:
    """Estimate the mean over classes of images' values in [0, 1]."""
    draws = draw_weights(predictions.labels, predictions.patients, seed=seed)
    counts = np.vstack([np.ones(len(values)), draws])
    means = average_by_class(values, predictions, counts)
    classes = len(predictions.classes)
    patients = count_worth(predictions.labels, predictions.patients, classes)
    return estimate_share(means[0], means[1:], patients, classes)
