"""What a PyTorch tutorial teaches: a data set of files, a loader, a loop. Used by (b) and (c).

Two habits are better than the usual tutorial's, so that nobody wins by a straw man: the random
crop keeps at least 70 % of the slice (the tutorial's default goes down to 8 %, which loses the
lesion), and the loader's processes live as long as the loader.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from benchmarks.speed.draws import COUNTS, LabelledFiles
from PIL import Image
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from meninx.backbones.architectures import find_architecture
from meninx.backbones.weights import find_weights, load_weights

BACKBONE = "tf_efficientnet_lite0"
BATCH = 16
WORKERS = 2
SIDE = 224
MEAN = STD = (0.5, 0.5, 0.5)

AUGMENT = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIDE, scale=(0.7, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(10),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
PREPARE = transforms.Compose(
    [
        transforms.Resize((SIDE, SIDE)),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


def build_pretrained() -> EfficientNet:
    """Build timm's network, with its ImageNet classifier, from the packaged weights."""
    architecture = find_architecture(BACKBONE)
    network = cast(EfficientNet, architecture.build())
    path, source = find_weights(architecture)
    load_weights(network, path, source)
    return network


def build_network() -> EfficientNet:
    """Build the pretrained network with a new classifier for the classes of a draw."""
    network = build_pretrained()
    network.reset_classifier(len(COUNTS))
    return network


class Pictures(Dataset):
    """Image files with their class indices; -1 where there is none."""

    def __init__(
        self, paths: Sequence[Path], targets: Sequence[int], transform: transforms.Compose
    ) -> None:
        self.paths = paths
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[row]) as picture:
            return self.transform(picture.convert("RGB")), int(self.targets[row])


def make_training_loader(files: LabelledFiles) -> DataLoader:
    """Load files in random order, augmented."""
    pictures = Pictures(files.paths, files.targets.tolist(), AUGMENT)
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def make_test_loader(paths: Sequence[Path]) -> DataLoader:
    """Load files in their order, as they are."""
    return DataLoader(Pictures(paths, [-1] * len(paths), PREPARE), BATCH, num_workers=WORKERS)


def train(
    network: nn.Module,
    loader: DataLoader,
    optimiser: torch.optim.Optimizer,
    epochs: int,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> None:
    """Train in place by the tutorial's loop; a schedule is stepped once an epoch."""
    network.train()
    for _ in range(epochs):
        for inputs, targets in loader:
            loss = nn.functional.cross_entropy(network(inputs), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if schedule is not None:
            schedule.step()


def predict(network: nn.Module, paths: Sequence[Path]) -> np.ndarray:
    """Give the probabilities ``(m, k)`` of files."""
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(inputs) for inputs, _ in make_test_loader(paths)])
    return torch.softmax(logits.double(), dim=1).numpy()
