"""Arithmetic: in which kind of number this processor is fastest, and whether that is exact enough.

bfloat16 keeps 8 significant bits. Where the processor multiplies it natively it halves memory
and doubles speed; elsewhere it would be slower than float32.
"""

from collections.abc import Sequence

import numpy as np
import torch

from meninx.backbones import Backbone
from meninx.cohort import Images, as_pixels
from meninx.finetune.folding import FoldedNetwork
from meninx.finetune.heads import solve_linear_head

# How far a class probability may move before bfloat16 is refused.
LARGEST_MOVE = 0.01
# Enough images to see it: the features of each are rounded on their own.
IMAGES_TO_CHECK = 20


def find_fast_dtype() -> torch.dtype:
    """Give the kind of number that this processor computes networks fastest in."""
    processor = torch.cpu.get_capabilities()
    is_native = processor.get("avx512_bf16") or processor.get("amx_bf16")
    return torch.bfloat16 if is_native else torch.float32


def choose_precision(backbone: Backbone, images: Images, labels: Sequence[object]) -> str:
    """Choose in which precision a backbone's activations of these images are computed.

    Parameters
    ----------
    backbone
        Pretrained.
    images, labels
        Of the cohort; some images of each class are looked at, in order.

    Returns
    -------
    str
        ``bfloat16`` where the processor has it and the probabilities that a linear head gives
        to the images move by less than 0.01 when it is used; else ``float32``.
    """
    dtype = find_fast_dtype()
    if dtype is torch.float32:
        return "float32"
    _, targets = np.unique(np.asarray(labels), return_inverse=True)
    rows = _take_evenly(targets)
    features = {
        kind: _compute_features(backbone, [images[row] for row in rows], kind)
        for kind in (torch.float32, dtype)
    }
    head = solve_linear_head(features[torch.float32].numpy()[:, None], targets[rows], 1.0)
    with torch.inference_mode():
        exact, fast = (head(features[kind]).softmax(dim=1) for kind in (torch.float32, dtype))
    return "bfloat16" if (exact - fast).abs().max() < LARGEST_MOVE else "float32"


def _take_evenly(targets: np.ndarray) -> np.ndarray:
    """Take the first images of each class, ``(m,)`` rows."""
    classes = np.unique(targets)
    each = max(IMAGES_TO_CHECK // len(classes), 2)
    return np.concatenate([np.flatnonzero(targets == one)[:each] for one in classes])


def _compute_features(backbone: Backbone, images: Images, dtype: torch.dtype) -> torch.Tensor:
    inputs = backbone.prepare([as_pixels(image) for image in images])
    network = FoldedNetwork.fold(backbone.network, inputs[:1]).network.to(dtype)
    with torch.inference_mode():
        inputs = inputs.to(dtype, memory_format=torch.channels_last)
        features: torch.Tensor = network(inputs).float()
    return features
