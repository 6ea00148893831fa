"""The recipe: every number of training, in one place, and the presets that people choose from."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from meninx.errors import StudyError

RANGES = {
    "epochs": (1, inf),
    "fewest_steps": (3, inf),
    "batch_size": (1, inf),
    "learning_rate": (0, inf),
    "head_rate_factor": (0, inf),
    "warm_up": (0, 1),
    "weight_decay": (0, inf),
    "largest_gradient": (0, inf),
    "label_smoothing": (0, 1),
    "dropout": (0, 1),
    "averaged": (0, 1),
    "head_start": (1e-9, inf),
    "C": (1e-9, inf),
    "views": (1, 64),
    "augmentation": (0, 10),
    "image_size": (8, 4096),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned; ``docs/decisions`` says what each number was chosen on.

    Attributes
    ----------
    epochs
        Passes over the training images, each image in a view drawn at random.
    fewest_steps
        Of the optimiser: where so few images make fewer steps, there are more epochs.
    batch_size
        Images a step.
    learning_rate
        Of AdamW for pretrained layers, at its peak: it rises during `warm_up` and then falls to
        zero (one cycle, Smith and Topin 2019).
    head_rate_factor
        How many times faster the new head learns than the layers below it.
    warm_up
        Share of the steps, in (0, 1).
    weight_decay
        Of AdamW.
    largest_gradient
        Norm at which gradients are clipped.
    label_smoothing
        Share of the target that is spread over all classes, in [0, 1).
    dropout
        Share of the inputs of each linear layer of the head that is dropped, in [0, 1).
    averaged
        Share of the last steps whose weights are averaged, in [0, 1] (Izmailov et al. 2018,
        "Averaging weights leads to wider optima"); 0 takes the last step's.
    head_start
        The head starts as a logistic regression of this C on the frozen features, so loose that
        the images have still much to teach (Kumar et al. 2022, "Fine-tuning can distort
        pretrained features"); None starts it at random.
    C
        Inverse strength of regularisation of the logistic regression on a frozen base.
    views
        In how many fixed views each image is trained on and predicted, at least 1.
    augmentation
        How far the views depart from the image: 0 only flips, 1 is the usual.
    trains_statistics
        Whether BatchNorm learns the statistics of the images; else it keeps ImageNet's, about
        which few images say little.
    image_size
        Side of the square that images are resized to, pixels; None for what the backbone was
        pretrained on.

    Raises
    ------
    StudyError
        A number is out of its range.
    """

    epochs: int = 20
    fewest_steps: int = 30
    batch_size: int = 8
    learning_rate: float = 4e-4
    head_rate_factor: float = 4.0
    warm_up: float = 0.2
    weight_decay: float = 0.05
    largest_gradient: float = 1.0
    label_smoothing: float = 0.1
    dropout: float = 0.3
    averaged: float = 0.5
    head_start: float | None = 0.003
    C: float = 1.0
    views: int = 8
    augmentation: float = 1.0
    trains_statistics: bool = False
    image_size: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise StudyError(f"{name} of a recipe is {low:g} to {high:g}, not {value!r}")


class Preset(StrEnum):
    """How much time training may take.

    Attributes
    ----------
    FAST
        About a third of the default's time, for a first look.
    DEFAULT
        What the figures in the documentation are of.
    THOROUGH
        What it takes.
    """

    FAST = "fast"
    DEFAULT = "default"
    THOROUGH = "thorough"

    @property
    def recipe(self) -> Recipe:
        """Its recipe for pretrained networks."""
        return PRESETS[self]


PRESETS = {
    Preset.FAST: Recipe(epochs=10),
    Preset.DEFAULT: Recipe(),
    Preset.THOROUGH: Recipe(epochs=30),
}

# A network with random weights has nothing to keep: it learns its own statistics, faster, and on
# smaller images so that a laptop can do it.
SCRATCH = Recipe(
    epochs=12,
    batch_size=6,
    learning_rate=1e-3,
    averaged=0.0,
    head_start=None,
    trains_statistics=True,
    image_size=112,
)
