"""Prefix activations: what the frozen part of a network makes of each image and view.

The prefix never changes, so its output for an image and view is computed once, whatever the
number of folds, repeats, strategies and studies. The store is content-addressed: the name of
a file is the hash of all that its content depends on (pixels, weights, preprocessing, cut,
views), so it can never serve the wrong activations.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from meninx.backbones import Backbone
from meninx.cohort import Image, Images, as_pixels, fingerprint_of
from meninx.files import write_whole
from meninx.finetune.views import View

# Raise it when the numbers that a prefix gives could change.
FORMAT = "meninx-activations-1"


class Activations(Protocol):
    """The input of a suffix, for some images in all their views."""

    def __len__(self) -> int:
        """Count the images."""

    def batch(self, rows: Sequence[int], views: Sequence[int]) -> torch.Tensor:
        """Give the activations ``(b, c, h, w)`` of b images, each in one of its views."""


@dataclass(frozen=True, eq=False)
class StoredActivations:
    """Activations computed before, one memory-mapped tensor ``(v, c, h, w)`` an image."""

    tensors: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.tensors)

    def batch(self, rows: Sequence[int], views: Sequence[int]) -> torch.Tensor:
        """Give the activations ``(b, c, h, w)`` of b images, each in one of its views."""
        return torch.stack([self.tensors[row][view] for row, view in zip(rows, views, strict=True)])


@dataclass(frozen=True, eq=False)
class LiveImages:
    """The images themselves, for a network that is trained from its first layer on.

    There is no prefix to save, and eight views of a picture are eight times its size; so
    views are made when they are asked for.
    """

    backbone: Backbone
    squares: torch.Tensor
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.squares)

    def batch(self, rows: Sequence[int], views: Sequence[int]) -> torch.Tensor:
        """Give the network's input ``(b, 3, s, s)`` for b images, each in one of its views."""
        seen = [
            self.views[view].apply(self.squares[row : row + 1].float())
            for row, view in zip(rows, views, strict=True)
        ]
        return self.backbone.normalise(torch.cat(seen).expand(-1, 3, -1, -1))


class ActivationStore:
    """Activations on disk.

    Parameters
    ----------
    folder
        Where they lie; by default ``MENINX_CACHE`` or ``~/.cache/meninx``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        default = os.environ.get("MENINX_CACHE") or Path.home() / ".cache" / "meninx"
        self.folder = Path(folder or default) / "activations"

    def get(
        self, backbone: Backbone, cut: str, images: Images, views: tuple[View, ...]
    ) -> Activations:
        """Give the activations of images at a cut, computing those not yet stored.

        Parameters
        ----------
        backbone, cut
            The prefix is the part of the backbone before the cut.
        images
            Each a :class:`meninx.cohort.Sample`, a path, or an array in [0, 1]: ``(h, w)``,
            ``(c, h, w)`` or ``(h, w, 3)``.
        views
            What each image is seen in.

        Raises
        ------
        ImageError
            An image cannot be read or is none.
        """
        if cut == "stem":
            squares = torch.cat([backbone.to_square([as_pixels(image)]) for image in images])
            is_grey = bool((squares == squares[:, :1]).all())
            # Half precision has 11 bits: more than a display shows, in half the memory.
            return LiveImages(backbone, squares[:, : 1 if is_grey else 3].half(), views)
        self.fill(backbone, (cut,), images, views)
        return StoredActivations(
            tuple(_read(self._path(backbone, cut, image, views)) for image in images)
        )

    def fill(
        self,
        backbone: Backbone,
        cuts: Sequence[str],
        images: Images,
        views: tuple[View, ...],
    ) -> None:
        """Compute what is missing at several cuts, in one pass through the network an image.

        Parameters
        ----------
        backbone, cuts, images, views
            As in :meth:`get`; the cut ``stem`` needs no activations and is passed over.
        """
        for image in images:
            missing = {
                cut: path
                for cut in cuts
                if cut != "stem"
                and not _holds_activations(path := self._path(backbone, cut, image, views))
            }
            if missing:
                for cut, activations in _run_prefix(backbone, list(missing), image, views):
                    content = save({"activations": activations}, metadata={"format": FORMAT})
                    write_whole(missing[cut], content)

    def _path(self, backbone: Backbone, cut: str, image: Image, views: tuple[View, ...]) -> Path:
        """Name the file of one image by all that its content depends on."""
        content = {
            "format": FORMAT,
            "pixels": fingerprint_of(image),
            "backbone": backbone.name,
            "weights": backbone.source.sha256 or backbone.source.location,
            "preparation": [backbone.input_size, backbone.mean, backbone.std],
            "cut": cut,
            "views": [asdict(view) for view in views],
            "torch": torch.__version__,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"


def _run_prefix(
    backbone: Backbone, cuts: list[str], image: Image, views: tuple[View, ...]
) -> list[tuple[str, torch.Tensor]]:
    """Run one image in all its views through the network, stopping at each cut.

    The views of one image are the batch, so that its activations do not depend, not even in
    the last bit, on which other images a cohort has.
    """
    square = backbone.to_square([as_pixels(image)])
    x = backbone.normalise(torch.cat([view.apply(square) for view in views]))
    x = x.contiguous(memory_format=torch.channels_last)
    reached = []
    with torch.inference_mode():
        for name, layers in (*backbone.network.named_children(), ("head", None)):
            if name in cuts:
                reached.append((name, x.clone(memory_format=torch.contiguous_format)))
            if layers is None or len(reached) == len(cuts):
                break
            x = layers(x)
    return reached


def _holds_activations(path: Path) -> bool:
    """Tell whether a file is there, complete and ours."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def _read(path: Path) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor("activations")
        return tensor
