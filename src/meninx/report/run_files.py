"""What stands in the files of a run folder, as typed dictionaries.

With :mod:`meninx.report.evaluation_file` and :mod:`meninx.report.explanations_file` they are
the whole contract between a study and its report; :mod:`meninx.report.run_folder` reads the
files against them.
"""

from typing import NotRequired, TypedDict


class MessageContent(TypedDict):
    """A :class:`meninx.language.Message`: from it the report makes sentences in any language."""

    code: str
    values: dict[str, object]


class Headline(TypedDict):
    """The score that stands for a whole study."""

    balanced_accuracy: float | None
    low: float | None
    high: float | None


class Summary(TypedDict):
    """`summary.json`: what came out, in one page."""

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
    notes: list[str]
    messages: list[MessageContent]


class Layer(TypedDict):
    """The distance from ImageNet in one layer, in nats."""

    name: str
    stage: str
    kl: float


class Similarity(TypedDict):
    """The distance from ImageNet over all layers, in nats, and its 95 % interval."""

    kl: float
    low: float
    high: float
    threshold: float
    layers: list[Layer]


class Size(TypedDict):
    """Images per class, and the border between small and large."""

    per_class: float
    border: float


class Advice(TypedDict):
    """What the matrix advises, and why (plain English sentences)."""

    strategy: str
    cut: str | None
    reasons: list[str]
    messages: list[MessageContent]


class RankedBackbone(TypedDict):
    """One backbone as the matrix ranks it."""

    name: str
    logme: float | None
    probe: float | None
    milliseconds: float | None


class Reference(TypedDict):
    """A set of images whose distance from ImageNet is known."""

    name: str
    kl: float


class MatrixFile(TypedDict):
    """`matrix.json`: the Size-Similarity Matrix of the cohort."""

    images: int
    patients: int
    classes: dict[str, int]
    similarity: Similarity
    size: Size
    quadrant: str
    advice: Advice
    backbones: list[RankedBackbone]
    references: NotRequired[list[Reference]]


class PlannedModel(TypedDict):
    """One model of the plan."""

    model: str
    backbone: str | None
    strategy: str | None
    cut: str | None
    role: str
    folds: int
    repeats: int
    reason: str
    message: MessageContent
    trained_parameters: int | None
    members: NotRequired[list[str]]
    predicted_seconds: NotRequired[float | None]


class LeftOutModel(TypedDict):
    """A model that the time limit left no room for."""

    model: str
    reason: str
    message: MessageContent
    predicted_seconds: NotRequired[float | None]


class PlanFile(TypedDict):
    """`plan.json`: what the study set out to do."""

    models: list[PlannedModel]
    left_out: NotRequired[list[LeftOutModel]]
    predicted_seconds: NotRequired[float | None]


class AuditFinding(TypedDict):
    """One thing the audit found; `files` holds pseudonyms of samples."""

    kind: str
    severity: str
    files: list[str]
    advice: str
    message: MessageContent


class AuditFile(TypedDict):
    """`audit.json`: what the audit found."""

    findings: list[AuditFinding]


class Example(TypedDict):
    """One image with what the model said of it; paths are relative to the run folder."""

    sample: str
    label: str
    predicted: str
    probabilities: dict[str, float]
    right: bool
    image: str
    heatmap: str


class ScoreRow(TypedDict):
    """One row of `scores.csv`; a number is `None` where the model has none."""

    model: str
    backbone: str
    strategy: str
    cut: str
    role: str
    balanced_accuracy: float | None
    balanced_accuracy_low: float | None
    balanced_accuracy_high: float | None
    macro_f1: float | None
    auc: float | None
    log_loss: float | None
    seconds: float | None


class HistoryRow(TypedDict):
    """One row of a model's `history.csv`: an epoch of the fit of one fold."""

    repeat: float
    fold: float
    epoch: float
    loss: float
    learning_rate: float
    seconds: float


class CohortRow(TypedDict):
    """One row of `cohort.csv`."""

    sample: str
    patient: str
    label: str


class Pretrained(TypedDict):
    """Where the weights come from that training began with."""

    kind: str
    sha256: NotRequired[str | None]


class BundleMember(TypedDict):
    """One of the networks of a bundle."""

    backbone: str
    pretrained: Pretrained
    views: int
    input_size: int


class BundleFile(TypedDict):
    """`bundle/bundle.json`: the model that was trained on all patients."""

    members: list[BundleMember]
