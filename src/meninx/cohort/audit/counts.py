"""Findings about how many images and patients there are, and about those that show nothing."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import numpy as np

from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort
from meninx.language import Message

FEW_PATIENTS = 5  # fewer in a class cannot fill the usual five folds
SMALL_COHORT = 100  # below it, one image moves a score by more than a point
IMBALANCE = 3.0  # largest to smallest class
LEAST_SHOWN = 0.01  # of the pixels that differ from the median; a blank image shows less


def find_counts(cohort: Cohort) -> Iterator[Finding]:
    """Tell how many images and patients there are, and how many folds they allow."""
    images, patients = cohort.counts(), cohort.count_patients()
    told = ", ".join(f"{label} {images[label]}/{patients[label]}" for label in images)
    fewest = min(patients.values())
    scarce = [label for label in patients if patients[label] == fewest]
    message = Message(
        "counts",
        images=len(cohort.samples),
        patients=len(np.unique(cohort.groups)),
        classes=told,
        folds=fewest,
        scarce=", ".join(scarce),
    )
    yield Finding.about(cohort, "counts", Severity.INFO, message, _find_rows(cohort, scarce))


def find_skipped(cohort: Cohort) -> Iterator[Finding]:
    """Tell which images were left out because they cannot be used."""
    if not cohort.skipped:
        return
    reasons = Counter(skipped.reason for skipped in cohort.skipped)
    told = tuple(
        Message("skipped_reason", count=count, reason=reason)
        for reason, count in reasons.most_common()
    )
    message = Message("skipped", count=len(cohort.skipped), reasons=told)
    if len(cohort.skipped) == 1:
        message = Message("skipped_one", reasons=told)
    paths = tuple(str(skipped.path) for skipped in cohort.skipped)
    yield Finding("skipped", Severity.WARNING, paths, message, samples=())


def find_blank_images(cohort: Cohort) -> Iterator[Finding]:
    """Find images that are readable and show next to nothing."""
    rows = [
        row
        for row, sample in enumerate(cohort.samples)
        if sample.appearance is not None and sample.appearance.shown < LEAST_SHOWN
    ]
    if rows:
        message = Message("blank", count=len(rows), share=LEAST_SHOWN)
        yield Finding.about(cohort, "blank", Severity.ERROR, message, rows)


def find_few_patients(cohort: Cohort) -> Iterator[Finding]:
    """Find classes with too few patients, and say how many folds they allow."""
    patients = cohort.count_patients()
    few = {label: count for label, count in patients.items() if count < FEW_PATIENTS}
    if few:
        told = ", ".join(f"{label} {count}" for label, count in few.items())
        folds, rows = min(few.values()), _find_rows(cohort, few)
        message = Message("few_patients", limit=FEW_PATIENTS, classes=told, folds=folds)
        yield Finding.about(cohort, "few-patients", Severity.WARNING, message, rows)


def find_imbalance(cohort: Cohort) -> Iterator[Finding]:
    """Tell when one class is much larger than another."""
    counts = cohort.counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] > IMBALANCE * counts[smallest]:
        message = Message(
            "imbalance",
            largest=largest,
            most=counts[largest],
            smallest=smallest,
            fewest=counts[smallest],
        )
        rows = _find_rows(cohort, [smallest])
        yield Finding.about(cohort, "imbalance", Severity.WARNING, message, rows)


def find_unknown_patients(cohort: Cohort) -> Iterator[Finding]:
    """Tell when nothing says who the patients are."""
    if cohort.patients_known:
        return
    message = Message("patients_unknown" if cohort.folds is None else "patients_unknown_folds")
    rows = range(len(cohort.samples))
    yield Finding.about(cohort, "patients-unknown", Severity.INFO, message, rows)


def find_several_labels(cohort: Cohort) -> Iterator[Finding]:
    """Tell how many patients have images of several labels, and what follows."""
    groups = cohort.groups
    labels_of = defaultdict(set)
    for sample in cohort.samples:
        labels_of[sample.patient].add(sample.label)
    # Not two patients of one label each who share a picture: that is a copy in another class.
    has_several = [len(labels_of[sample.patient]) > 1 for sample in cohort.samples]
    several = np.unique(groups[has_several])
    if not len(several):
        return
    message = Message("several_labels", count=len(several), patients=len(np.unique(groups)))
    rows = np.flatnonzero(np.isin(groups, several)).tolist()
    yield Finding.about(cohort, "several-labels", Severity.INFO, message, rows)


def find_small_size(cohort: Cohort) -> Iterator[Finding]:
    """Tell when there are so few images that every score is uncertain."""
    count = len(cohort.samples)
    if count < SMALL_COHORT:
        message = Message("small", count=count)
        yield Finding.about(cohort, "small", Severity.INFO, message, range(count))


def find_synthetic(cohort: Cohort) -> Iterator[Finding]:
    """Tell that images were made by a program."""
    if cohort.synthetic:
        rows = [row for row, sample in enumerate(cohort.samples) if sample.is_synthetic]
        yield Finding.about(cohort, "synthetic", Severity.WARNING, Message("synthetic"), rows)


def _find_rows(cohort: Cohort, labels: Collection[str]) -> list[int]:
    """Give the rows of some classes."""
    return [row for row, sample in enumerate(cohort.samples) if sample.label in labels]
