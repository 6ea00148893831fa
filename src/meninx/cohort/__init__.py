"""The cohort: labelled images, and whose they are.

In: a folder with one sub-folder a class, or a manifest (CSV). Out: a :class:`Cohort`, whose
samples :func:`as_array` turns into pixels. :func:`audit` tells what is wrong or thin about it
before anything is learned.

It stands on imaging and needs no torch. Pseudonyms are given here, so that no later stage can
write a patient's name.
"""

from meninx.cohort.as_array import Image, Images, as_array, as_head, fingerprint_of
from meninx.cohort.audit import Finding, Severity, audit
from meninx.cohort.cemri import write_cemri_manifest
from meninx.cohort.cohort import Cohort, UnreadableImagesError
from meninx.cohort.file_index import Skipped
from meninx.cohort.manifests import Wanted, WrittenManifest, write_dicom_manifest
from meninx.cohort.sample import Sample
from meninx.cohort.sampling import SampleRule
from meninx.imaging import read_image

__all__ = [
    "Cohort",
    "Finding",
    "Image",
    "Images",
    "Sample",
    "SampleRule",
    "Severity",
    "Skipped",
    "UnreadableImagesError",
    "Wanted",
    "WrittenManifest",
    "as_array",
    "as_head",
    "audit",
    "fingerprint_of",
    "read_image",
    "write_cemri_manifest",
    "write_dicom_manifest",
]
