"""The score of "pick the best cell", which pays for the picking.

The best of many cells looks better than it is: part of what made it the best was luck on
these very patients. Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and
Borboudakis 2018, Machine Learning 107:1895) repeats the picking on resampled patients and
scores each pick on the patients that were not drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meninx.evaluate.bootstrap import draw_patients
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import Estimate, measure_balanced_accuracy, measure_log_loss


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
    """
    cells = list(candidates)
    any_cell = candidates[cells[0]]
    drawn = draw_patients(any_cell.labels, any_cell.patients, seed=seed)
    left_out = (drawn == 0).astype(float)
    once = np.ones((1, len(any_cell.labels)))
    on_all = np.vstack([_rank(candidates[cell], once) for cell in cells])
    on_drawn = np.vstack([_rank(candidates[cell], drawn) for cell in cells])
    on_left_out = np.vstack(
        [measure_balanced_accuracy(candidates[cell], left_out) for cell in cells]
    )
    best = int(on_all[:, 0].argmax())
    picked = on_drawn.argmax(axis=0)
    outcomes = on_left_out[picked, np.arange(len(drawn))]
    naive_draws = measure_balanced_accuracy(candidates[cells[best]], drawn)
    naive_value = measure_balanced_accuracy(candidates[cells[best]], once)[0]
    return Selection(
        chosen=cells[best],
        headline=Estimate.from_draws(float(np.nanmean(outcomes)), outcomes),
        naive=Estimate.from_draws(float(naive_value), naive_draws),
        shares={cell: float((picked == index).mean()) for index, cell in enumerate(cells)},
    )


def _rank(predictions: Predictions, counts: np.ndarray) -> np.ndarray:
    """Give what a pick is made by: balanced accuracy, and log loss only where that is equal."""
    balanced_accuracy = measure_balanced_accuracy(predictions, counts)
    return balanced_accuracy - 1e-6 * measure_log_loss(predictions, counts)


def compare(one: Predictions, other: Predictions, seed: int = 0) -> Estimate:
    """Compare two cells on the same patients.

    Returns
    -------
    Estimate
        Balanced accuracy of one minus the other's, with the interval of the difference: both
        are scored on the same draws of patients.
    """
    draws = draw_patients(one.labels, one.patients, seed=seed)
    counts = np.vstack([np.ones(len(one.labels)), draws])
    difference = measure_balanced_accuracy(one, counts) - measure_balanced_accuracy(other, counts)
    return Estimate.from_draws(difference[0], difference[1:])
