"""Further runs of models that were run: nested cross-validation, and the learning curve."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from meninx.cohort import Cohort
from meninx.evaluate import (
    LearningCurve,
    Nested,
    Predictions,
    Split,
    Splits,
    count_training_patients,
    fit_learning_curve,
    plan_nested,
    score_nested,
    subsample_patients,
)
from meninx.study.plan import Model, Role
from meninx.study.tasks import Task, run_task
from meninx.study.verdict import ModelResult
from meninx.study.workers import Workers

FEWEST_SIZES = 3

# Parts of the training patients of each fold; all of them have been trained on before.
FRACTIONS = (0.25, 0.4, 0.6, 0.8)


def run_nested(
    cohort: Cohort,
    splits: Splits,
    results: Mapping[str, ModelResult],
    seed: int,
    workers: Workers,
) -> Nested:
    """Choose again inside the training side of each outer fold, and score what was chosen.

    Parameters
    ----------
    cohort
        Its images.
    splits
        Of the study.
    results
        Of its models; the candidates among them compete.
    seed, workers
        Of the study.
    """
    candidates = {
        name: result for name, result in results.items() if result.model.role is Role.CANDIDATE
    }
    plan = plan_nested(splits, cohort.labels, cohort.groups, splits.folds, seed)
    models = [result.model for result in candidates.values() if not result.model.members]
    wanted = [(model, split) for model in models for nested in plan for split in nested.inner]
    outcomes = _run(wanted, cohort, seed, workers)
    inner = {
        model.name: [[next(outcomes) for _ in nested.inner] for nested in plan] for model in models
    }
    for name, result in candidates.items():
        if members := result.model.members:
            inner[name] = _average_parts([inner[member.name] for member in members])
    outer = {name: result.predictions for name, result in candidates.items()}
    return score_nested(plan, outer, inner, seed)


def run_learning_curve(
    cohort: Cohort,
    splits: Splits,
    result: ModelResult,
    seed: int,
    workers: Workers,
) -> LearningCurve | None:
    """Train a model on parts of the patients and see how its score grows with them.

    None where there are so few patients that their parts are not of three sizes.

    Parameters
    ----------
    cohort
        Its images.
    splits
        Of the study.
    result
        Of the model, trained on all patients of each training side.
    seed, workers
        Of the study.
    """
    # The first repeat: the same held-out images at every size.
    first = splits.first_repeat
    models = result.model.members or (result.model,)
    labels, patients = cohort.labels, cohort.groups
    parts = {
        fraction: [subsample_patients(split, fraction, labels, patients, seed) for split in first]
        for fraction in FRACTIONS
    }
    wanted = [(model, split) for own in parts.values() for model in models for split in own]
    outcomes = _run(wanted, cohort, seed, workers)
    whole = result.predictions
    sizes = {count_training_patients(first, patients): _take_first_repeat(whole)}
    for own in parts.values():
        found = [[next(outcomes) for _ in own] for _ in models]
        probabilities = np.empty_like(whole.probabilities[:1])
        for split, part in zip(own, _mean(found), strict=True):
            probabilities[0, split.test] = part
        sizes[count_training_patients(own, patients)] = Predictions(
            whole.classes, whole.labels, whole.patients, probabilities
        )
    return fit_learning_curve(sizes, seed) if len(sizes) >= FEWEST_SIZES else None


def _run(
    wanted: Sequence[tuple[Model, Split]], cohort: Cohort, seed: int, workers: Workers
) -> Iterator[np.ndarray]:
    """Train models on splits, and give the probabilities of each test side, in order."""
    tasks = [Task(model, split, seed, cohort.is_cropped, workers.device) for model, split in wanted]
    images, labels = cohort.images, cohort.labels
    for result in workers.run(run_task, ((task, images, labels) for task in tasks)):
        yield result.probabilities


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
