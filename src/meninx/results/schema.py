"""What stands in the files of a run folder; ``evaluation.json`` has a module of its own.

A field with a default may be absent from a file; fields that are not named here are let be.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from meninx.language import Message
from meninx.results.evaluation import Interval


def _read_message(content: Any) -> Message:  # noqa: ANN401
    try:
        return Message.from_dict(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("should have a code and values") from error


Said = Annotated[
    Message,
    PlainValidator(_read_message),
    PlainSerializer(Message.as_dict),
    WithJsonSchema(
        {
            "description": "What the sentence beside it is made of, for other languages.",
            "type": "object",
            "properties": {"code": {"type": "string"}, "values": {"type": "object"}},
            "required": ["code", "values"],
        }
    ),
]
Setting = int | float | bool | str | None


@dataclass(frozen=True)
class Headline:
    """The score that stands for a whole study."""

    balanced_accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """``summary.json``: what came out, in one page.

    Attributes
    ----------
    chosen
        The best model.
    headline, naive
        Balanced accuracy with what choosing costs, and of the chosen model as if none had been.
    images, patients, classes
        How many there are, in all and of each class.
    folds, repeats
        Of the cross-validation.
    patients_known
        Whether it was said which images are of one patient.
    synthetic
        Whether the images are.
    notes
        What a reader should know of how it was run, in English; `messages` in any language.
    seconds
        That the study took.
    """

    chosen: str
    headline: Headline
    naive: Headline
    images: int
    patients: int
    seconds: float
    seed: int
    versions: dict[str, str]
    synthetic: bool
    patients_known: bool
    classes: dict[str, int]
    folds: int
    repeats: int
    notes: tuple[str, ...]
    messages: tuple[Said, ...]


@dataclass(frozen=True)
class Layer:
    """The distance from ImageNet in one layer, in nats."""

    name: str
    stage: str
    kl: float


@dataclass(frozen=True)
class Similarity:
    """The distance from ImageNet over all layers, in nats, and its 95 % interval."""

    kl: float
    low: float
    high: float
    threshold: float
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Size:
    """Images per class, and where small ends and large begins.

    Attributes
    ----------
    patients
        Class to its number of patients.
    trained_parameters
        Cut to the number of parameters that it would train.
    """

    per_class: float
    threshold: float
    patients: dict[str, int] | None = None
    trained_parameters: dict[str, int] | None = None


@dataclass(frozen=True)
class Advice:
    """What the matrix advises, and why."""

    strategy: str
    cut: str | None
    reasons: tuple[str, ...]
    messages: tuple[Said, ...]
    extra_layers: tuple[int, ...] = ()
    augmentation: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class RankedBackbone:
    """One backbone as the matrix ranks it; see :class:`meninx.matrix.matrix.BackboneFit`."""

    name: str
    logme: float | None
    probe: float | None
    milliseconds: float | None
    h_score: float | None = None
    neighbours: float | None = None
    kl: float | None = None
    parameters: int | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Reference:
    """A set of images whose distance from ImageNet is known."""

    name: str
    kl: float


@dataclass(frozen=True)
class MatrixFile:
    """``matrix.json`` and ``meninx matrix --json``: the Size-Similarity Matrix of the cohort."""

    images: int
    patients: int
    classes: dict[str, int]
    similarity: Similarity
    size: Size
    quadrant: str
    advice: Advice
    backbones: tuple[RankedBackbone, ...]
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """One model of the plan; see :class:`meninx.study.Model`."""

    model: str
    backbone: str | None
    strategy: str | None
    cut: str | None
    role: str
    repeats: int
    reason: str
    message: Said
    trained_parameters: int | None
    is_advised: bool = False
    is_first: bool = False
    extra_layers: tuple[int, ...] = ()
    recipe: dict[str, Setting] | None = None
    members: tuple[str, ...] = ()
    predicted_seconds: float | None = None


@dataclass(frozen=True)
class LeftOutModel:
    """A model that the time limit left no room for."""

    model: str
    reason: str
    message: Said
    predicted_seconds: float | None = None


@dataclass(frozen=True)
class PlanFile:
    """``plan.json``: what the study set out to do; `folds` of each repeat."""

    folds: int
    models: tuple[PlannedModel, ...]
    left_out: tuple[LeftOutModel, ...] = ()
    predicted_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFile(PlannedModel):
    """``models/<model>/model.json``: a model that was run, and the checksum of its predictions.

    Attributes
    ----------
    seconds
        That its fits took.
    sha256
        Of ``oof.parquet`` beside it.
    """

    seconds: float
    sha256: str


@dataclass(frozen=True)
class AuditFinding:
    """One thing the audit found; `files` holds pseudonyms of samples."""

    kind: str
    severity: str
    files: tuple[str, ...]
    advice: str
    message: Said


@dataclass(frozen=True)
class AuditFile:
    """``audit.json``: what the audit found."""

    findings: tuple[AuditFinding, ...]


@dataclass(frozen=True)
class Example:
    """One image with what the model said of it; paths are relative to the run folder."""

    sample: str
    label: str
    predicted: str
    probabilities: dict[str, float]
    right: bool
    image: str
    heatmap: str


@dataclass(frozen=True)
class Sanity:
    """The model-randomisation check (Adebayo et al. 2018).

    Attributes
    ----------
    passed
        Whether the heatmaps of a random network are surely unlike those of the trained one.
    similarity, low, high
        How alike they are, a rank correlation; passed where `high` is not above `threshold`.
    images
        How many were compared.
    steps
        The part randomised last, from the head down, to how alike they still are then.
    """

    passed: bool
    similarity: float | None
    low: float | None
    high: float | None
    threshold: float
    images: int
    steps: dict[str, float | None]


@dataclass(frozen=True)
class Localisation:
    """How much of the heatmaps lies on the lesions, against a blind heatmap."""

    images: int
    patients: int
    mass: Interval
    chance: Interval
    difference: Interval
    gain: Interval
    pointing: Interval
    better_than_chance: bool


@dataclass(frozen=True)
class Explanations:
    """``explanations.json``: how the heatmaps were tested; `None` where that could not be done."""

    method: str
    sanity: Sanity | None
    localisation: Localisation | None


@dataclass(frozen=True)
class ScoreRow:
    """One row of ``scores.csv``; a number is `None` where the model has none."""

    model: str
    backbone: str | None
    strategy: str | None
    cut: str | None
    role: str
    balanced_accuracy: float | None
    balanced_accuracy_low: float | None
    balanced_accuracy_high: float | None
    macro_f1: float | None
    auc: float | None
    log_loss: float | None
    seconds: float | None


@dataclass(frozen=True)
class HistoryRow:
    """One row of a model's ``history.csv``: an epoch of the fit of one fold."""

    repeat: int
    fold: int
    epoch: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class CohortRow:
    """One row of ``cohort.csv``: pseudonyms, and the class."""

    sample: str
    patient: str
    label: str


@dataclass(frozen=True)
class Pretrained:
    """Where the weights come from that training began with."""

    kind: str
    sha256: str | None = None


@dataclass(frozen=True)
class BundleMember:
    """One of the networks of a bundle."""

    backbone: str
    pretrained: Pretrained
    views: int
    input_size: int


@dataclass(frozen=True)
class BundleFile:
    """What a report reads of ``bundle/bundle.json``, the model trained on all patients."""

    members: tuple[BundleMember, ...]
