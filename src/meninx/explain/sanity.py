"""Sanity: whether a heatmap shows what the network learned, or only what the image looks like.

An edge detector draws convincing heatmaps and knows nothing of the network. So the network is
randomised, layer after layer from the head down, and its heatmaps must change.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from meninx.explain.heatmap import HeatmapMethod

# Rank correlation with the heatmaps of a network that knows nothing, above which too much of a
# heatmap is owed to the image alone. No source names a figure; Grad-CAM of lite0 was seen at
# -0.02 to 0.22 on two cohorts, an edge detector is at 1.
THRESHOLD = 0.5
# Heatmaps are compared on so many places along a side.
PLACES = 28


@dataclass(frozen=True, eq=False)
class WeightRandomization:
    """How alike heatmaps stay while a network forgets.

    Attributes
    ----------
    randomised
        Names of its children, in the order in which they were randomised; each step keeps
        those before it randomised.
    similarities
        ``(steps, n)``: Spearman's rank correlation of each image's heatmap with that of the
        trained network; not a number where the trained network's is empty, which tells nothing.
    """

    randomised: tuple[str, ...]
    similarities: np.ndarray


@dataclass(frozen=True)
class Sanity:
    """Whether a heatmap method passes the model-randomisation check.

    Attributes
    ----------
    similarity
        Mean rank correlation with the heatmaps of the network when all of it is random.
    low, high
        95 % interval, a bootstrap over images.
    images
        How many were compared; an image counts once for each network that it was shown to, and
        not at all where the trained network's heatmap is empty.
    steps
        Child randomised last → mean rank correlation.
    """

    similarity: float
    low: float
    high: float
    images: int
    steps: dict[str, float]

    @classmethod
    def judge(cls, randomizations: Sequence[WeightRandomization], seed: int = 0) -> Self | None:
        """Judge by what one or several networks forgot, each with images of its own.

        Parameters
        ----------
        randomizations
            At least one; steps are told of the first network and those with the same children.
        seed
            Of the bootstrap.

        Returns
        -------
        Sanity or None
            None where the first network, once trained, drew nothing: then the check cannot be done.
        """
        first = randomizations[0].randomised
        alike = [one.similarities for one in randomizations if one.randomised == first]
        compared = _drop_empty(np.concatenate(alike, axis=1))
        if compared.size == 0:
            return None
        means = compared.mean(axis=1).tolist()
        last = np.concatenate([_drop_empty(one.similarities)[-1] for one in randomizations])
        picked = np.random.default_rng(seed).integers(len(last), size=(2000, len(last)))
        low, high = np.quantile(last[picked].mean(axis=1), [0.025, 0.975])
        steps = dict(zip(first, means, strict=True))
        return cls(float(last.mean()), float(low), float(high), len(last), steps)

    @property
    def is_passed(self) -> bool:
        """Whether heatmaps of a network that knows nothing are surely unlike the trained one's."""
        return self.high <= THRESHOLD


def randomize_weights(
    method: HeatmapMethod,
    network: nn.Sequential,
    inputs: torch.Tensor,
    classes: list[int],
    seed: int = 0,
) -> WeightRandomization:
    """Randomise a network from the head down and compare its heatmaps with the trained ones.

    Parameters
    ----------
    method
        What makes the heatmaps.
    network
        In evaluation mode; it is left as it is.
    inputs
        ``(n, 3, s, s)``; several, since random layers are normalised by them.
    classes
        For each image, the index of the class to explain.
    seed
        Of the random weights.

    Notes
    -----
    The cascading randomisation of Adebayo et al. 2018, "Sanity checks for saliency maps",
    NeurIPS. Layers get the weights that PyTorch would start them with. BatchNorm's running
    statistics belong to what was learned; random layers use those of the images at hand, so
    that their output neither vanishes nor grows without bound.
    """
    trained = _rank(method(network, inputs, classes))
    copied = copy.deepcopy(network)
    names, similarities = [], []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, child in reversed(list(copied.named_children())):
            if next(child.parameters(), None) is None:
                continue
            randomise_layers(child)
            names.append(name)
            similarities.append(_correlate(trained, _rank(method(copied, inputs, classes))))
    return WeightRandomization(tuple(names), np.array(similarities))


def randomise_layers(part: nn.Module) -> None:
    """Give all layers of a part fresh weights."""
    renewed: set[nn.Parameter] = set()
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
            renewed.update(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm):
            module.train()
    with torch.no_grad():
        for parameter in set(part.parameters()) - renewed:
            # A layer that cannot start anew has its numbers shuffled.
            order = torch.randperm(parameter.numel())
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _rank(heatmaps: np.ndarray) -> np.ndarray:
    """Give the ranks ``(n, p)`` of the places of heatmaps ``(n, s, s)``, centred."""
    pooled = functional.adaptive_avg_pool2d(torch.from_numpy(heatmaps), PLACES).flatten(1)
    ranks: np.ndarray = rankdata(pooled.numpy(), axis=1)
    return ranks - ranks.mean(axis=1, keepdims=True)


def _correlate(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlate rows of trained maps with others, all centred, ``(n, p)``, giving ``(n,)``.

    A trained row without contrast gives no number; another without contrast resembles none.
    """
    trained, others = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    alike = np.divide(
        products, trained * others, out=np.zeros(len(one)), where=trained * others > 0
    )
    return np.where(trained > 0, alike, np.nan)


def _drop_empty(similarities: np.ndarray) -> np.ndarray:
    """Leave out the images ``(steps, n)`` whose trained heatmap is empty."""
    return similarities[:, ~np.isnan(similarities[0])]
