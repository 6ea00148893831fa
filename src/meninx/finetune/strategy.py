"""The four ways to use a pretrained network."""

from enum import StrEnum


class Strategy(StrEnum):
    """What of a pretrained network is trained (after Marcelino 2018).

    Attributes
    ----------
    FULL
        Strategy 1: train the entire network, starting from the pretrained weights.
    PARTIAL
        Strategy 2: freeze the layers before a cut, train the others and the head.
    FROZEN
        Strategy 3: freeze the convolutional base, train only the classifier.
    SCRATCH
        The baseline: the same network with random weights, all of it trained.
    """

    FULL = "full"
    PARTIAL = "partial"
    FROZEN = "frozen"
    SCRATCH = "scratch"
