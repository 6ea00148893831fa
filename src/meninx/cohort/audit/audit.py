"""The audit: all findings about a cohort, the gravest first."""

from meninx.cohort.audit.counts import (
    find_blank_images,
    find_counts,
    find_few_patients,
    find_imbalance,
    find_several_labels,
    find_skipped,
    find_small_size,
    find_synthetic,
    find_unknown_patients,
)
from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.audit.near_duplicates import find_allowed_copies, find_duplicates
from meninx.cohort.audit.shortcuts import find_shortcuts
from meninx.cohort.cohort import Cohort


def audit(cohort: Cohort, strict: bool = False) -> list[Finding]:
    """Look a cohort over, without opening its images again.

    Kinds of finding: `skipped`, `blank`, `exact-duplicates`, `near-duplicates`, `copies-allowed`,
    `shortcut`, `few-patients`, `imbalance`, `patients-unknown`, `several-labels`, `counts`,
    `small`, `synthetic`.

    Parameters
    ----------
    cohort
        What to look over.
    strict
        Whether one picture said to be of two patients is an error; else they are kept
        together, and it is a warning.

    Returns
    -------
    list of Finding
        The gravest first.
    """
    findings = [
        *find_skipped(cohort),
        *find_blank_images(cohort),
        *find_duplicates(cohort, strict),
        *find_allowed_copies(cohort),
        *find_shortcuts(cohort),
        *find_few_patients(cohort),
        *find_imbalance(cohort),
        *find_unknown_patients(cohort),
        *find_several_labels(cohort),
        *find_counts(cohort),
        *find_small_size(cohort),
        *find_synthetic(cohort),
    ]
    gravest_first = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    return sorted(findings, key=lambda finding: gravest_first.index(finding.severity))
