"""The study's way to divide patients, as a scikit-learn splitter."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from meninx.errors import StudyError
from meninx.evaluate.splits import Splits, split_by_patient


class RepeatedStratifiedPatientKFold:
    """Repeated k folds, stratified by class, with each patient on one side of every split.

    It differs from scikit-learn's ``StratifiedGroupKFold`` in that it repeats, gives fewer folds
    where more could not each have every class, and refuses a split that has a patient on both
    sides. A study divides its patients by it.

    Parameters
    ----------
    n_splits
        Folds, at least 2; fewer are given where only fewer can each have every class.
    n_repeats
        How many times, each with another shuffle; 1 for ``cross_val_predict``.
    random_state
        Decides the shuffles.

    Examples
    --------
    >>> y, patients = np.array([0, 0, 1, 1] * 3), np.arange(12) // 2
    >>> cv = RepeatedStratifiedPatientKFold(n_splits=3, n_repeats=2)
    >>> cv.get_n_splits(None, y, patients)
    6
    """

    def __init__(self, n_splits: int = 5, *, n_repeats: int = 3, random_state: int = 0) -> None:
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.random_state = random_state

    def split(
        self, X: object, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the rows to train on and those to test, split by split.

        Parameters
        ----------
        X
            Passed over; there for scikit-learn.
        y
            ``(n,)`` the class of each image.
        groups
            ``(n,)`` the patient of each image.

        Raises
        ------
        StudyError
            No patients are given, or fewer than two folds are possible.
        """
        for one in self._divide(y, groups):
            yield one.train, one.test

    def get_n_splits(
        self, X: object = None, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> int:
        """Count the splits: of these images, or as asked for where none are given."""
        if y is None or groups is None:
            return self.n_splits * self.n_repeats
        return len(self._divide(y, groups))

    def _divide(self, y: ArrayLike, groups: ArrayLike | None) -> Splits:
        if groups is None:
            raise StudyError("groups is None; give the patient of each image")
        labels, patients = np.asarray(y), np.asarray(groups)
        return split_by_patient(labels, patients, self.n_splits, self.n_repeats, self.random_state)
