"""What the audit found, and in which images."""

from meninx.language.words import Words
from meninx.results.schema import AuditFinding

SHOWN_SAMPLES = 8  # pseudonyms named with one finding; the rest are counted


def tell_affected(finding: AuditFinding, images: int, words: Words) -> str:
    """Name the samples of a finding, or the first of them; that it is all of so many images."""
    samples = finding.files
    if not samples:
        return ""
    shown = ", ".join(samples[:SHOWN_SAMPLES])
    if len(samples) <= SHOWN_SAMPLES:
        return words("notes.affected", count=len(samples), samples=shown)
    if len(samples) == images:
        return words("notes.affected_all", count=images)
    return words(
        "notes.affected_more",
        count=len(samples),
        samples=shown,
        more=len(samples) - SHOWN_SAMPLES,
    )
