"""Prefix activations: what the frozen part of a network makes of each image and view.

The prefix never changes, so its output for an image and view is computed once, whatever the
number of folds, repeats, strategies and studies. The store is content-addressed: the name of a
file is the hash of all that its content depends on (pixels, weights, preprocessing, device, cut,
views), so it never serves the wrong activations.

A file is in the safetensors format: one tensor ``activations`` ``(v, c, h, w)``, one entry a
view, and in its header ``format`` and ``sha256``, the checksum of the file's name and the
tensor's bytes, so that a file in another one's place is refused. It is memory-mapped, so that all
processes share what they read. A file that is cut short, altered or of another format is computed
again. Once the store passes its limit (20 GiB, or the environment variable
``MENINX_CACHE_GIB``), the files that were not used for longest are removed.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Image, Images, as_array, fingerprint_of
from meninx.files import write_whole
from meninx.finetune.augmentation import OwnView, View
from meninx.finetune.folding import fold_batch_norm

# Raise it when the numbers that a prefix gives could change.
FORMAT = "meninx-activations-4"

USUAL_LIMIT_GIB = 20.0

# Views that run through the prefix at a time: their maps fit into a processor's caches.
PART = 4


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
    views: tuple[View | OwnView, ...]

    def __len__(self) -> int:
        return len(self.squares)

    def batch(self, rows: Sequence[int], views: Sequence[int]) -> torch.Tensor:
        """Give the network's input ``(b, 3, s, s)`` for b images, each in one of its views."""
        seen = [
            self.views[view].apply(self.squares[row : row + 1].float())
            for row, view in zip(rows, views, strict=True)
        ]
        return self.backbone.normalise(torch.cat(seen))


class ActivationStore:
    """Activations on disk.

    Parameters
    ----------
    folder
        Where they lie; by default ``MENINX_CACHE`` or ``~/.cache/meninx``.
    device
        Where they are computed.
    """

    def __init__(self, folder: Path | None = None, device: torch.device | None = None) -> None:
        default = os.environ.get("MENINX_CACHE") or Path.home() / ".cache" / "meninx"
        self.folder = Path(folder or default) / "activations"
        self.device = device or torch.device("cpu")

    def get(
        self, backbone: Backbone, cut: str, images: Images, views: tuple[View | OwnView, ...]
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
            squares = torch.cat([backbone.to_square([as_array(image)]) for image in images])
            # Half precision has 11 bits: more than a display shows, in half the memory.
            return LiveImages(backbone, squares.half(), views)
        if not all(isinstance(view, View) for view in views):
            # What a function does cannot be put into an address.
            runs = (self._run_prefix(backbone, [cut], image, views) for image in images)
            return StoredActivations(tuple(tensor for ((_, tensor),) in runs))
        return StoredActivations(
            tuple(self._find(backbone, (cut,), image, views)[cut] for image in images)
        )

    def fill(
        self,
        backbone: Backbone,
        cuts: Sequence[str],
        images: Images,
        views: tuple[View | OwnView, ...],
    ) -> None:
        """Compute what is missing at several cuts, in one pass through the network an image.

        Parameters
        ----------
        backbone, cuts, images, views
            As in :meth:`get`; the cut ``stem`` needs no activations and is passed over.
        """
        wanted = tuple(cut for cut in backbone.cuts if cut in cuts and cut != "stem")
        for image in images:
            self._find(backbone, wanted, image, views)

    def trim(self) -> None:
        """Remove the files that were not used for longest, until the rest is within the limit."""
        limit = float(os.environ.get("MENINX_CACHE_GIB") or USUAL_LIMIT_GIB) * 2**30
        files = []
        for file in self.folder.glob("*/*.safetensors"):
            # Another study may remove a file while this one looks.
            with contextlib.suppress(OSError):
                files.append((file.stat().st_mtime, file.stat().st_size, file))
        kept = 0
        for _, size, file in sorted(files, reverse=True):
            kept += size
            if kept > limit:
                file.unlink(missing_ok=True)

    def _find(
        self,
        backbone: Backbone,
        cuts: tuple[str, ...],
        image: Image,
        views: tuple[View | OwnView, ...],
    ) -> dict[str, torch.Tensor]:
        """Read one image's activations at some cuts; compute and store those not there."""
        address = self._describe(backbone, image, views)
        found = {cut: _read(self._path(address, cut)) for cut in cuts}
        missing = [cut for cut, tensor in found.items() if tensor is None]
        if missing:
            for cut, tensor in self._run_prefix(backbone, missing, image, views):
                _write(self._path(address, cut), tensor)
                found[cut] = tensor
        return {cut: tensor for cut, tensor in found.items() if tensor is not None}

    def _run_prefix(
        self,
        backbone: Backbone,
        cuts: Sequence[str],
        image: Image,
        views: tuple[View | OwnView, ...],
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Run an image's views through the backbone, stopping before each of some cuts.

        The views of one image are the batch, so that its activations do not depend, not even in
        the last bit, on which other images a cohort has.
        """
        network = _fold(backbone, self.device)
        square = backbone.to_square([as_array(image)])
        inputs = backbone.normalise(torch.cat([view.apply(square) for view in views]))
        parts = inputs.to(self.device, memory_format=torch.channels_last).split(PART)
        for name, layer in [*network.named_children(), ("head", nn.Identity())]:
            if name in cuts:
                whole = torch.cat([part.cpu() for part in parts])
                yield name, whole.clone(memory_format=torch.contiguous_format)
            if name == cuts[-1]:
                return
            with torch.inference_mode():
                parts = tuple(layer(part) for part in parts)

    def _describe(
        self, backbone: Backbone, image: Image, views: tuple[View | OwnView, ...]
    ) -> dict[str, Any]:
        """List all that an image's activations depend on, the cut apart."""
        return {
            "format": FORMAT,
            "pixels": fingerprint_of(image),
            "backbone": backbone.name,
            "weights": backbone.source.sha256 or backbone.source.location,
            "preparation": [backbone.input_size, backbone.mean, backbone.std],
            "device": self.device.type,
            "views": _describe_views(views),
            "torch": torch.__version__,
        }

    def _path(self, address: dict[str, Any], cut: str) -> Path:
        content = json.dumps({**address, "cut": cut}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"


@lru_cache(maxsize=2)
def _fold(backbone: Backbone, device: torch.device) -> nn.Module:
    """Fold a whole backbone once a process; its prefixes are parts of it."""
    folded = fold_batch_norm(backbone.network, backbone.input_size)
    return folded.to(device).to(memory_format=torch.channels_last)


@lru_cache(maxsize=64)
def _describe_views(views: tuple[View | OwnView, ...]) -> list[dict[str, Any]]:
    """Describe views once, not for every image."""
    return [asdict(view) for view in views if isinstance(view, View)]


def _write(path: Path, activations: torch.Tensor) -> None:
    metadata = {"format": FORMAT, "sha256": _hash(path, activations)}
    write_whole(path, save({"activations": activations}, metadata=metadata))


# Checked once a process: hashing again for every fold would cost more than training a head.
_checked: set[Path] = set()


def _read(path: Path) -> torch.Tensor | None:
    """Map a file's activations; None where it is not there, incomplete, altered or foreign."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                return None
            activations: torch.Tensor = file.get_tensor("activations")
        if path not in _checked:
            if _hash(path, activations) != metadata.get("sha256"):
                return None
            # The time of last use, for `trim`.
            path.touch()
            _checked.add(path)
    except (OSError, SafetensorError):
        return None
    return activations


def _hash(path: Path, activations: torch.Tensor) -> str:
    digest = hashlib.sha256(path.name.encode())
    digest.update(activations.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
