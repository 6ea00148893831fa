"""How far a cohort's images are from ImageNet, measured without one ImageNet image.

Every BatchNorm layer of a pretrained network carries the mean and the variance that each of
its channels had over ImageNet. The same channel's mean and variance over the cohort's images
are compared with them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Images, as_array

# A channel that hardly varied over ImageNet is dead: its variance is rounding, and dividing by
# it drowns all the others.
LIVE_VARIANCE = 0.05
BOOTSTRAP_DRAWS = 200
BATCH = 4


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """What one BatchNorm layer sees of each image, and what it saw of ImageNet.

    Attributes
    ----------
    name, stage
        Of the layer in the backbone.
    means, squares
        ``(n, c)``: mean and mean square over an image's pixels, for each channel.
    running_mean, running_variance
        ``(c,)``: over ImageNet.
    """

    name: str
    stage: str
    means: np.ndarray
    squares: np.ndarray
    running_mean: np.ndarray
    running_variance: np.ndarray


@dataclass(frozen=True)
class LayerSimilarity:
    """One layer's distance from ImageNet, in nats; 0 is ImageNet itself."""

    name: str
    stage: str
    kl: float


@dataclass(frozen=True)
class Similarity:
    """A cohort's distance from ImageNet.

    Attributes
    ----------
    kl
        Mean over layers of the median KL divergence over live channels, nats.
    low, high
        Its 95 % interval, percentiles of a bootstrap over patients.
    layers
        Each BatchNorm layer's own, in the order in which an image meets them.
    """

    kl: float
    low: float
    high: float
    layers: tuple[LayerSimilarity, ...]

    def by_stage(self) -> dict[str, float]:
        """Average the layers of each stage."""
        stages = dict.fromkeys(layer.stage for layer in self.layers)
        return {
            stage: float(np.mean([layer.kl for layer in self.layers if layer.stage == stage]))
            for stage in stages
        }


def measure_similarity(
    moments: Sequence[LayerMoments], patients: np.ndarray, seed: int = 0
) -> Similarity:
    """Measure the distance from ImageNet, with an interval over patients.

    Parameters
    ----------
    moments
        Of each layer, from :func:`observe`; at least one.
    patients
        ``(n,)`` the patient of each image.
    seed
        Of the bootstrap.
    """
    names, member = np.unique(patients, return_inverse=True)
    random = np.random.default_rng(seed)
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), BOOTSTRAP_DRAWS)
    counts = np.vstack([np.ones(len(member)), times[:, member]])
    weights = counts / counts.sum(axis=1, keepdims=True)
    divergences = np.stack([_measure_layer(layer, weights) for layer in moments], axis=1)
    overall = divergences.mean(axis=1)
    low, high = np.quantile(overall[1:], [0.025, 0.975])
    layers = tuple(
        LayerSimilarity(layer.name, layer.stage, float(kl))
        for layer, kl in zip(moments, divergences[0], strict=True)
    )
    return Similarity(float(overall[0]), float(low), float(high), layers)


def _measure_layer(layer: LayerMoments, weights: np.ndarray) -> np.ndarray:
    """Take the median over live channels of KL(cohort ‖ ImageNet), one for each weighting."""
    variance = layer.running_variance
    is_live = variance > LIVE_VARIANCE * np.median(variance)
    mean = weights @ layer.means[:, is_live]
    spread = weights @ layer.squares[:, is_live] - mean**2
    ratio = np.maximum(spread, 1e-12 * variance[is_live]) / variance[is_live]
    shift = (mean - layer.running_mean[is_live]) ** 2 / variance[is_live]
    divergence: np.ndarray = np.median((ratio + shift - 1 - np.log(ratio)) / 2, axis=1)
    return divergence


@dataclass(frozen=True, eq=False)
class Observation:
    """What a frozen backbone makes of a cohort.

    Attributes
    ----------
    moments
        Of each BatchNorm layer; none where the network has no such layer.
    features
        ``(n, d)``: the pooled features.
    milliseconds
        That an image took, reading apart.
    """

    moments: tuple[LayerMoments, ...]
    features: np.ndarray
    milliseconds: float


def observe(backbones: Sequence[Backbone], images: Images) -> list[Observation]:
    """Run images through pretrained backbones once and note what their layers see.

    Parameters
    ----------
    backbones
        Frozen.
    images
        n of them; each is read once.

    Returns
    -------
    list of Observation
        One a backbone.

    Raises
    ------
    ImageError
        One of the images cannot be read.
    """
    observers = [_Observer(backbone) for backbone in backbones]
    for start in range(0, len(images), BATCH):
        pixels = [as_array(image) for image in images[start : start + BATCH]]
        for observer in observers:
            observer.look(pixels)
    return [observer.conclude() for observer in observers]


class _Observer:
    """Notes what a backbone makes of the images that it is shown."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.layers = {
            name: module
            for name, module in backbone.network.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
        }
        self.seen: dict[str, list[torch.Tensor]] = {name: [] for name in self.layers}
        self.features: list[torch.Tensor] = []
        self.seconds = 0.0

    def look(self, pixels: Sequence[np.ndarray]) -> None:
        """Run some images through the network."""
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs, n=name: self._note(n, inputs[0]))
            for name, module in self.layers.items()
        ]
        started = time.perf_counter()
        try:
            with torch.inference_mode():
                batch = self.backbone.prepare(pixels).contiguous(memory_format=torch.channels_last)
                self.features.append(self.backbone.network(batch))
        finally:
            for hook in hooks:
                hook.remove()
        self.seconds += time.perf_counter() - started

    def _note(self, name: str, inputs: torch.Tensor) -> None:
        values = inputs.float().flatten(2)
        self.seen[name].append(torch.stack([values.mean(2), values.square().mean(2)], dim=1))

    def conclude(self) -> Observation:
        """Put together what was seen of all images."""
        features = torch.cat(self.features).double().numpy()
        return Observation(
            moments=tuple(
                _collect(name, self.layers[name], parts) for name, parts in self.seen.items()
            ),
            features=features,
            milliseconds=1000 * self.seconds / len(features),
        )


def _collect(name: str, layer: nn.BatchNorm2d, parts: list[torch.Tensor]) -> LayerMoments:
    """Put a layer's batches together."""
    assert layer.running_mean is not None and layer.running_var is not None
    both = torch.cat(parts).double().numpy()
    return LayerMoments(
        name=name,
        stage=name.partition(".")[0],
        means=both[:, 0],
        squares=both[:, 1],
        running_mean=layer.running_mean.double().numpy(),
        running_variance=layer.running_var.double().numpy(),
    )
