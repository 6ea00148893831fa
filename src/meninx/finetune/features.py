"""Features: what a network makes of stored activations, in all views of an image."""

import torch
from torch import nn

from meninx.finetune.activations import Activations
from meninx.finetune.precision import autocast


def compute_features(
    suffix: nn.Module, activations: Activations, views: int, device: torch.device
) -> torch.Tensor:
    """Run a suffix over every image in all its views: ``(n, v, d)`` float32."""
    suffix = suffix.to(device).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode(), autocast(device):
        found = [suffix(_take_views(activations, row, views, device)).float().cpu()
                 for row in range(len(activations))]  # fmt: skip
    suffix.to("cpu")
    return torch.stack(found)


def _take_views(
    activations: Activations, row: int, views: int, device: torch.device
) -> torch.Tensor:
    inputs = activations.batch([row] * views, range(views)).to(device)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
