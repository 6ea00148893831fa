"""Findings about one picture that is there more than once."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort


def find_duplicates(cohort: Cohort, is_strict: bool) -> Iterator[Finding]:
    """Find pictures that are there more than once, identical or only nearly so.

    Across classes, or across predefined folds, it is an error; across patients, who are then
    kept together, a warning, or an error too when `is_strict`; of one patient it is only told.
    """
    for rows in _group_copies(cohort):
        fingerprints = {cohort.samples[row].fingerprint for row in rows}
        kind = "exact-duplicates" if len(fingerprints) == 1 else "near-duplicates"
        severity, advice = _judge(cohort, rows, kind, is_strict)
        yield Finding.about(cohort, kind, severity, advice, rows)


def _group_copies(cohort: Cohort) -> list[list[int]]:
    """Give the rows of each picture that is there more than once."""
    count, pairs = len(cohort.samples), cohort.copies
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, picture = connected_components(links, directed=False)
    several = [number for number, times in enumerate(np.bincount(picture)) if times > 1]
    return [np.flatnonzero(picture == number).tolist() for number in several]


def _judge(cohort: Cohort, rows: list[int], kind: str, is_strict: bool) -> tuple[Severity, str]:
    same = [cohort.samples[row] for row in rows]
    count = f"{len(rows)} images are identical"
    if kind == "near-duplicates":
        count = (
            f"{len(rows)} images show the same picture (flipped, rescaled, re-compressed, "
            "brightened or cropped, or neighbouring slices)"
        )
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
        if is_strict:
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
