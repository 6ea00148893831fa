"""From a place on the matrix to what to do, each part with its reason.

All rules stand in the tables at the head of this module, so that they can be read, argued with
and tested; ``docs/advice.md`` shows how often they were right. Quadrants and strategies are
those of Marcelino 2018, "Transfer learning from pre-trained models".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# Within this factor of the size border the advice says that the next quadrant is worth a try.
NEAR_BORDER = 2.0


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
        For it, in one sentence.
    """

    strategy: str
    reason: str


RULES: dict[Quadrant, Rule] = {
    Quadrant.Q1: Rule(
        "full",
        "Many images that are unlike photographs can retrain the whole network, and need to.",
    ),
    Quadrant.Q2: Rule(
        "partial",
        "Many images that are like photographs: the early layers already fit, training the last "
        "stages is enough and cheap.",
    ),
    Quadrant.Q3: Rule(
        "partial",
        "Few images that are unlike photographs: the last stages must learn to see them, and the "
        "others stay frozen because so few images cannot train more.",
    ),
    Quadrant.Q4: Rule(
        "frozen",
        "Few images that are like photographs: the network's features already fit, and so few "
        "images can train only a classifier.",
    ),
}


@dataclass(frozen=True)
class SizeRule:
    """What the number of images advises, whatever they look like.

    Attributes
    ----------
    is_large
        Whether the rule is for cohorts beyond the size border or before it.
    most_stages
        How many of the last stages may be trained under ``partial``.
    extra_layers
        Widths of hidden layers in front of the output.
    augmentation
        How far views depart from the image; 1 is the usual.
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
        How far views depart from the image; 1 is the usual.
    learning_rate
        Peak, for what gradient descent trains; None where nothing is.
    reasons
        One sentence each.
    """

    strategy: str
    cut: str | None
    trained_stages: int
    extra_layers: tuple[int, ...]
    augmentation: float
    learning_rate: float | None
    reasons: tuple[str, ...]


def find_quadrant(images_per_class: float, kl: float, borders: Thresholds) -> Quadrant:
    """Place a cohort on the matrix."""
    if images_per_class >= borders.size:
        return Quadrant.Q1 if kl >= borders.similarity else Quadrant.Q2
    return Quadrant.Q3 if kl >= borders.similarity else Quadrant.Q4


def advise(
    images_per_class: float,
    kl: float,
    by_stage: Mapping[str, float],
    parameters: Mapping[str, int],
    borders: Thresholds,
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
    borders
        Where the matrix divides.
    """
    quadrant = find_quadrant(images_per_class, kl, borders)
    strategy = RULES[quadrant].strategy
    is_large = images_per_class >= borders.size
    size_rule = next(rule for rule in SIZE_RULES if rule.is_large == is_large)
    trained = 0
    if strategy == "partial":
        trained = count_stages_to_train(by_stage, size_rule.most_stages)
    cut = list(by_stage)[-trained] if trained else None
    rate = LEARNING_RATES.get(strategy)
    reasons = [
        _say_size(images_per_class, borders),
        _say_similarity(kl, borders),
        RULES[quadrant].reason,
        *([] if cut is None else [_say_cut(cut, trained, by_stage, parameters[cut])]),
        _say_extra_layers(size_rule),
        _say_augmentation(size_rule),
        *([] if rate is None else [_say_learning_rate(rate)]),
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


def _say_size(images_per_class: float, borders: Thresholds) -> str:
    size = "many" if images_per_class >= borders.size else "few"
    sentence = (
        f"{images_per_class:.0f} images a class are {size} (the border is {borders.size:,.10g})"
    )
    if borders.size / NEAR_BORDER <= images_per_class < borders.size * NEAR_BORDER:
        return f"{sentence}, but near the border: try what is advised on its other side too."
    return f"{sentence}."


def _say_similarity(kl: float, borders: Thresholds) -> str:
    likeness = "unlike" if kl >= borders.similarity else "like"
    return (
        f"They are {likeness} photographs: {kl:.3f} nats from ImageNet, with the border at "
        f"{borders.similarity}."
    )


def _say_cut(cut: str, trained: int, by_stage: Mapping[str, float], parameters: int) -> str:
    kept, last = list(by_stage)[-trained - 1], list(by_stage)[-1]
    return (
        f"Training starts at {cut} ({parameters / 1e6:.1f} million parameters): {kept} before it "
        f"is {by_stage[kept]:.2f} nats from ImageNet and is kept, towards {last} the images "
        f"depart to {by_stage[last]:.2f} nats."
    )


def _say_extra_layers(rule: SizeRule) -> str:
    if rule.extra_layers:
        width = rule.extra_layers[0]
        return f"One more layer of {width} before the output: so many images can train it."
    return "No extra layers before the output: so few images would be learned by heart."


def _say_augmentation(rule: SizeRule) -> str:
    if rule.augmentation >= 1:
        return "Augmentation at full strength: few images must stand for many positions."
    return "Gentler augmentation: many images show most positions themselves."


def _say_learning_rate(rate: float) -> str:
    return (
        f"Learning rate {rate:g} at its peak, after a warm-up: the pretrained weights are "
        "adjusted, not overwritten."
    )
