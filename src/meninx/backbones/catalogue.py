"""What can be studied here: the well-known backbones and whether their weights are at hand."""

from dataclasses import dataclass

from meninx.backbones.architectures import find_architecture
from meninx.backbones.weights import PACKAGED_NAMES, WeightsKind, locate

_WELL_KNOWN = (
    *PACKAGED_NAMES,
    "alexnet",
    "vgg16",
    "vgg19",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet34",
    "resnet50",
    "densenet121",
    "squeezenet1_1",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "convnext_tiny",
)


@dataclass(frozen=True)
class CatalogueEntry:
    """A backbone that can be named, and whether this machine has its weights.

    Attributes
    ----------
    name
        To be given to :meth:`Backbone.load`.
    input_size
        Side of the square input, pixels.
    parameters
        Trainable numbers, ImageNet's classifier included.
    weights
        Where its weights would be taken from without a network; None if they are not here.
    """

    name: str
    input_size: int
    parameters: int
    weights: WeightsKind | None


def catalogue() -> tuple[CatalogueEntry, ...]:
    """List the packaged backbones, then the well-known ones; nothing is loaded or fetched.

    Any other CNN of timm or torchvision can be named too.
    """
    return tuple(_describe(name) for name in _WELL_KNOWN)


def _describe(name: str) -> CatalogueEntry:
    architecture = find_architecture(name)
    located = locate(architecture)
    return CatalogueEntry(
        name=name,
        input_size=architecture.input_size,
        parameters=architecture.count_parameters(),
        weights=located[0] if located else None,
    )
