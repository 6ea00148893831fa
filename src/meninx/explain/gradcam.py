"""Class activation maps: which part of an image spoke for a class."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import nn

from meninx.explain.heatmap import scale_by_peak

# Along a side, fewest cells of the map that is explained: the last map of a CNN has half as many,
# each as wide as a seventh of the image, and thin lesions are lost in it (docs/explanations.md).
CELLS = 14


def explain(network: nn.Sequential, inputs: torch.Tensor, classes: list[int]) -> np.ndarray:
    """Compute Grad-CAM on the last map that has at least 14 cells along a side.

    Parameters
    ----------
    network
        From normalised images to logits, with the children ``pool`` and ``head`` at its end,
        in evaluation mode. Where no child gives so fine a map, the last one before ``pool``.
    inputs
        ``(n, 3, s, s)``.
    classes
        For each image, the index of the class to explain.

    Returns
    -------
    np.ndarray
        ``(n, s, s)`` in [0, 1]; 1 is the strongest place of an image, all 0 means that no
        place spoke for the class.

    References
    ----------
    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", ICCV; computed by captum.
    """
    target = torch.tensor(classes)
    coarse = LayerGradCam(network, _find_stage(network, inputs[:1])).attribute(
        inputs, target=target, relu_attributions=True
    )
    return scale_by_peak(coarse.detach()[:, 0], inputs.shape[-1])


def _find_stage(network: nn.Sequential, inputs: torch.Tensor) -> nn.Module:
    """Find the last child whose map is fine enough, from an image ``(1, 3, s, s)``."""
    found = network[-3]
    with torch.inference_mode():
        x = inputs
        for child in network:
            x = child(x)
            if x.ndim != 4 or x.shape[-1] < CELLS:
                break
            found = child
    return found
