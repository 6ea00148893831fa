"""The errors that Meninx raises on purpose.

Each is raised where its cause is known and says what is wrong, where, and what to do.
The command line shows them as one line and ends with exit code 2.
"""

from pathlib import Path

from meninx.language import Message


class MeninxError(Exception):
    """Base of every error that a user of Meninx can cause or cure."""


class ImageError(MeninxError):
    """An image file cannot be read, or holds nothing that can be classified.

    Attributes
    ----------
    reason
        What is wrong, without the file's name; a plain sentence has no other language.
    path
        The file, once it is known.
    """

    def __init__(self, reason: Message | str, path: Path | None = None) -> None:
        super().__init__(reason, path)
        self.reason: Message = (
            Message("reason_other", text=reason) if isinstance(reason, str) else reason
        )
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason.text


class CohortError(MeninxError):
    """The images, labels and patients do not make a cohort that can be studied."""


class WeightsError(MeninxError):
    """The pretrained weights of a backbone cannot be found or do not fit it."""


class BackboneError(MeninxError):
    """A backbone is unknown, or cannot be cut into stages."""


class LeakError(MeninxError):
    """A patient would be on both sides of a split."""


class OutputError(MeninxError):
    """A file cannot be written where it was asked for."""


class StudyError(MeninxError):
    """A study cannot be planned, resumed or read."""


class TrainingError(MeninxError):
    """Gradient descent left the numbers that can be computed with."""


class BundleError(MeninxError):
    """A bundle is incomplete, altered, or made by something else."""
