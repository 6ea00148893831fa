"""Folding: BatchNorm layers with fixed statistics become part of the convolutions before them.

A BatchNorm layer whose statistics no longer change is a product and a sum for each channel, and
so is what a convolution ends with: folding one into the other gives the same function with half
the passes over memory (Jacob et al. 2018, section 3.2).
"""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

# Larger differences than rounding mean that the layers are not joined as they seem to be.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """A copy of a network, with its BatchNorm layers folded into the convolutions before them.

    Attributes
    ----------
    network
        The copy. A folded BatchNorm layer is an identity in it, or just its
        activation function where timm joins the two; its convolution has a bias.
    pairs
        The names of each convolution and its BatchNorm layer.
    """

    network: nn.Module
    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def fold(cls, network: nn.Module, example: torch.Tensor) -> Self:
        """Fold what can be folded; BatchNorm layers that follow no convolution stay.

        Parameters
        ----------
        network
            Any; it is left as it is.
        example
            An input ``(n, c, h, w)`` of it: which layer feeds which is found by running it.
        """
        folded = copy.deepcopy(network).eval()
        found, expected = find_followers(folded, example, (nn.BatchNorm2d,))
        pairs = [
            (convolution, norm)
            for convolution, norm in found
            if _has_statistics(folded.get_submodule(norm))
        ]
        for convolution, norm in pairs:
            _fold_pair(folded, convolution, norm)
        with torch.inference_mode():
            given = folded(example)
        if not are_near(given, expected):
            # A convolution whose output also goes elsewhere, say: nothing is folded then.
            return cls(copy.deepcopy(network).eval(), ())
        return cls(folded, tuple(pairs))

    def write_back(self, original: nn.Module) -> None:
        """Give the weights to the network that was folded, in place.

        Its layers keep their names and shapes, so that it can still be saved and read as what
        it is; a BatchNorm layer that was folded adds its bias and does nothing else.
        """
        weights = self.network.state_dict()
        norms: dict[str, torch.Tensor] = {}
        for convolution, norm in self.pairs:
            bias = weights.pop(f"{convolution}.bias")
            layer = original.get_submodule(norm)
            assert isinstance(layer, nn.BatchNorm2d)
            norms |= {
                f"{norm}.weight": torch.ones_like(bias),
                f"{norm}.bias": bias,
                f"{norm}.running_mean": torch.zeros_like(bias),
                f"{norm}.running_var": torch.full_like(bias, 1 - layer.eps),
            }
            if original.get_submodule(convolution).bias is not None:
                norms[f"{convolution}.bias"] = torch.zeros_like(bias)
        # Counters of batches seen are the only tensors that folding dropped.
        original.load_state_dict({**original.state_dict(), **weights, **norms})


def are_near(given: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two outputs of networks that should be the same differ by no more than rounding."""
    return bool((given - expected).abs().max() <= TOLERANCE * expected.abs().max())


def find_followers(
    network: nn.Module, example: torch.Tensor, kinds: tuple[type[nn.Module], ...]
) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """Run a network, and find the layers whose input is what a convolution gave.

    Parameters
    ----------
    network
        Any; it is left as it is.
    example
        An input ``(n, c, h, w)`` of it.
    kinds
        Of the layers that are looked for.

    Returns
    -------
    list of (str, str)
        The names of a convolution and the layer behind it, where each works only once.
    torch.Tensor
        What the network gave.
    """
    # With how often each was changed in place: what is added to it comes between the two layers.
    made: list[tuple[torch.Tensor, int, str]] = []
    pairs: list[tuple[str, str]] = []
    calls: Counter[str] = Counter()
    hooks = []

    def note_made(name: str, output: torch.Tensor) -> None:
        calls[name] += 1
        made.append((output, output._version, name))

    def note_fed(name: str, given: torch.Tensor) -> None:
        calls[name] += 1
        pairs.extend(
            (source, name)
            for output, version, source in made
            if output is given and output._version == version
        )

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(lambda _, __, output, n=name: note_made(n, output))
            )
        elif isinstance(module, kinds):
            hooks.append(
                module.register_forward_pre_hook(lambda _, given, n=name: note_fed(n, given[0]))
            )
    try:
        # Inference mode does not count changes.
        with torch.inference_mode(False), torch.no_grad():
            given: torch.Tensor = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(calls[name] == 1 for name in pair)], given


def _has_statistics(norm: nn.Module) -> bool:
    return isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and norm.affine


def _fold_pair(network: nn.Module, convolution_name: str, norm_name: str) -> None:
    convolution, norm = network.get_submodule(convolution_name), network.get_submodule(norm_name)
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = norm.bias - factor * norm.running_mean
        if convolution.bias is not None:
            bias += factor * convolution.bias
        convolution.weight.mul_(factor[:, None, None, None])
    convolution.bias = nn.Parameter(bias, requires_grad=convolution.weight.requires_grad)
    parent, _, own = norm_name.rpartition(".")
    setattr(network.get_submodule(parent), own, getattr(norm, "act", None) or nn.Identity())
