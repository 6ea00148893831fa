"""Arithmetic: where and in what kind of number a network is fastest, and if it is exact enough.

bfloat16 keeps 8 significant bits. Where the processor multiplies it faster than float32 it halves
memory and doubles speed; elsewhere it would be slower. Frozen prefixes run on a graphics
card where CUDA finds one; suffixes train on the processor, many at a time.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Image, Images, as_pixels
from meninx.finetune.convolution import fuse_activations, quicken_convolutions
from meninx.finetune.folding import FoldedNetwork
from meninx.finetune.heads import solve_linear_head
from meninx.finetune.views import View
from meninx.memory import give_memory_back

# How far a class probability may move before bfloat16 is refused.
LARGEST_MOVE = 0.01
# Enough images to see it: the features of each are rounded on their own.
IMAGES_TO_CHECK = 6
# The first layers see the image itself, whose fine steps bfloat16 rounds off; they are kept in
# float32 where that is what moves the probabilities.
FAST_FROM = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5")
EXACT = "float32"

# Of the square that shows which layer feeds which; any CNN has maps of some pixels left of it.
SIDE_TO_TRY = 128

# Views of an image that run through the network at a time: what the largest maps of so many
# take still fits into the processor's caches, more or less.
PART = 4


def find_fast_dtype() -> torch.dtype:
    """Give the kind of number that this processor computes networks fastest in.

    By what it is, not by a measurement, which would give one result now and another tomorrow.
    Multiplying bfloat16 in vectors (``avx512_bf16``) is twice as fast as float32 on AMD's
    processors. On Intel's it took 1.1 to 2.5 times as long, and training 1.35 times (Xeon, family
    6, model 207, without AMX); there only the matrix unit (``amx_bf16``) is faster.
    """
    processor = torch.cpu.get_capabilities()
    is_amd = processor.get("sse4a")  # instructions that no other maker's processors have
    is_faster = processor.get("amx_bf16") or (processor.get("avx512_bf16") and is_amd)
    return torch.bfloat16 if is_faster else torch.float32


def find_device() -> torch.device:
    """Give the device that frozen prefixes run on: the first CUDA one, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_prefix_dtype() -> torch.dtype:
    """Give the kind of number that the device of the prefixes computes fastest in."""
    if find_device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return find_fast_dtype()


def choose_precision(
    backbone: Backbone, images: Images, labels: Sequence[object], views: tuple[View, ...]
) -> str:
    """Choose in which precision a backbone's activations of these images are computed.

    Parameters
    ----------
    backbone
        Pretrained.
    images, labels
        Of the cohort; the first of each class are looked at.
    views
        What each is seen in.

    Returns
    -------
    str
        ``bfloat16-from-`` and the first stage computed in it, the earliest with which the
        probabilities that a linear head gives to the images move by less than 0.01;
        ``float32`` where none does, or the device has no bfloat16.
    """
    if find_prefix_dtype() is torch.float32:
        return EXACT
    _, targets = np.unique(np.asarray(labels), return_inverse=True)
    rows = _take_evenly(targets)
    inputs = [look(backbone, images[row], views) for row in rows]
    exact = make_fast_form(backbone, EXACT)
    expected = [_compute_features(exact, "stem", one) for one in inputs]
    head = solve_linear_head(torch.stack(expected).numpy(), targets[rows], 1.0)
    stages = [stage for stage in FAST_FROM if stage in backbone.cuts]
    # What will most often be used, so it is not made twice.
    fast = bring_into_fast_form(backbone, f"bfloat16-from-{stages[0]}")
    for stage, following in zip(stages, [*stages[1:], "head"], strict=True):
        # One image that moves too far is enough to know.
        moves = (
            _measure_move(head, features, _compute_features(fast, stage, one))
            for features, one in zip(expected, inputs, strict=True)
        )
        if all(move < LARGEST_MOVE for move in moves):
            return f"bfloat16-from-{stage}"
        # The next trial goes on from what the exact network makes of the images before it.
        inputs = [_run_between(exact, stage, following, one) for one in inputs]
    return EXACT


def _compute_features(
    network: nn.Sequential, start: str, activations: torch.Tensor
) -> torch.Tensor:
    """Compute the features ``(v, d)`` of an image in v views, from a stage on."""
    return _run_between(network, start, "head", activations).float()


def _run_between(
    network: nn.Sequential, start: str, cut: str, activations: torch.Tensor
) -> torch.Tensor:
    """Run a backbone in its fast form from one cut to another."""
    ((_, found),) = run_prefix(network, start, [cut], activations)
    return found


def _measure_move(head: nn.Module, expected: torch.Tensor, given: torch.Tensor) -> float:
    """Measure how far other features ``(v, d)`` of an image move its probabilities at most."""
    with torch.inference_mode():
        first, second = (head(one).mean(dim=0).softmax(dim=0) for one in (expected, given))
        return float((first - second).abs().max())


def look(backbone: Backbone, image: Image, views: tuple[View, ...]) -> torch.Tensor:
    """Make the network's input ``(v, 3, s, s)`` of an image in all its views."""
    square = take_channels_once(backbone.to_square([as_pixels(image)]))
    seen = torch.cat([view.apply(square) for view in views])
    return backbone.normalise(seen)


def take_channels_once(squares: torch.Tensor) -> torch.Tensor:
    """Take one channel ``(n, 1, s, s)`` of squares ``(n, 3, s, s)`` where all three are equal."""
    is_grey = bool((squares == squares[:, :1]).all())
    return squares[:, : 1 if is_grey else 3]


# Of the three packaged backbones, each in its precision.
@lru_cache(maxsize=3)
def bring_into_fast_form(backbone: Backbone, precision: str) -> nn.Sequential:
    """Bring a whole backbone into the form that runs fastest, once a process.

    Parameters
    ----------
    backbone
        Left as it is.
    precision
        As :func:`choose_precision` gives it.
    """
    return make_fast_form(backbone, precision)


def make_fast_form(backbone: Backbone, precision: str) -> nn.Sequential:
    """Make a copy of a backbone in the form that runs fastest; see above.

    The exact one, of which the others are copies, is made once and only to be read.
    """
    quick = _quicken_backbone(backbone)
    if precision == EXACT:
        return quick
    network, is_fast = copy.deepcopy(quick), False
    for name, child in network.named_children():
        is_fast = is_fast or precision == f"bfloat16-from-{name}"
        child.to(dtype=torch.bfloat16 if is_fast else torch.float32)
    return network


# Whatever precision it is wanted in, mostly in two one after the other.
@lru_cache(maxsize=1)
def _quicken_backbone(backbone: Backbone) -> nn.Sequential:
    return quicken(backbone.network, backbone.input_size, find_device())


def forget_fast_forms() -> None:
    """Give back the memory of all fast forms that this process has made."""
    bring_into_fast_form.cache_clear()
    _quicken_backbone.cache_clear()
    # A process that others were forked from would else be left alone with their pages.
    give_memory_back()


def quicken(network: nn.Module, side: int, device: torch.device) -> nn.Sequential:
    """Make a copy of a network that gives the same, rounding apart, in less time.

    Parameters
    ----------
    network
        Of named stages, one after the other, from images ``(n, 3, s, s)``; it is left as it is.
    side
        Of the images, in pixels.
    device
        Where the copy will run.
    """
    side = min(side, SIDE_TO_TRY)
    example = torch.zeros(1, 3, side, side)
    quick = FoldedNetwork.fold(network, example).network
    if device.type == "cpu":
        fuse_activations(quick, example)
        quicken_convolutions(quick)
    assert isinstance(quick, nn.Sequential)
    return quick.to(device).to(memory_format=torch.channels_last)


def run_in_parts(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Run a network of :func:`quicken` on ``(n, 3, s, s)``, some of them at a time."""
    parts = inputs.contiguous(memory_format=torch.channels_last).split(PART)
    return torch.cat([network(part) for part in parts])


def run_prefix(
    network: nn.Sequential, start: str, cuts: Sequence[str], inputs: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """Run a backbone in its fast form from one cut on, stopping at others.

    Parameters
    ----------
    network
        Of :func:`bring_into_fast_form`.
    start
        The cut that the inputs are at; ``stem`` for images.
    cuts
        Where to stop, in order.
    inputs
        One image in all its views: they are the batch, so that an image's activations do not
        depend, not even in the last bit, on which other images a cohort has.

    Yields
    ------
    str, torch.Tensor
        Each cut and its activations, in the processor's memory.
    """
    layers = [*network.named_children(), ("head", nn.Identity())]
    names = [name for name, _ in layers]
    runs = [_run_layers(layers[names.index(start) :], cuts, part) for part in inputs.split(PART)]
    for stops in zip(*runs, strict=True):
        yield stops[0][0], torch.cat([activations for _, activations in stops])


def _run_layers(
    layers: Sequence[tuple[str, nn.Module]], cuts: Sequence[str], inputs: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """Run named layers one after the other, stopping before those that are cuts."""
    x = inputs.to(find_device())
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for name, layer in layers:
        if name in cuts:
            yield name, x.clone(memory_format=torch.contiguous_format).cpu()
        if name == cuts[-1]:
            break
        weight = next(layer.parameters(), x)
        # Not around the whole: what runs between two stops, another part also, is not inside.
        with torch.inference_mode():
            x = layer(x.to(weight.dtype))


def _take_evenly(targets: np.ndarray) -> np.ndarray:
    """Take the first images of each class, ``(m,)`` rows."""
    classes = np.unique(targets)
    each = max(IMAGES_TO_CHECK // len(classes), 2)
    return np.concatenate([np.flatnonzero(targets == one)[:each] for one in classes])
