"""First stage: images and the patients they belong to.

In: a folder with one sub-folder a class, or a manifest (CSV). Out: a :class:`Cohort`, whose
images :func:`read_image` turns into arrays. :func:`audit` tells what is wrong or thin about
it before anything is learned; :func:`phantom` makes an artificial one.

Every later stage reads from here; this stage knows none of them and needs no torch.
Pseudonyms are given here, so that no later stage can write a patient's name.
"""

from meninx.cohort.audit import Finding, Severity, audit
from meninx.cohort.cohort import Cohort, UnreadableImagesError
from meninx.cohort.framing import frame_head
from meninx.cohort.images import read_image, read_mask, scale_intensity
from meninx.cohort.listing import Skipped
from meninx.cohort.manifests import (
    Wanted,
    WrittenManifest,
    write_cemri_manifest,
    write_dicom_manifest,
)

# Imported here, not on first use: `phantom` is also the folder's name, and whichever is
# bound last wins. nilearn, which takes seconds, is imported when a phantom is drawn.
from meninx.cohort.phantom import phantom
from meninx.cohort.pixels import Image, Images, as_head, as_pixels, fingerprint_of
from meninx.cohort.sample import Sample
from meninx.cohort.sampling import SampleRule
from meninx.cohort.series import SeriesKind
from meninx.cohort.slices import Axis, SliceChoice

__all__ = [
    "Axis",
    "Cohort",
    "Finding",
    "Image",
    "Images",
    "Sample",
    "SampleRule",
    "SeriesKind",
    "Severity",
    "Skipped",
    "SliceChoice",
    "UnreadableImagesError",
    "Wanted",
    "WrittenManifest",
    "as_head",
    "as_pixels",
    "audit",
    "fingerprint_of",
    "frame_head",
    "phantom",
    "read_image",
    "read_mask",
    "scale_intensity",
    "write_cemri_manifest",
    "write_dicom_manifest",
]
