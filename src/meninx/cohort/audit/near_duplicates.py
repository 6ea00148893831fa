"""Findings about one picture that is there more than once."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort
from meninx.language import Message


def find_duplicates(cohort: Cohort, strict: bool) -> Iterator[Finding]:
    """Find pictures that are there more than once, identical or only nearly so.

    Across classes, or across predefined folds, it is an error; across patients, who are then
    kept together, a warning, or an error too when `strict`; of one patient it is only told.
    """
    for rows in _group_copies(cohort):
        fingerprints = {cohort.samples[row].fingerprint for row in rows}
        kind = "exact-duplicates" if len(fingerprints) == 1 else "near-duplicates"
        severity, message = _judge(cohort, rows, kind, strict)
        yield Finding.about(cohort, kind, severity, message, rows)


def find_allowed_copies(cohort: Cohort) -> Iterator[Finding]:
    """Tell which images were said by name to be no copies."""
    if cohort.allowed_copies:
        message = Message("copies_allowed", pairs=len(cohort.allowed_copies))
        rows = sorted({row for pair in cohort.allowed_copies for row in pair})
        yield Finding.about(cohort, "copies-allowed", Severity.INFO, message, rows)


def _group_copies(cohort: Cohort) -> list[list[int]]:
    """Give the rows of each picture that is there more than once, each a copy of each."""
    copies_of: dict[int, set[int]] = defaultdict(set)
    for one, other in cohort.copies.tolist():
        copies_of[one].add(other)
        copies_of[other].add(one)
    pictures: list[list[int]] = []
    told: set[tuple[int, int]] = set()
    for one, other in cohort.copies.tolist():
        if (one, other) in told:
            continue
        rows = [one, other]
        for row in sorted(copies_of[one] & copies_of[other]):
            if copies_of[row].issuperset(rows):
                rows.append(row)
        told.update(combinations(sorted(rows), 2))
        pictures.append(sorted(rows))
    return pictures


def _judge(cohort: Cohort, rows: list[int], kind: str, strict: bool) -> tuple[Severity, Message]:
    same = [cohort.samples[row] for row in rows]
    is_exact = kind == "exact-duplicates"
    what = Message("identical" if is_exact else "same_picture", count=len(rows))
    labels = sorted({sample.label for sample in same})
    is_one_patient = cohort.patients_known and len({sample.patient for sample in same}) == 1
    if len(labels) > 1 and is_one_patient and not is_exact:
        # Slices beside each other, one with the tumour and one without, are no contradiction.
        return Severity.WARNING, Message("duplicates_one_patient_labels", what=what)
    if len(labels) > 1:
        return Severity.ERROR, Message("duplicates_labels", what=what, labels=", ".join(labels))
    if len({sample.fold for sample in same}) > 1:
        return Severity.ERROR, Message("duplicates_folds", what=what)
    if len({sample.patient for sample in same}) > 1:
        if strict:
            return Severity.ERROR, Message("duplicates_patients_strict", what=what)
        known = cohort.patients_known
        return Severity.WARNING, Message(
            "duplicates_patients" if known else "duplicates_patients_unknown", what=what
        )
    return Severity.INFO, Message(
        "duplicates_identical" if is_exact else "duplicates_one_patient", what=what
    )
