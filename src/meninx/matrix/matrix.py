"""The Size-Similarity Matrix: how many images, how like ImageNet, and what follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from meninx.backbones import Backbone
from meninx.cohort import Cohort, Images
from meninx.errors import CohortError
from meninx.matrix.advice import (
    MOST_STAGES,
    Advice,
    Quadrant,
    Thresholds,
    advise,
    count_stages_to_train,
    find_quadrant,
)
from meninx.matrix.references import load_references
from meninx.matrix.similarity import Observation, Similarity, measure_similarity, observe
from meninx.matrix.transferability import (
    measure_h_score,
    measure_logme,
    measure_nearest_neighbours,
    measure_probe,
)

# Similarity is a property of the images, so it is measured with one reference backbone whatever the
# backbone; this one comes with the package.
REFERENCE_BACKBONE = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class BackboneFit:
    """How a backbone's frozen features suit the cohort.

    Attributes
    ----------
    name
        Of the backbone.
    logme
        Log evidence, nats per image; higher is better.
    probe
        Balanced accuracy of a linear probe, leaving patients out; in [0, 1].
    h_score
        Regularised H-score; higher is better.
    probe, neighbours
        Balanced accuracy of a linear probe and of the nearest neighbours, leaving patients out;
        in [0, 1].
    kl
        Distance of the images from ImageNet by this backbone's own statistics, nats; None where
        it has no BatchNorm. Comparable within a backbone only.
    milliseconds
        To run one image through it on this machine.
    parameters
        How many it has, without a classifier.
    megabytes
        That they take as 32-bit numbers.
    """

    name: str
    logme: float
    h_score: float
    probe: float
    neighbours: float
    kl: float | None
    milliseconds: float
    parameters: int
    megabytes: float


@dataclass(frozen=True)
class SizeSimilarityMatrix:
    """Where a cohort stands on the matrix, measured before anything is trained.

    Attributes
    ----------
    classes
        Class name to its number of images.
    patients
        Class name to its number of patients.
    everyone
        How many patients there are; a patient may have images of several classes.
    similarity
        Distance from ImageNet.
    thresholds
        Where the matrix divides.
    quadrant
        The field of the matrix.
    advice
        Which strategy and cut follow.
    trained_parameters
        Cut of the reference backbone to the number of parameters that it would train.
    backbones
        How each suits the cohort, best LogME first. It uses labels, so it informs the reader
        and chooses nothing.
    """

    classes: dict[str, int]
    patients: dict[str, int]
    everyone: int
    similarity: Similarity
    thresholds: Thresholds
    quadrant: Quadrant
    advice: Advice
    trained_parameters: dict[str, int]
    backbones: tuple[BackboneFit, ...]

    @classmethod
    def measure(
        cls,
        cohort: Cohort,
        backbones: Sequence[str] = (REFERENCE_BACKBONE,),
        seed: int = 0,
        thresholds: Thresholds = Thresholds(),  # noqa: B008 (frozen, so sharing it is safe)
    ) -> Self:
        """Measure a cohort.

        Parameters
        ----------
        cohort
            Its images and patients.
        backbones
            Names of those to compare on it.
        seed
            Of the bootstrap over patients.
        thresholds
            Where the matrix divides.

        Raises
        ------
        WeightsError
            The weights of a backbone cannot be found.
        CohortError
            The features of an image are not numbers.
        """
        loaded = {
            name: Backbone.load(name) for name in dict.fromkeys([REFERENCE_BACKBONE, *backbones])
        }
        seen = observe(list(loaded.values()), cohort.images)
        observations = dict(zip(loaded, seen, strict=True))
        similarity = measure_similarity(
            observations[REFERENCE_BACKBONE].moments, cohort.groups, seed
        )
        per_class = len(cohort.images) / len(cohort.classes)
        parameters = _count_trained_parameters(loaded[REFERENCE_BACKBONE])
        fits = [_measure_fit(loaded[name], observations[name], cohort) for name in backbones]
        return cls(
            classes=cohort.counts(),
            patients=cohort.count_patients(),
            everyone=len(np.unique(cohort.groups)),
            similarity=similarity,
            thresholds=thresholds,
            quadrant=find_quadrant(per_class, similarity.kl, thresholds),
            advice=advise(per_class, similarity.kl, similarity.by_stage(), parameters, thresholds),
            trained_parameters=parameters,
            backbones=tuple(sorted(fits, key=lambda fit: -fit.logme)),
        )

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(self.classes.values())

    def describe(self) -> list[tuple[str, str]]:
        """Say what was measured and what follows, as pairs of a name and a sentence."""
        similarity = self.similarity
        known = min(load_references(), key=lambda reference: abs(reference.kl - similarity.kl))
        counts = ", ".join(
            f"{label} {count} ({self.patients[label]})" for label, count in self.classes.items()
        )
        cut = f" from {self.advice.cut} on" if self.advice.cut else ""
        trained = ", ".join(
            f"{name} {count / 1e6:.2f}" for name, count in reversed(self.trained_parameters.items())
        )
        return [
            ("images", f"{self.images} of {self.everyone} patients"),
            ("images (patients)", counts),
            (
                "images a class",
                f"{self.images / len(self.classes):.1f}; large from {self.thresholds.size:g}",
            ),
            ("each cut would train", f"millions of parameters: {trained}"),
            (
                "distance from ImageNet",
                f"{similarity.kl:.3f} nats (95 % interval {similarity.low:.3f} to "
                f"{similarity.high:.3f}, n = {self.images} images); different from "
                f"{self.thresholds.similarity:g} on; nearest known images: {known.name} "
                f"({known.kl:.3f})",
            ),
            ("quadrant", self.quadrant.value),
            ("advice", f"{self.advice.strategy}{cut}"),
            *(("because", reason.text) for reason in self.advice.reasons),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Give what ``matrix --json`` and ``matrix.json`` hold."""
        similarity = self.similarity
        return {
            "images": self.images,
            "patients": self.everyone,
            "classes": self.classes,
            "similarity": {
                "kl": similarity.kl,
                "low": similarity.low,
                "high": similarity.high,
                "threshold": self.thresholds.similarity,
                "layers": [
                    {"name": layer.name, "stage": layer.stage, "kl": layer.kl}
                    for layer in similarity.layers
                ],
            },
            "size": {
                "per_class": self.images / len(self.classes),
                "threshold": self.thresholds.size,
                "patients": self.patients,
                "trained_parameters": self.trained_parameters,
            },
            "quadrant": self.quadrant.value,
            "advice": {
                "strategy": self.advice.strategy,
                "cut": self.advice.cut,
                "extra_layers": list(self.advice.extra_layers),
                "augmentation": self.advice.augmentation,
                "learning_rate": self.advice.learning_rate,
                "reasons": [reason.text for reason in self.advice.reasons],
                "messages": [reason.as_dict() for reason in self.advice.reasons],
            },
            "backbones": [vars(fit) for fit in self.backbones],
            "references": [vars(reference) for reference in load_references()],
        }


def count_advised_stages(images: Images) -> int:
    """Count the last stages that the matrix advises to train under ``partial``.

    Parameters
    ----------
    images
        n of them, each taken for a patient of its own; no label is looked at.

    Returns
    -------
    int
        At least 1.
    """
    (seen,) = observe([Backbone.load(REFERENCE_BACKBONE)], images)
    similarity = measure_similarity(seen.moments, np.arange(len(images)))
    return count_stages_to_train(similarity.by_stage(), MOST_STAGES)


def _measure_fit(backbone: Backbone, observation: Observation, cohort: Cohort) -> BackboneFit:
    """Score a backbone's frozen features."""
    features, labels, patients = observation.features, cohort.labels, cohort.groups
    is_number = np.isfinite(features).all(axis=1)
    if not is_number.all():
        sample = cohort.sample_names[int(is_number.argmin())]
        raise CohortError(
            f"{backbone.name} makes features that are not numbers of image {sample}; "
            "leave out that backbone or that image"
        )
    moments = observation.moments
    parameters = sum(parameter.numel() for parameter in backbone.network.parameters())
    return BackboneFit(
        name=backbone.name,
        logme=measure_logme(features, labels),
        h_score=measure_h_score(features, labels),
        probe=measure_probe(features, labels, patients),
        neighbours=measure_nearest_neighbours(features, labels, patients),
        kl=measure_similarity(moments, patients).kl if moments else None,
        milliseconds=observation.milliseconds,
        parameters=parameters,
        megabytes=parameters * 4 / 1e6,
    )


def _count_trained_parameters(backbone: Backbone) -> dict[str, int]:
    """Count what each cut trains, head apart."""
    counts = [stage.parameters for stage in backbone.stages]
    return {cut: sum(counts[position:]) for position, cut in enumerate(backbone.cuts)}
