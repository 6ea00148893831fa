"""The bundle: a trained model as a folder that can be given to someone.

It holds numbers and text only: weights as safetensors, everything else as JSON. Nothing in it
is executed when it is opened.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Image, as_pixels, fingerprint_of
from meninx.errors import BundleError
from meninx.evaluate import Calibration
from meninx.explain import crop_to_image, draw_overlay, explain
from meninx.files import write_whole
from meninx.finetune import FineTunedClassifier, build_head, make_views

FORMAT = "meninx-bundle-1"
NOTICE = "Research software, not a medical device: no diagnosis may rest on it."


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
    backbone, strategy, cut, extra_layers
        How it was made.
    pretrained
        Where the pretrained weights came from: kind, location, sha256.
    classes
        Names, in the order of the logits.
    views, augmentation
        What an image is seen in; probabilities are made from the mean logits.
    calibration
        Temperature, threshold and level of prediction sets.
    cohort
        Numbers of images and patients, per class, and a checksum of the pixels.
    scores
        The study's headline, with its interval.
    versions
        Of the software that made it.
    weights_sha256
        Checksum of ``weights.safetensors``.
    """

    format: str
    notice: str
    synthetic: bool
    backbone: str
    strategy: str
    cut: str
    extra_layers: tuple[int, ...]
    pretrained: dict[str, str]
    classes: tuple[str, ...]
    views: int
    augmentation: float
    input_size: int
    calibration: dict[str, float]
    cohort: dict[str, Any]
    scores: dict[str, Any]
    versions: dict[str, str]
    weights_sha256: str


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
    """

    probabilities: dict[str, float]
    prediction_set: tuple[str, ...]

    @property
    def most_probable(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def describe(self, image: str, heatmap: str | None) -> dict[str, Any]:
        """Give one entry of ``predict --json``, for an image's name and its heatmap's address.

        ``patient`` is None: a bundle knows no patients. ``out_of_distribution`` is None: it is
        not assessed by this version.
        """
        return {
            "image": image,
            "patient": None,
            "probabilities": self.probabilities,
            "prediction_set": list(self.prediction_set),
            "out_of_distribution": None,
            "heatmap": heatmap,
        }


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with all that is needed to use and to judge it.

    Attributes
    ----------
    card
        What it says about itself.
    backbone
        Prepares images; its own weights are not used.
    network
        From normalised images ``(n, 3, s, s)`` to logits ``(n, k)``.
    """

    card: Card
    backbone: Backbone
    network: nn.Sequential

    @classmethod
    def save(
        cls,
        folder: Path,
        classifier: FineTunedClassifier,
        classes: Sequence[str],
        calibration: Calibration,
        facts: Mapping[str, Any],
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
        """
        weights = save(
            {name: t.contiguous() for name, t in classifier.network_.state_dict().items()}
        )
        source = classifier.backbone_.source
        card = Card(
            format=FORMAT,
            notice=NOTICE,
            backbone=classifier.backbone,
            strategy=str(classifier.strategy),
            cut=classifier.cut_,
            extra_layers=tuple(classifier.extra_layers),
            pretrained={
                "kind": source.kind.value,
                "location": source.location,
                "sha256": source.sha256,
            },
            classes=tuple(classes),
            views=classifier.views,
            augmentation=classifier.augmentation,
            input_size=classifier.backbone_.input_size,
            calibration=asdict(calibration),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            **facts,
        )
        (folder / "bundle.json").unlink(missing_ok=True)
        write_whole(folder / "weights.safetensors", weights)
        # Last: with it the bundle is whole.
        write_whole(folder / "bundle.json", json.dumps(asdict(card), indent=1).encode())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a bundle.

        Raises
        ------
        BundleError
            It is incomplete, altered, or no bundle of this format.
        """
        card = _read_card(folder)
        try:
            weights = (folder / "weights.safetensors").read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder} has no weights.safetensors; ask for the whole bundle"
            ) from error
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise BundleError(
                f"{folder / 'weights.safetensors'} is not the file that bundle.json describes "
                "(another checksum); it was altered or damaged: ask for the bundle again"
            )
        backbone = Backbone.untrained(card.backbone)
        head = build_head(backbone.features, len(card.classes), card.extra_layers, dropout=0)
        parts = [*backbone.network.named_children(), ("head", head)]
        network = nn.Sequential(OrderedDict(parts)).eval()
        try:
            network.load_state_dict(load(weights))
        except (RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(f"the weights in {folder} do not fit its card: {reason}") from error
        return cls(card, backbone.resized(card.input_size), network)

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
        calibration = Calibration(**self.card.calibration)
        predictions = []
        for image in images:
            probabilities = calibration.apply(self._compute_logits(image))
            members = calibration.choose_set(probabilities)[0]
            predictions.append(
                Prediction(
                    dict(zip(self.card.classes, probabilities[0].tolist(), strict=True)),
                    tuple(np.asarray(self.card.classes)[members].tolist()),
                )
            )
        return predictions

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
        pictures = [as_pixels(path) for path in images]
        answers = []
        for path, pixels, prediction in zip(images, pictures, self.predict(pictures), strict=True):
            drawn = None
            if heatmaps is not None:
                overlay = draw_overlay(pixels, self.explain(pixels, prediction.most_probable))
                name = f"{fingerprint_of(pixels)[:16]}.png"
                drawn = str(write_whole(heatmaps / name, overlay))
            answers.append(prediction.describe(str(path), drawn))
        return answers

    def explain(self, image: Image, label: str) -> np.ndarray:
        """Compute where in an image the network found a class.

        Returns
        -------
        np.ndarray
            ``(h, w)`` of the image, in [0, 1].

        Raises
        ------
        BundleError
            It knows no such class.
        ImageError
            The image cannot be read.
        """
        if label not in self.card.classes:
            raise BundleError(f"this bundle knows {', '.join(self.card.classes)}, not {label!r}")
        pixels = as_pixels(image)
        inputs = self.backbone.prepare([pixels])
        heatmap = explain(self.network, inputs, [self.card.classes.index(label)])[0]
        return crop_to_image(heatmap, *pixels.shape[:2])

    def _compute_logits(self, image: Image) -> np.ndarray:
        """Average the logits ``(1, k)`` of an image over its views."""
        square = self.backbone.to_square([as_pixels(image)])
        views = make_views(self.card.views, self.card.augmentation)
        seen = torch.cat([view.apply(square) for view in views])
        with torch.inference_mode():
            logits = self.network(self.backbone.normalise(seen))
        mean: np.ndarray = logits.mean(dim=0, keepdim=True).double().numpy()
        return mean


def _read_card(folder: Path) -> Card:
    try:
        content = json.loads((folder / "bundle.json").read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is no bundle: it has no bundle.json") from error
    except (ValueError, OSError) as error:
        raise BundleError(f"{folder / 'bundle.json'} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f"{folder} is no bundle of the format {FORMAT}")
    for name in ("classes", "extra_layers"):
        content[name] = tuple(content.get(name, ()))
    try:
        return Card(**content)
    except TypeError as error:
        raise BundleError(f"{folder / 'bundle.json'} lacks a field, or has one too many") from error
