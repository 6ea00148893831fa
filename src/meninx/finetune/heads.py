"""Heads: what turns a backbone's features into logits."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

# Standardised features are scaled so that their squared length is this much on average: then
# one regularisation strength means the same for 512 features and for 2048.
SQUARED_LENGTH = 100.0


def solve_linear_head(features: np.ndarray, labels: np.ndarray, regularisation: float) -> nn.Linear:
    """Fit multinomial logistic regression and write it as one linear layer.

    Parameters
    ----------
    features
        ``(n, v, d)``: n images in v views of d features each.
    labels
        ``(n,)`` class indices; classes are weighted by the inverse of their frequency.
    regularisation
        Inverse strength of the L2 penalty per image (scikit-learn's C); larger fits closer.

    Returns
    -------
    nn.Linear
        From raw features ``(n, d)`` to logits ``(n, k)``; the standardisation learned from
        these features is folded into its weights.
    """
    images, views, width = features.shape
    rows = features.reshape(images * views, width)
    scaler = StandardScaler().fit(rows)
    factor = np.sqrt(SQUARED_LENGTH / width)
    # The views of an image are not independent: together they count as one.
    regression = LogisticRegression(
        C=regularisation / views, class_weight="balanced", max_iter=1000
    ).fit(scaler.transform(rows) * factor, np.repeat(labels, views))
    return _fold_standardisation(regression, scaler, factor)


def _fold_standardisation(
    regression: LogisticRegression, scaler: StandardScaler, factor: float
) -> nn.Linear:
    """Write ``w · (x - mean) / std + b`` as ``w' · x + b'``, one row of w' a class."""
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        # Two classes: scikit-learn keeps one logit, the difference of ours.
        weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
    weight = weight * factor / scaler.scale_
    bias = bias - weight @ scaler.mean_
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def build_head(
    features: int, classes: int, extra_layers: Sequence[int], dropout: float
) -> nn.Sequential:
    """Build a head to be trained by gradient descent.

    Parameters
    ----------
    features
        Length of the feature vector.
    classes
        How many logits.
    extra_layers
        Widths of hidden layers in front of the output; empty for a linear head.
    dropout
        Part of the inputs of each linear layer that is dropped in training, in [0, 1).
    """
    layers: list[nn.Module] = []
    width = features
    for hidden in extra_layers:
        layers += [nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, classes))
