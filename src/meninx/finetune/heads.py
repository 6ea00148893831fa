"""Heads: what turns a backbone's features into logits."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from meninx.finetune.regression import solve_regressions


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
    return solve_linear_heads(features, labels, [np.arange(len(labels))], regularisation)[0]


def solve_linear_heads(
    features: np.ndarray, labels: np.ndarray, sides: Sequence[np.ndarray], regularisation: float
) -> list[nn.Linear]:
    """Fit a linear head on each of several training sides, all together.

    Parameters
    ----------
    features, labels, regularisation
        As in :func:`solve_linear_head`, of all images.
    sides
        The rows of each training side.

    Returns
    -------
    list of nn.Linear
        One a side: what the side alone gives, to within the tolerance of the solution.
    """
    solved = solve_regressions(features, labels, sides, [regularisation] * len(sides))
    return [_make_layer(weight, bias) for weight, bias in solved]


def _make_layer(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    # Random weights would move the global random state.
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
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
