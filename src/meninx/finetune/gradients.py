"""Gradients of depthwise convolutions that cost what they cost.

Processor libraries compute most of them by slow paths. The gradient of the input is again a
depthwise convolution, with the kernel turned round. That of the weights has a fast path for kernels
of 3 x 3; one of 5 x 5 is four of those, side by side. Measured with torch 2.14 on AVX-512 BF16:
three to ten times as fast.
"""

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_weight

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
            return _differentiate_inputs_by_library(gradient, weight, size, stride, padding)
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
    if max(weight.shape[2:]) <= FAST_SIDE and weight.dtype == torch.float32:
        # Nothing is to be copied, which takes half the time.
        return conv2d_weight(inputs, weight.shape, gradient, stride, padding, 1, len(weight))
    down, across = padding
    padded = functional.pad(inputs, (across, across, down, down)) if any(padding) else inputs
    found = torch.empty_like(weight)
    for top in _list_offsets(weight.shape[2]):
        for left in _list_offsets(weight.shape[3]):
            piece = weight[:, :, top : top + FAST_SIDE, left : left + FAST_SIDE]
            rows = (gradient.shape[2] - 1) * stride[0] + piece.shape[2]
            columns = (gradient.shape[3] - 1) * stride[1] + piece.shape[3]
            seen = padded[:, :, top : top + rows, left : left + columns]
            seen = seen.contiguous(memory_format=torch.channels_last)
            found[:, :, top : top + FAST_SIDE, left : left + FAST_SIDE] = conv2d_weight(
                seen, piece.shape, gradient, stride, 0, 1, len(weight)
            )
    return found


def _differentiate_inputs_by_library(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    size: torch.Size,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> torch.Tensor:
    """Pass a gradient on as the library does it: half the time with AVX-512, a third with AVX2.

    ``torch.nn.grad.conv2d_input`` lays the channels one after the other, which takes four times
    as long; so the library is shown inputs that are laid as all else is, and holds no numbers.
    """
    inputs = torch.empty(size, memory_format=torch.channels_last)
    own = ((1, 1), False, (0, 0), len(weight), (True, False, False))
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, stride, padding, *own
    )
    return found[0]


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
