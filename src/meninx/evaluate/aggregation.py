"""From images to patients: one answer for all images of a patient."""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from meninx.evaluate.bootstrap import stratify
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
        Of the patients whose images have one label, in the order of their names. The others (both
        eyes, or slices with and without a tumour) have no one answer that could be right, and are
        left out: :func:`count_several_labels` tells how many.
    """
    predictions = predictions.take(np.flatnonzero(~_has_several_labels(predictions)))
    patients, first, member = np.unique(
        predictions.patients, return_index=True, return_inverse=True
    )
    probabilities = np.empty((len(predictions.probabilities), len(first), len(predictions.classes)))
    for index in range(len(first)):
        ordered = np.sort(predictions.probabilities[:, member == index], axis=1)
        probabilities[:, index] = ordered[:, -(how.images or len(member)) :].mean(axis=1)
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return replace(
        predictions,
        labels=predictions.labels[first],
        patients=patients,
        probabilities=probabilities,
    )


def count_several_labels(predictions: Predictions) -> int:
    """Count the patients with images of several labels."""
    return len(np.unique(predictions.patients[_has_several_labels(predictions)]))


def _has_several_labels(predictions: Predictions) -> np.ndarray:
    """Tell of each image whether its patient has images of several labels, ``(n,)`` booleans."""
    _, member, stratum = stratify(predictions.labels, predictions.patients)
    several: np.ndarray = stratum[member] > predictions.labels.max()
    return several
