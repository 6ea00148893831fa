"""What an audit gives: findings, each with how much it matters and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from meninx.cohort.cohort import Cohort
from meninx.language import Message


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing to know about a cohort.

    Attributes
    ----------
    kind
        What it is, in a word that scripts can test for.
    severity
        How much it matters.
    files
        The paths concerned, for the user's own eyes; a file name may hold a patient's name.
        Where it concerns the cohort as a whole, those that it rests on: the class that is too
        small, the images whose class a shortcut tells, or all.
    message
        What it means and what to do, without a file's or a patient's name.
    samples
        The pseudonyms of the same images, for reports; of images that cannot be read none, since
        pseudonyms are made from pixels.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    message: Message
    samples: tuple[str, ...]

    @classmethod
    def about(
        cls, cohort: Cohort, kind: str, severity: Severity, message: Message, rows: Sequence[int]
    ) -> "Finding":
        """Make a finding about some rows of a cohort."""
        return cls(
            kind,
            severity,
            files=tuple(str(cohort.samples[row].path) for row in rows),
            message=message,
            samples=tuple(str(cohort.sample_names[row]) for row in rows),
        )

    @property
    def advice(self) -> str:
        """The message in English."""
        return self.message.text

    def as_dict(self) -> dict[str, object]:
        """Give the finding as `meninx audit --json` prints it."""
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "files": list(self.files),
            "advice": self.advice,
            "message": self.message.as_dict(),
        }
