"""Fold networks: what cross-validation trained, kept until the examples are drawn with it.

A heatmap of an image is made by a model that had not seen its patient: that of the fold in which
the image was tested. To train it again would cost as much as it did the first time.
"""

import contextlib
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from meninx.cohort import fingerprint_of
from meninx.errors import OutputError
from meninx.files import write_whole
from meninx.finetune import FineTunedClassifier


@dataclass(frozen=True)
class FoldNetworks:
    """A folder of what was trained; each file is whole or absent.

    A file is named by the hash of settings, pretrained weights, images and labels, so that it can
    never stand for a model of another fold, whose training side may hold the images that are asked
    about.

    Attributes
    ----------
    folder
        Made when it is needed.
    """

    folder: Path

    def fit(
        self, classifier: FineTunedClassifier, images: np.ndarray, labels: np.ndarray
    ) -> FineTunedClassifier:
        """Fit a classifier and keep what was trained, or take what was kept of the same fit.

        Parameters
        ----------
        classifier
            Not fitted.
        images
            ``(n,)`` samples of the training side.
        labels
            ``(n,)`` their class indices.
        """
        file = self.folder / f"{_describe(classifier, images, labels)}.safetensors"
        # Not there, cut short, or of another network.
        with contextlib.suppress(OSError, SafetensorError, RuntimeError):
            _, cut = classifier.choose_network(list(images))
            return classifier.load_state_dict(load_file(file), labels.tolist(), cut)
        classifier.fit(images, labels.tolist())
        # A full disk is no reason to stop: the model can be trained again.
        with contextlib.suppress(OutputError):
            write_whole(file, save(classifier.state_dict()))
        return classifier

    def remove(self) -> None:
        """Remove all that was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _describe(classifier: FineTunedClassifier, images: np.ndarray, labels: np.ndarray) -> str:
    """Hash what tells fits apart: settings, pretrained weights, images in their order, labels."""
    settings = {name: str(value) for name, value in classifier.get_params().items()}
    backbone, _ = classifier.choose_network(list(images))
    seen = [fingerprint_of(image) for image in images]
    content = json.dumps([settings, backbone.source.sha256, seen, labels.tolist()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
