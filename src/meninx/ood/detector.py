"""Out of distribution: whether an image is one that the classifier may be asked about at all.

A classifier of brain MRI gives a photograph a class as readily as it gives a scan one. The
detector looks at what the first stages of a frozen pretrained network make of an image, how
strong and how uneven each channel is, and measures how far that is from the images of the
cohort. Early stages see contrast, sharpness, borders and texture, which is what another
modality, another organ or a damaged file changes; late ones see ImageNet's objects, and told
scans of another kind apart less often here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import GroupKFold
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Images, as_array
from meninx.errors import CohortError
from meninx.evaluate.bootstrap import draw_weights
from meninx.evaluate.intervals import Estimate, estimate_share
from meninx.finetune import load_backbone
from meninx.matrix import REFERENCE_BACKBONE

# The first stage that is not looked at.
CUT = "stage5"
LEVEL = 0.05
FEWEST_PATIENTS = 4
FOLDS = 5
BATCH = 4
# A channel that hardly varies over the cohort is not taken to vary less than this part of the
# usual: else rounding in it would look like news.
SMALLEST_SPREAD = 0.05
WEIGHTS = "network."


@dataclass(frozen=True)
class OODScore:
    """How unlike the cohort's images one image is.

    Attributes
    ----------
    distance
        Root mean square of the whitened activations; below 0.5 for images learned from, about 1
        for new ones of their kind.
    threshold
        Beyond it the image counts as out of distribution.
    """

    distance: float
    threshold: float

    @property
    def is_out_of_distribution(self) -> bool:
        """Whether the image is farther than the threshold; also where it has no distance."""
        return not self.distance <= self.threshold


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Where the images of a cohort lie, as a mean and a shrunken covariance.

    Attributes
    ----------
    centre, scale
        ``(d,)`` mean and spread of each number.
    whitening
        ``(d, d)`` lower triangle: turns standardised numbers into uncorrelated ones.
    """

    centre: np.ndarray
    scale: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Self:
        """Fit to features ``(n, d)`` of at least two images; n may be far below d.

        References
        ----------
        Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88:365. Mahalanobis distance of
        activations: Lee et al. 2018, NeurIPS, "A simple unified framework for detecting
        out-of-distribution samples and adversarial attacks".
        """
        centre, spread = features.mean(axis=0), features.std(axis=0)
        floor = max(SMALLEST_SPREAD * float(np.median(spread)), 1e-12)
        scale = np.maximum(spread, floor)
        covariance, _ = ledoit_wolf((features - centre) / scale, assume_centered=True)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(*(part.astype(np.float32) for part in (centre, scale, whitening)))

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Give the distance ``(n,)`` of features ``(n, d)``."""
        whitened = ((features - self.centre) / self.scale) @ self.whitening.T
        distances: np.ndarray = np.sqrt(np.square(whitened).mean(axis=1))
        return distances


@dataclass(frozen=True, eq=False)
class OODDetector:
    """Tells images that are unlike the cohort's.

    Make one with :meth:`fit`, or with :meth:`from_tensors` from what a bundle holds.

    Attributes
    ----------
    backbone
        Prepares images.
    network
        Its first stages, frozen, with their pretrained weights.
    ellipsoid
        Where the cohort's activations lie.
    threshold
        The largest distance that passes.
    level
        The part of new patients' images that the threshold is meant to flag in vain.
    false_alarm_rate
        The part of held-out patients' images that was flagged by detectors and thresholds
        learned without them, with its 95 % interval over patients.
    alarms, images, patients
        How many images that were, of how many, of how many patients.
    """

    backbone: Backbone
    network: nn.Sequential
    ellipsoid: Ellipsoid
    threshold: float
    level: float
    false_alarm_rate: Estimate
    alarms: int
    images: int
    patients: int

    @classmethod
    def fit(cls, images: Images, patients: np.ndarray, level: float = LEVEL) -> Self:
        """Learn what the images of a cohort look like; labels are not used.

        Parameters
        ----------
        images
            n of them.
        patients
            ``(n,)`` the patient of each.
        level
            The false-alarm rate to aim at, in (0, 1). Of fewer than ``1 / level`` images none
            lies beyond the threshold, and the rate aimed at is 1 / (n + 1).

        Raises
        ------
        CohortError
            There are fewer than four patients: too few to leave some out twice.
        ImageError
            An image cannot be read.
        """
        if len(np.unique(patients)) < FEWEST_PATIENTS:
            raise CohortError(
                f"the detector of unlike images is fitted to at least {FEWEST_PATIENTS} patients, "
                f"not {len(np.unique(patients))}"
            )
        backbone = load_backbone(REFERENCE_BACKBONE)
        network = backbone.prefix(CUT)
        assert isinstance(network, nn.Sequential)
        features = _describe_images(backbone, network, images)
        is_flagged = flag_held_out(features, patients, level)
        return cls(
            backbone=backbone,
            network=network,
            ellipsoid=Ellipsoid.fit(features),
            threshold=choose_threshold(_measure_held_out(features, patients), level),
            level=level,
            false_alarm_rate=_estimate_rate(is_flagged, patients),
            alarms=int(is_flagged.sum()),
            images=len(images),
            patients=len(np.unique(patients)),
        )

    def assess(self, images: Images) -> list[OODScore]:
        """Tell how far images are from those of the cohort.

        Parameters
        ----------
        images
            As a classifier would be given them.

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        features = _describe_images(self.backbone, self.network, images)
        return [
            OODScore(float(distance), self.threshold)
            for distance in self.ellipsoid.measure(features)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Give what ``evaluation.json`` and a bundle's card hold of it."""
        return {
            "method": "mahalanobis",
            "network": self.backbone.name,
            "cut": CUT,
            "level": self.level,
            "threshold": self.threshold,
            "false_alarm_rate": asdict(self.false_alarm_rate),
            "alarms": self.alarms,
            "images": self.images,
            "patients": self.patients,
        }

    def as_tensors(self) -> dict[str, torch.Tensor]:
        """Give its numbers under names, the network's weights too."""
        weights = {WEIGHTS + name: value for name, value in self.network.state_dict().items()}
        arrays = {name: torch.from_numpy(array) for name, array in vars(self.ellipsoid).items()}
        return {**weights, **arrays}

    @classmethod
    def from_tensors(cls, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Put a detector together again.

        Parameters
        ----------
        facts
            What :meth:`as_dict` gave.
        tensors
            What :meth:`as_tensors` gave.

        Raises
        ------
        ValueError
            They do not fit each other, or are no numbers.
        """
        if (facts.get("network"), facts.get("cut")) != (REFERENCE_BACKBONE, CUT):
            raise ValueError(f"it looks at other layers than {REFERENCE_BACKBONE} before {CUT}")
        backbone = Backbone.untrained(REFERENCE_BACKBONE)
        network = backbone.prefix(CUT)
        assert isinstance(network, nn.Sequential)
        weights = {
            name.removeprefix(WEIGHTS): value
            for name, value in tensors.items()
            if name.startswith(WEIGHTS)
        }
        try:
            network.load_state_dict(weights)
            ellipsoid = Ellipsoid(
                *(tensors[name].float().numpy() for name in ("centre", "scale", "whitening"))
            )
            detector = cls(
                backbone=backbone,
                network=network,
                ellipsoid=ellipsoid,
                threshold=float(facts["threshold"]),
                level=float(facts["level"]),
                false_alarm_rate=Estimate(**facts["false_alarm_rate"]),
                alarms=int(facts["alarms"]),
                images=int(facts["images"]),
                patients=int(facts["patients"]),
            )
            (probe,) = detector.assess([np.zeros((8, 8), np.float32)])
        except (KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from error
        if not (np.isfinite(probe.distance) and np.isfinite(probe.threshold)):
            raise ValueError("it holds values that are no numbers")
        return detector


def describe_activations(network: nn.Sequential, inputs: torch.Tensor) -> np.ndarray:
    """Describe images by how strong and how uneven each channel of each stage is.

    Parameters
    ----------
    network
        Stages in the order in which they run, each giving ``(n, c, h, w)``.
    inputs
        ``(n, 3, s, s)``, normalised.

    Returns
    -------
    np.ndarray
        ``(n, d)`` float64: the mean over an image's pixels of each channel, then its standard
        deviation, stage by stage.
    """
    parts = []
    x = inputs.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for stage in network:
            x = stage(x)
            parts += [x.mean(dim=(2, 3)), x.std(dim=(2, 3), correction=0)]
    features: np.ndarray = torch.cat(parts, dim=1).double().numpy()
    return features


def choose_threshold(distances: np.ndarray, level: float) -> float:
    """Choose the distance that a part `level` of new images will exceed.

    Parameters
    ----------
    distances
        ``(n,)`` of images that the detector was fitted without.
    level
        In (0, 1).

    Notes
    -----
    The quantile has conformal prediction's correction for small samples (Vovk, Gammerman and
    Shafer 2005): of n + 1 exchangeable distances the last is beyond it at most this often. The
    distances are those of detectors that were fitted on fewer patients, and so larger: with
    some 50 patients about half as many images are flagged in vain as stated.
    """
    rank = min(np.ceil((len(distances) + 1) * (1 - level)) / len(distances), 1.0)
    return float(np.quantile(distances, rank, method="higher"))


def _describe_images(backbone: Backbone, network: nn.Sequential, images: Images) -> np.ndarray:
    """Describe images ``(n, d)`` as they are, in no other view."""
    parts = []
    for start in range(0, len(images), BATCH):
        pixels = [as_array(image) for image in images[start : start + BATCH]]
        parts.append(describe_activations(network, backbone.prepare(pixels)))
    return np.concatenate(parts)


def _measure_held_out(features: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Measure each image by an ellipsoid that was fitted without its patient, ``(n,)``."""
    distances = np.empty(len(features))
    for train, test in _leave_patients_out(patients):
        distances[test] = Ellipsoid.fit(features[train]).measure(features[test])
    return distances


def flag_held_out(features: np.ndarray, patients: np.ndarray, level: float) -> np.ndarray:
    """Flag each image by a detector whose threshold, too, was learned without its patient."""
    is_flagged = np.zeros(len(features), dtype=bool)
    for train, test in _leave_patients_out(patients):
        threshold = choose_threshold(_measure_held_out(features[train], patients[train]), level)
        is_flagged[test] = Ellipsoid.fit(features[train]).measure(features[test]) > threshold
    return is_flagged


def _leave_patients_out(patients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    folds = min(FOLDS, len(np.unique(patients)))
    splitter = GroupKFold(folds, shuffle=True, random_state=0)
    return list(splitter.split(patients, groups=patients))


def _estimate_rate(is_flagged: np.ndarray, patients: np.ndarray) -> Estimate:
    """Give the part that is flagged, with its interval over patients."""
    draws = draw_weights(np.zeros(len(patients), dtype=int), patients)
    resampled = draws @ is_flagged / draws.sum(axis=1)
    return estimate_share(float(is_flagged.mean()), resampled, len(np.unique(patients)))
