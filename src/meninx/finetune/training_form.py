"""The training form: a copy of a suffix that trains in the least time."""

import math
from dataclasses import dataclass
from typing import Self

from torch import nn

from meninx.backbones import Backbone
from meninx.finetune.activations import Activations
from meninx.finetune.arithmetic import SIDE_TO_TRY
from meninx.finetune.convolution import freeze_depthwise, fuse_activations, quicken_convolutions
from meninx.finetune.depth import find_residual_blocks
from meninx.finetune.folding import FoldedNetwork
from meninx.finetune.pooling import quicken_pools
from meninx.finetune.strategy import Strategy


@dataclass(frozen=True, eq=False)
class TrainingForm:
    """A copy of a backbone's suffix, in the form that trains fastest.

    Attributes
    ----------
    folded
        The copy.
    residual_blocks
        The names of the blocks that training can leave out of a step.
    """

    folded: FoldedNetwork
    residual_blocks: tuple[str, ...]

    @classmethod
    def of_suffix(
        cls, backbone: Backbone, cut: str, strategy: Strategy, activations: Activations
    ) -> Self:
        """Copy the part of a backbone from the cut on.

        Pretrained BatchNorm layers are folded: their statistics stay ImageNet's, since few
        images say little about them. ``partial`` keeps the depthwise convolutions as well.

        Parameters
        ----------
        backbone, cut
            Left as they are.
        strategy
            By which it will be trained.
        activations
            Its input: part of the first image shows which layer feeds which.
        """
        example = activations.batch([0], [0]).float()
        side = math.ceil(example.shape[-1] * SIDE_TO_TRY / backbone.input_size)
        example = example[..., :side, :side]
        if strategy is Strategy.SCRATCH:
            folded = FoldedNetwork(backbone.suffix(cut), ())
        else:
            folded = FoldedNetwork.fold(backbone.behind(cut), example)
        network = folded.network.requires_grad_(True)
        fuse_activations(network, example)
        is_partial = strategy is Strategy.PARTIAL
        blocks = find_residual_blocks(network, example) if is_partial else []
        quicken_convolutions(network)
        quicken_pools(network)
        if is_partial:
            freeze_depthwise(network)
        return cls(folded, tuple(blocks))

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self.folded.network

    def write_back(self, suffix: nn.Module) -> None:
        """Give the weights to a suffix as it was before, in place."""
        self.folded.write_back(suffix)
