"""Out of distribution: is an image unlike those that the model was trained on.

In: a cohort's images and a backbone. Out: an :class:`OODDetector` that says how unlike them
another image is, and whether that is too much.
"""

from meninx.ood.detector import OODDetector, OODScore

__all__ = ["OODDetector", "OODScore"]
