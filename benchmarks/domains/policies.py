"""Policies: the ways to classify that are compared, each fitted on one thread.

Seconds are of the processor, so that whatever else runs on the machine does not count.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.domains.sources import Source
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler

from meninx.cohort import Image, as_array
from meninx.evaluate.predictions import SMALLEST_PROBABILITY
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    Preset,
    Strategy,
    load_backbone,
    make_views,
)

BACKBONE = "tf_efficientnet_lite0"
CUTS = ("stage4", "stage6", "head")
VIEWS = Preset.DEFAULT.recipe.views
# The image and its mirror image.
PROBED_VIEWS = 2
STRENGTHS = np.logspace(-5, 0, 6)
TIMED_IMAGES = 4


@dataclass(frozen=True, eq=False)
class Task:
    """Fit on the rows `train` of a source's cohort and predict `test`.

    `pooled` is the file that keeps what the probes read of the source.
    """

    source: Source
    train: np.ndarray
    test: np.ndarray
    seed: int
    pooled: Path

    @property
    def targets(self) -> np.ndarray:
        """``(n,)`` class indices of the training images."""
        return self.source.cohort.labels[self.train]

    def find_paths(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        """Give the files to train on and those to predict."""
        paths = [sample.path for sample in self.source.cohort.samples]
        return tuple(paths[row] for row in self.train), tuple(paths[row] for row in self.test)


@dataclass(frozen=True, eq=False)
class Fit:
    """What came of a task.

    Attributes
    ----------
    probabilities
        ``(m, k)`` of the test images.
    seconds, prefix_seconds
        Of fitting, and of what the frozen network makes of the training images before.
    losses
        Mean training loss of each epoch.
    """

    probabilities: np.ndarray
    seconds: float
    prefix_seconds: float = 0.0
    losses: tuple[float, ...] = ()


def fit_depth(policy: str, task: Task) -> Fit:
    """Fine-tune from a depth on, by the recipe of a default study."""
    cohort, is_partial = task.source.cohort, policy.startswith("stage")
    images = cohort.images
    used = images[[*task.train, *task.test]]
    ActivationStore().fill(load_backbone(BACKBONE), CUTS, used, make_views(VIEWS))
    classifier = FineTunedClassifier(
        BACKBONE,
        Strategy.PARTIAL if is_partial else policy,
        policy if is_partial else None,
        crop_head=cohort.is_cropped,
        device="cpu",
        random_state=task.seed,
    )
    started = time.process_time()
    classifier.fit(images[task.train], task.targets.tolist())
    seconds = time.process_time() - started
    losses = tuple(epoch.loss for epoch in classifier.history_)
    probabilities = classifier.predict_proba(images[task.test])
    return Fit(probabilities, seconds, _time_prefix(task, VIEWS), losses)


def fit_probes(task: Task) -> Fit:
    """Fit a logistic regression on what all stages make of an image (Evci 2022, Head2Toe).

    Features are averaged over an image's views and standardised; the strength of the penalty is
    the one with the least loss leaving each patient out.
    """
    pooled, targets = _pool_source(task), task.targets
    groups = task.source.cohort.groups[task.train]
    started = time.process_time()
    train, test = _rotate(pooled[task.train].mean(axis=1), pooled[task.test].mean(axis=1))
    losses = []
    for C in STRENGTHS:
        true = predict_left_out(train, targets, groups, C)[np.arange(len(targets)), targets]
        losses.append(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1)).mean())
    model = _make_regression(STRENGTHS[np.argmin(losses)]).fit(train, targets)
    seconds = time.process_time() - started
    return Fit(model.predict_proba(test), seconds, _time_prefix(task, PROBED_VIEWS))


def predict_left_out(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, C: float
) -> np.ndarray:
    """Predict each patient by a regression on the others, ``(n, k)``."""
    found = np.zeros((len(targets), targets.max() + 1))
    for inside, outside in LeaveOneGroupOut().split(features, targets, groups):
        model = _make_regression(C).fit(features[inside], targets[inside])
        found[np.ix_(outside, model.classes_)] = model.predict_proba(features[outside])
    return found


def _time_prefix(task: Task, views: int) -> float:
    """Say how long the frozen network takes for all training images, from a few of them."""
    some = task.source.cohort.images[task.train[:TIMED_IMAGES]]
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        ActivationStore(Path(folder)).fill(load_backbone(BACKBONE), CUTS, some, make_views(views))
        return (time.process_time() - started) / len(some) * len(task.train)


def _pool_source(task: Task) -> np.ndarray:
    """Average each stage's maps over the picture, ``(n, v, d)``, all stages side by side."""
    if not task.pooled.exists():
        task.pooled.parent.mkdir(parents=True, exist_ok=True)
        draft = task.pooled.with_suffix(".draft.npy")
        np.save(draft, np.stack([_pool(image) for image in task.source.cohort.images]))
        draft.replace(task.pooled)
    return np.load(task.pooled, mmap_mode="r")


def _pool(image: Image) -> np.ndarray:
    backbone, found = load_backbone(BACKBONE), []
    square = backbone.to_square([as_array(image)])
    views = torch.cat([view.apply(square) for view in make_views(PROBED_VIEWS)])
    maps = backbone.normalise(views)
    with torch.inference_mode():
        for layer in backbone.network[:-1]:
            maps = layer(maps)
            found.append(maps.mean(dim=(2, 3)))
    return torch.cat(found, dim=1).half().numpy()


def _rotate(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardise, and turn axes so that only as many as training images are not zero.

    A penalty on the squared length does not see it, and fits are many times faster.
    """
    scaler = StandardScaler().fit(train.astype(float))
    rows = scaler.transform(train.astype(float))
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    return rows @ axes.T, scaler.transform(test.astype(float)) @ axes.T


def _make_regression(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, class_weight="balanced", max_iter=1000)
