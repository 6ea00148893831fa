"""The member: one of the networks of a bundle, and what several of them say together."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import nn

from meninx.backbones import Backbone
from meninx.backbones.architectures import find_architecture
from meninx.bundle.card import MemberCard
from meninx.errors import BackboneError, BundleError
from meninx.explain import crop_to_image, explain
from meninx.finetune import FineTunedClassifier, build_head, fold_batch_norm, make_views
from meninx.finetune.augmentation import View

# ImageNet's classifier, which an architecture counts and a bundle does not hold.
LARGEST_CLASSIFIER = 2**26

# Views that run through a network at a time: their maps fit into a processor's caches.
PART = 4

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Member:
    """One network, with what it needs to be shown an image.

    Attributes
    ----------
    backbone
        Prepares images; its own weights are not used.
    network
        From normalised images ``(n, 3, s, s)`` to logits ``(n, k)``.
    views
        What an image is seen in.
    """

    backbone: Backbone
    network: nn.Sequential
    views: tuple[View, ...]

    @classmethod
    def from_tensors(cls, card: MemberCard, classes: int, tensors: Tensors) -> Self:
        """Build the network that a card describes and give it its weights.

        Parameters
        ----------
        card
            One that :func:`check_fits` passed with these tensors.
        classes
            How many logits it has.
        tensors
            By their names in the network.

        Raises
        ------
        BundleError
            The tensors do not fit, or hold values that are no numbers.
        """
        try:
            backbone = Backbone.untrained(card.backbone)
        except BackboneError as error:
            raise BundleError(f"its backbone cannot be had: {error}") from error
        widths = (backbone.features, *card.extra_layers, classes)
        if 4 * sum(a * b for a, b in pairwise(widths)) > _count_bytes(tensors):
            raise BundleError("its card describes a larger head than its weights")
        head = build_head(backbone.features, classes, card.extra_layers, dropout=0)
        parts = [*backbone.network.named_children(), ("head", head)]
        network = nn.Sequential(OrderedDict(parts)).eval()
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(f"its weights do not fit its card: {reason}") from error
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise BundleError("its weights hold values that are no numbers")
        views = make_views(card.views, card.augmentation)
        return cls(backbone.resized(card.input_size), network, views)

    def compute_logits(self, squares: torch.Tensor) -> torch.Tensor:
        """Average the logits ``(n, k)`` of squares ``(n, 3, s, s)`` in [0, 1] over the views."""
        return self._average(self.network(self._look(squares)))

    def answer(self, pixels: np.ndarray) -> torch.Tensor:
        """Compute the logits ``(1, k)`` of an image quickly; see :meth:`compute_logits`.

        They differ from those by rounding only, some millionths.
        """
        with torch.inference_mode():
            inputs = self._look(self.backbone.to_square([pixels]))
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            return self._average(torch.cat([self._folded(part) for part in inputs.split(PART)]))

    # What only opens a bundle, to read its card say, does not need it.
    @cached_property
    def _folded(self) -> nn.Module:
        folded = fold_batch_norm(self.network, self.backbone.input_size)
        return folded.to(memory_format=torch.channels_last)

    def _look(self, squares: torch.Tensor) -> torch.Tensor:
        """Give what the network is given of squares: all in one view after the other."""
        # A view treats all channels alike. With the batch laid out as channels of one image
        # its sampling grid does not depend on n, so export makes it a constant.
        channels = squares.flatten(0, 1)[None]
        seen = [view.apply(channels)[0].unflatten(0, (-1, 3)) for view in self.views]
        return self.backbone.normalise(torch.cat(seen))

    def _average(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.unflatten(0, (len(self.views), -1)).mean(dim=0)

    def explain(self, pixels: np.ndarray, label: int) -> np.ndarray:
        """Compute where in an image it found a class, ``(h, w)`` in [0, 1]."""
        heatmap = explain(self.network, self.backbone.prepare([pixels]), [label])[0]
        return crop_to_image(heatmap, *pixels.shape[:2])


def describe_member(classifier: FineTunedClassifier) -> MemberCard:
    """Describe a fitted classifier.

    Raises
    ------
    BundleError
        It holds code of its user's own, which a bundle, that is never executed, cannot carry.
    """
    if not isinstance(classifier.backbone, str) or classifier.transforms is not None:
        raise BundleError(
            "a bundle holds weights and no code: a network or transforms of your own cannot be "
            "written into one; use a backbone by its name and the recipe's views"
        )
    source = classifier.backbone_.source
    return MemberCard(
        backbone=classifier.backbone,
        strategy=str(classifier.strategy),
        cut=classifier.cut_,
        extra_layers=tuple(classifier.extra_layers),
        pretrained={
            "kind": source.kind.value,
            "location": source.location,
            "sha256": source.sha256,
        },
        views=classifier.recipe_.views,
        augmentation=classifier.recipe_.augmentation,
        input_size=classifier.backbone_.input_size,
    )


def check_fits(card: MemberCard, tensors: Tensors) -> None:
    """Refuse a card whose network the tensors cannot fill, without building it.

    Raises
    ------
    BundleError
        It names no known network, or a larger one.
    """
    try:
        parameters = find_architecture(card.backbone).count_parameters()
    except BackboneError as error:
        raise BundleError(f"its backbone cannot be had: {error}") from error
    if 4 * parameters > _count_bytes(tensors) + LARGEST_CLASSIFIER:
        raise BundleError("its card describes a larger network than its weights")


def join_logits(members: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the logits ``(n, k)`` of members to those of the mean of their probabilities.

    Those of a single member are left as they are.
    """
    if len(members) == 1:
        return members[0]
    each = torch.stack([logits.log_softmax(dim=1) for logits in members])
    return each.logsumexp(dim=0) - math.log(len(members))


def _count_bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
