"""Timing: what this machine needs for the parts that a fit is made of.

Each part is done for real, on made-up activations of the right shape, for as short as can be.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from meninx.finetune.activations import StoredActivations
from meninx.finetune.arithmetic import bring_into_fast_form, run_prefix
from meninx.finetune.classifier import FineTunedClassifier
from meninx.finetune.heads import solve_linear_head
from meninx.finetune.training import compute_features, draw_batches, train

STEPS = 3
# Enough for a linear head to show how long it takes; more are in proportion.
MOST_IMAGES = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class FitTimes:
    """What the parts of fitting and predicting take, seconds on one thread.

    Attributes
    ----------
    activations
        Of one image in all its views, as far as the cut; 0 where nothing is frozen.
    start
        Of a fit, whatever its size: copying and folding the suffix.
    training
        Of gradient descent for each image and step, or of the linear head for each image.
    prediction
        Of one image in all its views, from the cut on.
    """

    activations: float
    start: float
    training: float
    prediction: float


def time_fit(classifier: FineTunedClassifier, images: int, classes: int) -> FitTimes:
    """Time the parts of a classifier's fit on this machine, on one thread.

    Parameters
    ----------
    classifier
        Not fitted.
    images, classes
        How many there are.
    """
    backbone, cut = classifier.choose_network()
    views, batch = classifier.views, classifier.batch_size
    shape = (views, 3, backbone.input_size, backbone.input_size)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if cut == "stem":
        activations, first = noise, 0.0
    else:
        network = bring_into_fast_form(backbone, classifier.precision)
        (reached, first) = _time(lambda: dict(run_prefix(network, "stem", [cut], noise)))
        activations = reached[cut]
    stored = StoredActivations((activations,) * batch)
    if cut == "head":
        solved = min(images, MOST_IMAGES)
        random = np.random.default_rng(0)
        features = random.normal(size=(solved, views, backbone.features)).astype(np.float32)
        targets = np.arange(solved) % classes
        _, fitting = _time(lambda: solve_linear_head(features, targets, classifier.regularisation))
        return FitTimes(first, 0.0, fitting / solved, 0.0)
    labels = np.arange(batch) % classes
    suffix, start = _time(lambda: backbone.suffix(cut))
    example = activations[:1].float()
    fast, bringing = _time(lambda: classifier.bring_into_training_form(suffix, example))
    recipe = classifier.recipe
    batches = draw_batches(batch, views, recipe, seed=0)[:STEPS]
    head = classifier.make_head(backbone.features, classes)
    _, training = _time(lambda: train(fast.network, head, stored, labels, batches, recipe, 0))
    with torch.inference_mode():
        _, prediction = _time(lambda: compute_features(suffix, activations))
    return FitTimes(first, start + bringing, training / STEPS / batch, prediction)


def _time(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something twice, the first time to warm up; give its result and its seconds."""
    work()
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
