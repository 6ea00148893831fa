"""Training a suffix and a head by gradient descent on prefix activations."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from meninx.errors import TrainingError
from meninx.finetune.activations import Activations
from meninx.finetune.arithmetic import find_fast_dtype
from meninx.finetune.depth import draw_left_out, leave_out
from meninx.finetune.prediction import compute_features

WARM_UP = 0.2

# Where maps are large, a step's gradient is summed over parts of so many images: the same step in
# a quarter of the memory and, since a part stays in the processor's caches, in less time. On
# smaller maps every part would only pay again for its weights, a seventh of a step at 33 x 33:
# those of the packaged backbones from stage4 on are left whole.
LARGE_MAP, PART_OF_LARGE = 40, 3
# Numbers of float32 take twice the memory: of maps larger than 30 x 30 (lite2 from stage4) a part
# keeps 65 instead of 120 MiB a worker, for a tenth more time.
MIDDLE_MAP, PART_OF_MIDDLE = 30, 5
COST_OF_MIDDLE = 1.1

# Fewer steps teach a new head nothing: with 20 images, 12 of them left it 10 points of balanced
# accuracy below 30 (phantom and CE-MRI, docs/advice.md). Fewer looks at images, all steps together,
# are too few for the layers below: with 21 images 210 were 2 points below 252
# (benchmarks/accuracy_notes.md).
FEWEST_STEPS, FEWEST_LOOKS = 30, 250

# Found over six draws of 53 CE-MRI images (benchmarks/accuracy_notes.md): a head that learns
# faster than the layers below it, and no step that leaps when the head is still wrong.
HEAD_FACTOR = 4.0
LONGEST_GRADIENT = 1.0


# The rows of some images, and the view that each is seen in.
Batch = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    epochs
        Passes over the images, each in a view drawn at random; more of them where so few images
        would make fewer than 30 steps or 250 looks.
    batch_size
        Images a step.
    learning_rate
        Its peak, for pretrained layers; the new head learns at four times that. It warms up
        over the first fifth of the steps and then falls to zero.
    weight_decay
        Of AdamW.
    label_smoothing
        Part of the target that is spread over all classes.
    averaged
        The last part of the steps, 0 to 1, whose weights are averaged; 0 takes the last step's.
    left_out
        The share of its residual blocks that a network does without in each step, 0 to 1.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    averaged: float = 0.0
    left_out: float = 0.0


def train(
    suffix: nn.Module,
    head: nn.Module,
    activations: Activations,
    labels: np.ndarray,
    batches: Sequence[Batch],
    recipe: Recipe,
    seed: int,
    residual_blocks: Sequence[str] = (),
) -> None:
    """Train a suffix and a head in place; both end in evaluation mode.

    Parameters
    ----------
    suffix, head
        Activations to features ``(n, d)``, and features to logits ``(n, k)``.
    activations
        Of the training images, row by row as the labels.
    labels
        ``(n,)`` class indices; the loss weights classes by the inverse of their frequency.
    batches
        What each step sees; see :func:`draw_batches`.
    recipe
        How to train.
    seed
        Of the dropout, and of the blocks left out. The global random state is left as it was.
    residual_blocks
        The names of the suffix's blocks that a step can leave out.

    Raises
    ------
    TrainingError
        A weight is no finite number any more.
    """
    targets = torch.as_tensor(labels, dtype=torch.long)
    counts = torch.bincount(targets).float()
    weights = len(targets) / (len(counts) * counts)
    left_out = draw_left_out(residual_blocks, len(batches), recipe.left_out, seed)
    network = nn.Sequential(suffix, head).to(memory_format=torch.channels_last).train()
    parameters = _list_trained(network)
    most = _choose_part(activations) if _sees_images_apart(network) else None
    optimiser, schedule = _make_optimiser(suffix, head, recipe, len(batches))
    first_averaged = len(batches) - round(recipe.averaged * len(batches))
    average = None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for step, (rows, seen) in enumerate(batches):
            optimiser.zero_grad()
            with leave_out(suffix, left_out[step]):
                for part in _divide(len(rows), most or len(rows)):
                    inputs = activations.batch(rows[part], seen[part])
                    losses = functional.cross_entropy(
                        head(compute_features(suffix, inputs)),
                        targets[rows[part]],
                        weights,
                        label_smoothing=recipe.label_smoothing,
                        reduction="sum",
                    )
                    (losses / weights[targets[rows]].sum()).backward()
            nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
            optimiser.step()
            schedule.step()
            if step >= first_averaged:
                if average is None:
                    average = AveragedModel(network, multi_avg_fn=get_swa_multi_avg_fn())
                average.update_parameters(network)
    if average is not None:
        network.load_state_dict(average.module.state_dict())
    network.eval()
    # A gradient that was not finite stays in the weights. Nobody else would notice while it goes
    # on: a fast ReLU makes 0 of NaN, and the loss is a number again.
    if not all(parameter.isfinite().all() for parameter in parameters):
        raise TrainingError(
            f"training at a learning rate of {recipe.learning_rate:g} ended in weights that are "
            "no finite numbers; lower the learning rate, or see whether the images are all read "
            "as they should be"
        )


def _make_optimiser(
    suffix: nn.Module, head: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Make what takes the steps, and what sets their rates."""
    optimiser = torch.optim.AdamW(
        [{"params": _list_trained(suffix)}, {"params": _list_trained(head)}],
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    rates = [recipe.learning_rate, recipe.learning_rate * HEAD_FACTOR]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps, pct_start=WARM_UP
    )
    return optimiser, schedule


def _sees_images_apart(network: nn.Module) -> bool:
    """Whether what a network makes of an image does not depend on the others beside it."""
    return not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _choose_part(activations: Activations) -> int | None:
    """Choose how many images' maps are kept at a time; None for those of a whole step."""
    example = activations.batch([0], [0])
    return _find_part(example.shape[-1]) if example.ndim == 4 else None


def _find_part(side: int) -> int | None:
    """Find how many images' maps of some pixels across are kept at a time; None for all."""
    if side > LARGE_MAP:
        return PART_OF_LARGE
    if side > MIDDLE_MAP and find_fast_dtype() is torch.float32:
        return PART_OF_MIDDLE
    return None


def estimate_cost_of_parts(side: int) -> float:
    """Estimate what a step on maps of some pixels across costs, as a multiple of a whole one."""
    return COST_OF_MIDDLE if _find_part(side) == PART_OF_MIDDLE else 1.0


def _divide(images: int, most: int) -> Iterator[slice]:
    """Divide a step's images into equal parts, as far as can be, of at most so many."""
    parts = math.ceil(images / most)
    edges = [round(images * part / parts) for part in range(parts + 1)]
    yield from (slice(start, end) for start, end in itertools.pairwise(edges))


def _list_trained(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def draw_batches(images: int, views: int, recipe: Recipe, seed: int) -> list[Batch]:
    """Draw, for each step of training, which images are seen and in which of their views.

    Parameters
    ----------
    images, views
        How many there are.
    recipe
        How to train.
    seed
        Decides the order of images and their views.
    """
    random = np.random.default_rng(seed)
    # Equal parts: a small last batch would have no batch statistics worth the name.
    parts = _count_parts(images, recipe)
    return [
        (rows.tolist(), random.integers(views, size=len(rows)).tolist())
        for _ in range(count_passes(images, recipe))
        for rows in np.array_split(random.permutation(images), parts)
    ]


def count_passes(images: int, recipe: Recipe) -> int:
    """Count how often training goes through its images: more often than asked if they are few."""
    parts = _count_parts(images, recipe)
    fewest = max(math.ceil(FEWEST_STEPS / parts), math.ceil(FEWEST_LOOKS / images))
    return max(recipe.epochs, fewest)


def _count_parts(images: int, recipe: Recipe) -> int:
    """Count the steps of a pass."""
    return max(1, round(images / recipe.batch_size))
