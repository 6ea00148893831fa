"""Folds: which patients are tested together, so that every class can be learned and tested.

Scikit-learn's stratified group procedure deals patients out one by one. Where every patient has
images of one label, each fold then has every class. Where patients have images of several labels
a fold may lack one; then as few patients as possible change their fold.
"""

from enum import Enum

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_array, csr_array, eye_array, kron
from sklearn.model_selection import StratifiedGroupKFold

from meninx.errors import StudyError

# The solver ends after so many steps, not after so many seconds: the same cohort is always
# divided alike.
MOST_STEPS = 100
# Of the patients who could stay where they were dealt, this part may move nevertheless.
NEAR_ENOUGH = 0.1


class Rule(Enum):
    """What a division owes the classes.

    ``EACH_FOLD``: every fold has a patient of every class, so that its training side has one too.
    ``TRAINING``: every training side has one, and no fold is empty.
    """

    EACH_FOLD = "each fold"
    TRAINING = "training"


def choose_folds(labels: np.ndarray, patients: np.ndarray, most: int) -> tuple[int, Rule]:
    """Choose how many folds there are, and what they owe the classes.

    Parameters
    ----------
    labels, patients
        ``(n,)`` of each image; each class has two patients or more.
    most
        How many folds are wished for, two or more.

    Returns
    -------
    folds
        As many as wished for or, if so many cannot each have every class, the most that can.
    rule
        The stricter one, unless no division keeps it.

    Raises
    ------
    StudyError
        No division has every class in every training side.
    """
    shown = _show_classes(labels, patients)
    fewest = min(most, int(shown.sum(axis=0).min()))
    falling = range(fewest, 1, -1)
    rising = range(fewest + 1, min(most, len(shown)) + 1)
    for rule, counts in ((Rule.EACH_FOLD, falling), (Rule.TRAINING, [*falling, *rising])):
        for folds in counts:
            if _find_division(labels, patients, folds, rule, seed=0) is not None:
                return folds, rule
    raise StudyError(
        f"no division into 2 to {most} folds has every class on every training side, since too "
        "few patients have images of each class; with --leave-one-patient-out there is one"
    )


def divide(
    labels: np.ndarray, patients: np.ndarray, folds: int, rule: Rule, seed: int
) -> np.ndarray:
    """Divide patients into folds, as evenly by class as they allow.

    Parameters
    ----------
    labels, patients
        ``(n,)`` of each image.
    folds, rule
        From :func:`choose_folds`.
    seed
        Decides the shuffle.

    Returns
    -------
    np.ndarray
        ``(n,)`` the fold of each image, from 0; a patient's images have one.

    Raises
    ------
    StudyError
        No such division was found.
    """
    division = _find_division(labels, patients, folds, rule, seed)
    if division is None:
        raise StudyError(
            f"no division into {folds} folds was found that has every class on every training "
            "side; ask for fewer folds, or for --leave-one-patient-out"
        )
    return division


def _find_division(
    labels: np.ndarray, patients: np.ndarray, folds: int, rule: Rule, seed: int
) -> np.ndarray | None:
    """Find a division that keeps a rule; None where there is none."""
    _, first, member = np.unique(patients, return_index=True, return_inverse=True)
    shown = _show_classes(labels, patients)
    # The stratified procedure wants an image of every class in each fold.
    usual = min(folds, int(np.bincount(np.unique(labels, return_inverse=True)[1]).min()))
    splitter = StratifiedGroupKFold(usual, shuffle=True, random_state=seed)
    dealt = np.empty(len(labels), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(labels, labels, patients)):
        dealt[test] = fold
    if keeps_rule(shown, dealt[first], folds, rule):
        return dealt
    mended = _mend(shown, dealt[first], folds, rule)
    return None if mended is None else mended[member]


def _show_classes(labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Tell which classes each patient has images of, ``(p, k)`` of 0 and 1."""
    _, member = np.unique(patients, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    shown = np.zeros((member.max() + 1, len(classes)))
    shown[member, label] = 1
    return shown


def keeps_rule(shown: np.ndarray, fold_of: np.ndarray, folds: int, rule: Rule) -> bool:
    """Tell whether patients' folds ``(p,)`` keep a rule."""
    inside = np.stack([shown[fold_of == fold].sum(axis=0) for fold in range(folds)])
    if rule is Rule.EACH_FOLD:
        return bool((inside > 0).all())
    return bool((inside < shown.sum(axis=0)).all() and inside.any(axis=1).all())


def _mend(shown: np.ndarray, fold_of: np.ndarray, folds: int, rule: Rule) -> np.ndarray | None:
    """Move as few patients as possible to another fold, so that a rule is kept; None if none can.

    A linear program in whole numbers: ``x[p, f]`` is 1 where patient p is in fold f.
    """
    patients = len(shown)
    stays = np.zeros((patients, folds))
    stays[np.arange(patients), fold_of] = 1
    in_one_fold = LinearConstraint(kron(eye_array(patients), np.ones((1, folds))), 1, 1)
    # (folds · k, patients · folds): how many patients of each class each fold has.
    inside = csr_array(kron(csr_array(shown.T), eye_array(folds)))
    in_all = np.repeat(shown.sum(axis=0), folds)
    if rule is Rule.EACH_FOLD:
        owed = [LinearConstraint(inside, 1, np.inf)]
    else:
        anyone = block_array([[eye_array(folds)] * patients])
        owed = [LinearConstraint(inside, 0, in_all - 1), LinearConstraint(anyone, 1, np.inf)]
    found = milp(
        -stays.ravel(),
        integrality=np.ones(stays.size),
        bounds=Bounds(0, 1),
        constraints=[in_one_fold, *owed],
        options={"node_limit": MOST_STEPS, "mip_rel_gap": NEAR_ENOUGH},
    )
    if found.x is None:
        return None
    mended: np.ndarray = found.x.reshape(patients, folds).round().argmax(axis=1)
    return mended if keeps_rule(shown, mended, folds, rule) else None
