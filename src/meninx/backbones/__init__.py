"""Backbones: pretrained CNNs, where their weights come from, and where they can be cut.

Second stage of the flow. In comes the name of a network, as timm or torchvision spell it; out
comes a :class:`Backbone`: its layers as named stages (stem, stage1 … stageN, pool), frozen and
in evaluation mode, with the checksum of the weights it holds. A cut between two stages gives a
frozen prefix, whose activations can be kept, and a suffix that is trained.

:func:`catalogue` says which weights can be had on this machine without a network.
"""

from meninx.backbones.backbone import Backbone
from meninx.backbones.catalogue import CatalogueEntry, catalogue
from meninx.backbones.preparation import to_square
from meninx.backbones.stages import Stage
from meninx.backbones.weights import WeightsKind, WeightsSource

__all__ = [
    "Backbone",
    "CatalogueEntry",
    "Stage",
    "WeightsKind",
    "WeightsSource",
    "catalogue",
    "to_square",
]
