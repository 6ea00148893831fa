"""Tasks: the independent pieces of work that a study hands to its workers.

A task is one fit: a model on the training side of one split. It shares nothing with another but
read-only activations on disk and computes on one thread, so its result is the same whoever runs
it, beside whatever else.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import ClassifierMixin

from meninx.cohort import Cohort, Image
from meninx.evaluate import Split, derive_seed
from meninx.finetune import (
    ActivationStore,
    Ensemble,
    Epoch,
    FineTunedClassifier,
    Recipe,
    find_device,
    load_backbone,
    make_histogram_classifier,
    make_majority_classifier,
    make_views,
)
from meninx.study.fold_networks import FoldNetworks
from meninx.study.plan import Model
from meninx.study.workers import Workers


@dataclass(frozen=True, eq=False)
class Task:
    """Train one model on the training side of one split.

    Attributes
    ----------
    model, split
        Which.
    seed
        Of the study; each task derives its own.
    crop_head
        Whether images are cropped to the head.
    device
        Where it is computed.
    models
        Keeps what is trained; None where nothing asks for it again.
    """

    model: Model
    split: Split
    seed: int
    crop_head: bool = True
    device: str = "auto"
    models: FoldNetworks | None = None

    def make_classifier(self) -> ClassifierMixin:
        """Make the model's classifier, not yet fitted, with a seed of the task's own."""
        own_seed = derive_seed(self.seed, self.split.repeat, self.split.fold)
        return make_classifier(self.model, own_seed, self.crop_head, self.device)

    def fit(self, inputs: np.ndarray, labels: np.ndarray) -> ClassifierMixin:
        """Fit on the training side.

        Parameters
        ----------
        inputs
            ``(n,)`` samples of the cohort, or ``(n, d)`` features of a simple baseline.
        labels
            ``(n,)`` class indices.
        """
        if self.model.members:
            each = [replace(self, model=member) for member in self.model.members]
            return Ensemble.of_fitted([one.fit(inputs, labels) for one in each])
        classifier, side = self.make_classifier(), self.split.train
        if self.models is None or not self.model.is_fitted:
            return classifier.fit(inputs[side], labels[side])
        return self.models.fit(classifier, inputs[side], labels[side])


@dataclass(frozen=True, eq=False)
class TaskResult:
    """What a task gave.

    Attributes
    ----------
    probabilities
        Of the test side, ``(m, k)``.
    seconds
        That it took.
    history
        Of gradient descent; none where there was none, or the fit was done before.
    """

    probabilities: np.ndarray
    seconds: float
    history: tuple[Epoch, ...] = ()


def make_classifier(model: Model, seed: int, crop_head: bool, device: str) -> ClassifierMixin:
    """Make a model's classifier, not yet fitted."""
    if model.strategy == "majority":
        return make_majority_classifier()
    if model.strategy == "histogram":
        return make_histogram_classifier()
    if model.members:
        return Ensemble([make_classifier(one, seed, crop_head, device) for one in model.members])
    return FineTunedClassifier(
        backbone=model.backbone,
        strategy=model.strategy,
        cut=model.cut,
        extra_layers=model.extra_layers,
        recipe=model.recipe or Recipe(),
        crop_head=crop_head,
        device=device,
        random_state=seed,
    )


def run_task(task: Task, inputs: np.ndarray, labels: np.ndarray) -> TaskResult:
    """Fit on the training side of a task's split and predict the test side."""
    started = time.perf_counter()
    classifier = task.fit(inputs, labels)
    probabilities = classifier.predict_proba(inputs[task.split.test])
    history = tuple(getattr(classifier, "history_", ()))
    return TaskResult(probabilities, time.perf_counter() - started, history)


def fit_on_all(
    model: Model, cohort: Cohort, seed: int, workers: Workers
) -> FineTunedClassifier | Ensemble:
    """Fit a model on the whole cohort, the members of an ensemble side by side."""
    members = [
        make_classifier(member, derive_seed(seed), cohort.is_cropped, workers.device)
        for member in model.members or (model,)
    ]
    work = [(member, cohort.images, cohort.labels) for member in members]
    fitted = list(workers.run(_fit, work))
    return Ensemble.of_fitted(fitted) if model.members else fitted[0]


def _fit(classifier: ClassifierMixin, images: np.ndarray, labels: np.ndarray) -> ClassifierMixin:
    return classifier.fit(images, labels)


def fill_activations(
    backbone: str, recipe: Recipe, cuts: tuple[str, ...], image: Image, device: str
) -> None:
    """Compute what a frozen network makes of an image before some cuts, in all its views."""
    store = ActivationStore(device=find_device(device))
    views = make_views(recipe.views, recipe.augmentation)
    store.fill(load_backbone(backbone), cuts, [image], views)
