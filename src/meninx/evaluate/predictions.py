"""Out-of-fold predictions: the only numbers that scores are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from meninx.errors import StudyError

SMALLEST_PROBABILITY = 1e-7
PREFIX = "p_"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The out-of-fold predictions of one model.

    Attributes
    ----------
    classes
        The k class names, in the order of the columns.
    labels
        ``(n,)`` true class indices.
    patients
        ``(n,)`` the patient of each image: what intervals resample.
    probabilities
        ``(r, n, k)``: for each of r repeats, the probabilities of each image by the model that
        was trained without its patient.
    patients_known
        Whether it was said which images are of one patient. Where not, each was taken for a
        patient of its own, so that the model may have seen an image's patient after all.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    patients: np.ndarray
    probabilities: np.ndarray
    patients_known: bool = True

    @classmethod
    def from_table(cls, table: pd.DataFrame, samples: Sequence[str] | np.ndarray) -> Self:
        """Read the table of a run's ``oof.parquet``.

        Parameters
        ----------
        table
            Columns ``sample``, ``patient``, ``fold``, ``repeat``, ``label`` and ``p_<class>``.
        samples
            The n images, in the order that is wanted.

        Raises
        ------
        StudyError
            An image lacks a prediction in some repeat, has two, or has one that is no
            probability: half a result is not taken for a whole one.
        """
        columns = [column for column in table.columns if column.startswith(PREFIX)]
        classes = tuple(column.removeprefix(PREFIX) for column in columns)
        repeats = []
        for repeat, rows in table.groupby("repeat"):
            if sorted(rows["sample"]) != sorted(samples):
                raise StudyError(
                    f"out-of-fold predictions are not whole: repeat {repeat} does not have "
                    f"each of the {len(samples)} images once"
                )
            repeats.append(rows.set_index("sample").loc[list(samples)])
        probabilities = np.stack([rows[columns].to_numpy(float) for rows in repeats])
        if not np.allclose(probabilities.sum(axis=2), 1, atol=1e-4):
            raise StudyError("out-of-fold predictions hold rows that do not sum to 1")
        labels = np.array([classes.index(label) for label in repeats[0]["label"]])
        return cls(classes, labels, repeats[0]["patient"].to_numpy(), probabilities)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class index of each image in each repeat, ``(r, n)``."""
        return self.probabilities.argmax(axis=2)

    @property
    def losses(self) -> np.ndarray:
        """Minus the logarithm of the true class's probability, natural, ``(r, n)``."""
        true = self.probabilities[:, np.arange(len(self.labels)), self.labels]
        return -np.log(np.clip(true, SMALLEST_PROBABILITY, 1))

    @property
    def share_right(self) -> np.ndarray:
        """The part of the repeats in which each image was given its true class, ``(n,)``."""
        share: np.ndarray = (self.predicted == self.labels).mean(axis=0)
        return share

    @property
    def squared_errors(self) -> np.ndarray:
        """Squared distance of the probabilities from the truth, over classes, ``(r, n)``."""
        truth = np.eye(len(self.classes))[self.labels]
        distance: np.ndarray = ((self.probabilities - truth) ** 2).sum(axis=2)
        return distance

    def take(self, rows: np.ndarray) -> "Predictions":
        """Give the predictions of some images, by their row numbers."""
        return replace(
            self,
            labels=self.labels[rows],
            patients=self.patients[rows],
            probabilities=self.probabilities[:, rows],
        )
