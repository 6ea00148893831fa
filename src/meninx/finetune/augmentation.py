"""Augmentation: the same image in several views, each a little different.

A network that trains on tens of images needs augmentation, yet random augmentation would
forbid storing activations. So an image has a small fixed set of views, the same for every
image: its own, and flipped, rotated, scaled, shifted and re-contrasted ones. Training draws
from them; prediction averages over them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

# What a scanner table, a patient's posture and a display setting change between two visits.
LARGEST_ROTATION = math.radians(12)
LARGEST_SCALING = 0.10
LARGEST_SHIFT = 0.05
LARGEST_LOG_GAMMA = 0.25


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes
    ----------
    is_flipped
        Left and right are exchanged.
    rotation
        Rotation, radians.
    scaling
        Magnification, 1 for none.
    shift
        Displacement to the right and down, as a part of half the image's side.
    gamma
        Exponent on the intensities, 1 for none.
    """

    is_flipped: bool = False
    rotation: float = 0.0
    scaling: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    gamma: float = 1.0

    def apply(self, squares: torch.Tensor) -> torch.Tensor:
        """Look at squares ``(n, c, s, s)`` in [0, 1] in this way; black enters at the edges."""
        if self == View():
            return squares
        mirror = -1.0 if self.is_flipped else 1.0
        cosine, sine = (
            math.cos(self.rotation) / self.scaling,
            math.sin(self.rotation) / self.scaling,
        )
        matrix = squares.new_tensor(
            [[mirror * cosine, -sine, self.shift[0]], [mirror * sine, cosine, self.shift[1]]]
        )
        grid = functional.affine_grid(
            matrix.expand(len(squares), 2, 3), list(squares.shape), align_corners=False
        )
        moved = functional.grid_sample(squares, grid, align_corners=False)
        return moved.clamp(0, 1) ** self.gamma


@dataclass(frozen=True)
class OwnView:
    """A caller's transform of squares ``(n, 3, s, s)`` in [0, 1], as one view of an image."""

    transform: Callable[[torch.Tensor], torch.Tensor]

    def apply(self, squares: torch.Tensor) -> torch.Tensor:
        """Transform squares."""
        return self.transform(squares)


def make_views(count: int, strength: float = 1.0) -> tuple[View, ...]:
    """Make a fixed set of views.

    Parameters
    ----------
    count
        How many, at least 1. The first is the image itself, every second one is flipped.
        A longer set starts with the shorter one.
    strength
        How far they depart from the image: 0 only flips, 1 is the usual.

    Returns
    -------
    tuple of View
        Always the same for the same arguments.
    """
    random = np.random.default_rng(20)
    views = [View()]
    for index in range(1, count):
        rotation, scaling, right, down, log_gamma = random.uniform(-strength, strength, 5).tolist()
        views.append(
            View(
                is_flipped=index % 2 == 1,
                rotation=rotation * LARGEST_ROTATION,
                scaling=1 + scaling * LARGEST_SCALING,
                shift=(right * LARGEST_SHIFT, down * LARGEST_SHIFT),
                gamma=math.exp(log_gamma * LARGEST_LOG_GAMMA),
            )
        )
    return tuple(views)
