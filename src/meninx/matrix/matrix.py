"""The Size-Similarity Matrix: how many images, how like ImageNet, and what follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from meninx.backbones import Backbone
from meninx.cohort import Cohort
from meninx.errors import CohortError
from meninx.matrix.advice import Advice, Quadrant, advise, find_quadrant
from meninx.matrix.similarity import Observation, Similarity, measure_similarity, observe
from meninx.matrix.transferability import measure_logme, measure_probe

# Similarity is a property of the images, so it is measured with one ruler whatever the
# backbone; this one comes with the package.
RULER = "tf_efficientnet_lite0"

# Images a class above which a cohort counts as large (Marcelino 2018).
SIZE_BORDER = 1000

# Distance from ImageNet above which images count as different, nats: the geometric mean of
# what natural photographs (0.044) and brain MRI (0.089) measure with this ruler.
SIMILARITY_BORDER = 0.063


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
    milliseconds
        To run one image through it on this machine.
    """

    name: str
    logme: float
    probe: float
    milliseconds: float


@dataclass(frozen=True)
class SizeSimilarityMatrix:
    """Where a cohort stands on the matrix, measured before anything is trained.

    Attributes
    ----------
    classes
        Class name to its number of images.
    patients
        How many.
    similarity
        Distance from ImageNet.
    quadrant
        The field of the matrix.
    advice
        Which strategy and cut follow.
    backbones
        How each suits the cohort, best LogME first. It uses labels, so it informs the reader
        and chooses nothing.
    """

    classes: dict[str, int]
    patients: int
    similarity: Similarity
    quadrant: Quadrant
    advice: Advice
    backbones: tuple[BackboneFit, ...]

    @classmethod
    def measure(cls, cohort: Cohort, backbones: Sequence[str] = (RULER,), seed: int = 0) -> Self:
        """Measure a cohort.

        Parameters
        ----------
        cohort
            Its images and patients.
        backbones
            Names of those to compare on it.
        seed
            Of the bootstrap over patients.

        Raises
        ------
        WeightsError
            The weights of a backbone cannot be found.
        CohortError
            The features of an image are not numbers.
        """
        observations = {
            name: observe(Backbone.load(name), cohort.images)
            for name in dict.fromkeys([RULER, *backbones])
        }
        similarity = measure_similarity(observations[RULER].moments, cohort.groups, seed)
        counts = cohort.counts()
        is_large = len(cohort.images) / len(counts) >= SIZE_BORDER
        quadrant = find_quadrant(is_large, similarity.kl < SIMILARITY_BORDER)
        fits = [_measure_fit(name, observations[name], cohort) for name in backbones]
        return cls(
            classes=counts,
            patients=len(np.unique(cohort.groups)),
            similarity=similarity,
            quadrant=quadrant,
            advice=advise(quadrant, similarity.by_stage()),
            backbones=tuple(sorted(fits, key=lambda fit: -fit.logme)),
        )

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(self.classes.values())

    def as_dict(self) -> dict[str, Any]:
        """Give what ``matrix --json`` and ``matrix.json`` hold."""
        similarity = self.similarity
        return {
            "images": self.images,
            "patients": self.patients,
            "classes": self.classes,
            "similarity": {
                "kl": similarity.kl,
                "low": similarity.low,
                "high": similarity.high,
                "threshold": SIMILARITY_BORDER,
                "layers": [
                    {"name": layer.name, "stage": layer.stage, "kl": layer.kl}
                    for layer in similarity.layers
                ],
            },
            "size": {"per_class": self.images / len(self.classes), "border": SIZE_BORDER},
            "quadrant": self.quadrant.value,
            "advice": {
                "strategy": self.advice.strategy,
                "cut": self.advice.cut,
                "reasons": list(self.advice.reasons),
            },
            "backbones": [vars(fit) for fit in self.backbones],
        }


def _measure_fit(name: str, observation: Observation, cohort: Cohort) -> BackboneFit:
    """Score a backbone's frozen features."""
    is_number = np.isfinite(observation.features).all(axis=1)
    if not is_number.all():
        sample = cohort.sample_names[int(is_number.argmin())]
        raise CohortError(
            f"{name} makes features that are not numbers of image {sample}; "
            "leave out that backbone or that image"
        )
    return BackboneFit(
        name=name,
        logme=measure_logme(observation.features, cohort.labels),
        probe=measure_probe(observation.features, cohort.labels, cohort.groups),
        milliseconds=observation.milliseconds,
    )
