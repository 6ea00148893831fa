"""Tasks: the independent pieces of work that a study hands to its workers.

A task shares nothing with another but read-only activations on disk, and each runs on one
thread: so its result is the same whoever runs it, beside whatever else.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin
from threadpoolctl import threadpool_limits

from meninx.cohort import Image
from meninx.evaluate import Split
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    Strategy,
    load_backbone,
    make_histogram_classifier,
    make_majority_classifier,
    make_views,
)
from meninx.study.plan import Cell


@dataclass(frozen=True, eq=False)
class Task:
    """Train one cell on the training side of one split.

    Attributes
    ----------
    cell, split
        Which.
    seed
        Of the study; each task derives its own.
    """

    cell: Cell
    split: Split
    seed: int


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The test side's probabilities ``(m, k)``, and the seconds that they took."""

    probabilities: np.ndarray
    seconds: float


def make_classifier(cell: Cell, seed: int) -> ClassifierMixin:
    """Make a cell's classifier, not yet fitted."""
    if cell.strategy == "majority":
        return make_majority_classifier()
    if cell.strategy == "histogram":
        return make_histogram_classifier()
    return FineTunedClassifier(
        backbone=cell.backbone,
        strategy=cell.strategy,
        cut=cell.cut,
        random_state=seed,
        **cell.settings,
    )


def fit_classifier(task: Task, inputs: np.ndarray, labels: np.ndarray) -> ClassifierMixin:
    """Fit a task's classifier on the training side of its split.

    Parameters
    ----------
    task
        What to fit.
    inputs
        ``(n,)`` samples of the cohort, or ``(n, d)`` features of a simple baseline.
    labels
        ``(n,)`` class indices.
    """
    own_seed = np.random.SeedSequence([task.seed, task.split.repeat, task.split.fold])
    classifier = make_classifier(task.cell, int(own_seed.generate_state(1)[0]))
    return classifier.fit(inputs[task.split.train], labels[task.split.train])


def run_task(task: Task, inputs: np.ndarray, labels: np.ndarray) -> TaskResult:
    """Fit on the training side and predict the test side; see :func:`fit_classifier`."""
    started = time.perf_counter()
    with one_thread():
        classifier = fit_classifier(task, inputs, labels)
        probabilities = classifier.predict_proba(inputs[task.split.test])
    return TaskResult(probabilities, time.perf_counter() - started)


def run_tasks(
    tasks: Sequence[Task], inputs: Sequence[np.ndarray], labels: np.ndarray, workers: int | None
) -> Iterator[TaskResult]:
    """Run tasks on worker processes, and give their results in the order of the tasks.

    Parameters
    ----------
    tasks
        What to do.
    inputs
        Of each task; see :func:`fit_classifier`.
    labels
        ``(n,)`` class indices.
    workers
        How many processes; by default one a processor core.
    """
    results: Iterator[TaskResult] = _start_workers(workers)(
        delayed(run_task)(task, data, labels) for task, data in zip(tasks, inputs, strict=True)
    )
    return results


def fill_activations(
    cells: Sequence[Cell], images: np.ndarray, workers: int | None
) -> Iterator[float]:
    """Compute the prefix activations of all cells on worker processes, each only once.

    Parameters
    ----------
    cells
        Those that are going to be run.
    images
        ``(n,)`` samples of a cohort.
    workers
        As in :func:`run_tasks`.

    Yields
    ------
    float
        Which part of the work is done, in (0, 1].
    """
    needed: dict[tuple[str, float], list[str]] = {}
    for cell in cells:
        if cell.strategy in (Strategy.FROZEN, Strategy.PARTIAL):
            key = (cell.backbone, cell.settings["augmentation"])
            needed.setdefault(key, []).append(cell.cut or "head")
    work = [(*key, cuts, image) for key, cuts in needed.items() for image in images]
    for done, _ in enumerate(_start_workers(workers)(delayed(_fill_one)(*one) for one in work)):
        yield (done + 1) / len(work)


def _fill_one(name: str, augmentation: float, cuts: Sequence[str], image: Image) -> None:
    views = make_views(FineTunedClassifier().views, augmentation)
    with one_thread():
        ActivationStore().fill(load_backbone(name), cuts, [image], views)


def _start_workers(workers: int | None) -> Parallel:
    """Start processes that give what they are done with in the order of the work."""
    return Parallel(n_jobs=workers or os.cpu_count() or 1, return_as="generator")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums are then added in one order, and workers do not fight."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
