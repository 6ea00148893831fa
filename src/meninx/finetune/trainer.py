"""The trainer: a suffix and a head learn by gradient descent."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from meninx.errors import TrainingError
from meninx.finetune.activations import Activations
from meninx.finetune.batches import count_steps, draw_batches
from meninx.finetune.precision import autocast
from meninx.finetune.recipe import Recipe

# From logits (b, k) and class indices (b,) to the loss of each image (b,).
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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
    smoothing = recipe.label_smoothing
    loss = loss or partial(functional.cross_entropy, label_smoothing=smoothing, reduction="none")
    truth, importance = torch.as_tensor(targets), torch.as_tensor(weights, dtype=torch.float32)
    network = nn.Sequential(suffix, head).to(device).to(memory_format=torch.channels_last).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and not recipe.trains_statistics:
            module.eval()
    parameters = [one for one in network.parameters() if one.requires_grad]
    epochs, steps = draw_batches(len(targets), recipe, seed), count_steps(len(targets), recipe)
    optimiser, schedule = _make_optimiser(suffix, head, recipe, steps)
    average = AveragedModel(network, multi_avg_fn=get_swa_multi_avg_fn())
    first_averaged = steps - round(recipe.averaged * steps)
    history, step = list[Epoch](), 0
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
                counts = importance[rows].to(device)
                mean = (each * counts).sum() / counts.sum().clamp_min(1e-12)
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


def _make_optimiser(
    suffix: nn.Module, head: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    rates = [recipe.learning_rate, recipe.learning_rate * recipe.head_rate_factor]
    groups = [
        {"params": [one for one in part.parameters() if one.requires_grad]}
        for part in (suffix, head)
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    # It divides by zero where one of its two phases is a single step.
    warm_up = min(max(recipe.warm_up, 2 / steps), 1 - 1 / steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps, pct_start=warm_up
    )
    return optimiser, schedule
