"""(c) Full fine-tuning: every layer, AdamW, cosine, 30 epochs, float32."""

from pathlib import Path

import numpy as np
import torch
from benchmarks.speed.competitor import Stopwatch, fold_by_fold
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.torch_recipe import build_network, make_training_loader, predict, train

EPOCHS = 30
RATE, WEIGHT_DECAY = 3e-4, 0.05


def fit_and_predict(
    files: LabelledFiles, tested: tuple[Path, ...], draw: Draw, watch: Stopwatch
) -> np.ndarray:
    """Train everything and predict."""
    torch.manual_seed(draw.number)
    network = build_network()
    epochs = draw.epochs(EPOCHS)
    with watch.time("fit"):
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        train(network, make_training_loader(files), optimiser, epochs, schedule)
    with watch.time("predict"):
        return predict(network, tested)


COMPETITOR = fold_by_fold(fit_and_predict)
