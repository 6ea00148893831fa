"""First stage: images and the patients they belong to.

In: a folder with one sub-folder a class, or a manifest (CSV). Out: a :class:`Cohort`, whose
images :func:`read_image` turns into arrays. :func:`audit` tells what is wrong or thin about
it before anything is learned; :func:`phantom` makes an artificial one.

Every later stage reads from here; this stage knows none of them and needs no torch.
Pseudonyms are given here, so that no later stage can write a patient's name.
"""

from meninx.cohort.audit import Finding, Severity, audit
from meninx.cohort.cohort import Cohort, UnreadableImagesError
from meninx.cohort.images import read_image

# Imported here, not on first use: `phantom` is also the folder's name, and whichever is
# bound last wins. nilearn, which takes seconds, is imported when a phantom is drawn.
from meninx.cohort.phantom import phantom
from meninx.cohort.pixels import Image, Images, as_pixels, fingerprint_of
from meninx.cohort.sample import Sample

__all__ = [
    "Cohort",
    "Finding",
    "Image",
    "Images",
    "Sample",
    "Severity",
    "UnreadableImagesError",
    "as_pixels",
    "audit",
    "fingerprint_of",
    "phantom",
    "read_image",
]
