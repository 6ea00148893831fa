"""One labelled image of a cohort, and how to find it again."""

from dataclasses import dataclass, field
from pathlib import Path

from meninx.cohort.appearance import Appearance
from meninx.imaging.slices import Axis


@dataclass(frozen=True)
class Sample:
    """One image: a picture, or one slice of a volume.

    Attributes
    ----------
    path
        The file that holds the image.
    label
        The name of its class.
    patient
        The user's own name for the patient. It must never be written to an output:
        outputs use :attr:`meninx.cohort.Cohort.patients`.
    frame
        Which slice, frame or page of the file, from 0; None when the file holds one image.
    fold
        The predefined fold, or None when the cohort has none.
    mask
        A file that marks the region of interest, or None.
    axis
        Across which `frame` counts the slices of a NIfTI volume.
    fingerprint
        SHA-256 (64 hex digits) of the decoded pixels and their shape.
    is_cropped
        Whether reading it gives the head alone; see :mod:`meninx.imaging.head_crop`.
    appearance
        What the audit needs of it, and where its head is, measured when it was opened.
    is_synthetic
        Whether it is said to be made by a program rather than a scanner.
    """

    path: Path
    label: str
    patient: str
    frame: int | None = None
    fold: int | None = None
    mask: Path | None = None
    fingerprint: str = ""
    axis: Axis = Axis.AXIAL
    is_cropped: bool = False
    appearance: Appearance | None = field(default=None, repr=False)
    is_synthetic: bool = False
