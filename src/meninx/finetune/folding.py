"""Folding: a frozen network without its BatchNorm layers, which gives the same in less time."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Rounding differs, nothing else may; of the largest output.
TOLERANCE = 1e-4


def fold_batch_norm(network: nn.Module, side: int) -> nn.Module:
    """Copy a network in evaluation mode, its BatchNorm folded into the convolutions before it.

    Parameters
    ----------
    network
        From images ``(n, 3, side, side)``; it is left as it is.
    side
        Of the images that try whether the copy gives the same, pixels.

    Returns
    -------
    nn.Module
        The folded copy; where a layer's neighbours in the list of layers turn out not to be its
        neighbours in the computation, a copy as it was.
    """
    folded = copy.deepcopy(network).eval()
    for parent in list(folded.modules()):
        for (first, convolution), (second, norm) in pairwise(list(parent.named_children())):
            if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if norm.num_features == convolution.out_channels:
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                # timm's layer holds the activation that follows, too.
                setattr(parent, second, getattr(norm, "act", None) or nn.Identity())
    probe = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, given = network.eval()(probe), folded(probe)
    is_same = (given - expected).abs().max() <= TOLERANCE * expected.abs().max()
    return folded if is_same else copy.deepcopy(network).eval()
