"""What stands in `evaluation.json`, as typed dictionaries.

Sections that a run may do without are not required: a report leaves out what is not there.
"""

from typing import NotRequired, TypedDict


class Interval(TypedDict):
    """A score with its 95 % interval; `None` where it cannot be computed."""

    value: float | None
    low: float | None
    high: float | None


class ModelScores(TypedDict):
    """The scores of one model, by metric."""

    repeats: int
    scores: dict[str, Interval]


class PredictiveValues(TypedDict):
    """What an answer is worth where the class is as frequent as `prevalence` says."""

    prevalence: float
    is_cohort_prevalence: bool
    ppv: Interval
    npv: Interval


class ClassScores(TypedDict):
    """One class against the others; `images` is absent where patients are scored."""

    images: NotRequired[int]
    patients: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    predictive_values: NotRequired[PredictiveValues]


class Curve(TypedDict):
    """A receiver operating characteristic curve."""

    false_positive_rate: list[float]
    true_positive_rate: list[float]


class ChosenModel(TypedDict):
    """The chosen model in detail."""

    model: str
    classes: dict[str, ClassScores]
    confusion: list[list[float]]
    roc: dict[str, Curve]


class PermutationTest(TypedDict):
    """The permutation test of the chosen model against chance."""

    p_value: float
    permutations: int
    balanced_accuracy_under_chance: Interval


class Comparison(TypedDict):
    """Balanced accuracy of one model minus that of another; `p_adjusted` after Holm."""

    model: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: NotRequired[float | None]
    p_adjusted: NotRequired[float | None]


class AdviceHeld(TypedDict):
    """The model that the matrix advised, against the best one: difference in balanced accuracy."""

    model: str
    best: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: NotRequired[float | None]


class CannotTell(TypedDict):
    """Images whose prediction set does not hold exactly one class."""

    images: int
    share: float
    empty: int
    several: int


class ClassSets(TypedDict):
    """The prediction sets of one class."""

    images: int
    coverage: Interval
    mean_size: float | None
    cannot_tell: int


class PredictionSets(TypedDict):
    """Conformal prediction sets of the chosen model."""

    level: float
    is_class_conditional: bool
    coverage: Interval
    mean_size: float
    cannot_tell: CannotTell
    by_class: dict[str, ClassSets]


class ReliabilityBin(TypedDict):
    """Images of like confidence: how sure the model was, and how often it was right."""

    confidence: float
    accuracy: float
    images: int


class Reliability(TypedDict):
    """The bins before and after the temperature."""

    before: list[ReliabilityBin]
    after: list[ReliabilityBin]


class Calibration(TypedDict):
    """How far the chosen model's probabilities can be taken at their word."""

    temperature: float
    bins: int
    error_before: Interval
    error_after: Interval
    error_if_perfect_before: float
    error_if_perfect_after: float
    log_loss_before: Interval
    log_loss_after: Interval
    reliability: Reliability


class PatientLevel(TypedDict):
    """Scores of the chosen model where a patient of one label, not an image, is classified."""

    aggregation: str
    patients: int
    scores: dict[str, Interval]
    classes: dict[str, ClassScores]
    confusion: list[list[float]]


class CurvePoint(TypedDict):
    """Balanced accuracy with so many training patients."""

    patients: float
    balanced_accuracy: Interval


class PowerLaw(TypedDict):
    """`error = asymptote + scale * patients ** -exponent`."""

    asymptote: float
    scale: float
    exponent: float


class Forecast(TypedDict):
    """What a study with `factor` times the patients may expect."""

    factor: float
    patients: int
    balanced_accuracy: Interval
    interval_width: float | None


class LearningCurve(TypedDict):
    """Balanced accuracy against the number of training patients, measured and fitted."""

    model: str
    points: list[CurvePoint]
    fit: PowerLaw
    curve: list[CurvePoint]
    forecast: list[Forecast]


class Nested(TypedDict):
    """Balanced accuracy of the whole procedure by nested cross-validation."""

    balanced_accuracy: float | None
    low: float | None
    high: float | None
    chosen: dict[str, int]


class OODScore(TypedDict):
    """How often images of held-out patients are taken for something else."""

    false_alarm_rate: Interval
    level: NotRequired[float]
    network: NotRequired[str]
    images: NotRequired[int]
    patients: NotRequired[int]
    alarms: NotRequired[int]


class EvaluationFile(TypedDict):
    """`evaluation.json`: every score with its interval."""

    models: dict[str, ModelScores]
    chosen: ChosenModel
    selection: dict[str, float]
    chance: NotRequired[PermutationTest]
    comparisons: NotRequired[list[Comparison]]
    advice: NotRequired[AdviceHeld]
    prediction_sets: NotRequired[PredictionSets]
    calibration: NotRequired[Calibration]
    patient_level: NotRequired[PatientLevel]
    patients_of_several_labels: NotRequired[int]
    learning_curve: NotRequired[LearningCurve]
    nested: NotRequired[Nested]
    ood: NotRequired[OODScore]
