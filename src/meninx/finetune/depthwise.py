"""Depthwise convolutions that are not trained, with a gradient that costs what they cost.

In networks made for small devices the depthwise convolutions hold few of the weights, yet most
of the time of a step goes into them: processor libraries compute the gradient of their weights
by a slow path, and that of the input along with it. Kept as pretrained they need the gradient
of the input only, which is again a depthwise convolution, with the kernel turned round.
"""

from typing import Any

import torch
from timm.layers import Conv2dSame, pad_same
from torch import nn
from torch.nn import functional

from meninx.backbones import Backbone
from meninx.finetune.arithmetic import find_fast_dtype
from meninx.finetune.folding import FoldedNetwork


class FrozenDepthwise(nn.Module):
    """A depthwise convolution that passes gradients on and takes none.

    Parameters
    ----------
    convolution
        Depthwise, without dilation; its weight and bias keep their names.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach(), requires_grad=False)
        self.bias = None
        if convolution.bias is not None:
            self.bias = nn.Parameter(convolution.bias.detach(), requires_grad=False)
        self.stride = convolution.stride
        self.padding = convolution.padding
        self.pads_to_same = isinstance(convolution, Conv2dSame)
        dtype = find_fast_dtype()
        kernel = self.weight.detach().to(dtype)
        self.kernel = kernel
        self.turned = kernel.flip(2, 3).contiguous()
        self.shift = None if self.bias is None else self.bias.detach().to(dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve ``(n, c, h, w)`` in the fast kind of number, and give back the input's."""
        if self.pads_to_same:
            inputs = pad_same(inputs, list(self.weight.shape[2:]), list(self.stride))
        with torch.autocast("cpu", enabled=False):
            outputs: torch.Tensor = _FrozenConvolution.apply(
                inputs.to(self.kernel.dtype),
                self.kernel,
                self.turned,
                self.shift,
                self.stride,
                self.padding,
            )
        return outputs.to(inputs.dtype)


class _FrozenConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401
        inputs: torch.Tensor,
        kernel: torch.Tensor,
        turned: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        context.save_for_backward(turned)
        context.stride, context.padding, context.size = stride, padding, inputs.shape
        return functional.conv2d(inputs, kernel, bias, stride, padding, 1, len(kernel))

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        gradient: torch.Tensor,
    ) -> tuple[torch.Tensor | None, ...]:
        (turned,) = context.saved_tensors
        kernel, padding = turned.shape[2:], context.padding
        if context.stride != (1, 1):
            gradient = _spread(gradient, context.size, kernel, context.stride, padding)
        around = [side - 1 - pad for side, pad in zip(kernel, padding, strict=True)]
        passed = functional.conv2d(gradient, turned, None, 1, around, 1, len(turned))
        return passed, None, None, None, None, None


def _spread(
    gradient: torch.Tensor,
    size: torch.Size,
    kernel: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Put a strided convolution's gradient where it would be without strides, zeros between."""
    sides = [size[2 + axis] + 2 * padding[axis] - kernel[axis] + 1 for axis in range(len(kernel))]
    spread = torch.zeros((*gradient.shape[:2], *sides), dtype=gradient.dtype).contiguous(
        memory_format=torch.channels_last
    )
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    return spread


def fold_for_training(suffix: nn.Module, example: torch.Tensor) -> FoldedNetwork:
    """Copy a suffix in the form that trains fastest.

    Parameters
    ----------
    suffix
        Pretrained.
    example
        An input ``(n, c, h, w)`` of it.

    Returns
    -------
    FoldedNetwork
        Its BatchNorm layers are folded, its depthwise convolutions frozen.
    """
    folded = FoldedNetwork.fold(suffix, example)
    freeze_depthwise(folded.network)
    return folded


def count_partly_trained(backbone: Backbone, cut: str) -> int:
    """Count the numbers that training a suffix in that form adjusts, the head apart."""
    suffix = backbone.suffix(cut)
    freeze_depthwise(suffix)
    return sum(one.numel() for one in suffix.parameters() if one.requires_grad)


def freeze_depthwise(network: nn.Module) -> None:
    """Replace a network's depthwise convolutions by frozen ones, in place.

    Those with a dilation, or that do not pad with zeros, are left as they are.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d) and _is_simple_depthwise(child):
            setattr(network, name, FrozenDepthwise(child))
        else:
            freeze_depthwise(child)


def _is_simple_depthwise(convolution: nn.Conv2d) -> bool:
    return (
        1 < convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )
