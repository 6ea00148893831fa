"""Folding: BatchNorm layers with fixed statistics become part of the convolutions before them.

A BatchNorm layer whose statistics no longer change is a product and a sum for each channel, and
so is what a convolution ends with: folding one into the other gives the same function with half
the passes over memory (Jacob et al. 2018, section 3.2).
"""

import copy
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
        with torch.inference_mode():
            expected = folded(example)
            pairs = _find_pairs(folded, example)
        for convolution, norm in pairs:
            _fold_pair(folded, convolution, norm)
        with torch.inference_mode():
            difference = (folded(example) - expected).abs().max()
        if difference > TOLERANCE * expected.abs().max():
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


def _find_pairs(network: nn.Module, example: torch.Tensor) -> list[tuple[str, str]]:
    """Run a network and list the BatchNorm layers whose input is a convolution's output."""
    made: list[tuple[torch.Tensor, str]] = []
    pairs: list[tuple[str, str]] = []
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(lambda _, __, output: made.append((output, name)))
            )
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, inputs: pairs.extend(
                        (source, name) for output, source in made if output is inputs[0]
                    )
                )
            )

    for name, module in network.named_modules():
        watch(name, module)
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


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
