"""What every method gives: one heatmap an image, on one scale."""

from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class HeatmapMethod(Protocol):
    """Computes heatmaps ``(n, s, s)`` in [0, 1] for a class of each image."""

    def __call__(
        self, network: nn.Sequential, inputs: torch.Tensor, classes: list[int]
    ) -> np.ndarray:
        """See :func:`meninx.explain.explain`."""


def scale_by_peak(evidence: torch.Tensor, side: int) -> np.ndarray:
    """Bring evidence ``(n, h, w)`` to heatmaps ``(n, side, side)`` whose strongest place is 1.

    Evidence against the class counts as none; an image without any stays 0.
    """
    shape = (side, side)
    maps = functional.interpolate(evidence[:, None], shape, mode="bilinear")[:, 0].clamp(min=0)
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    scaled: np.ndarray = (maps / torch.where(peaks > 0, peaks, 1)).numpy()
    return scaled
