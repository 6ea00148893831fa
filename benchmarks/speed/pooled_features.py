"""(d) Pooled features of the pretrained network and scikit-learn's logistic regression."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.speed.competitor import Competitor, CrossValidation, Stopwatch
from benchmarks.speed.draws import COUNTS, Draw
from benchmarks.speed.torch_recipe import build_pretrained, make_test_loader
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def compute_features(paths: Sequence[Path]) -> np.ndarray:
    """Compute the pooled features ``(n, d)`` of files, float32."""
    network = build_pretrained()
    network.reset_classifier(0)
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(inputs) for inputs, _ in make_test_loader(paths)]).numpy()


def make_regression() -> Pipeline:
    """Make the usual pipeline, with scikit-learn's default C."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def cross_validate(draw: Draw, _: Path) -> CrossValidation:
    """Compute the features once, as anybody would, and fit each fold on them."""
    watch = Stopwatch()
    with watch.time("features"):
        features = compute_features(draw.train.paths)
    probabilities = np.full((len(draw.train), len(COUNTS)), np.nan)
    with watch.time("regression"):
        for train, test in draw.splits():
            model = make_regression().fit(features[train], draw.train.targets[train])
            probabilities[test] = model.predict_proba(features[test])
    return CrossValidation(probabilities, watch.seconds, {})


def predict_test(draw: Draw, _: Path) -> np.ndarray:
    """Fit on the whole draw and predict the test images."""
    model = make_regression().fit(compute_features(draw.train.paths), draw.train.targets)
    return model.predict_proba(compute_features(draw.test.paths))


COMPETITOR = Competitor(cross_validate, predict_test)
