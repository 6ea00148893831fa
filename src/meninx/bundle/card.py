"""The card: what a bundle says about itself, and the check that it says it soundly.

A bundle may come from anyone. Whatever stands in its card is looked at here, before a number
of it decides how much memory is taken or what is shown.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from meninx.errors import BundleError

FORMAT = "meninx-bundle-2"
CARD_FILE = "bundle.json"
LARGEST_CARD = 2**20  # bytes
LARGEST_SIDE, MOST_VIEWS = 4096, 256
# Views of one image, of all members together: 64 of 512 × 512 and any fewer, smaller ones.
MOST_PIXELS = 64 * 512**2
MOST_MEMBERS = 8
MOST_CLASSES, MOST_LAYERS, WIDEST_LAYER = 1000, 16, 65536


@dataclass(frozen=True)
class MemberCard:
    """What a bundle says about one of its networks.

    Attributes
    ----------
    backbone, strategy, cut, extra_layers
        How it was made.
    pretrained
        Where the pretrained weights came from: kind, location, sha256.
    views, augmentation
        What an image is seen in; probabilities are made from the mean logits.
    input_size
        Side of the square that images are resized to, pixels.
    """

    backbone: str
    strategy: str
    cut: str
    extra_layers: tuple[int, ...]
    pretrained: dict[str, str]
    views: int
    augmentation: float
    input_size: int


@dataclass(frozen=True)
class Card:
    """What a bundle says about itself: the content of ``bundle.json``.

    Attributes
    ----------
    format
        Which version of this layout.
    notice
        That it is no medical device.
    synthetic
        Whether it was trained on synthetic images: then it is a demonstration, nothing else.
    members
        The networks whose probabilities are averaged; often just one.
    classes
        Names, in the order of the logits.
    calibration
        Temperature, thresholds and level of prediction sets.
    cohort
        Numbers of images and patients, per class, and a checksum of the pixels.
    scores
        The study's headline, with its interval.
    versions
        Of the software that made it.
    weights_sha256
        Checksum of ``weights.safetensors``.
    is_cropped
        Whether it is given the head alone: new images are cropped as the training images were.
    ood
        What :meth:`meninx.evaluate.OODDetector.as_dict` gives, and ``sha256``, the checksum
        of ``ood.safetensors``; None when it was not learned.
    """

    format: str
    notice: str
    synthetic: bool
    members: tuple[MemberCard, ...]
    classes: tuple[str, ...]
    calibration: dict[str, Any]
    cohort: dict[str, Any]
    scores: dict[str, Any]
    versions: dict[str, str]
    weights_sha256: str
    is_cropped: bool = False
    ood: dict[str, Any] | None = None


def read_card(folder: Path) -> Card:
    """Read and check a bundle's card.

    Raises
    ------
    BundleError
        It is missing, no card of this format, or says something impossible.
    """
    path = folder / CARD_FILE
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise BundleError(f"{path} is larger than any card of a bundle")
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is no bundle: it has no {CARD_FILE}") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no JSON that can be read") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(
            f"{folder} is no bundle of the format {FORMAT}; earlier formats, from before the first "
            "release, are not read: run the study again"
        )
    _check_fields(content, Card, str(path))
    for number, member in enumerate(content["members"], 1):
        _check_fields(member, MemberCard, f"member {number} in {path}")
    if (
        sum(member["views"] * member["input_size"] ** 2 for member in content["members"])
        > MOST_PIXELS
    ):
        raise BundleError(f"{path} asks for more and larger views of an image than fit in memory")
    members = tuple(
        MemberCard(**{**member, "extra_layers": tuple(member["extra_layers"])})
        for member in content["members"]
    )
    return Card(**{**content, "members": members, "classes": tuple(content["classes"])})


def _check_fields(
    content: Mapping[str, Any], kind: type[Card] | type[MemberCard], where: str
) -> None:
    """Refuse a card with a field too few, too many, or of an impossible value."""
    known = {field.name: field for field in fields(kind)}
    if unknown := content.keys() - known.keys():
        raise BundleError(f"{where} has a field that no card has: {sorted(unknown)[0]!r}")
    for name, field in known.items():
        if name not in content:
            if field.default is MISSING:
                raise BundleError(f"{where} lacks the field {name!r}")
        elif not _CHECKS[name](content[name]):
            raise BundleError(f"{where} has a value for {name!r} that no bundle can have")


def _is_text(value: object) -> bool:
    """Tell whether it is text that a terminal shows as it is."""
    return isinstance(value, str) and 0 < len(value) <= 1000 and value.isprintable()


def _is_whole(low: int, high: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return check


def _is_number(low: float, high: float) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        )

    return check


def _is_list(check: Callable[[object], bool], fewest: int, most: int) -> Callable[[object], bool]:
    """Make the check of a list, by a check of its members."""

    def check_all(value: object) -> bool:
        return isinstance(value, list) and fewest <= len(value) <= most and all(map(check, value))

    return check_all


def _is_class_list(value: object) -> bool:
    is_list = _is_list(_is_text, 2, MOST_CLASSES)(value)
    return is_list and isinstance(value, list) and len(set(value)) == len(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_checksum(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64


_CHECKS: dict[str, Callable[[object], bool]] = {
    "format": _is_text,
    "notice": _is_text,
    "synthetic": lambda value: isinstance(value, bool),
    "members": _is_list(_is_mapping, 1, MOST_MEMBERS),
    "backbone": _is_text,
    "strategy": _is_text,
    "cut": _is_text,
    "extra_layers": _is_list(_is_whole(1, WIDEST_LAYER), 0, MOST_LAYERS),
    "pretrained": _is_mapping,
    "classes": _is_class_list,
    "views": _is_whole(1, MOST_VIEWS),
    "augmentation": _is_number(0, 10),
    "input_size": _is_whole(8, LARGEST_SIDE),
    "calibration": _is_mapping,
    "cohort": _is_mapping,
    "scores": _is_mapping,
    "versions": _is_mapping,
    "weights_sha256": _is_checksum,
    "is_cropped": lambda value: isinstance(value, bool),
    "ood": lambda value: value is None or isinstance(value, dict),
}
