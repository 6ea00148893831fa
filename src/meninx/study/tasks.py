"""Tasks: the independent pieces of work that a study hands to its workers.

A task shares nothing with another but read-only activations on disk, and each runs on one
thread: so its result is the same whoever runs it, beside whatever else. The linear heads of a
frozen cell are solved together, as one piece of work whoever runs it.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import ClassifierMixin

from meninx.cohort import Image
from meninx.evaluate import Split
from meninx.finetune import (
    ActivationStore,
    Ensemble,
    FineTunedClassifier,
    bring_into_fast_form,
    choose_precision,
    forget_fast_forms,
    load_backbone,
    make_histogram_classifier,
    make_majority_classifier,
    make_views,
)
from meninx.study.fold_models import FoldModels
from meninx.study.plan import Cell
from meninx.study.workers import count_processes, run_in_workers


@dataclass(frozen=True, eq=False)
class Task:
    """Train one cell on the training side of one split.

    Attributes
    ----------
    cell, split
        Which.
    seed
        Of the study; each task derives its own.
    models
        Keeps what is trained; None where nothing asks for it again.
    """

    cell: Cell
    split: Split
    seed: int
    models: FoldModels | None = None


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
    if cell.members:
        return Ensemble([make_classifier(member, seed) for member in cell.members])
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
    if task.cell.members:
        each = [replace(task, cell=member) for member in task.cell.members]
        return Ensemble.of_fitted([fit_classifier(one, inputs, labels) for one in each])
    own_seed = np.random.SeedSequence([task.seed, task.split.repeat, task.split.fold])
    classifier = make_classifier(task.cell, int(own_seed.generate_state(1)[0]))
    side = task.split.train
    if task.models is None:
        return classifier.fit(inputs[side], labels[side])
    return task.models.fit(classifier, inputs[side], labels[side])


def fit_on_all(
    cell: Cell, images: np.ndarray, labels: np.ndarray, seed: int, workers: int | None
) -> ClassifierMixin:
    """Fit a cell on the whole cohort, the members of an ensemble side by side.

    Parameters
    ----------
    cell
        Which.
    images, labels
        ``(n,)`` samples of the cohort and their class indices.
    seed
        Of the study.
    workers
        As in :func:`run_in_workers`.
    """
    members = cell.members or (cell,)
    work = [(make_classifier(member, seed), images, labels) for member in members]
    fitted = list(run_in_workers(_fit, work, workers))
    return Ensemble.of_fitted(fitted) if cell.members else fitted[0]


def _fit(classifier: ClassifierMixin, images: np.ndarray, labels: np.ndarray) -> ClassifierMixin:
    return classifier.fit(images, labels)


@dataclass(frozen=True, eq=False)
class Piece:
    """What a worker does at a time: one task, or those whose heads are solved together."""

    tasks: tuple[Task, ...]
    inputs: np.ndarray

    def accepts(self, task: Task) -> bool:
        """Whether another task can be solved together with these."""
        if task.cell is not self.tasks[0].cell:
            return False
        classifier = make_classifier(task.cell, task.seed)
        return isinstance(classifier, FineTunedClassifier) and classifier.is_solved

    def run(self, labels: np.ndarray) -> list[TaskResult]:
        """Fit on the training sides and predict the test sides."""
        started = time.perf_counter()
        if len(self.tasks) == 1:
            (task,) = self.tasks
            classifier = fit_classifier(task, self.inputs, labels)
            found = [classifier.predict_proba(self.inputs[task.split.test])]
        else:
            sides = [(task.split.train, task.split.test) for task in self.tasks]
            classifier = make_classifier(self.tasks[0].cell, self.tasks[0].seed)
            found = classifier.cross_predict(self.inputs, labels, sides)
        seconds = (time.perf_counter() - started) / len(self.tasks)
        return [TaskResult(probabilities, seconds) for probabilities in found]


def divide(tasks: Sequence[Task], inputs: Sequence[np.ndarray]) -> list[Piece]:
    """Divide tasks among pieces: those of a frozen cell that follow each other are one."""
    pieces: list[Piece] = []
    for task, own in zip(tasks, inputs, strict=True):
        if pieces and pieces[-1].accepts(task):
            pieces[-1] = replace(pieces[-1], tasks=(*pieces[-1].tasks, task))
        else:
            pieces.append(Piece((task,), own))
    return pieces


@dataclass(frozen=True, eq=False)
class Fill:
    """Compute an image's prefix activations at the cuts that fits will read.

    Attributes
    ----------
    backbone, precision, augmentation
        Of the cells that read them.
    cuts
        Where they are cut.
    row, image
        The image, and its row in the cohort.
    """

    backbone: str
    precision: str
    augmentation: float
    cuts: tuple[str, ...]
    row: int
    image: Image

    def run(self) -> None:
        """Compute and store what is missing."""
        views = make_views(FineTunedClassifier().views, self.augmentation)
        store = ActivationStore(precision=self.precision)
        store.fill(load_backbone(self.backbone), self.cuts, [self.image], views)


def list_fills(cells: Sequence[Cell], images: np.ndarray) -> list[Fill]:
    """List what must be stored for cells: each image once a backbone.

    Parameters
    ----------
    cells
        Those that are going to be run.
    images
        ``(n,)`` samples of a cohort.
    """
    needed: dict[tuple[str, str, float], list[str]] = {}
    for cell in cells:
        if cell.reads_activations:
            key = (cell.backbone, cell.settings["precision"], cell.settings["augmentation"])
            needed.setdefault(key, []).extend(make_classifier(cell, seed=0).needed_cuts)
    return [
        Fill(*key, tuple(cuts), row, image)
        for key, cuts in needed.items()
        for row, image in enumerate(images)
    ]


def run_tasks(
    tasks: Sequence[Task],
    inputs: Sequence[np.ndarray],
    labels: np.ndarray,
    workers: int | None,
    fills: Sequence[Fill] = (),
    when_filled: Callable[[float], None] = lambda done: None,
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
    fills
        What the tasks read; the same processes compute it.
    when_filled
        Is told which part of what is computed before the first task is done, in (0, 1].
    """
    if fills:
        ActivationStore().trim()
    for name, precision in dict.fromkeys((fill.backbone, fill.precision) for fill in fills):
        # Before the workers are forked: they then share its weights.
        bring_into_fast_form(load_backbone(name), precision)
    pieces = divide(tasks, inputs)
    before, beside = _put_off(fills, pieces, count_processes(workers))
    for done, _ in enumerate(run_in_workers(Fill.run, [(fill,) for fill in before], workers), 1):
        when_filled(done / len(before))
    if not beside:
        # Not needed while suffixes are trained, which takes the most memory.
        forget_fast_forms()
    work: list[Fill | Piece] = [*pieces[:1], *beside, *pieces[1:]]
    results = run_in_workers(_run_one, [(one, labels) for one in work], workers)
    first = next(results, [])
    # By now workers have them, where they are still to be used.
    forget_fast_forms()
    for found in itertools.chain([first], results):
        yield from found


def _put_off(
    fills: Sequence[Fill], pieces: Sequence[Piece], processes: int
) -> tuple[list[Fill], list[Fill]]:
    """Divide fills among those before the fits and those beside the first one.

    It trains on the first and is asked about the others only at its end. A process would else be
    left alone with the last of an odd number of fits. A fit that does not find what it needs
    computes it, so the order changes no result.
    """
    first = pieces[0].tasks[0] if pieces and len(pieces[0].tasks) == 1 else None
    if first is None or not first.cell.reads_activations or processes == 1:
        return list(fills), []
    asked = set(first.split.test.tolist())
    before: list[Fill] = []
    beside: list[Fill] = []
    for fill in fills:
        is_asked_for = fill.backbone == first.cell.backbone and fill.row in asked
        (beside if is_asked_for else before).append(fill)
    return before, beside


def _run_one(one: Fill | Piece, labels: np.ndarray) -> list[TaskResult]:
    if isinstance(one, Fill):
        one.run()
        return []
    forget_fast_forms()
    return one.run(labels)


def choose_precisions(
    names: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray,
    augmentation: float,
    workers: int | None,
) -> dict[str, str]:
    """Choose the precision of each backbone's activations; see :func:`choose_precision`."""
    # Loaded before the workers are forked, which then share them; the largest comes first, so
    # that no process is left alone with it at the end.
    order = sorted(names, key=lambda name: -load_backbone(name).input_size)
    work = [(name, images, labels, augmentation) for name in order]
    return dict(zip(order, run_in_workers(_choose_precision, work, workers), strict=True))


def _choose_precision(
    name: str, images: np.ndarray, labels: np.ndarray, augmentation: float
) -> str:
    views = make_views(FineTunedClassifier().views, augmentation)
    return choose_precision(load_backbone(name), images, labels.tolist(), views)
