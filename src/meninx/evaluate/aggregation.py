"""From images to patients: one answer for all images of a patient."""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from meninx.evaluate.predictions import Predictions

TOP = 3


class Aggregation(StrEnum):
    """How a patient's images make one answer; chosen before training, never by the scores.

    ``mean``: each class's mean probability, where every image shows the disease or none does.
    ``max``: each class's highest, where one slice is enough. ``top_k``: the mean of its three
    highest, between the two. The last two are divided by their sum.
    """

    MEAN = "mean"
    MAX = "max"
    TOP_K = "top_k"

    @property
    def images(self) -> int | None:
        """How many of a patient's highest probabilities count; None for all."""
        return {Aggregation.MEAN: None, Aggregation.MAX: 1, Aggregation.TOP_K: TOP}[self]


def aggregate(predictions: Predictions, how: Aggregation = Aggregation.MEAN) -> Predictions:
    """Make one prediction a patient.

    Parameters
    ----------
    predictions
        Of n images.
    how
        Mean, highest, or mean of the three highest.

    Returns
    -------
    Predictions
        Of the patients, in the order of their names. A patient with images of several classes
        (before and after a disease, say) has one for each, from the images of that class, and
        remains one patient to all that resamples or counts patients.
    """
    patients, place = np.unique(predictions.patients, return_inverse=True)
    units = place * len(predictions.classes) + predictions.labels
    _, first, member = np.unique(units, return_index=True, return_inverse=True)
    probabilities = np.stack(
        [
            np.sort(predictions.probabilities[:, member == index], axis=1)[
                :, -(how.images or len(member)) :
            ].mean(axis=1)
            for index in range(len(first))
        ],
        axis=1,
    )
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return replace(
        predictions,
        labels=predictions.labels[first],
        patients=patients[place[first]],
        probabilities=probabilities,
    )
