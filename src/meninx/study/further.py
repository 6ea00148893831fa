"""Further runs of cells that were run: nested cross-validation, and the learning curve."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from meninx.cohort import Cohort
from meninx.evaluate import (
    LearningCurve,
    Nested,
    Predictions,
    Split,
    count_training_patients,
    fit_learning_curve,
    plan_nested,
    score_nested,
    subsample_patients,
)
from meninx.study.plan import Role
from meninx.study.progress import follow_tasks, show_progress
from meninx.study.tasks import Task, TaskResult, run_tasks
from meninx.study.verdict import CellResult

FEWEST_SIZES = 3

# Parts of the training patients of each fold; all of them have been trained on before.
FRACTIONS = (0.25, 0.4, 0.6, 0.8)


def run_nested(
    cohort: Cohort,
    splits: Sequence[Split],
    results: Mapping[str, CellResult],
    seed: int,
    workers: int | None,
) -> Nested:
    """Choose again inside the training side of each outer fold, and score what was chosen.

    Parameters
    ----------
    cohort
        Its images.
    splits
        Of the study.
    results
        Of its cells; the candidates among them compete.
    seed, workers
        Of the study.
    """
    candidates = {
        name: result for name, result in results.items() if result.cell.role is Role.CANDIDATE
    }
    folds = len({split.fold for split in splits})
    plan = plan_nested(splits, cohort.labels, cohort.groups, folds, seed)
    cells = [result.cell for result in candidates.values() if not result.cell.members]
    tasks = [Task(cell, split, seed) for cell in cells for nested in plan for split in nested.inner]
    outcomes = _run_shown("nested cross-validation", tasks, cohort, workers)
    inner = {
        cell.name: [[next(outcomes).probabilities for _ in nested.inner] for nested in plan]
        for cell in cells
    }
    for name, result in candidates.items():
        if members := result.cell.members:
            inner[name] = _average_parts([inner[member.name] for member in members])
    outer = {name: result.predictions for name, result in candidates.items()}
    return score_nested(plan, outer, inner, seed)


def run_learning_curve(
    cohort: Cohort,
    splits: Sequence[Split],
    result: CellResult,
    seed: int,
    workers: int | None,
) -> LearningCurve | None:
    """Train a cell on parts of the patients and see how its score grows with them.

    None where there are so few patients that their parts are not of three sizes.

    Parameters
    ----------
    cohort
        Its images.
    splits
        Of the study.
    result
        Of the cell, trained on all patients of each training side.
    seed, workers
        Of the study.
    """
    # The first repeat: the same held-out images at every size.
    first = [split for split in splits if split.repeat == 0]
    cells = result.cell.members or (result.cell,)
    labels, patients = cohort.labels, cohort.groups
    parts = {
        fraction: [subsample_patients(split, fraction, labels, patients, seed) for split in first]
        for fraction in FRACTIONS
    }
    tasks = [Task(cell, split, seed) for own in parts.values() for cell in cells for split in own]
    outcomes = _run_shown("learning curve", tasks, cohort, workers)
    whole = result.predictions
    sizes = {count_training_patients(first, patients): _take_first_repeat(whole)}
    for own in parts.values():
        found = [[next(outcomes).probabilities for _ in own] for _ in cells]
        probabilities = np.empty_like(whole.probabilities[:1])
        for split, part in zip(own, _mean(found), strict=True):
            probabilities[0, split.test] = part
        sizes[count_training_patients(own, patients)] = Predictions(
            whole.classes, whole.labels, whole.patients, probabilities
        )
    return fit_learning_curve(sizes, seed) if len(sizes) >= FEWEST_SIZES else None


def _run_shown(
    title: str, tasks: Sequence[Task], cohort: Cohort, workers: int | None
) -> Iterator[TaskResult]:
    """Run all tasks while a bar shows how far they are; then give their results in order."""
    results = run_tasks(tasks, [cohort.images] * len(tasks), cohort.labels, workers)
    with show_progress() as progress:
        found = [result for _, result in follow_tasks(progress, title, tasks, results)]
    return iter(found)


def _take_first_repeat(predictions: Predictions) -> Predictions:
    return Predictions(
        predictions.classes,
        predictions.labels,
        predictions.patients,
        predictions.probabilities[:1],
    )


def _mean(members: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Average each fold's probabilities over the members of an ensemble."""
    return [np.mean(parts, axis=0) for parts in zip(*members, strict=True)]


def _average_parts(members: Sequence[list[list[np.ndarray]]]) -> list[list[np.ndarray]]:
    """Average over members, for each outer fold and each of its inner folds."""
    return [_mean(parts) for parts in zip(*members, strict=True)]
