"""Counting: how much a network has to do, which tells how its time compares with another's."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from meninx.backbones import Backbone
from meninx.finetune.training import estimate_cost_of_parts


@dataclass(frozen=True)
class _Count:
    """What a stage does for one look at an image.

    Attributes
    ----------
    multiplications
        Multiply-accumulates.
    numbers
        That its layers give.
    side
        Of the maps that it is given, in pixels.
    """

    multiplications: int
    numbers: int
    side: int


def count_arithmetic(backbone: Backbone, cut: str) -> float:
    """Count how much a backbone has to do for one look at an image, forwards from a cut on.

    Returns
    -------
    float
        The geometric mean of multiply-accumulates, which take the time where processors multiply
        slowly, and of the numbers that layers give, which take it where they multiply fast; 0 from
        ``head`` on.
    """
    behind = _count_behind(backbone, cut)
    multiplications = sum(stage.multiplications for stage in behind)
    return math.sqrt(multiplications * sum(stage.numbers for stage in behind))


def estimate_cost_of_steps(backbone: Backbone, cut: str) -> float:
    """Estimate what steps from a cut on cost as they are taken, as a multiple of whole ones."""
    behind = _count_behind(backbone, cut)
    return estimate_cost_of_parts(behind[0].side) if behind else 1.0


def _count_behind(backbone: Backbone, cut: str) -> list[_Count]:
    """Count what each stage from a cut on does; nothing from ``head`` on."""
    counts = _count_stages(backbone)
    names = [*counts, "head"]
    return [counts[name] for name in names[names.index(cut) : -1]]


@lru_cache(maxsize=16)
def _count_stages(backbone: Backbone) -> dict[str, _Count]:
    """Count what each stage does.

    PyTorch's own counter warns whoever imports it without a compiler for graphics cards.
    """
    size = backbone.input_size
    x = torch.zeros(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    counts = {}
    with torch.inference_mode():
        for name, stage in backbone.network.named_children():
            side = x.shape[-1]
            x, (multiplications, numbers) = _count_run(stage, x)
            counts[name] = _Count(multiplications, numbers, side)
    return counts


def _count_run(network: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Run a network, and count its multiply-accumulates and the numbers that its layers give."""
    multiplications = numbers = 0

    def count(layer: nn.Conv2d | nn.Linear, _: object, output: torch.Tensor) -> None:
        nonlocal multiplications, numbers
        # Each number is a sum over one filter.
        multiplications += output.numel() * layer.weight[0].numel()
        numbers += output.numel()

    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        return network(inputs), (multiplications, numbers)
    finally:
        for hook in hooks:
            hook.remove()
