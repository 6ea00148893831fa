"""Audit a cohort before anything is learned from it: what is wrong, and what is only thin.

In: a :class:`meninx.cohort.Cohort`, whose images were measured when it was opened. Out: findings,
each with how much it matters, the files, and what to do. It looks at images as they are stored,
framed or not.
"""

from meninx.cohort.audit.audit import audit
from meninx.cohort.audit.findings import Finding, Severity

__all__ = ["Finding", "Severity", "audit"]
