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
# Of the gradient: probabilities are then within a thousandth of those at the minimum.
MOST_STEPS, TOLERANCE = 2000, 1e-6


def fit_linear_head(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray, C: float
) -> nn.Linear:
    """Fit multinomial logistic regression and write it as one linear layer.

    Parameters
    ----------
    features
        ``(n, v, d)``: n images in v views of d features each. The views of an image are not
        independent: together they count as one.
    targets
        ``(n,)`` class indices, each of the k classes among them.
    weights
        ``(n,)`` what each image counts for, 1 on average.
    C
        Inverse strength of the L2 penalty, as in scikit-learn; larger fits closer.

    Returns
    -------
    nn.Linear
        From raw features ``(n, d)`` to logits ``(n, k)``; the standardisation learned from
        these features is folded into its weights.
    """
    images, views, width = features.shape
    rows = features.reshape(images * views, width).astype(np.float64)
    importance = np.repeat(weights / views, views)
    scaler = StandardScaler().fit(rows, sample_weight=importance)
    factor = np.sqrt(SQUARED_LENGTH / width) / scaler.scale_
    regression = LogisticRegression(C=C, max_iter=MOST_STEPS, tol=TOLERANCE).fit(
        (rows - scaler.mean_) * factor, np.repeat(targets, views), importance
    )
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two classes there is one logit, the difference of ours
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = coefficients * factor
    # Random weights would move the global random state.
    layer = nn.utils.skip_init(nn.Linear, width, len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(intercepts - weight @ scaler.mean_))
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
