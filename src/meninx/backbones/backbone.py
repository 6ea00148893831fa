"""The backbone: a pretrained CNN without its classifier, cut where one likes."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from meninx.backbones import preparation
from meninx.backbones.architectures import Architecture, find_architecture
from meninx.backbones.stages import Dissection, Stage, dissect
from meninx.backbones.weights import WeightsKind, WeightsSource, find_weights, load_weights
from meninx.errors import BackboneError


@dataclass(frozen=True, eq=False)
class Backbone:
    """A CNN in stages, frozen and in evaluation mode.

    Make one with :meth:`load` (pretrained) or :meth:`untrained` (fresh weights).

    Attributes
    ----------
    name
        As timm or torchvision spell it.
    source
        Where the weights came from, with their checksum.
    input_size
        Side of the square input, pixels.
    mean, std
        Of each channel, for images in [0, 1].
    network
        Children ``stem``, ``stage1`` … ``stageN``, ``pool``: maps ``(n, 3, s, s)`` to
        ``(n, features)``.
    classifier
        The original last layer, ``(n, features)`` to ``(n, 1000)``.
    stages
        Stem and stages in order, without the pool.
    features
        Length of the feature vector.
    """

    name: str
    source: WeightsSource
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network: nn.Sequential
    classifier: nn.Module
    stages: tuple[Stage, ...]
    features: int

    @classmethod
    def load(cls, name: str, weights: Path | None = None) -> Self:
        """Build a network and give it pretrained weights.

        Parameters
        ----------
        name
            Any CNN of timm or, if timm has none of that name, of torchvision;
            ``torchvision/NAME`` insists on torchvision.
        weights
            A weight file (.safetensors, .pth, .pt or .bin). Without it they are looked for in
            the folder ``MENINX_WEIGHTS``, among the packaged weights, in the local hub caches,
            and last of all on the internet.

        Raises
        ------
        BackboneError
            The name is unknown, or the network cannot be cut into stages.
        WeightsError
            No weights can be found, or they do not fit.
        """
        architecture = find_architecture(name)
        network = architecture.build()
        # Taken apart before any weights are sought: nobody fetches weights for a network that
        # is then refused. The pieces share their layers with the whole.
        dissection = dissect(name, network, architecture.input_size)
        path, source = find_weights(architecture, weights)
        load_weights(network, path, source)
        return cls._of_architecture(architecture, dissection, source)

    @classmethod
    def untrained(cls, name: str, seed: int = 0) -> Self:
        """Build a network with fresh weights; the same seed gives the same weights.

        The global random state is left as it was.

        Raises
        ------
        BackboneError
            The name is unknown, or the network cannot be cut into stages.
        """
        architecture = find_architecture(name)
        network = architecture.build(seed)
        dissection = dissect(name, network, architecture.input_size)
        source = WeightsSource(WeightsKind.RANDOM, f"seed {seed}", sha256="")
        return cls._of_architecture(architecture, dissection, source)

    @classmethod
    def from_module(
        cls,
        network: nn.Module,
        input_size: int = 224,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> Self:
        """Take apart a pretrained network of your own, a chain of layers that ends in a classifier.

        Parameters
        ----------
        network
            From normalised images ``(n, 3, s, s)`` to logits; it is copied.
        input_size
            Side of the images it was trained on, pixels.
        mean, std
            Of each channel, for images in [0, 1].

        Raises
        ------
        BackboneError
            The network cannot be cut into stages.
        """
        copied = copy.deepcopy(network).eval()
        digest = hashlib.sha256()
        for name, tensor in copied.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        name = type(network).__name__
        dissection = dissect(name, copied, input_size)
        source = WeightsSource(WeightsKind.FILE, "given as a module", digest.hexdigest())
        return cls._of_pieces(name, input_size, mean, std, dissection, source)

    @classmethod
    def _of_architecture(
        cls, architecture: Architecture, dissection: Dissection, source: WeightsSource
    ) -> Self:
        return cls._of_pieces(
            architecture.name,
            architecture.input_size,
            architecture.mean,
            architecture.std,
            dissection,
            source,
        )

    @classmethod
    def _of_pieces(
        cls,
        name: str,
        input_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dissection: Dissection,
        source: WeightsSource,
    ) -> Self:
        return cls(
            name=name,
            source=source,
            input_size=input_size,
            mean=mean,
            std=std,
            network=dissection.network.eval().requires_grad_(False),
            classifier=dissection.classifier.eval().requires_grad_(False),
            stages=dissection.stages,
            features=dissection.features,
        )

    @property
    def cuts(self) -> tuple[str, ...]:
        """Where it can be cut, from ``stem`` (train everything) to ``head`` (nothing)."""
        return (*(stage.name for stage in self.stages), "head")

    def prefix(self, cut: str) -> nn.Module:
        """Give the frozen part before a cut, sharing its layers with :attr:`network`.

        Parameters
        ----------
        cut
            The first stage that is trained; ``stem`` gives the identity, ``head`` everything
            with the pool.

        Raises
        ------
        BackboneError
            There is no such cut.
        """
        before = self.network[: self._position(cut)]
        return before.eval() if len(before) else nn.Identity()

    def suffix(self, cut: str) -> nn.Module:
        """Copy the part from a cut on, with the pool, ready to be trained.

        Parameters
        ----------
        cut
            The first stage that is trained; ``head`` gives the identity.

        Raises
        ------
        BackboneError
            There is no such cut.
        """
        return copy.deepcopy(self.behind(cut)).requires_grad_(True)

    def behind(self, cut: str) -> nn.Module:
        """Give what :meth:`suffix` copies, sharing its layers with :attr:`network`."""
        after = self.network[self._position(cut) :]
        return after if len(after) else nn.Identity()

    def _position(self, cut: str) -> int:
        """Count the children before a cut."""
        if cut == "head":
            return len(self.network)
        if cut not in self.cuts:
            raise BackboneError(
                f"{self.name} has no cut {cut!r}; its cuts are {', '.join(self.cuts)}"
            )
        return self.cuts.index(cut)

    def to_square(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Pad images to squares with black and resize them to the input size.

        Parameters
        ----------
        images
            Each float, ``(h, w)`` or ``(h, w, 3)``, in [0, 1], of any size.

        Returns
        -------
        torch.Tensor
            ``(n, 3, s, s)`` float32 in [0, 1].

        Raises
        ------
        ImageError
            An image has another shape, kind of number or range.
        """
        return preparation.to_square(images, self.input_size)

    def normalise(self, squares: torch.Tensor) -> torch.Tensor:
        """Bring squares from [0, 1] to what the network was trained on, ``(n, 3, s, s)``.

        Of squares whose three channels are equal, one is enough: ``(n, 1, s, s)``.
        """
        return preparation.normalise(squares, self.mean, self.std)

    def prepare(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Turn images of any size into the network's input ``(n, 3, s, s)``, normalised."""
        return self.normalise(self.to_square(images))

    def resized(self, input_size: int) -> Self:
        """Take images of another size: the same network, whose layers are shared."""
        return replace(self, input_size=input_size)

    def randomised(self, seed: int) -> Self:
        """Build the same network with fresh weights, for training from scratch."""
        return self.untrained(self.name, seed)
