"""From a place on the matrix to what to do, each part with its reason.

All rules stand in the tables at the head of this module, so that they can be read, argued with
and tested; ``docs/advice.md`` shows how often they were right. Quadrants and strategies are
those of Marcelino 2018, "Transfer learning from pre-trained models".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from meninx.language import Message

# Within this factor of the size threshold the advice says that the next quadrant is worth a try.
NEAR_THRESHOLD = 2.0


@dataclass(frozen=True)
class Thresholds:
    """Where the matrix divides.

    Attributes
    ----------
    size
        Images a class from which a cohort counts as large; the usual 1,000 (Marcelino 2018).
    similarity
        Distance from ImageNet from which images count as different, nats. The default is the
        geometric mean of what photographs (0.044) and brain MRI (0.089) measure with the
        reference backbone: see references.csv, where all else lies to one side or the other.
    """

    size: float = 1000
    similarity: float = 0.063


class Quadrant(StrEnum):
    """A field of the Size-Similarity Matrix."""

    Q1 = "Q1"
    Q2 = "Q2"
    Q3 = "Q3"
    Q4 = "Q4"


@dataclass(frozen=True)
class Rule:
    """What a quadrant advises.

    Attributes
    ----------
    strategy
        Name of the strategy.
    reason
        Why.
    """

    strategy: str
    reason: Message


RULES: dict[Quadrant, Rule] = {
    Quadrant.Q1: Rule("full", Message("rule_q1")),
    Quadrant.Q2: Rule("partial", Message("rule_q2")),
    Quadrant.Q3: Rule("partial", Message("rule_q3")),
    Quadrant.Q4: Rule("frozen", Message("rule_q4")),
}


@dataclass(frozen=True)
class SizeRule:
    """What the number of images advises, whatever they look like.

    Attributes
    ----------
    is_large
        Whether the rule is for cohorts at the size threshold or below it.
    most_stages
        How many of the last stages may be trained under ``partial``.
    extra_layers
        Widths of hidden layers in front of the output.
    augmentation
        How strongly images are augmented; 1 is the usual.
    """

    is_large: bool
    most_stages: int
    extra_layers: tuple[int, ...]
    augmentation: float


MOST_STAGES = 4

SIZE_RULES: tuple[SizeRule, ...] = (
    SizeRule(is_large=False, most_stages=MOST_STAGES, extra_layers=(), augmentation=1.0),
    SizeRule(is_large=True, most_stages=4, extra_layers=(256,), augmentation=0.5),
)

# Peak learning rate of each strategy that trains by gradient descent.
LEARNING_RATES = {"partial": 4e-4, "full": 4e-4}


@dataclass(frozen=True)
class Advice:
    """What to do with a cohort.

    Attributes
    ----------
    strategy
        Name of the strategy.
    cut
        For ``partial``: the first stage of the reference backbone that is trained; else None.
    trained_stages
        How many of the last stages are trained under ``partial``, else 0: what carries the
        advice over to backbones with other stages.
    extra_layers
        Widths of hidden layers in front of the output; empty for none.
    augmentation
        How strongly images are augmented; 1 is the usual.
    learning_rate
        Peak, for what gradient descent trains; None where nothing is.
    reasons
        One for each part.
    """

    strategy: str
    cut: str | None
    trained_stages: int
    extra_layers: tuple[int, ...]
    augmentation: float
    learning_rate: float | None
    reasons: tuple[Message, ...]


def find_quadrant(images_per_class: float, kl: float, thresholds: Thresholds) -> Quadrant:
    """Place a cohort on the matrix."""
    if images_per_class >= thresholds.size:
        return Quadrant.Q1 if kl >= thresholds.similarity else Quadrant.Q2
    return Quadrant.Q3 if kl >= thresholds.similarity else Quadrant.Q4


def advise(
    images_per_class: float,
    kl: float,
    by_stage: Mapping[str, float],
    parameters: Mapping[str, int],
    thresholds: Thresholds,
) -> Advice:
    """Apply the rules.

    Parameters
    ----------
    images_per_class
        Mean over classes.
    kl
        Distance from ImageNet, nats.
    by_stage
        The reference backbone's stages in order, the stem first, each with its distance, nats.
    parameters
        Cut to the number of parameters that it trains.
    thresholds
        Where the matrix divides.
    """
    quadrant = find_quadrant(images_per_class, kl, thresholds)
    strategy = RULES[quadrant].strategy
    is_large = images_per_class >= thresholds.size
    size_rule = next(rule for rule in SIZE_RULES if rule.is_large == is_large)
    trained = 0
    if strategy == "partial":
        trained = count_stages_to_train(by_stage, size_rule.most_stages)
    cut = list(by_stage)[-trained] if trained else None
    rate = LEARNING_RATES.get(strategy)
    reasons = [
        _explain_size(images_per_class, thresholds.size),
        Message(
            "like" if kl < thresholds.similarity else "unlike",
            kl=kl,
            threshold=thresholds.similarity,
        ),
        RULES[quadrant].reason,
        *([] if cut is None else [_explain_cut(cut, trained, by_stage, parameters[cut])]),
        _explain_extra_layers(size_rule),
        Message("augmentation_full" if size_rule.augmentation >= 1 else "augmentation_gentle"),
        *([] if rate is None else [Message("learning_rate", rate=rate)]),
    ]
    return Advice(
        strategy,
        cut,
        trained,
        size_rule.extra_layers,
        size_rule.augmentation,
        rate,
        tuple(reasons),
    )


def count_stages_to_train(by_stage: Mapping[str, float], most: int) -> int:
    """Count the stages behind the one that agrees best with ImageNet.

    What a network sees of new images departs from ImageNet at its entrance (an MRI has no
    colours), comes to agree with it in the middle, where edges and shapes are, and departs again
    towards the end, where objects were. The end is retrained; the rest is kept.

    Parameters
    ----------
    by_stage
        Stages in order, the stem first, each with its distance, nats.
    most
        At most so many.

    Returns
    -------
    int
        At least 1.
    """
    distances = list(by_stage.values())
    behind_best = len(distances) - 1 - distances.index(min(distances))
    return min(max(behind_best, 1), most)


def _explain_size(images: float, threshold: float) -> Message:
    near = threshold / NEAR_THRESHOLD <= images < threshold * NEAR_THRESHOLD
    if images < threshold:
        return Message("size_few_near" if near else "size_few", images=images, threshold=threshold)
    return Message("size_many_near" if near else "size_many", images=images, threshold=threshold)


def _explain_cut(cut: str, trained: int, by_stage: Mapping[str, float], parameters: int) -> Message:
    kept, last = list(by_stage)[-trained - 1], list(by_stage)[-1]
    return Message(
        "cut",
        cut=cut,
        millions=parameters / 1e6,
        kept=kept,
        nearest=by_stage[kept],
        last=last,
        farthest=by_stage[last],
    )


def _explain_extra_layers(rule: SizeRule) -> Message:
    if rule.extra_layers:
        return Message("extra_layers", width=rule.extra_layers[0])
    return Message("no_extra_layers")
