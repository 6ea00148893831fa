"""Findings about one picture that is there more than once."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort

# What to do where a finding is wrong.
ALLOW = (
    "list the pair in a file, the two names on one line with a comma, and add --allow-copies FILE"
)


def find_duplicates(cohort: Cohort, strict: bool) -> Iterator[Finding]:
    """Find pictures that are there more than once, identical or only nearly so.

    Across classes, or across predefined folds, it is an error; across patients, who are then
    kept together, a warning, or an error too when `strict`; of one patient it is only told.
    """
    for rows in _group_copies(cohort):
        fingerprints = {cohort.samples[row].fingerprint for row in rows}
        kind = "exact-duplicates" if len(fingerprints) == 1 else "near-duplicates"
        severity, advice = _judge(cohort, rows, kind, strict)
        yield Finding.about(cohort, kind, severity, advice, rows)


def find_allowed_copies(cohort: Cohort) -> Iterator[Finding]:
    """Tell which images were said by name to be no copies."""
    if cohort.allowed_copies:
        advice = (
            f"pairs of images that were said to be no copies (--allow-copies): "
            f"{len(cohort.allowed_copies)}; they are neither reported nor kept together"
        )
        rows = sorted({row for pair in cohort.allowed_copies for row in pair})
        yield Finding.about(cohort, "copies-allowed", Severity.INFO, advice, rows)


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


def _judge(cohort: Cohort, rows: list[int], kind: str, strict: bool) -> tuple[Severity, str]:
    same = [cohort.samples[row] for row in rows]
    count = f"{len(rows)} images are identical"
    if kind == "near-duplicates":
        count = (
            f"{len(rows)} images show the same picture (flipped, rescaled, re-compressed, "
            "brightened or cropped, or neighbouring slices)"
        )
    labels = sorted({sample.label for sample in same})
    is_one_patient = cohort.patients_known and len({sample.patient for sample in same}) == 1
    if len(labels) > 1 and is_one_patient and kind == "near-duplicates":
        # Slices beside each other, one with the tumour and one without, are no contradiction.
        return Severity.WARNING, (
            f"{count} and of one patient, under different labels: right for neighbouring slices, "
            "wrong for one picture twice; look at them"
        )
    if len(labels) > 1:
        return Severity.ERROR, (
            f"{count} but labelled {' and '.join(labels)}: correct the label or remove them; if "
            f"you see that they are no copies, {ALLOW}"
        )
    if len({sample.fold for sample in same}) > 1:
        return Severity.ERROR, (
            f"{count} but in different folds, so a test fold holds what was trained on: "
            f"keep one of them; if you see that they are no copies, {ALLOW}"
        )
    if len({sample.patient for sample in same}) > 1:
        if strict:
            return Severity.ERROR, (
                f"{count} but said to be of different patients: keep one of them, or correct "
                "the patient (without --strict they would be kept together)"
            )
        meaning = "count as one patient from now on" if cohort.patients_known else "stay together"
        return Severity.WARNING, (
            f"{count} but said to be of different patients: they {meaning}; keep one of them, "
            "or correct the patient"
        )
    if kind == "near-duplicates":
        return Severity.INFO, f"{count} and of one patient: they add little to each other"
    return Severity.INFO, f"{count} and of one patient: keep one, so that it does not count twice"
