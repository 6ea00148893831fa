"""Which network a name stands for: built by timm if it knows the name, else by torchvision.

An :class:`Architecture` says, without building anything, what input the network was trained
on and where its pretrained weights are published.
"""

import difflib
import warnings
from dataclasses import dataclass
from enum import Enum
from typing import Any

import timm
import torch
import torchvision
from timm.models import PretrainedCfg
from torch import nn
from torchvision.models import get_model_builder, get_model_weights

from meninx.errors import BackboneError

TORCHVISION_PREFIX = "torchvision/"

# Trained on inputs scaled to [-1, 1]. torchvision announces ImageNet's mean for these two and
# undoes it inside the network (`transform_input`); we build them without that layer.
_TORCHVISION_INCEPTIONS = frozenset({"googlenet", "inception_v3"})


class Library(Enum):
    """Who builds the network."""

    TIMM = "timm"
    TORCHVISION = "torchvision"


@dataclass(frozen=True)
class Architecture:
    """A network that can be built, and where its pretrained weights are published.

    Attributes
    ----------
    name
        As the user wrote it, for instance ``resnet18`` or ``torchvision/resnet18``.
    library
        Who builds it.
    library_name
        The library's own, current name for it.
    input_size
        Side of the square input, pixels.
    mean, std
        Per channel, for images in [0, 1].
    hub_id
        Repository on the Hugging Face hub, or None.
    url
        Address of a weight file, or None.
    """

    name: str
    library: Library
    library_name: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hub_id: str | None
    url: str | None

    def build(self, seed: int = 0) -> nn.Module:
        """Build the network with fresh weights, in evaluation mode.

        The same seed gives the same weights; the global random state is left as it was.
        """
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            return self._construct().eval()

    def count_parameters(self) -> int:
        """Count the trainable numbers, ImageNet's classifier included, without storing any."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    def _construct(self) -> nn.Module:
        if self.library is Library.TIMM:
            return timm.create_model(self.library_name, pretrained=False)
        construct = get_model_builder(self.library_name)
        if self.library_name in _TORCHVISION_INCEPTIONS:
            # The auxiliary classifiers only serve training on ImageNet itself.
            return construct(weights=None, aux_logits=False, init_weights=True)
        return construct(weights=None)


def find_architecture(name: str) -> Architecture:
    """Look a name up in timm, then in torchvision; ``torchvision/NAME`` skips timm.

    Raises
    ------
    BackboneError
        Neither library knows the name.
    """
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    if name.removeprefix(TORCHVISION_PREFIX) in torchvision_names and (
        name.startswith(TORCHVISION_PREFIX) or not timm.is_model(name)
    ):
        return _of_torchvision(name)
    if "/" not in name and timm.is_model(name):
        return _of_timm(name)
    known = {*timm.list_models(), *torchvision_names}
    close = difflib.get_close_matches(name.removeprefix(TORCHVISION_PREFIX), known, n=3)
    advice = f"did you mean {', '.join(close)}?" if close else "`meninx backbones` lists some"
    raise BackboneError(f"neither timm nor torchvision has a network called {name!r}; {advice}")


def _of_timm(name: str) -> Architecture:
    try:
        published = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise BackboneError(
            f"timm has no weights called {name!r}; it has {', '.join(tags) or 'none for it'}"
        ) from error
    if published is None:
        published = _follow_old_name(name)
    return Architecture(
        name=name,
        library=Library.TIMM,
        library_name=f"{published.architecture}.{published.tag}" if published.tag else name,
        input_size=published.input_size[-1],
        mean=tuple(published.mean),
        std=tuple(published.std),
        hub_id=published.hf_hub_id,
        url=published.url if isinstance(published.url, str) else None,
    )


def _follow_old_name(name: str) -> PretrainedCfg:
    """Ask timm what became of a name it has given up; only building the network tells."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network: Any = timm.create_model(name, pretrained=False)
    return PretrainedCfg(**network.pretrained_cfg)


def _of_torchvision(name: str) -> Architecture:
    library_name = name.removeprefix(TORCHVISION_PREFIX)
    published = get_model_weights(library_name).DEFAULT
    preset = published.transforms()
    is_inception = library_name in _TORCHVISION_INCEPTIONS
    return Architecture(
        name=name,
        library=Library.TORCHVISION,
        library_name=library_name,
        input_size=preset.crop_size[0],
        mean=(0.5, 0.5, 0.5) if is_inception else tuple(preset.mean),
        std=(0.5, 0.5, 0.5) if is_inception else tuple(preset.std),
        hub_id=None,
        url=published.url,
    )
