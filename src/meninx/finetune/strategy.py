"""The four ways to use a pretrained network, and what each of them trains."""

from enum import StrEnum

from torch import nn

from meninx.backbones import Backbone


class Strategy(StrEnum):
    """What of a pretrained network is trained (after Marcelino 2018).

    Attributes
    ----------
    FULL
        Strategy 1: train the entire network, starting from the pretrained weights.
    PARTIAL
        Strategy 2: freeze the layers before a cut, train the others and the head.
    FROZEN
        Strategy 3: freeze the convolutional base, train only the classifier.
    SCRATCH
        The baseline: the same network with random weights, all of it trained.
    """

    FULL = "full"
    PARTIAL = "partial"
    FROZEN = "frozen"
    SCRATCH = "scratch"


def copy_suffix(backbone: Backbone, cut: str, strategy: Strategy) -> nn.Module:
    """Copy what lies behind a cut, with gradients where the strategy trains it.

    ``partial`` leaves depthwise convolutions as they are: few images say little about them, and a
    step is a third shorter without.
    """
    suffix = backbone.suffix(cut)
    if strategy is Strategy.PARTIAL:
        for layer in suffix.modules():
            if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels:
                layer.requires_grad_(False)
    return suffix


def count_trained(backbone: Backbone, cut: str, strategy: Strategy) -> int:
    """Count the parameters that gradient descent fits behind a cut, head apart."""
    suffix = copy_suffix(backbone, cut, strategy)
    return sum(one.numel() for one in suffix.parameters() if one.requires_grad)
