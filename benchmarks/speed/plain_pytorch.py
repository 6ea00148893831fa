"""Plain PyTorch: (b) the head and then the last stage, and (c) full fine-tuning, in float32."""

from pathlib import Path

import numpy as np
import torch
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.torch_recipe import build_network, make_training_loader, predict, train

HEAD_EPOCHS, LAST_STAGE_EPOCHS = 20, 10
HEAD_RATE, LAST_STAGE_RATE = 1e-3, 1e-4
FULL_EPOCHS = 30
FULL_RATE, WEIGHT_DECAY = 3e-4, 0.05


def train_head_then_last_stage(
    files: LabelledFiles, tested: tuple[Path, ...], draw: Draw
) -> np.ndarray:
    """(b) Train the head on a frozen base, then the last stage with it, and predict."""
    torch.manual_seed(draw.number)
    network = build_network()
    loader = make_training_loader(files)
    network.requires_grad_(False)
    network.classifier.requires_grad_(True)
    optimiser = torch.optim.AdamW(network.classifier.parameters(), HEAD_RATE)
    train(network, loader, optimiser, draw.epochs(HEAD_EPOCHS))
    # Meninx's stage7: all layers at the last resolution.
    for layers in (network.blocks[-1], network.conv_head, network.bn2):
        layers.requires_grad_(True)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, LAST_STAGE_RATE)
    train(network, loader, optimiser, draw.epochs(LAST_STAGE_EPOCHS))
    return predict(network, tested)


def train_everything(files: LabelledFiles, tested: tuple[Path, ...], draw: Draw) -> np.ndarray:
    """(c) Train every layer: AdamW, cosine, 30 epochs; and predict."""
    torch.manual_seed(draw.number)
    network = build_network()
    epochs = draw.epochs(FULL_EPOCHS)
    optimiser = torch.optim.AdamW(network.parameters(), FULL_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    train(network, make_training_loader(files), optimiser, epochs, schedule)
    return predict(network, tested)
