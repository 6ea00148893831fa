"""Lesions: where a cohort's masks say that an image's lesion is."""

import logging
from dataclasses import dataclass

import numpy as np

from meninx.cohort import Sample
from meninx.errors import ImageError
from meninx.imaging.head_crop import find_head
from meninx.imaging.images import decode_frame, open_frames, read_mask

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion in an image as the classifier is given it.

    Attributes
    ----------
    region
        ``(h, w)`` bool: the lesion; somewhere true.
    head
        ``(h, w)`` bool: the head, or everything where none stands out.
    """

    region: np.ndarray
    head: np.ndarray


def find_lesion(sample: Sample) -> Lesion | None:
    """Find the lesion that a sample's mask marks.

    Returns
    -------
    Lesion or None
        None where the sample has no mask or it marks nothing; also, with a line in the log,
        where it cannot be read or is not as large as the image.

    Raises
    ------
    ImageError
        The image itself cannot be read.
    """
    if sample.mask is None:
        return None
    try:
        region = read_mask(sample.mask, sample.frame, sample.axis)
    except ImageError:
        logger.warning("a lesion mask cannot be read; that image is left out")
        return None
    stored = decode_frame(sample.path, open_frames(sample.path, sample.axis), sample.frame or 0)
    if region.shape != stored.shape[:2]:
        logger.warning("a lesion mask is not as large as its image; that image is left out")
        return None
    found = find_head(stored)
    head = np.ones(region.shape, dtype=bool) if found is None else found.region
    if found is not None and sample.is_cropped:
        box = found.box
        region, head = region[box], head[box]
    return Lesion(region, head) if region.any() else None
