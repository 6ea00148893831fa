"""The phantom: a synthetic cohort with a known answer, at the very start of the flow.

In comes a seed; out goes a folder of pictures with a manifest that `Cohort.from_manifest` reads,
and a mask of every lesion. It stands in for patients in tests, benchmarks and first tries, is
marked synthetic wherever it goes, and says nothing about real patients.
"""

from meninx.phantom.write import phantom

__all__ = ["phantom"]
