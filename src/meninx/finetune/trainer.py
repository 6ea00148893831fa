"""The trainer: a suffix and a head learn by gradient descent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from meninx.errors import TrainingError
from meninx.finetune.activations import Activations
from meninx.finetune.precision import autocast
from meninx.finetune.recipe import Recipe

# From logits (b, k) and class indices (b,) to the loss of each image (b,).
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# The rows of some images, and the view that each is seen in.
Batch = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes
    ----------
    epoch
        From 1.
    loss
        Mean over its steps, nats for the usual loss.
    learning_rate
        Of the pretrained layers, at its end.
    seconds
        That it took.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float


def train(
    suffix: nn.Module,
    head: nn.Module,
    activations: Activations,
    targets: np.ndarray,
    weights: np.ndarray,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    loss: Loss | None = None,
) -> list[Epoch]:
    """Train a suffix and a head in place; both end on the processor, in evaluation mode.

    Parameters
    ----------
    suffix, head
        Activations to features ``(b, d)``, and features to logits ``(b, k)``. Parameters that
        do not require a gradient stay as they are.
    activations
        Of n training images.
    targets
        ``(n,)`` class indices.
    weights
        ``(n,)`` what each image counts for in the loss, 1 on average.
    recipe
        How to train.
    device
        Where.
    seed
        Decides the order of images, their views and the dropout. The global random state is left
        as it was.
    loss
        By default the cross-entropy with label smoothing.

    Raises
    ------
    TrainingError
        A weight is no finite number any more.
    """
    loss = loss or _make_loss(recipe)
    truth, importance = torch.as_tensor(targets), torch.as_tensor(weights, dtype=torch.float32)
    network = nn.Sequential(suffix, head).to(device).train()
    network.to(memory_format=torch.channels_last)
    if not recipe.trains_statistics:
        _keep_statistics(network)
    parameters = [one for one in network.parameters() if one.requires_grad]
    epochs = draw_batches(len(targets), recipe, seed)
    steps = sum(len(batches) for batches in epochs)
    optimiser, schedule = _make_optimiser(suffix, head, recipe, steps)
    average = AveragedModel(network, multi_avg_fn=get_swa_multi_avg_fn())
    first_averaged = steps - round(recipe.averaged * steps)
    history: list[Epoch] = []
    step = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for number, batches in enumerate(epochs, 1):
            started, losses = time.perf_counter(), []
            for rows, views in batches:
                inputs = activations.batch(rows, views).to(device)
                if inputs.ndim == 4:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                optimiser.zero_grad()
                with autocast(device):
                    logits = network(inputs)
                each = loss(logits.float(), truth[rows].to(device))
                mean = (each * importance[rows].to(device)).sum() / importance[rows].sum()
                mean.backward()
                nn.utils.clip_grad_norm_(parameters, recipe.largest_gradient)
                optimiser.step()
                schedule.step()
                losses.append(mean.detach())
                if step >= first_averaged:
                    average.update_parameters(network)
                step += 1
            rate, seconds = float(schedule.get_last_lr()[0]), time.perf_counter() - started
            history.append(Epoch(number, float(torch.stack(losses).mean()), rate, seconds))
    if first_averaged < steps:
        network.load_state_dict(average.module.state_dict())
    network.to("cpu").eval()
    # Nobody else would notice: the loss can be a number again after a step that was none.
    if not all(parameter.isfinite().all() for parameter in parameters):
        raise TrainingError(
            f"training at a learning rate of {recipe.learning_rate:g} ended in weights that are "
            "no finite numbers; lower the learning rate, or see whether the images are all read "
            "as they should be"
        )
    return history


def count_steps(images: int, recipe: Recipe) -> int:
    """Count the optimiser's steps on some training images."""
    parts, epochs = _count_parts_and_epochs(images, recipe)
    return parts * epochs


def _count_parts_and_epochs(images: int, recipe: Recipe) -> tuple[int, int]:
    parts = max(1, round(images / recipe.batch_size))
    return parts, max(recipe.epochs, math.ceil(recipe.fewest_steps / parts))


def draw_batches(images: int, recipe: Recipe, seed: int) -> list[list[Batch]]:
    """Draw which images each step of each epoch sees, and in which of their views."""
    random = np.random.default_rng(seed)
    # Equal parts: a small last batch would have no batch statistics worth the name.
    parts, epochs = _count_parts_and_epochs(images, recipe)
    return [
        [
            (rows.tolist(), random.integers(recipe.views, size=len(rows)).tolist())
            for rows in np.array_split(random.permutation(images), parts)
        ]
        for _ in range(epochs)
    ]


def compute_features(
    suffix: nn.Module, activations: Activations, views: int, device: torch.device
) -> torch.Tensor:
    """Run a suffix over every image in all its views: ``(n, v, d)`` float32."""
    suffix = suffix.to(device).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode(), autocast(device):
        found = [suffix(_take_views(activations, row, views, device)).float().cpu()
                 for row in range(len(activations))]  # fmt: skip
    suffix.to("cpu")
    return torch.stack(found)


def _take_views(
    activations: Activations, row: int, views: int, device: torch.device
) -> torch.Tensor:
    inputs = activations.batch([row] * views, range(views)).to(device)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _make_loss(recipe: Recipe) -> Loss:
    def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits, targets, label_smoothing=recipe.label_smoothing, reduction="none"
        )

    return cross_entropy


def _keep_statistics(network: nn.Module) -> None:
    """Let BatchNorm go on with the statistics that it has."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()


def _make_optimiser(
    suffix: nn.Module, head: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    rates = [recipe.learning_rate, recipe.learning_rate * recipe.head_rate_factor]
    groups = [
        {"params": [one for one in part.parameters() if one.requires_grad]}
        for part in (suffix, head)
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps, pct_start=recipe.warm_up
    )
    return optimiser, schedule
