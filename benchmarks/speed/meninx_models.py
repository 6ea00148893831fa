"""Ours: single models run as a study runs them, from a cold cache, and a study's bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.speed.draws import COUNTS, Draw, LabelledFiles
from benchmarks.speed.plain_pytorch import FULL_EPOCHS, LAST_STAGE_EPOCHS
from benchmarks.speed.torch_recipe import BACKBONE

from meninx.bundle import Bundle
from meninx.cohort import Cohort
from meninx.evaluate import Split
from meninx.finetune import Recipe
from meninx.study.plan import Model, Role
from meninx.study.tasks import Task, fill_activations, fit_on_all, run_task
from meninx.study.workers import Workers

# All layers at the last resolution, as in (b).
LAST_STAGE = "stage7"


def make_model(strategy: str, draw: Draw) -> Model:
    """Make a model of the lightest packaged backbone, with the epochs of its counterpart."""
    usual = Recipe()
    epochs = {"partial": LAST_STAGE_EPOCHS, "full": FULL_EPOCHS}.get(strategy, usual.epochs)
    recipe = replace(usual, epochs=draw.epochs(epochs))
    return Model(
        name=f"{BACKBONE}-{strategy}",
        backbone=BACKBONE,
        strategy=strategy,
        cut=LAST_STAGE if strategy == "partial" else None,
        role=Role.CANDIDATE,
        repeats=1,
        trained_parameters=0,
        reason="benchmark",
        recipe=recipe,
    )


def open_cohort(files: LabelledFiles) -> Cohort:
    """Open files in class folders as a cohort whose rows are in the same order."""
    cohort = Cohort.from_folder(files.paths[0].parents[1])
    if [sample.path.name for sample in cohort.samples] != [path.name for path in files.paths]:
        raise SystemExit("the cohort's rows are not in the order of the draw")
    return cohort


def cross_validate(strategy: str, draw: Draw) -> np.ndarray:
    """Open the draw and run a model over its folds on all cores; ``(n, k)`` out of fold."""
    cohort, model, workers = open_cohort(draw.train), make_model(strategy, draw), Workers()
    recipe = model.recipe or Recipe()
    if model.cuts:
        fills = [(BACKBONE, recipe, model.cuts, one, workers.device) for one in cohort.images]
        for _ in workers.run(fill_activations, fills):
            pass
    splits = [Split(0, fold, *rows) for fold, rows in enumerate(draw.splits())]
    tasks = [Task(model, split, draw.number, cohort.is_cropped) for split in splits]
    probabilities = np.full((len(cohort.samples), len(cohort.classes)), np.nan)
    work = [(task, cohort.images, cohort.labels) for task in tasks]
    for split, result in zip(splits, workers.run(run_task, work), strict=True):
        probabilities[split.test] = result.probabilities
    return probabilities


def predict_test(strategy: str, draw: Draw) -> np.ndarray:
    """Fit a model on the whole draw and give the probabilities ``(m, k)`` of the test images."""
    classifier = fit_on_all(
        make_model(strategy, draw), open_cohort(draw.train), draw.number, Workers()
    )
    return classifier.predict_proba(draw.test.paths)


def predict_with_bundle(bundle: Path, draw: Draw) -> np.ndarray:
    """Give the probabilities ``(m, k)`` of the test images by what a study left."""
    predictions = Bundle.open(bundle).predict(list(draw.test.paths))
    return np.array([[one.probabilities[label] for label in sorted(COUNTS)] for one in predictions])
