"""From a place on the matrix to a strategy and a cut, each with its reason.

All rules stand in :data:`RULES`, one row a quadrant, so that they can be read, argued with and
tested. Quadrants and strategies are those of Marcelino 2018, "Transfer learning from
pre-trained models".
"""

from dataclasses import dataclass
from enum import StrEnum


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
    trained_stages
        How many of the last stages are trained under ``partial``.
    reason
        In one sentence.
    """

    strategy: str
    trained_stages: int
    reason: str


RULES: dict[Quadrant, Rule] = {
    Quadrant.Q1: Rule(
        "full",
        0,
        "There are many images and they are unlike ImageNet: the whole network can be "
        "retrained, and needs to be.",
    ),
    Quadrant.Q2: Rule(
        "partial",
        2,
        "There are many images and they are like ImageNet: the early layers already fit, "
        "training the last stages is enough and cheap.",
    ),
    Quadrant.Q3: Rule(
        "partial",
        1,
        "There are few images and they are unlike ImageNet: the last stage must learn to see "
        "them, the others stay frozen because so few images cannot train more.",
    ),
    Quadrant.Q4: Rule(
        "frozen",
        0,
        "There are few images and they are like ImageNet: its features already fit, and few "
        "images train only a classifier.",
    ),
}


@dataclass(frozen=True)
class Advice:
    """What to do with a cohort.

    Attributes
    ----------
    strategy
        Name of the strategy.
    cut
        For ``partial``: the first stage that is trained, in the ruler's stages; else None.
    trained_stages
        How many of the last stages are trained under ``partial``: what carries the advice over
        to backbones with other stages.
    reasons
        One sentence each.
    """

    strategy: str
    cut: str | None
    trained_stages: int
    reasons: tuple[str, ...]


def find_quadrant(is_large: bool, is_similar: bool) -> Quadrant:
    """Place a cohort on the matrix."""
    if is_large:
        return Quadrant.Q2 if is_similar else Quadrant.Q1
    return Quadrant.Q4 if is_similar else Quadrant.Q3


def advise(quadrant: Quadrant, by_stage: dict[str, float]) -> Advice:
    """Apply a quadrant's rule.

    Parameters
    ----------
    quadrant
        Where the cohort is.
    by_stage
        The ruler's stages in order, the stem first, each with its distance from ImageNet, nats.
    """
    rule = RULES[quadrant]
    if rule.strategy != "partial":
        return Advice(rule.strategy, None, 0, (rule.reason,))
    stages = list(by_stage)
    cut = stages[-rule.trained_stages]
    kept = [by_stage[stage] for stage in stages[1 : -rule.trained_stages]]
    trained = [by_stage[stage] for stage in stages[-rule.trained_stages :]]
    profile = (
        f"From {cut} on, the images are {sum(trained) / len(trained):.2f} nats from ImageNet; "
        f"in the frozen stages between the stem and there, {sum(kept) / len(kept):.2f}."
    )
    return Advice(rule.strategy, cut, rule.trained_stages, (rule.reason, profile))
