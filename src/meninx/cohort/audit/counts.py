"""Findings about how many images and patients there are, and about those that show nothing."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import numpy as np

from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort

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
    advice = (
        f"{len(cohort.samples)} images of {len(np.unique(cohort.groups))} patients "
        f"(images/patients of each class: {told}); at most {fewest} folds can have a patient of "
        f"every class; the class with the fewest patients sets that limit ({', '.join(scarce)}): "
        "new patients help most there"
    )
    yield Finding.about(cohort, "counts", Severity.INFO, advice, _find_rows(cohort, scarce))


def find_skipped(cohort: Cohort) -> Iterator[Finding]:
    """Tell which images were left out because they cannot be used."""
    if not cohort.skipped:
        return
    reasons = Counter(skipped.reason for skipped in cohort.skipped)
    told = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
    count = "1 image was" if len(cohort.skipped) == 1 else f"{len(cohort.skipped)} images were"
    advice = f"{count} left out because they cannot be used ({told}): mend or remove them"
    paths = tuple(str(skipped.path) for skipped in cohort.skipped)
    yield Finding("skipped", Severity.WARNING, paths, advice, samples=())


def find_blank_images(cohort: Cohort) -> Iterator[Finding]:
    """Find images that are readable and show next to nothing."""
    rows = [
        row
        for row, sample in enumerate(cohort.samples)
        if sample.appearance is not None and sample.appearance.shown < LEAST_SHOWN
    ]
    if rows:
        advice = (
            f"in {len(rows)} images fewer than {LEAST_SHOWN:.0%} of the pixels differ from the "
            "rest, so they show nothing to classify: remove them, or export them again"
        )
        yield Finding.about(cohort, "blank", Severity.ERROR, advice, rows)


def find_few_patients(cohort: Cohort) -> Iterator[Finding]:
    """Find classes with too few patients, and say how many folds they allow."""
    patients = cohort.count_patients()
    few = {label: count for label, count in patients.items() if count < FEW_PATIENTS}
    if few:
        told = ", ".join(f"{label} {count}" for label, count in few.items())
        advice = (
            f"fewer than {FEW_PATIENTS} patients in a class ({told}): it cannot be in every "
            f"fold, and its scores rest on very few people; at most {min(few.values())} folds "
            "are possible; add patients"
        )
        rows = _find_rows(cohort, few)
        yield Finding.about(cohort, "few-patients", Severity.WARNING, advice, rows)


def find_imbalance(cohort: Cohort) -> Iterator[Finding]:
    """Tell when one class is much larger than another."""
    counts = cohort.counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] > IMBALANCE * counts[smallest]:
        advice = (
            f"{largest} has {counts[largest]} images and {smallest} only {counts[smallest]}: "
            "read balanced accuracy and the smallest class's recall, not accuracy"
        )
        rows = _find_rows(cohort, [smallest])
        yield Finding.about(cohort, "imbalance", Severity.WARNING, advice, rows)


def find_unknown_patients(cohort: Cohort) -> Iterator[Finding]:
    """Tell when nothing says who the patients are."""
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
    rows = range(len(cohort.samples))
    yield Finding.about(cohort, "patients-unknown", Severity.INFO, advice, rows)


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
    advice = (
        f"{len(several)} of {len(np.unique(groups))} patients have images of several labels: all "
        "images of a patient are on one side of every split, the classes are spread as evenly as "
        "that allows, and scores by patient leave these patients out; if two patients share a "
        "number, tell them apart"
    )
    rows = np.flatnonzero(np.isin(groups, several)).tolist()
    yield Finding.about(cohort, "several-labels", Severity.INFO, advice, rows)


def find_small_size(cohort: Cohort) -> Iterator[Finding]:
    """Tell when there are so few images that every score is uncertain."""
    count = len(cohort.samples)
    if count < SMALL_COHORT:
        advice = (
            f"{count} images are few: every score will be uncertain by several points, so read "
            "its interval, and do not take the best of many methods at its word"
        )
        yield Finding.about(cohort, "small", Severity.INFO, advice, range(count))


def find_synthetic(cohort: Cohort) -> Iterator[Finding]:
    """Tell that images were made by a program."""
    if cohort.synthetic:
        advice = (
            "the images are synthetic: scores say whether the program works, nothing more; use "
            "images of patients for any other question"
        )
        rows = [row for row, sample in enumerate(cohort.samples) if sample.is_synthetic]
        yield Finding.about(cohort, "synthetic", Severity.WARNING, advice, rows)


def _find_rows(cohort: Cohort, labels: Collection[str]) -> list[int]:
    """Give the rows of some classes."""
    return [row for row, sample in enumerate(cohort.samples) if sample.label in labels]
