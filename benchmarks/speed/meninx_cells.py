"""Ours: single cells, run as a study runs them, from a cold cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.speed.competitor import Competitor, CrossValidation, Stopwatch
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.full_fine_tuning import EPOCHS as FULL_EPOCHS
from benchmarks.speed.plain_pytorch import LAST_STAGE_EPOCHS
from benchmarks.speed.torch_recipe import BACKBONE

from meninx.cohort import Cohort, as_head
from meninx.evaluate import Split
from meninx.study.plan import Cell, Role
from meninx.study.tasks import (
    Task,
    choose_precisions,
    list_fills,
    make_classifier,
    run_tasks,
)

# All layers at the last resolution, as in (b).
LAST_STAGE = "stage7"


def make_cell(
    strategy: str, cut: str | None = None, epochs: int | None = None, precision: str = "float32"
) -> Cell:
    """Make a cell of the lightest packaged backbone."""
    settings: dict[str, object] = {"augmentation": 1.0}
    if strategy != "full":
        settings["precision"] = precision
    if epochs is not None:
        settings["epochs"] = epochs
    return Cell(
        name=f"{BACKBONE}-{strategy}",
        backbone=BACKBONE,
        strategy=strategy,
        cut=cut,
        role=Role.CANDIDATE,
        repeats=1,
        trained_parameters=0,
        reason="benchmark",
        settings=settings,
    )


def open_cohort(files: LabelledFiles) -> Cohort:
    """Open files in class folders as a cohort whose rows are in the same order."""
    cohort = Cohort.from_folder(files.paths[0].parents[1])
    if [sample.path.name for sample in cohort.samples] != [path.name for path in files.paths]:
        raise SystemExit("the cohort's rows are not in the order of the draw")
    return cohort


def run_cell(
    cell: Cell, cohort: Cohort, splits: Sequence[Split], seed: int, watch: Stopwatch
) -> np.ndarray:
    """Run a cell over splits on all cores, as a study does; ``(n, k)`` out of fold.

    Activations are computed among the fits, so both are one phase.
    """
    tasks = [Task(cell, split, seed) for split in splits]
    probabilities = np.full((len(cohort.samples), len(cohort.classes)), np.nan)
    fills = list_fills([cell], cohort.images)
    with watch.time("cells"):
        outcomes = run_tasks(tasks, [cohort.images] * len(tasks), cohort.labels, None, fills)
        for task, outcome in zip(tasks, outcomes, strict=True):
            probabilities[task.split.test] = outcome.probabilities
    return probabilities


def compete_with(strategy: str, cut: str | None = None, epochs: int | None = None) -> Competitor:
    """Make a competitor of a cell; `epochs` only where another competitor sets them."""

    def make_own_cell(draw: Draw, cohort: Cohort) -> Cell:
        precision = "float32"
        if strategy != "full":
            chosen = choose_precisions([BACKBONE], cohort.images, cohort.labels, 1.0, None)
            precision = chosen[BACKBONE]
        return make_cell(strategy, cut, epochs and draw.epochs(epochs), precision)

    def cross_validate(draw: Draw, _: Path) -> CrossValidation:
        watch = Stopwatch()
        with watch.time("read"):
            cohort = open_cohort(draw.train)
        splits = [Split(0, fold, *rows) for fold, rows in enumerate(draw.splits())]
        with watch.time("precision"):
            cell = make_own_cell(draw, cohort)
        probabilities = run_cell(cell, cohort, splits, draw.number, watch)
        return CrossValidation(probabilities, watch.seconds, {})

    def predict_test(draw: Draw, _: Path) -> np.ndarray:
        cohort = open_cohort(draw.train)
        classifier = make_classifier(make_own_cell(draw, cohort), draw.number)
        classifier.fit(cohort.images, cohort.labels)
        return classifier.predict_proba([as_head(path) for path in draw.test.paths])

    return Competitor(cross_validate, predict_test)


FROZEN = compete_with("frozen")
PARTIAL = compete_with("partial", LAST_STAGE, LAST_STAGE_EPOCHS)
FULL = compete_with("full", epochs=FULL_EPOCHS)
