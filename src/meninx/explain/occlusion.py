"""Occlusion: what the network makes of an image when a part of it is hidden."""

import numpy as np
import torch
from torch import nn

from meninx.explain.heatmap import scale_by_peak

# Hidden squares along a side, each half over its neighbour: as coarse as a class activation
# map, and 169 passes an image.
SQUARES = 7
BATCH = 16


def occlude(network: nn.Sequential, inputs: torch.Tensor, classes: list[int]) -> np.ndarray:
    """Compute how much a class's logit falls when a square of the image is black.

    Unlike :func:`meninx.explain.explain` it looks at nothing inside the network, and takes a
    hundred times as long.

    Parameters
    ----------
    network
        From normalised images to logits, in evaluation mode.
    inputs
        ``(n, 3, s, s)``.
    classes
        For each image, the index of the class to explain.

    Returns
    -------
    np.ndarray
        ``(n, s, s)`` in [0, 1]; 1 is where hiding costs the class most, all 0 means that
        hiding no place costs it anything.

    References
    ----------
    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV;
    computed by captum.
    """
    # Not before it is needed: it takes half a second.
    from captum.attr import Occlusion

    side = inputs.shape[-1]
    window = max(side // SQUARES, 2)
    occlusion = Occlusion(network)
    maps = []
    with torch.inference_mode():
        for image, label in zip(inputs.split(1), classes, strict=True):
            # Black, whatever the normalisation: no image is darker than its background.
            black = image.amin(dim=(2, 3), keepdim=True).expand_as(image)
            evidence = occlusion.attribute(
                image,
                sliding_window_shapes=(3, window, window),
                strides=(3, window // 2, window // 2),
                baselines=black,
                target=int(label),
                perturbations_per_eval=BATCH,
            )
            maps.append(evidence.mean(dim=1).float())
    return scale_by_peak(torch.cat(maps), side)
