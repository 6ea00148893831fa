"""Depth: a step of training leaves out some of the blocks that add to what they are given.

What is left out takes no time, forwards or backwards, and the network learns not to rest on any
one block (Huang et al. 2016, "Deep networks with stochastic depth", where the images of a step
leave out the same blocks, too). Once trained the network is whole. What the other blocks give is
not scaled: pretrained ones are used to all the others, and it made no difference that could be seen
(benchmarks/accuracy_notes.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from meninx.finetune.convolution import FastConvolution

LAYERS = (nn.Conv2d, nn.Linear, FastConvolution)


def find_residual_blocks(network: nn.Module, example: torch.Tensor) -> list[str]:
    """Find blocks that add what they compute to what they are given, by trying it.

    Parameters
    ----------
    network
        In evaluation mode; it is left as it is.
    example
        An input ``(n, c, h, w)`` of it.

    Returns
    -------
    list of str
        The names of those that give back their input when their last layer gives nothing; of
        blocks inside each other the outermost.
    """
    given = _note_inputs(network, example)
    found: list[str] = []
    for name, inputs in given.items():
        is_inside = any(name.startswith(f"{other}.") for other in found)
        if not is_inside and _gives_back(network.get_submodule(name), inputs):
            found.append(name)
    return found


def _note_inputs(network: nn.Module, example: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a network, and note what each block is given that gives as much; outer ones first."""
    blocks = {
        name: module
        for name, module in network.named_modules()
        if name and any(True for _ in module.children())
    }
    noted: dict[str, torch.Tensor] = {}

    def note(name: str, given: tuple[object, ...], output: object) -> None:
        match given, output:
            case (torch.Tensor() as inputs,), torch.Tensor() if inputs.shape == output.shape:
                noted[name] = inputs.clone()

    hooks = [
        module.register_forward_hook(lambda _, given, output, name=name: note(name, given, output))
        for name, module in blocks.items()
    ]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: noted[name] for name in blocks if name in noted}


def _gives_back(block: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether a block gives what it is given where its last layer gives zeros."""
    layers = [module for module in block.modules() if isinstance(module, LAYERS)]
    if not layers or not inputs.any():
        return False
    hook = layers[-1].register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    try:
        with torch.inference_mode():
            return torch.equal(block(inputs.clone()), inputs)
    finally:
        hook.remove()


def draw_left_out(
    blocks: Sequence[str], steps: int, share: float, seed: int
) -> list[tuple[str, ...]]:
    """Draw which blocks each step leaves out: as many in each step, and each as often.

    Parameters
    ----------
    blocks
        To choose from.
    steps
        How many there are.
    share
        Of the blocks that a step leaves out, 0 to 1; rounded to whole blocks.
    seed
        Decides which.
    """
    random = np.random.default_rng((seed, len(blocks)))
    count, often = round(share * len(blocks)), np.zeros(len(blocks), dtype=int)
    drawn = []
    for _ in range(steps):
        # Those that were left out least often so far; among equals by chance.
        rows = np.lexsort((random.random(len(blocks)), often))[:count]
        often[rows] += 1
        drawn.append(tuple(blocks[row] for row in sorted(rows)))
    return drawn


@contextmanager
def leave_out(network: nn.Module, blocks: Sequence[str]) -> Iterator[None]:
    """Let a network's blocks hand on what they are given, for as long as this lasts."""
    own = {name: network.get_submodule(name) for name in blocks}
    for name in own:
        network.set_submodule(name, nn.Identity())
    try:
        yield
    finally:
        for name, block in own.items():
            network.set_submodule(name, block)
