"""(b) Plain PyTorch: the head for 20 epochs on a frozen base, then the last stage for 10."""

from pathlib import Path

import numpy as np
import torch
from benchmarks.speed.competitor import Stopwatch, fold_by_fold
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.torch_recipe import build_network, make_training_loader, predict, train

HEAD_EPOCHS, LAST_STAGE_EPOCHS = 20, 10
HEAD_RATE, LAST_STAGE_RATE = 1e-3, 1e-4


def fit_and_predict(
    files: LabelledFiles, tested: tuple[Path, ...], draw: Draw, watch: Stopwatch
) -> np.ndarray:
    """Train the head, then the last stage with it, in float32, and predict."""
    torch.manual_seed(draw.number)
    network = build_network()
    loader = make_training_loader(files)
    network.requires_grad_(False)
    network.classifier.requires_grad_(True)
    with watch.time("head"):
        optimiser = torch.optim.AdamW(network.classifier.parameters(), HEAD_RATE)
        train(network, loader, optimiser, draw.epochs(HEAD_EPOCHS))
    # Meninx's stage7: all layers at the last resolution.
    for layers in (network.blocks[-1], network.conv_head, network.bn2):
        layers.requires_grad_(True)
    with watch.time("last_stage"):
        parameters = [p for p in network.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, LAST_STAGE_RATE)
        train(network, loader, optimiser, draw.epochs(LAST_STAGE_EPOCHS))
    with watch.time("predict"):
        return predict(network, tested)


COMPETITOR = fold_by_fold(fit_and_predict)
