"""Audit a cohort before anything is learned from it: what is wrong, and what is only thin."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from meninx.cohort.cohort import Cohort

FEW_PATIENTS = 5  # fewer in a class cannot fill the usual five folds
SMALL_COHORT = 100  # below it, one image moves a score by more than a point
IMBALANCE = 3.0  # largest to smallest class


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
    advice
        What it means and what to do, without a file's or a patient's name.
    samples
        The pseudonyms of the same images, for reports.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    advice: str
    samples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Give the finding as `meninx audit --json` prints it."""
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "files": list(self.files),
            "advice": self.advice,
        }


def audit(cohort: Cohort) -> list[Finding]:
    """Look a cohort over, without opening its images again.

    Kinds of finding: `exact-duplicates`, `few-patients`, `imbalance`, `patients-unknown`,
    `small`, `synthetic`.

    Returns
    -------
    list of Finding
        The gravest first.
    """
    findings = [
        *_find_exact_duplicates(cohort),
        *_find_few_patients(cohort),
        *_find_imbalance(cohort),
        *_find_unknown_patients(cohort),
        *_find_small_size(cohort),
        *_find_synthetic(cohort),
    ]
    gravest_first = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    return sorted(findings, key=lambda finding: gravest_first.index(finding.severity))


def _find_exact_duplicates(cohort: Cohort) -> Iterator[Finding]:
    rows_of = defaultdict(list)
    for row, sample in enumerate(cohort.samples):
        rows_of[sample.fingerprint].append(row)
    for rows in rows_of.values():
        if len(rows) > 1:
            severity, advice = _judge_duplicates(cohort, rows)
            yield _finding(cohort, "exact-duplicates", severity, advice, rows)


def _judge_duplicates(cohort: Cohort, rows: list[int]) -> tuple[Severity, str]:
    same = [cohort.samples[row] for row in rows]
    count = f"{len(rows)} images are identical"
    labels = sorted({sample.label for sample in same})
    if len(labels) > 1:
        return Severity.ERROR, (
            f"{count} but labelled {' and '.join(labels)}: correct the label or remove them"
        )
    if len({sample.fold for sample in same}) > 1:
        return Severity.ERROR, (
            f"{count} but in different folds, so a test fold holds what was trained on: "
            "keep one of them"
        )
    if len({sample.patient for sample in same}) > 1:
        meaning = "count as one patient from now on" if cohort.patients_known else "stay together"
        return Severity.WARNING, (
            f"{count} but said to be of different patients: they {meaning}; keep one of them, "
            "or correct the patient"
        )
    return Severity.INFO, f"{count} and of one patient: keep one, so that it does not count twice"


def _find_few_patients(cohort: Cohort) -> Iterator[Finding]:
    patients = _count_patients(cohort)
    few = {label: count for label, count in patients.items() if count < FEW_PATIENTS}
    if few:
        told = ", ".join(f"{label} has {count}" for label, count in few.items())
        advice = (
            f"fewer than {FEW_PATIENTS} patients in a class ({told}): it cannot be in every "
            "fold, and its scores rest on very few people; add patients or use fewer folds"
        )
        rows = [row for row, sample in enumerate(cohort.samples) if sample.label in few]
        yield _finding(cohort, "few-patients", Severity.WARNING, advice, rows)


def _find_imbalance(cohort: Cohort) -> Iterator[Finding]:
    counts = cohort.counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] > IMBALANCE * counts[smallest]:
        advice = (
            f"{largest} has {counts[largest]} images and {smallest} only {counts[smallest]}: "
            "read balanced accuracy and the smallest class's recall, not accuracy"
        )
        yield _finding(cohort, "imbalance", Severity.WARNING, advice)


def _find_unknown_patients(cohort: Cohort) -> Iterator[Finding]:
    if cohort.patients_known:
        return
    advice = "nothing says which patient an image is of, so each file is taken for one patient"
    if cohort.folds is None:
        advice += (
            "; if some share a patient, scores are too high: give a patient pattern or a "
            "manifest with a column patient"
        )
    else:
        advice += "; the predefined folds are trusted to keep patients apart"
    yield _finding(cohort, "patients-unknown", Severity.INFO, advice)


def _find_small_size(cohort: Cohort) -> Iterator[Finding]:
    count = len(cohort.samples)
    if count < SMALL_COHORT:
        advice = (
            f"{count} images are few: every score will be uncertain by several points, so read "
            "its interval, and do not take the best of many methods at its word"
        )
        yield _finding(cohort, "small", Severity.INFO, advice)


def _find_synthetic(cohort: Cohort) -> Iterator[Finding]:
    if cohort.synthetic:
        advice = "the images are synthetic: scores say whether the program works, nothing more"
        yield _finding(cohort, "synthetic", Severity.WARNING, advice)


def _count_patients(cohort: Cohort) -> dict[str, int]:
    """Count the patients of each class, identical images counting as one."""
    groups, labels = cohort.groups, cohort.labels
    return {
        label: len(np.unique(groups[labels == number]))
        for number, label in enumerate(cohort.classes)
    }


def _finding(
    cohort: Cohort, kind: str, severity: Severity, advice: str, rows: list[int] | None = None
) -> Finding:
    rows = rows or []
    return Finding(
        kind,
        severity,
        files=tuple(str(cohort.samples[row].path) for row in rows),
        advice=advice,
        samples=tuple(str(name) for name in cohort.sample_names[rows]),
    )
