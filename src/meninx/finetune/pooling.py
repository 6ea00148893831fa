"""The mean over a map, with a gradient that is spread only once."""

from typing import Any

import torch
from torch import nn


class FastPool(nn.Module):
    """The mean of each map, the same numbers as those of ``nn.AdaptiveAvgPool2d(1)``."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Average ``(n, c, h, w)`` over its pixels: ``(n, c, 1, 1)``."""
        means: torch.Tensor = _Average.apply(inputs)
        return means


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        context.size = inputs.shape
        return inputs.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        # PyTorch spreads it first and divides then, pixel by pixel, and lays the channels one after
        # the other, which the layers before it do not: two passes over a suffix's largest map.
        *_, height, width = context.size
        return (gradient / (height * width)).expand(context.size)


def quicken_pools(network: nn.Module) -> None:
    """Replace what averages whole maps by fast pools, in place."""
    for name, child in network.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
            setattr(network, name, FastPool())
        else:
            quicken_pools(child)
