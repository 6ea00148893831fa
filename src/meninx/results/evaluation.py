"""What stands in ``evaluation.json``: every score of a study with its interval.

Names are those of :mod:`meninx.evaluate`, so that what is computed there becomes what is written
here without copying. A number that cannot be computed is `None`, and so is a part that a run does
without; a report leaves out what is not there.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None

    def __iter__(self) -> Iterator[float | None]:
        return iter((self.value, self.low, self.high))


@dataclass(frozen=True)
class ModelScores:
    """The scores of one model by metric, means over `repeats`."""

    repeats: int
    scores: dict[str, Interval]


@dataclass(frozen=True)
class PredictiveValues:
    """What an answer is worth where the class is as frequent as `prevalence` says."""

    prevalence: float
    is_cohort_prevalence: bool
    ppv: Interval
    npv: Interval


@dataclass(frozen=True, kw_only=True)
class PatientClassScores:
    """One class against the others."""

    patients: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    predictive_values: PredictiveValues | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScores(PatientClassScores):
    """One class against the others, where images are scored."""

    images: int


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic curve."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


@dataclass(frozen=True)
class ChosenModel:
    """The chosen model in detail.

    Attributes
    ----------
    model
        Its name.
    classes
        Class to its scores, in the order of `confusion`.
    confusion
        Images of each true class (row) that were given each class (column), mean over repeats.
    roc
        Class to its curve.
    """

    model: str
    classes: dict[str, ClassScores]
    confusion: tuple[tuple[float, ...], ...]
    roc: dict[str, Curve]


@dataclass(frozen=True)
class PermutationTest:
    """The test of the best candidate against chance; its balanced accuracy under chance."""

    p_value: float
    permutations: int
    balanced_accuracy: Interval


@dataclass(frozen=True)
class Comparison:
    """Balanced accuracy of one model minus that of another; `p_adjusted` after Holm."""

    model: str
    against: str
    difference: Interval
    p_value: float | None = None
    p_adjusted: float | None = None


@dataclass(frozen=True)
class AdviceHeld:
    """The model that the matrix advised minus the best one, in balanced accuracy."""

    model: str
    best: str
    difference: Interval
    p_value: float | None = None


@dataclass(frozen=True)
class ClassSets:
    """The prediction sets of some images; `empty` and `several`, too, count images.

    These are means over repeats.
    """

    images: int
    coverage: Interval
    mean_size: float | None
    empty: float
    several: float

    @property
    def cannot_tell(self) -> int:
        """How many images have a set that does not hold exactly one class."""
        # Rounded one by one, so that what is told of both adds up.
        return round(self.empty) + round(self.several)

    @property
    def share_cannot_tell(self) -> float | None:
        """The part of the images that these are."""
        return (self.empty + self.several) / self.images if self.images else None


@dataclass(frozen=True)
class PredictionSets(ClassSets):
    """Conformal prediction sets of the chosen model, of all images and class by class."""

    level: float
    is_class_conditional: bool
    by_class: dict[str, ClassSets]


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of like confidence: how sure the model was, and how often it was right."""

    confidence: float
    accuracy: float
    images: int


@dataclass(frozen=True)
class Reliability:
    """How far confidence is from how often it is right; `error_if_perfect` is chance alone."""

    error: Interval
    error_if_perfect: float
    log_loss: Interval
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Calibration:
    """Probabilities as they are, and at temperatures fitted without the patient concerned."""

    temperature: float
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class PatientLevel:
    """Scores of the chosen model where a patient of one label, not an image, is classified."""

    aggregation: str
    patients: int
    scores: dict[str, Interval]
    classes: dict[str, PatientClassScores]
    confusion: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CurvePoint:
    """Balanced accuracy with so many training patients."""

    patients: float
    balanced_accuracy: Interval


@dataclass(frozen=True)
class PowerLaw:
    """``error = asymptote + scale * patients ** -exponent``."""

    asymptote: float
    scale: float
    exponent: float


@dataclass(frozen=True)
class Forecast:
    """What a study with `factor` times the patients may expect."""

    factor: float
    patients: int
    balanced_accuracy: Interval
    interval_width: float | None


@dataclass(frozen=True)
class LearningCurve:
    """Balanced accuracy against the number of training patients, measured and fitted."""

    model: str
    points: tuple[CurvePoint, ...]
    fit: PowerLaw
    curve: tuple[CurvePoint, ...]
    forecast: tuple[Forecast, ...]


@dataclass(frozen=True)
class Nested:
    """Balanced accuracy of the whole procedure by nested cross-validation."""

    balanced_accuracy: Interval
    chosen: dict[str, int]


@dataclass(frozen=True)
class FalseAlarms:
    """How often images of held-out patients are taken for something else.

    Attributes
    ----------
    false_alarm_rate
        The part of them that is flagged.
    level
        The part that the threshold was meant to flag.
    alarms, images, patients
        How many images that are, of how many, of how many patients.
    method, network, cut, threshold
        How the detector measures.
    """

    false_alarm_rate: Interval
    level: float | None = None
    alarms: int | None = None
    images: int | None = None
    patients: int | None = None
    method: str | None = None
    network: str | None = None
    cut: str | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """``evaluation.json``: every score with its interval.

    Attributes
    ----------
    models
        Model to its scores by image.
    chosen
        The chosen one in detail.
    selection
        Candidate to the part of the bootstrap draws in which it was picked.
    chance, comparisons, advice, prediction_sets, calibration, learning_curve, nested
        See their classes.
    patient_level
        Scores by patient; `None` where each patient has one image, or no class could be scored.
    patients_of_several_labels
        How many are left out of these.
    ood
        Of the detector of images that are unlike the cohort's.
    """

    models: dict[str, ModelScores]
    chosen: ChosenModel
    selection: dict[str, float]
    chance: PermutationTest | None = None
    comparisons: tuple[Comparison, ...] = ()
    advice: AdviceHeld | None = None
    prediction_sets: PredictionSets | None = None
    calibration: Calibration | None = None
    patient_level: PatientLevel | None = None
    patients_of_several_labels: int = 0
    learning_curve: LearningCurve | None = None
    nested: Nested | None = None
    ood: FalseAlarms | None = None
