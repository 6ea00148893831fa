"""Nested cross-validation: choose inside, score outside.

For each outer fold the best model is chosen by cross-validation among the patients it trains
on, and that model, trained on all of them, is scored on the patients it tests. It is the honest
and costly way to score "pick the best model"; the headline of
:func:`meninx.evaluate.selection.select_best` is the cheap one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from meninx.evaluate.intervals import Estimate
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.selection import estimate_balanced_accuracy, rank_models
from meninx.evaluate.splits import Split, Splits, derive_seed, keep_patients_apart, split_by_patient


@dataclass(frozen=True, eq=False)
class NestedSplit:
    """An outer fold and the folds inside its training side.

    Attributes
    ----------
    outer
        The fold that is scored.
    inner
        Folds of ``outer.train``, by which a model is chosen; row numbers are the cohort's.
    """

    outer: Split
    inner: tuple[Split, ...]


@dataclass(frozen=True)
class Nested:
    """What nested cross-validation found.

    Attributes
    ----------
    balanced_accuracy
        Of the whole procedure, choice included.
    chosen
        Model to the number of outer folds in which it was chosen.
    """

    balanced_accuracy: Estimate
    chosen: Mapping[str, int]


def plan_nested(
    splits: Splits,
    labels: np.ndarray,
    patients: np.ndarray,
    folds: int = 5,
    seed: int = 0,
) -> tuple[NestedSplit, ...]:
    """Divide the training side of each fold of the first repeat again.

    Parameters
    ----------
    splits
        Of the study; those of repeat 0 are the outer folds.
    labels, patients
        ``(n,)`` of each image of the cohort.
    folds
        Inside each outer fold, fewer where a class has fewer patients left.
    seed
        Of the inner shuffles.

    Raises
    ------
    LeakError
        A patient would be on both sides.
    StudyError
        A training side has a class with one patient only.
    """
    return tuple(
        NestedSplit(outer, _divide(outer, labels, patients, folds, seed))
        for outer in splits.first_repeat
    )


def score_nested(
    plan: Sequence[NestedSplit],
    outer: Mapping[str, Predictions],
    inner: Mapping[str, Sequence[Sequence[np.ndarray]]],
    seed: int = 0,
) -> Nested:
    """Choose in each outer fold and score what was chosen.

    Parameters
    ----------
    plan
        From :func:`plan_nested`; together the outer folds test every image once.
    outer
        Candidate to its out-of-fold predictions of the study, of which repeat 0 is used: the
        model trained on each outer training side.
    inner
        Candidate to, for each outer fold and each of its inner folds, the probabilities
        ``(len(split.test), k)``.
    seed
        Of the bootstrap.
    """
    any_model = next(iter(outer.values()))
    probabilities = np.full_like(any_model.probabilities[:1], np.nan)
    chosen: Counter[str] = Counter()
    for place, nested in enumerate(plan):
        inside = {model: _gather(nested, any_model, parts[place]) for model, parts in inner.items()}
        once = np.ones((1, len(nested.outer.train)))
        best = list(inside)[int(rank_models(inside, once)[:, 0].argmax())]
        chosen[best] += 1
        rows = nested.outer.test
        probabilities[0, rows] = outer[best].probabilities[0, rows]
    procedure = replace(any_model, probabilities=probabilities)
    return Nested(estimate_balanced_accuracy(procedure, seed), dict(chosen))


def _divide(
    outer: Split, labels: np.ndarray, patients: np.ndarray, folds: int, seed: int
) -> tuple[Split, ...]:
    rows = outer.train
    own_seed = derive_seed(seed, outer.repeat, outer.fold)
    inner = split_by_patient(labels[rows], patients[rows], folds, 1, own_seed)
    placed = tuple(
        Split(outer.repeat, split.fold, rows[split.train], rows[split.test]) for split in inner
    )
    for split in placed:
        keep_patients_apart(patients, split.train, np.concatenate([split.test, outer.test]))
    return placed


def _gather(nested: NestedSplit, cohort: Predictions, parts: Sequence[np.ndarray]) -> Predictions:
    """Join the test sides of the inner folds to predictions of the outer training side."""
    joined = np.full((1, *cohort.probabilities.shape[1:]), np.nan)
    for split, part in zip(nested.inner, parts, strict=True):
        joined[0, split.test] = part
    return replace(cohort, probabilities=joined).take(nested.outer.train)
