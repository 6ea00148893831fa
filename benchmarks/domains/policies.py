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

from meninx.backbones import Backbone
from meninx.cohort import Image, as_pixels
from meninx.evaluate.predictions import SMALLEST_PROBABILITY
from meninx.finetune import (
    ActivationStore,
    FineTunedClassifier,
    Preset,
    Strategy,
    load_backbone,
    make_views,
)
from meninx.finetune.augmentation import View

BACKBONE = "tf_efficientnet_lite0"
CUTS = ("stage4", "stage6", "head")
STRENGTHS = np.logspace(-5, 0, 6)
TIMED_IMAGES = 4
# The image and its mirror image.
PROBED_VIEWS = 2


@dataclass(frozen=True, eq=False)
class Task:
    """Fit on some images of a source and predict others.

    Attributes
    ----------
    source
        Whose.
    train, test
        Rows of its cohort.
    seed
        Of whatever is random.
    pooled
        Keeps what the probes read, one file a source.
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


@dataclass(frozen=True, eq=False)
class Fit:
    """What came of a task.

    Attributes
    ----------
    probabilities
        ``(m, k)`` of the test images.
    seconds
        Of fitting, what a frozen prefix takes apart.
    prefix_seconds
        Of running the training images, in all views, through the frozen network.
    losses
        Mean training loss of each epoch.
    """

    probabilities: np.ndarray
    seconds: float
    prefix_seconds: float = 0.0
    losses: tuple[float, ...] = ()


def make_classifier(policy: str, source: Source, seed: int) -> FineTunedClassifier:
    """Make the classifier of a depth, by the recipe of a default study."""
    is_partial = policy.startswith("stage")
    return FineTunedClassifier(
        BACKBONE,
        Strategy.PARTIAL if is_partial else policy,
        policy if is_partial else None,
        crop_head=source.cohort.is_framed,
        device="cpu",
        random_state=seed,
    )


def fit_depth(policy: str, task: Task) -> Fit:
    """Fine-tune from a depth on; what the frozen prefix gives is stored beforehand."""
    images, views = task.source.cohort.images, make_views(Preset.DEFAULT.recipe.views)
    ActivationStore().fill(load_backbone(BACKBONE), CUTS, images[[*task.train, *task.test]], views)
    started = time.process_time()
    classifier = make_classifier(policy, task.source, task.seed)
    classifier.fit(images[task.train], task.targets.tolist())
    seconds = time.process_time() - started
    losses = tuple(epoch.loss for epoch in classifier.history_)
    return Fit(classifier.predict_proba(images[task.test]), seconds, time_prefix(task), losses)


def fit_probes(task: Task) -> Fit:
    """Fit a logistic regression on what all stages make of an image (Evci 2022, Head2Toe).

    Features are averaged over an image's views and standardised; the strength of the penalty is
    the one with the least loss leaving each patient out.
    """
    pooled = _pool_source(task.source, task.pooled)
    started = time.process_time()
    train, test = _rotate(pooled[task.train].mean(axis=1), pooled[task.test].mean(axis=1))
    groups = task.source.cohort.groups[task.train]
    losses = [
        _measure_loss(predict_left_out(train, task.targets, groups, C), task.targets)
        for C in STRENGTHS
    ]
    model = _make_regression(STRENGTHS[np.argmin(losses)]).fit(train, task.targets)
    seconds = time.process_time() - started
    return Fit(model.predict_proba(test), seconds, time_prefix(task, PROBED_VIEWS))


def predict_left_out(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, C: float
) -> np.ndarray:
    """Predict each patient by a regression on the others, ``(n, k)``."""
    found = np.zeros((len(targets), targets.max() + 1))
    if len(np.unique(groups)) < 2:
        return found + 1 / found.shape[1]
    for inside, outside in LeaveOneGroupOut().split(features, targets, groups):
        model = _make_regression(C).fit(features[inside], targets[inside])
        found[np.ix_(outside, model.classes_)] = model.predict_proba(features[outside])
    return found


def time_prefix(task: Task, views: int = Preset.DEFAULT.recipe.views) -> float:
    """Say how long the frozen network takes for all training images, from a few of them."""
    some = task.source.cohort.images[task.train[:TIMED_IMAGES]]
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        ActivationStore(Path(folder)).fill(load_backbone(BACKBONE), CUTS, some, make_views(views))
        return (time.process_time() - started) / len(some) * len(task.train)


def _pool_source(source: Source, file: Path) -> np.ndarray:
    """Average each stage's maps over the picture, ``(n, v, d)``, all stages side by side."""
    if not file.exists():
        backbone = load_backbone(BACKBONE)
        views = make_views(PROBED_VIEWS)
        pooled = np.stack([_pool(backbone, image, views) for image in source.cohort.images])
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft.npy")
        np.save(draft, pooled)
        draft.replace(file)
    return np.load(file, mmap_mode="r")


def _pool(backbone: Backbone, image: Image, views: tuple[View, ...]) -> np.ndarray:
    square = backbone.to_square([as_pixels(image)])
    maps = backbone.normalise(torch.cat([view.apply(square) for view in views]))
    found = []
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


def _measure_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    true = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1)).mean())
