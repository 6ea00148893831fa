"""The bundle: a trained model as a folder that can be given to someone.

It holds numbers and text only: weights as safetensors, everything else as JSON. Nothing in it
is executed when it is opened.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from meninx.bundle.card import CARD_FILE, FORMAT, Card, read_card
from meninx.bundle.member import Member, check_fits, describe_member, join_logits
from meninx.cohort import Image, as_array, as_head, fingerprint_of
from meninx.errors import BundleError
from meninx.evaluate import Calibration
from meninx.explain import draw_overlay
from meninx.files import write_whole
from meninx.finetune import Ensemble, FineTunedClassifier
from meninx.ood import OODDetector, OODScore

WEIGHTS_FILE, OOD_FILE = "weights.safetensors", "ood.safetensors"
NOTICE = "Research software, not a medical device: no diagnosis may rest on it."


@dataclass(frozen=True)
class Prediction:
    """What a bundle says of one image.

    Attributes
    ----------
    probabilities
        Class to its calibrated probability; they sum to 1.
    prediction_set
        The classes that cannot be excluded at the bundle's level; several, or none, means that
        it cannot tell.
    ood
        How unlike the training images it is; None where the bundle has not learned that.
    """

    probabilities: dict[str, float]
    prediction_set: tuple[str, ...]
    ood: OODScore | None = None

    @property
    def most_probable(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def describe(self, image: str, heatmap: str | None) -> dict[str, Any]:
        """Give one entry of ``predict --json``, for an image's name and its heatmap's address.

        ``patient`` is None: a patient's pseudonym is made from all images of that patient, and
        one image cannot tell it. ``out_of_distribution`` is true, false, or None where the
        bundle cannot tell; ``ood`` holds the ``score`` and ``threshold`` behind it.
        """
        ood = self.ood
        return {
            "image": image,
            "patient": None,
            "probabilities": self.probabilities,
            "prediction_set": list(self.prediction_set),
            "out_of_distribution": ood and ood.is_out_of_distribution,
            "ood": ood and {"score": ood.distance, "threshold": ood.threshold},
            "heatmap": heatmap,
        }


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with all that is needed to use and to judge it.

    Attributes
    ----------
    card
        What it says about itself.
    members
        The networks that answer, mostly one; the mean of their probabilities is calibrated.
    calibration
        From logits to probabilities and prediction sets.
    ood
        Tells images unlike those it was trained on; None where that was not learned.
    """

    card: Card
    members: tuple[Member, ...]
    calibration: Calibration
    ood: OODDetector | None

    @classmethod
    def save(
        cls,
        folder: Path,
        classifier: FineTunedClassifier | Ensemble,
        classes: Sequence[str],
        calibration: Calibration,
        facts: Mapping[str, Any],
        ood: OODDetector | None = None,
    ) -> Self:
        """Write a fitted classifier as a bundle and open it.

        Parameters
        ----------
        folder
            Made if it is not there; a bundle in it is replaced.
        classifier
            Fitted on class indices.
        classes
            Their names.
        calibration
            From out-of-fold predictions.
        facts
            ``synthetic``, ``cohort``, ``scores`` and ``versions`` of :class:`Card`.
        ood
            Learned from the same images.
        """
        members = classifier.members_ if isinstance(classifier, Ensemble) else [classifier]
        weights = save(
            {
                f"{_name_member(index)}.{name}": tensor.contiguous()
                for index, member in enumerate(members)
                for name, tensor in member.network_.state_dict().items()
            }
        )
        card = Card(
            format=FORMAT,
            notice=NOTICE,
            members=tuple(map(describe_member, members)),
            classes=tuple(classes),
            calibration=asdict(calibration),
            weights_sha256=_hash(weights),
            **facts,
        )
        (folder / CARD_FILE).unlink(missing_ok=True)
        (folder / OOD_FILE).unlink(missing_ok=True)
        write_whole(folder / WEIGHTS_FILE, weights)
        if ood is not None:
            content = save({name: t.contiguous() for name, t in ood.as_tensors().items()})
            write_whole(folder / OOD_FILE, content)
            card = replace(card, ood={**ood.as_dict(), "sha256": _hash(content)})
        # Last: with it the bundle is whole.
        write_whole(folder / CARD_FILE, json.dumps(asdict(card), indent=1).encode())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a bundle.

        Raises
        ------
        BundleError
            It is incomplete, altered, or no bundle of this format.
        """
        card = read_card(folder)
        content = _read_weights(folder / WEIGHTS_FILE, card.weights_sha256)
        return cls(
            card=card,
            members=_restore_members(card, content, folder),
            calibration=_restore_calibration(card, folder),
            ood=_open_ood_detector(card, folder),
        )

    def predict(self, images: Sequence[Image]) -> list[Prediction]:
        """Classify images.

        Parameters
        ----------
        images
            Paths, or arrays in [0, 1].

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        return [self.classify(self.see(image)) for image in images]

    def see(self, image: Image) -> np.ndarray:
        """Give what the network is given of an image: its head alone, if it was trained so.

        Returns
        -------
        np.ndarray
            float32 in [0, 1], ``(h, w)`` or ``(h, w, 3)``.
        """
        return as_head(image) if self.card.is_cropped else as_array(image)

    def classify(self, seen: np.ndarray) -> Prediction:
        """Classify what :meth:`see` gave of an image."""
        probabilities = self.calibration.apply(self._compute_logits(seen))
        chosen = self.calibration.choose_set(probabilities)[0]
        return Prediction(
            dict(zip(self.card.classes, probabilities[0].tolist(), strict=True)),
            tuple(np.asarray(self.card.classes)[chosen].tolist()),
            self.ood.assess([seen])[0] if self.ood else None,
        )

    def examine(self, image: Image) -> tuple[np.ndarray, Prediction, np.ndarray]:
        """Classify an image, and explain the answer, reading it once.

        Returns
        -------
        seen
            As :meth:`see`.
        prediction
            As :meth:`predict`.
        heatmap
            ``(h, w)`` of what was seen, in [0, 1]: where the most probable class was found.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        seen = self.see(image)
        prediction = self.classify(seen)
        return seen, prediction, self._explain_seen(seen, prediction.most_probable)

    def describe(
        self, images: Sequence[Path], heatmaps: Path | None = None
    ) -> list[dict[str, Any]]:
        """Give what ``predict --json`` prints.

        Parameters
        ----------
        images
            Files.
        heatmaps
            A folder for pictures of each image with the heatmap of its most probable class,
            named by the image's pixels, since a file name may hold a patient's.

        Returns
        -------
        list of dict
            An entry an image; see :meth:`Prediction.describe`.
        """
        answers = []
        for path in images:
            if heatmaps is None:
                answers.append(self.classify(self.see(path)).describe(str(path), None))
                continue
            seen, prediction, heatmap = self.examine(path)
            name = f"{fingerprint_of(seen)[:16]}.png"
            drawn = write_whole(heatmaps / name, draw_overlay(seen, heatmap))
            answers.append(prediction.describe(str(path), str(drawn)))
        return answers

    def explain(self, image: Image, label: str) -> np.ndarray:
        """Compute where in an image the networks found a class.

        Returns
        -------
        np.ndarray
            ``(h, w)`` of what they are given of the image (see :meth:`see`), in [0, 1]: the mean
            of the members' heatmaps, so that 1 is where all of them found most.

        Raises
        ------
        BundleError
            It knows no such class.
        ImageError
            The image cannot be read.
        """
        if label not in self.card.classes:
            raise BundleError(f"this bundle knows {', '.join(self.card.classes)}, not {label!r}")
        return self._explain_seen(self.see(image), label)

    def _explain_seen(self, seen: np.ndarray, label: str) -> np.ndarray:
        index = self.card.classes.index(label)
        mean: np.ndarray = np.mean([member.explain(seen, index) for member in self.members], axis=0)
        return mean

    def _compute_logits(self, seen: np.ndarray) -> np.ndarray:
        """Compute the logits ``(1, k)`` of what was seen of an image."""
        joint: np.ndarray = join_logits([one.answer(seen).double() for one in self.members]).numpy()
        return joint


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_weights(path: Path, sha256: object) -> bytes:
    """Read a file of tensors and see that it is the one that the card describes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path.parent} has no {path.name} that can be read; ask for the whole bundle"
        ) from error
    if _hash(content) != sha256:
        raise BundleError(
            f"{path} is not the file that {CARD_FILE} describes (another checksum); it was "
            "altered or damaged: ask for the bundle again"
        )
    return content


def _name_member(index: int) -> str:
    """Give what the names of a member's tensors begin with: ``member1`` of the first."""
    return f"member{index + 1}"


def _restore_members(card: Card, content: bytes, folder: Path) -> tuple[Member, ...]:
    """Build the networks that a card describes, if the weights at hand can fill all of them."""
    parts = _divide_weights(content, len(card.members), folder)
    # All before the first is built: a card that asks for too much is to cost nothing.
    for index, (described, tensors) in enumerate(zip(card.members, parts, strict=True)):
        with _say_which(index, folder):
            check_fits(described, tensors)
    members = []
    for index, (described, tensors) in enumerate(zip(card.members, parts, strict=True)):
        with _say_which(index, folder):
            members.append(Member.from_tensors(described, len(card.classes), tensors))
    return tuple(members)


def _divide_weights(content: bytes, count: int, folder: Path) -> list[dict[str, torch.Tensor]]:
    """Read a file of weights and give each member its tensors, by their names in its network."""
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise BundleError(f"the weights in {folder} cannot be read: {error}") from error
    parts: dict[str, dict[str, torch.Tensor]] = {_name_member(index): {} for index in range(count)}
    for name, tensor in tensors.items():
        owner, _, inner = name.partition(".")
        if owner not in parts:
            raise BundleError(f"the weights in {folder} are not of the networks in its card")
        parts[owner][inner] = tensor
    return list(parts.values())


@contextmanager
def _say_which(index: int, folder: Path) -> Iterator[None]:
    """Say in an error which member it is about."""
    try:
        yield
    except BundleError as error:
        message = f"{_name_member(index)} of the bundle in {folder} cannot be used: {error}"
        raise BundleError(message) from error


def _restore_calibration(card: Card, folder: Path) -> Calibration:
    """Make the calibration and try it, so that no odd value waits for the first image."""
    try:
        calibration = Calibration(**card.calibration)
        is_sound = calibration.temperature > 0
        if is_sound:
            probabilities = calibration.apply(np.zeros((1, len(card.classes))))
            chosen = calibration.choose_set(probabilities)
            is_sound = probabilities.shape == chosen.shape and np.isfinite(probabilities).all()
    # Whatever a value that is no number may raise in arithmetic.
    except Exception as error:
        raise BundleError(f"the calibration in {folder} cannot be used") from error
    if not is_sound:
        raise BundleError(f"the calibration in {folder} cannot be used")
    return calibration


def _open_ood_detector(card: Card, folder: Path) -> OODDetector | None:
    if card.ood is None:
        return None
    content = _read_weights(folder / OOD_FILE, card.ood.get("sha256"))
    try:
        return OODDetector.from_tensors(card.ood, load(content))
    except (ValueError, SafetensorError) as error:
        raise BundleError(
            f"the detector of unlike images in {folder} cannot be used: {error}"
        ) from error
