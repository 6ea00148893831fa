"""Prediction: what a suffix and a head make of stored activations, in all views of an image."""

import torch
from torch import nn

from meninx.finetune.activations import Activations
from meninx.finetune.arithmetic import find_fast_dtype

PREDICTION_BATCH = 4


def compute_features(suffix: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Run a suffix in the fastest arithmetic that this processor has.

    Parameters
    ----------
    suffix
        From activations to features.
    inputs
        ``(n, c, h, w)``, or ``(n, d)`` where the suffix is the identity.

    Returns
    -------
    torch.Tensor
        ``(n, d)`` float32.
    """
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    # Elsewhere than where it is native bfloat16 would be slower.
    with torch.autocast("cpu", torch.bfloat16, enabled=find_fast_dtype() is torch.bfloat16):
        features: torch.Tensor = suffix(inputs)
    return features.float()


def compute_all_features(suffix: nn.Module, activations: Activations, views: int) -> torch.Tensor:
    """Run the suffix over every image and view: ``(n, v, d)`` float32."""
    pairs = [(row, view) for row in range(len(activations)) for view in range(views)]
    found = torch.empty(0)
    for start in range(0, len(pairs), PREDICTION_BATCH):
        rows, seen = zip(*pairs[start : start + PREDICTION_BATCH], strict=True)
        with torch.inference_mode():
            features = compute_features(suffix, activations.batch(rows, seen))
        if not start:
            # Put together at the end, those of thousands of images would be there twice.
            found = torch.empty(len(pairs), features.shape[1])
        found[start : start + len(features)] = features
    return found.unflatten(0, (len(activations), views))


def average_logits(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Give logits ``(n, k)``, float64, of features ``(n, v, d)``: the mean over the views."""
    with torch.inference_mode():
        logits: torch.Tensor = head(features).mean(dim=1).double()
    return logits
