"""Splits: who is trained on and who is tested on.

The rule that everything else rests on: a patient is on one side of every split. It is one
function, :func:`keep_patients_apart`, and every split passes through it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from meninx.errors import LeakError, StudyError
from meninx.evaluate.folds import choose_folds, divide

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Split:
    """One division of a cohort into training and test images.

    Attributes
    ----------
    repeat, fold
        Which one it is, from 0.
    train, test
        Row numbers of the images.
    """

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Splits(Sequence[Split]):
    """The divisions of a study, repeat by repeat and fold by fold.

    Attributes
    ----------
    members
        In the order of their repeats, then of their folds.
    """

    members: tuple[Split, ...]

    @overload
    def __getitem__(self, index: int) -> Split: ...
    @overload
    def __getitem__(self, index: slice) -> "Splits": ...
    def __getitem__(self, index: int | slice) -> "Split | Splits":
        if isinstance(index, slice):
            return Splits(self.members[index])
        return self.members[index]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def folds(self) -> int:
        """In how many parts each repeat divides the patients."""
        return len({split.fold for split in self.members})

    @property
    def repeats(self) -> int:
        """How many times the patients are divided."""
        return len({split.repeat for split in self.members})

    def of_repeats(self, repeats: Sequence[int]) -> "Splits":
        """Keep those of some repeats."""
        return Splits(tuple(split for split in self.members if split.repeat in repeats))

    @property
    def first_repeat(self) -> "Splits":
        """Those of repeat 0, which together test every image once."""
        return self.of_repeats([0])


def derive_seed(seed: int, *path: int) -> int:
    """Derive a seed of its own for a part of some work; the numbers say which part.

    As ``numpy.random.SeedSequence.spawn`` does: neither parts nor seeds share what is drawn, as
    they would if their numbers were added.
    """
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1)[0])


def keep_patients_apart(patients: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
    """Refuse a split that has a patient, or an image, on both sides.

    Parameters
    ----------
    patients
        ``(n,)`` the patient of each image; duplicates count as one patient.
    train, test
        Row numbers.

    Raises
    ------
    LeakError
        A patient is on both sides.
    """
    shared = np.intersect1d(patients[train], patients[test])
    if len(shared):
        raise LeakError(
            f"patient {shared[0]} is on both sides of a split "
            f"({len(shared)} such); nothing may be trained on whom it is tested on"
        )


def split_by_patient(
    labels: np.ndarray,
    patients: np.ndarray,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    predefined: np.ndarray | None = None,
) -> Splits:
    """Divide a cohort into folds, grouped by patient and stratified by class, repeatedly.

    Parameters
    ----------
    labels
        ``(n,)`` class indices.
    patients
        ``(n,)`` the patient of each image.
    folds
        How many parts; each is tested once a repeat. Fewer where only fewer can each have every
        class: not more than the smallest class has patients. Patients with images of several
        labels may rule out folds that have every class; then each training side has, at least.
    repeats
        How many times, each with another shuffle.
    seed
        Decides the shuffles.
    predefined
        ``(n,)`` the fold of each image, used in place of all this, once.

    Raises
    ------
    LeakError
        A predefined fold has a patient on both sides.
    StudyError
        Fewer than two folds are possible, or a predefined fold holds all patients of a class,
        of which nothing could be learned where it is tested.
    """
    if predefined is not None:
        divisions = [predefined]
    else:
        possible = min(folds, _count_patients_of_smallest_class(labels, patients))
        if possible < 2:
            raise StudyError(
                f"{folds} folds were asked for and {possible} are possible; "
                "at least 2 folds, and 2 patients in each class, are needed"
            )
        used, rule = choose_folds(labels, patients, folds)
        if used < folds:
            logger.warning(
                "%d folds in place of %d: more cannot each have patients of every class",
                used,
                folds,
            )
        divisions = [
            divide(labels, patients, used, rule, derive_seed(seed, repeat))
            for repeat in range(repeats)
        ]
    splits = []
    for repeat, division in enumerate(divisions):
        for fold, (train, test) in enumerate(_take_turns(division)):
            keep_patients_apart(patients, train, test)
            _refuse_unlearnt_class(labels, train, test, fold)
            splits.append(Split(repeat, fold, train, test))
    return Splits(tuple(splits))


def leave_one_patient_out(labels: np.ndarray, patients: np.ndarray) -> Splits:
    """Test each patient on a model of all others: as many folds as patients, once.

    It trains on most and uses no chance, but takes longest; a fold holds one class only, so
    scores can be computed from all folds together and from nothing less.

    Parameters
    ----------
    labels
        ``(n,)`` class indices.
    patients
        ``(n,)`` the patient of each image; duplicates count as one patient.

    Raises
    ------
    StudyError
        A class has one patient, and would be missing where that patient is tested.
    """
    if _count_patients_of_smallest_class(labels, patients) < 2:
        raise StudyError(
            "a class has one patient only: when that patient is tested, no model has seen the "
            "class; at least 2 patients in each class are needed"
        )
    splits = []
    for fold, patient in enumerate(np.unique(patients)):
        train, test = np.flatnonzero(patients != patient), np.flatnonzero(patients == patient)
        keep_patients_apart(patients, train, test)
        splits.append(Split(0, fold, train, test))
    return Splits(tuple(splits))


def _take_turns(folds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Test each fold in turn; give the rows to train on and those to test."""
    for fold in np.unique(folds):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def _refuse_unlearnt_class(
    labels: np.ndarray, train: np.ndarray, test: np.ndarray, fold: int
) -> None:
    """Refuse a split that tests a class of which no patient is left to train on."""
    unlearnt = np.setdiff1d(labels[test], labels[train])
    if len(unlearnt):
        raise StudyError(
            f"fold {fold} holds all patients of a class ({len(unlearnt)} such): when it is tested, "
            "no model has seen that class; spread each class over at least two folds"
        )


def _count_patients_of_smallest_class(labels: np.ndarray, patients: np.ndarray) -> int:
    return min(len(np.unique(patients[labels == label])) for label in np.unique(labels))
