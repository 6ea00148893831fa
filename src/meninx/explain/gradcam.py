"""Class activation maps: which part of an image spoke for a class."""

import numpy as np
import torch
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
    # Not before it is needed: it takes half a second.
    from captum.attr import LayerGradCam

    maps, rest = _run_to_stage(network, inputs)
    coarse = LayerGradCam(rest, rest[0]).attribute(
        maps, target=torch.tensor(classes), relu_attributions=True
    )
    return scale_by_peak(coarse.detach()[:, 0], inputs.shape[-1])


def _run_to_stage(
    network: nn.Sequential, inputs: torch.Tensor
) -> tuple[torch.Tensor, nn.Sequential]:
    """Run images as far as the last child whose map is fine enough.

    Only what comes after it needs gradients, and so keeps what it has computed.

    Returns
    -------
    torch.Tensor, nn.Sequential
        That child's maps ``(n, c, h, w)``, and the rest of the network behind an identity.
    """
    maps, position = inputs, -1
    with torch.no_grad():
        for index, child in enumerate(network[:-2]):
            finer = child(maps)
            if finer.ndim != 4 or finer.shape[-1] < CELLS:
                break
            maps, position = finer, index
        if position < 0:
            maps, position = network[:-2](inputs), len(network) - 3
    return maps, nn.Sequential(nn.Identity(), *network[position + 1 :])
