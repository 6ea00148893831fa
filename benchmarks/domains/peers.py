"""Peers: what people use today, on the same images, as their tutorials say."""

import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.domains.policies import Fit, Task
from benchmarks.speed.draws import Draw, LabelledFiles
from benchmarks.speed.plain_pytorch import FULL_EPOCHS, FULL_RATE, WEIGHT_DECAY
from benchmarks.speed.torch_recipe import (
    AUGMENT,
    BATCH,
    Pictures,
    build_pretrained,
    make_test_loader,
    predict,
    train,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader


def fit_features(task: Task) -> Fit:
    """Fit scikit-learn's logistic regression on the pooled features of the pretrained network."""
    train_paths, test_paths = task.find_paths()
    network = build_pretrained()
    network.reset_classifier(0)
    started = time.process_time()
    features = _compute_features(network, train_paths)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features, task.targets)
    seconds = time.process_time() - started
    return Fit(model.predict_proba(_compute_features(network, test_paths)), seconds)


def fit_fastai(task: Task) -> Fit:
    """Let fastai fine-tune; its seconds hold the prediction of the test images."""
    from benchmarks.speed import fastai_learner

    train_paths, test_paths = task.find_paths()
    # Ordered as the class indices are, whatever the names.
    labels = np.array([f"{target:02d}" for target in task.targets])
    files = LabelledFiles(train_paths, labels)
    draw = Draw(task.seed, files, np.zeros(len(files)), files)
    started = time.process_time()
    probabilities = fastai_learner.fine_tune(files, test_paths, draw)
    return Fit(probabilities, time.process_time() - started)


def fit_plain(task: Task) -> Fit:
    """Fine-tune the whole network by a plain PyTorch loop."""
    train_paths, test_paths = task.find_paths()
    torch.manual_seed(task.seed)
    network = build_pretrained()
    network.reset_classifier(int(task.targets.max()) + 1)
    pictures = Pictures(train_paths, task.targets.tolist(), AUGMENT)
    optimiser = torch.optim.AdamW(network.parameters(), FULL_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, FULL_EPOCHS)
    started = time.process_time()
    train(network, DataLoader(pictures, BATCH, shuffle=True), optimiser, FULL_EPOCHS, schedule)
    seconds = time.process_time() - started
    return Fit(predict(network, test_paths), seconds)


def _compute_features(network: torch.nn.Module, paths: tuple[Path, ...]) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(inputs) for inputs, _ in make_test_loader(paths)]).numpy()
