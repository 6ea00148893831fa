"""Convolutions in the form that runs and trains fastest on a processor.

Three things cost more time than their share of the arithmetic. One is the gradients of depthwise
convolutions, which have ways of their own (:mod:`meninx.finetune.gradients`). Another is a ReLU
behind a convolution, which reads and writes again what was just written; the processor's library
takes it along, and nothing has to be kept of what was there before it. The third are convolutions
of 1 × 1, most of the work there is, which take less time as the products of matrices that they are.
"""

import math
from typing import Any, TypeAlias

import torch
from timm.layers import Conv2dSame, pad_same
from torch import nn
from torch.nn import functional

from meninx.backbones import Backbone
from meninx.finetune.folding import are_near, find_followers
from meninx.finetune.gradients import differentiate_inputs, differentiate_weight

Gradient: TypeAlias = torch.Tensor | None


class FastConvolution(nn.Module):
    """A convolution, and the ReLU behind it if there is one.

    It computes in autocast's kind of number where that is on, else in its weight's.

    Parameters
    ----------
    convolution
        With zeros around its input, if anything; its weight and bias keep their names, and
        whether they are trained.
    largest
        What the ReLU lets through at most: 6, or infinity. None where there is no ReLU.
    """

    def __init__(self, convolution: nn.Conv2d, largest: float | None = None) -> None:
        super().__init__()
        assert not isinstance(convolution.padding, str)
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.stride = convolution.stride
        self.padding = convolution.padding
        self.dilation = convolution.dilation
        self.groups = convolution.groups
        self.pads_to_same = isinstance(convolution, Conv2dSame)
        self.is_depthwise = _is_simple_depthwise(convolution)
        self.is_pointwise = _is_simple_pointwise(convolution)
        self.largest = largest

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve ``(n, c, h, w)``, and activate."""
        inputs, weight, padding = self._pad(inputs)
        is_cast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_cast else self.weight.dtype
        inputs = inputs.to(dtype)
        # In training products take too much memory: see _differentiate_as_products.
        if torch.is_grad_enabled():
            outputs: torch.Tensor = _Convolve.apply(inputs, weight, self.bias, padding, self)
            return outputs
        # With a ReLU behind it, a convolution of float32 takes no more time than the product.
        if self.is_pointwise and (self.largest is None or dtype == torch.bfloat16):
            bias = None if self.bias is None else self.bias.to(dtype)
            return _multiply_pixels(inputs, self.weight.to(dtype), bias, self.largest)
        return self.convolve(inputs, weight, padding)

    def convolve(
        self, inputs: torch.Tensor, weight: torch.Tensor, padding: tuple[int, ...]
    ) -> torch.Tensor:
        """Convolve padded inputs in their kind of number, and activate; not seen by autograd."""
        weight = weight.to(inputs.dtype)
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        if self.is_pointwise and self.largest is None and weight.dtype == torch.float32:
            # 2 to 3 % off a step, with AVX-512 and with AVX2.
            return _multiply_into_new(inputs, weight, bias)
        shape = (padding, self.stride, self.dilation, self.groups)
        if self.largest is None:
            _, stride, dilation, groups = shape
            return functional.conv2d(inputs, weight, bias, stride, padding, dilation, groups)
        # A ReLU is a hardtanh that lets everything above 0 through.
        behind = ("hardtanh", [0, self.largest], "")
        outputs: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, weight, bias, *shape, *behind
        )
        return outputs

    def _pad(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
        """Give inputs and weight, and how many zeros the library puts around the inputs.

        By TensorFlow's rule an odd number of zeros is one more behind than before, which the
        library does not know. A larger copy of the inputs takes up to a tenth of a prefix's time;
        so where nothing is trained a depthwise kernel gets zeros before it instead.
        """
        if not self.pads_to_same:
            return inputs, self.weight, self.padding
        kernel, dilation = list(self.weight.shape[2:]), list(self.dilation)
        zeros = [
            max((math.ceil(side / step) - 1) * step + (own - 1) * apart + 1 - side, 0)
            for side, step, own, apart in zip(
                inputs.shape[2:], self.stride, kernel, dilation, strict=True
            )
        ]
        down, across = (count % 2 for count in zeros)
        if (down or across) and (torch.is_grad_enabled() or not self.is_depthwise):
            return pad_same(inputs, kernel, list(self.stride), dilation), self.weight, (0, 0)
        weight = functional.pad(self.weight, (across, 0, down, 0))
        return inputs, weight, tuple(math.ceil(count / 2) for count in zeros)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        padding: tuple[int, ...],
        layer: FastConvolution,
    ) -> torch.Tensor:
        weight = weight.to(inputs.dtype)
        outputs = layer.convolve(inputs, weight, padding)
        is_needed = context.needs_input_grad[1] or not layer.is_depthwise
        context.save_for_backward(
            weight, inputs if is_needed else None, None if layer.largest is None else outputs
        )
        context.layer, context.padding, context.size = layer, padding, inputs.shape
        return outputs

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        gradient: torch.Tensor,
    ) -> tuple[Gradient, Gradient, Gradient, None, None]:
        layer: FastConvolution = context.layer
        weight, inputs, outputs = context.saved_tensors
        wanted = context.needs_input_grad[:3]
        # Pooling gives its gradient as channels one after the other, which all else waits for.
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        if outputs is not None:
            # What a ReLU gave tells as much as what it was given.
            gradient = torch.ops.aten.hardtanh_backward(gradient, outputs, 0, layer.largest)
        if layer.is_depthwise:
            found = _differentiate_depthwise(gradient, weight, inputs, context, wanted)
        elif layer.is_pointwise and gradient.dtype == torch.float32:
            found = _differentiate_as_products(gradient, weight, inputs, wanted)
        else:
            sizes = None if layer.bias is None else [len(weight)]
            shape = (layer.stride, context.padding, layer.dilation, False, (0, 0), layer.groups)
            found = torch.ops.aten.convolution_backward(
                gradient, inputs, weight, sizes, *shape, wanted
            )
        return (*found, None, None)


def _multiply_pixels(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, largest: float | None
) -> torch.Tensor:
    """Convolve by 1 × 1, which is a product of matrices and takes less time as one."""
    pixels, matrix = inputs.permute(0, 2, 3, 1), weight.flatten(1)
    if largest is None:
        outputs = functional.linear(pixels, matrix, bias)
    else:
        behind = ("hardtanh", [0, largest], "")
        outputs = torch.ops.mkldnn._linear_pointwise(pixels, matrix, bias, *behind)
    return outputs.permute(0, 3, 1, 2)


def _multiply_into_new(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve by 1 × 1 into a tensor that is no view of another: layers behind may change it."""
    count, _, height, width = inputs.shape
    outputs = torch.empty(
        (count, len(weight), height, width),
        dtype=inputs.dtype,
        memory_format=torch.channels_last,
    )
    given = inputs.permute(0, 2, 3, 1).flatten(0, 2)
    pixels = outputs.permute(0, 2, 3, 1).view(-1, len(weight))
    matrix = weight.flatten(1).t()
    if bias is None:
        torch.mm(given, matrix, out=pixels)
    else:
        torch.addmm(bias, given, matrix, out=pixels)
    return outputs


def _differentiate_as_products(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    inputs: torch.Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Gradient, Gradient, Gradient]:
    """Differentiate a 1 × 1 convolution: the gradients of inputs, weight and bias that are wanted.

    In float32 this takes 2 to 4 % off a step where vectors are short (AVX2). In bfloat16 it would
    be a tenth, but the library keeps up to a megabyte for each shape of product: 75 MB a process.
    """
    pixels = gradient.permute(0, 2, 3, 1)
    of_inputs = of_weight = of_bias = None
    if wanted[0]:
        of_inputs = _multiply_pixels(gradient, weight.transpose(0, 1), None, None)
    if wanted[1]:
        seen = inputs.permute(0, 2, 3, 1).flatten(0, 2)
        of_weight = torch.mm(pixels.flatten(0, 2).t(), seen).view(weight.shape)
    if wanted[2]:
        of_bias = pixels.sum((0, 1, 2))
    return of_inputs, of_weight, of_bias


def _differentiate_depthwise(
    gradient: torch.Tensor,
    weight: torch.Tensor,
    inputs: torch.Tensor | None,
    context: Any,  # noqa: ANN401
    wanted: tuple[bool, bool, bool],
) -> tuple[Gradient, Gradient, Gradient]:
    """Give the gradients of the inputs, the weight and the bias, each if it is wanted."""
    stride, padding = context.layer.stride, context.padding
    of_inputs = of_weight = of_bias = None
    if wanted[0]:
        of_inputs = differentiate_inputs(gradient, weight, context.size, stride, padding)
    if wanted[1]:
        assert inputs is not None
        of_weight = differentiate_weight(gradient, weight, inputs, stride, padding)
    if wanted[2]:
        of_bias = gradient.sum((0, 2, 3), dtype=torch.float32)
    return of_inputs, of_weight, of_bias


def quicken_convolutions(network: nn.Module) -> None:
    """Replace a network's depthwise and its 1 × 1 convolutions by fast ones, in place.

    Those with a dilation, or that do not pad with zeros, are left as they are.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d):
            if _is_simple_depthwise(child) or _is_simple_pointwise(child):
                setattr(network, name, FastConvolution(child))
        else:
            quicken_convolutions(child)


def fuse_activations(network: nn.Module, example: torch.Tensor) -> None:
    """Let a network's convolutions do what the ReLUs behind them do, in place.

    Parameters
    ----------
    network
        In evaluation mode. It is left as it is where its layers are not joined as they seem to
        be, or this machine's torch cannot do both together.
    example
        An input ``(n, c, h, w)`` of it: which layer feeds which is found by running it.
    """
    if not torch.backends.mkldnn.is_available():
        return
    pairs, expected = find_followers(network, example, (nn.ReLU, nn.ReLU6))
    replaced: dict[str, nn.Module] = {}
    for name, behind in pairs:
        convolution, activation = network.get_submodule(name), network.get_submodule(behind)
        assert isinstance(convolution, nn.Conv2d)
        if _pads_with_zeros(convolution):
            replaced |= {name: convolution, behind: activation}
            largest = 6.0 if isinstance(activation, nn.ReLU6) else torch.inf
            network.set_submodule(name, FastConvolution(convolution, largest))
            network.set_submodule(behind, nn.Identity())
    with torch.inference_mode():
        given = network(example)
    if not are_near(given, expected):
        # What a convolution gives also goes elsewhere, where it is not activated.
        for name, module in replaced.items():
            network.set_submodule(name, module)


def freeze_depthwise(network: nn.Module) -> None:
    """Keep a network's fast depthwise convolutions as they are when it is trained, in place."""
    for module in network.modules():
        if isinstance(module, FastConvolution) and module.is_depthwise:
            module.requires_grad_(False)


def count_partly_trained(backbone: Backbone, cut: str) -> int:
    """Count the numbers that training a suffix by ``partial`` adjusts, the head apart."""
    suffix = backbone.suffix(cut)
    quicken_convolutions(suffix)
    freeze_depthwise(suffix)
    return sum(one.numel() for one in suffix.parameters() if one.requires_grad)


def _is_simple_depthwise(convolution: nn.Conv2d) -> bool:
    return (
        1 < convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.dilation == (1, 1)
        and _pads_with_zeros(convolution)
    )


def _is_simple_pointwise(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == convolution.stride == (1, 1)
        and convolution.padding == (0, 0)
        and convolution.groups == 1
    )


def _pads_with_zeros(convolution: nn.Conv2d) -> bool:
    """Whether so many zeros are put around the input as it says in numbers."""
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
