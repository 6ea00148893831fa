"""Taking a network apart into stages that give the same answer when run one after another.

timm and torchvision write the same idea in many ways: stages as children called ``layer1``, as
items of ``blocks``, as one flat list with pooling layers in it, with the pooling in Python
code. Rather than a table of families we read the children in order as a chain, run a probe
through it, group its links by the resolution they work at, and check at the end that the
stages say exactly what the whole network says. What does not is refused, so a cut is never
silently wrong.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torchvision
from torch import nn

from meninx.errors import BackboneError

# Children that are only a list of further links.
_LISTS = frozenset(
    {"features", "blocks", "stages", "dense_stages", "layers", "body", "trunk_output"}
)
# The first of these ends the last stage: from here on there is no map to look at.
_HEAD = frozenset(
    {"global_pool", "avgpool", "pre_logits", "head", "classifier", "fc", "last_linear"}
)
_AUXILIARY_CLASSIFIERS = frozenset({"aux1", "aux2", "AuxLogits"})

Links = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Stage:
    """One stretch of a backbone, at whose beginning it can be cut.

    Attributes
    ----------
    name
        ``stem``, ``stage1`` … ``stageN``.
    channels
        Of the map it puts out.
    reduction
        How many times smaller than the input that map is along a side, to the nearest power
        of two.
    parameters
        How many trainable numbers it holds.
    """

    name: str
    channels: int
    reduction: int
    parameters: int


@dataclass(frozen=True)
class Dissection:
    """A network in pieces: ``classifier(network(x))`` is what the whole network gives.

    Attributes
    ----------
    network
        Children ``stem``, ``stage1`` … ``stageN``, ``pool``; gives features ``(n, features)``.
    classifier
        The original last layer.
    stages
        What is known of each stage.
    features
        Length of the feature vector.
    """

    network: nn.Sequential
    classifier: nn.Module
    stages: tuple[Stage, ...]
    features: int


@dataclass
class _Group:
    """Links that work at one resolution, and the map they put out."""

    reduction: int
    links: Links = field(default_factory=list)
    holds_blocks: bool = False
    channels: int = 0
    output_reduction: int = 0


def dissect(name: str, network: nn.Module, input_size: int) -> Dissection:
    """Take a network apart into stem, stages, pool and classifier.

    The stages end at the last spatial map. Whatever follows it, up to the last layer, is the
    ``pool``: average pooling, and for AlexNet and VGG also their hidden fully connected layers,
    so that the features are what the original last layer sees (4096 numbers). SqueezeNet has
    no such layer, since it averages after its last convolution; there the pool holds that
    convolution too, the features are its 1000 averaged maps, and the classifier is the
    identity.

    Parameters
    ----------
    name
        For the error message.
    network
        In evaluation mode. Its layers are moved, not copied.
    input_size
        Side of the square input, pixels.

    Raises
    ------
    BackboneError
        The network is not a chain of convolutional stages.
    """
    probe = torch.rand(1, 3, input_size, input_size, generator=torch.Generator().manual_seed(0))
    probe = 2 * probe - 1
    try:
        with torch.no_grad():
            expected = network(probe)
            dissection, given = _dissect(network, probe)
    except Exception as error:  # layers made for another kind of chain can fail in any way
        raise BackboneError(_refusal(name)) from error
    tolerance = 1e-4 * float(expected.abs().max())
    if given.shape != expected.shape or not torch.allclose(
        given, expected, rtol=0, atol=tolerance, equal_nan=True
    ):
        raise BackboneError(_refusal(name))
    return dissection


def _refusal(name: str) -> str:
    return (
        f"{name} cannot be cut into stages: it is not a chain of convolutional stages; "
        "choose a CNN such as tf_efficientnet_lite0, resnet18 or densenet121"
    )


def _dissect(network: nn.Module, probe: torch.Tensor) -> tuple[Dissection, torch.Tensor]:
    """Take it apart, and tell what its pieces make of the probe one after another."""
    body, head = _read_chain(network)
    groups, features_map = _group_by_resolution(body, probe)
    pool, classifier = _split_head(head)
    pool, features = _complete_pool(pool, features_map)
    named = zip(["stem", *(f"stage{i}" for i in range(1, len(groups)))], groups, strict=True)
    children: OrderedDict[str, nn.Module] = OrderedDict(
        (name, nn.Sequential(OrderedDict(group.links))) for name, group in named
    )
    stages = tuple(
        Stage(name, group.channels, group.output_reduction, _count_parameters(children[name]))
        for name, group in zip(children, groups, strict=True)
    )
    children["pool"] = nn.Sequential(OrderedDict(pool))
    if isinstance(classifier, nn.Conv2d):  # a 1×1 convolution on the pooled map
        classifier = nn.Sequential(
            nn.Unflatten(1, (classifier.in_channels, 1, 1)), classifier, nn.Flatten(1)
        )
    dissection = Dissection(nn.Sequential(children), classifier, stages, features.shape[1])
    return dissection, classifier(features)


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _read_chain(network: nn.Module) -> tuple[Links, Links]:
    """List the links in the order they are written, up to the last map and after it."""
    body: Links = []
    head: Links = []
    for name, child in network.named_children():
        if name in _AUXILIARY_CLASSIFIERS:
            continue
        if head or name in _HEAD:
            head.extend(_open(name, child) if name in ("head", "classifier") else [(name, child)])
        else:
            body.extend(_open(name, child) if name in _LISTS else [(name, child)])
    if isinstance(network, torchvision.models.DenseNet):
        body.append(("relu", nn.ReLU()))  # written as a function call in its forward
    return body, head


def _open(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    children = list(module.named_children())
    if not children:
        yield name, module
    for child_name, child in children:
        yield f"{name}_{child_name}", child


def _group_by_resolution(body: Links, probe: torch.Tensor) -> tuple[list[_Group], torch.Tensor]:
    """Join links into stages while the probe passes through them.

    A new stage begins with the first layer with parameters that works at another resolution,
    so that a pooling layer ends the stage before it and what is kept at a cut is small; or with
    a sequence of blocks, which is what the network's authors themselves call a stage.
    """
    groups: list[_Group] = []
    x = probe
    for name, link in body:
        x = link(x)
        if x.ndim != 4 or x.shape[-1] != x.shape[-2]:
            raise ValueError(f"{name} puts out {tuple(x.shape)}, not a square map")
        reduction = 2 ** round(math.log2(probe.shape[-1] / x.shape[-1]))
        is_blocks = _is_sequence_of_blocks(name, link)
        if not groups or (_count_parameters(link) and _begins(groups, reduction, is_blocks)):
            groups.append(_Group(reduction))
        group = groups[-1]
        group.links.append((name, link))
        group.holds_blocks |= is_blocks
        group.channels, group.output_reduction = x.shape[1], reduction
    return groups, x


def _begins(groups: list[_Group], reduction: int, is_blocks: bool) -> bool:
    is_stem = len(groups) == 1
    return reduction != groups[-1].reduction or (is_blocks and (is_stem or groups[-1].holds_blocks))


def _is_sequence_of_blocks(name: str, link: nn.Module) -> bool:
    return name.startswith("stages_") or (
        isinstance(link, nn.Sequential) and all(list(child.children()) for child in link)
    )


def _split_head(head: Links) -> tuple[Links, nn.Module]:
    """Part the last layer from what leads to it."""
    head = [(name, link) for name, link in head if not isinstance(link, nn.Identity)]
    with_parameters = [i for i, (_, link) in enumerate(head) if _count_parameters(link)]
    if not with_parameters:
        return head, nn.Identity()
    last = with_parameters[-1]
    if any(not isinstance(link, nn.Flatten | nn.Dropout) for _, link in head[last + 1 :]):
        return head, nn.Identity()
    before = head[:last]
    while before and isinstance(before[-1][1], nn.Dropout):
        before.pop()  # it belongs to the last layer, not to the features
    return before, head[last][1]


def _complete_pool(pool: Links, x: torch.Tensor) -> tuple[Links, torch.Tensor]:
    """Add the pooling and flattening that torchvision writes as function calls."""
    complete: Links = []

    def append(name: str, link: nn.Module) -> None:
        nonlocal x
        complete.append((name, link))
        x = link(x)

    if not any(_pools(name, link) for name, link in pool):
        append("average", nn.AdaptiveAvgPool2d(1))
    for name, link in pool:
        if isinstance(link, nn.Linear) and x.ndim == 4:
            append("flat", nn.Flatten(1))
        append(name, link)
    if x.ndim == 4:
        append("flat", nn.Flatten(1))
    return complete, x


def _pools(name: str, link: nn.Module) -> bool:
    return isinstance(link, nn.AdaptiveAvgPool2d) or "pool" in name or name == "pre_logits"
