"""Class activation maps: which part of an image spoke for a class."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import nn

from meninx.explain.heatmap import scale_by_peak


def explain(network: nn.Sequential, inputs: torch.Tensor, classes: list[int]) -> np.ndarray:
    """Compute Grad-CAM on the last spatial map.

    Parameters
    ----------
    network
        From normalised images to logits, with the children ``pool`` and ``head`` at its end,
        in evaluation mode.
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
    last_stage = network[-3]
    target = torch.tensor(classes)
    coarse = LayerGradCam(network, last_stage).attribute(
        inputs, target=target, relu_attributions=True
    )
    return scale_by_peak(coarse.detach()[:, 0], inputs.shape[-1])
