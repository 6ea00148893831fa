"""Timing: what this machine needs for the parts that a fit is made of.

Each part is done for real, on an image of the cohort, for as short as can be.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Image
from meninx.finetune.activations import Activations, ActivationStore
from meninx.finetune.arithmetic import PART, bring_into_fast_form, forget_fast_forms
from meninx.finetune.classifier import FineTunedClassifier
from meninx.finetune.folding import FoldedNetwork
from meninx.finetune.heads import solve_linear_heads
from meninx.finetune.prediction import PREDICTION_BATCH, compute_all_features
from meninx.finetune.strategy import Strategy
from meninx.finetune.training import Batch, train
from meninx.finetune.training_form import TrainingForm
from meninx.finetune.views import make_views
from meninx.memory import give_memory_back

# Of a fit's steps the first takes up to twice as long: the processor's code for each layer is made,
# and memory comes page by page. Of three more the median leaves out one that had to wait. Measured
# 40 times over on a restless machine it spread as little as eight steps at two moments did.
STEPS = 4

# Images that are read: more would only take longer.
READ = 4

# Enough for linear heads to show how long they take.
MOST_IMAGES, SOME_HEADS = 64, 10
# Of made-up features: as many directions as images differ in, more or less.
DIRECTIONS = 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class FitTimes:
    """What the parts of fitting and predicting take, seconds on one thread.

    Attributes
    ----------
    activations
        Of one image in all its views, as far as the deepest cut that is asked for, computed
        and stored; 0 where nothing is frozen.
    reading
        Of what is stored of one image, for solved heads also putting it together; of the image
        itself where nothing is frozen.
    start
        Of a fit: copying and folding the suffix, what gradient descent does before its first step
        and after its last, and what its first step takes more than another. See also
        :meth:`with_heads`.
    training
        Of gradient descent for each image and step.
    prediction
        Of one image in all its views, from the cut on.
    """

    activations: float
    reading: float
    start: float
    training: float
    prediction: float

    def with_heads(self, classifier: FineTunedClassifier, first: float, another: float) -> Self:
        """Add what linear heads take, where a fit solves any.

        Parameters
        ----------
        classifier
            That is fitted.
        first, another
            Of :func:`time_heads`.

        Returns
        -------
        FitTimes
            Of solved heads, ``start`` is what the first takes more than another, and ``training``
            what another takes. Gradient descent that starts from a solved head takes one a fit.
        """
        if classifier.is_solved:
            return replace(self, start=first, training=another)
        if classifier.starts_solved:
            return replace(self, start=self.start + first + another)
        return self


@dataclass(frozen=True)
class _Trial:
    """A fit that is ready for its steps.

    Attributes
    ----------
    times
        What is known without steps: all where a head is solved.
    batch
        Images a step.
    take_steps
        Takes some steps; gives the seconds around them, and of each. None where none are taken.
    time_prediction
        Gives the seconds of predicting one image in all its views.
    """

    times: FitTimes
    batch: int = 1
    take_steps: Callable[[], tuple[float, list[float]]] | None = None
    time_prediction: Callable[[], float] = lambda: 0.0

    def finish(self) -> FitTimes:
        """Take the steps and predict, and put what that took beside what was known."""
        if self.take_steps is None:
            return self.times
        # Or the steps of several networks would leave their memory side by side.
        give_memory_back()
        around, (first, *others) = self.take_steps()
        step = float(np.median(others))
        return replace(
            self.times,
            start=self.times.start + around + max(first - step, 0.0),
            training=step / self.batch,
            prediction=self.time_prediction(),
        )


def time_fits(
    groups: Sequence[Sequence[FineTunedClassifier]],
    image: Image,
    classes: int,
) -> list[list[FitTimes]]:
    """Time the parts of the fits of some classifiers, linear heads apart, on one thread.

    Parameters
    ----------
    groups
        Classifiers, not fitted; those of a group are of one backbone and all see in the same
        size, views and precision.
    image
        One of the cohort.
    classes
        How many there are.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _try_all(groups, image, classes, Path(folder))


def _try_all(
    groups: Sequence[Sequence[FineTunedClassifier]],
    image: Image,
    classes: int,
    folder: Path,
) -> list[list[FitTimes]]:
    """Time all fits; on return nothing that is stored in the folder is held any more."""
    trials = [
        _prepare(group, image, classes, folder / str(number)) for number, group in enumerate(groups)
    ]
    forget_fast_forms()
    # All processes get here within some tenths of a second. Beside one that only prepares, a step
    # takes up to a fifth less than beside one that trains, as they all do in a study.
    return [[trial.finish() for trial in group] for group in trials]


def _prepare(
    classifiers: Sequence[FineTunedClassifier],
    image: Image,
    classes: int,
    folder: Path,
) -> list[_Trial]:
    """Time what the fits of a group do once, and get ready for their steps."""
    first = classifiers[0]
    if first.strategy != Strategy.SCRATCH:
        first.choose_network()  # loads it, which is done once a process
    cuts = [cut for classifier in classifiers for cut in classifier.needed_cuts]
    views = make_views(first.views, first.augmentation)
    seconds = 0.0
    warm, store = (ActivationStore(folder / name, first.precision) for name in ("1", "2"))
    if cuts:
        backbone, _ = first.choose_network()
        bring_into_fast_form(backbone, first.precision)
        warm.fill(backbone, cuts, [image], views[:PART])
        _, seconds = _time(lambda: store.fill(backbone, cuts, [image], views))
    return [_prepare_fit(classifier, store, image, seconds, classes) for classifier in classifiers]


def _prepare_fit(
    classifier: FineTunedClassifier,
    store: ActivationStore,
    image: Image,
    activations: float,
    classes: int,
) -> _Trial:
    # A network from scratch is made up here, which takes longer than to copy a pretrained one.
    (backbone, cut), choosing = _time(classifier.choose_network)
    views = make_views(classifier.views, classifier.augmentation)
    batch, some = max(classifier.batch_size, classes), max(READ, classes)
    one = store.get(backbone, cut, [image], views)  # warms up
    stored, reading = _time(lambda: store.get(backbone, cut, [image] * some, views))
    if classifier.is_solved:
        _, putting = _time(lambda: compute_all_features(nn.Identity(), stored, len(views)))
        return _Trial(FitTimes(activations, (reading + putting) / some, 0.0, 0.0, 0.0))
    (form, suffix), start = _time(lambda: _start(classifier, backbone, cut, stored))
    time_prediction = partial(_time_prediction, suffix, one, len(views))
    time_prediction()  # warms up
    head = classifier.make_head(backbone.features, classes)
    return _Trial(
        FitTimes(activations, reading / some, choosing + start, 0.0, 0.0),
        batch,
        partial(_take_steps, classifier, form, head, stored, batch, classes),
        time_prediction,
    )


def _start(
    classifier: FineTunedClassifier, backbone: Backbone, cut: str, stored: Activations
) -> tuple[TrainingForm, nn.Module]:
    """Do what a fit does with its network before and after its training."""
    if cut == "head":
        return TrainingForm(FoldedNetwork(nn.Identity(), ()), ()), nn.Identity()
    form = TrainingForm.of_suffix(backbone, cut, Strategy(classifier.strategy), stored)
    suffix = backbone.suffix(cut)
    form.write_back(suffix)
    return form, suffix.eval()


class _WatchedBatches(list[Batch]):
    """Batches that note when each step begins, and when the last one has ended."""

    def __iter__(self) -> Iterator[Batch]:
        self.moments = []
        for batch in super().__iter__():
            self.moments.append(time.perf_counter())
            yield batch
        self.moments.append(time.perf_counter())


def _take_steps(
    classifier: FineTunedClassifier,
    form: TrainingForm,
    head: nn.Module,
    stored: Activations,
    batch: int,
    classes: int,
) -> tuple[float, list[float]]:
    """Take steps on what is stored, again and again: seconds around them, and of each."""
    rows = [row % len(stored) for row in range(batch)]
    seen = [number % classifier.views for number in range(batch)]
    batches = _WatchedBatches([(rows, seen)] * STEPS)
    labels = np.arange(len(stored)) % classes
    # The average is begun once a fit, which would count for every step.
    recipe = replace(classifier.recipe, averaged=0.0)
    blocks = form.residual_blocks
    _, whole = _time(lambda: train(form.network, head, stored, labels, batches, recipe, 0, blocks))
    steps = np.diff(batches.moments)
    return whole - float(steps.sum()), steps.tolist()


def _time_prediction(suffix: nn.Module, one: Activations, views: int) -> float:
    """Time the prediction of one image in all its views, by as many of them as run at a time."""
    some = min(views, PREDICTION_BATCH)
    _, seconds = _time(lambda: compute_all_features(suffix, one, some))
    return seconds * views / some


def time_heads(views: int, width: int, images: int, classes: int) -> tuple[float, float]:
    """Time solving linear heads together, on one thread.

    Parameters
    ----------
    views, width
        How many features each image has, in how many views.
    images, classes
        How many there are.

    Returns
    -------
    float, float
        Seconds that the first head takes more than another, and that another takes.
    """
    some = max(min(images, MOST_IMAGES), 2 * classes)
    random = np.random.default_rng(0)
    common = random.normal(size=(some, 1, DIRECTIONS)) @ random.normal(size=(DIRECTIONS, width))
    own = random.normal(size=(some, views, width))
    features = np.maximum(common / np.sqrt(DIRECTIONS) + 0.7 * own, 0).astype(np.float32)
    labels = np.arange(some) % classes
    sides = [np.delete(np.arange(some), head % some) for head in range(SOME_HEADS)]
    # What is done for the first time is done among the many, or they would seem to take less.
    _, together = _time(lambda: solve_linear_heads(features, labels, sides, 1.0))
    _, alone = _time(lambda: solve_linear_heads(features, labels, sides[:1], 1.0))
    # More images take more steps too: 23 with 53 of CE-MRI, 35 with 400.
    growth = (images / some) ** 1.2
    another = max(together - alone, 0.0) / (SOME_HEADS - 1)
    return max(alone - another, 0.0) * growth, another * growth


def _time(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something; give its result and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
