"""What stands in `explanations.json`, as typed dictionaries: how the heatmaps were tested."""

from typing import TypedDict

from meninx.report.evaluation_file import Interval


class RandomisedStep(TypedDict):
    """How alike heatmaps still are when the network is randomised from the head down to here."""

    randomised: str
    similarity: float | None


class Sanity(TypedDict):
    """The model-randomisation check (Adebayo et al. 2018)."""

    passed: bool
    similarity: float | None
    low: float | None
    high: float | None
    threshold: float
    images: int
    steps: list[RandomisedStep]


class Localisation(TypedDict):
    """How much of the heatmaps lies on the lesions, against a blind heatmap."""

    images: int
    patients: int
    mass: Interval
    chance: Interval
    gain: Interval
    pointing: Interval
    difference: Interval
    better_than_chance: bool


class ExplanationsFile(TypedDict):
    """`explanations.json`; a part is `None` where it could not be done."""

    method: str
    sanity: Sanity | None
    localisation: Localisation | None
