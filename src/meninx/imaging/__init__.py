"""Imaging: a file becomes pixels.

In: a PNG, JPEG, TIFF, DICOM, NIfTI, MGH, NumPy or MATLAB file, or a folder of DICOM slices. Out:
a float32 array in [0, 1] (:func:`read_image`), or the head alone (:func:`read_head`). Formats,
geometry, series and the crop to the head are known here; labels and patients are not.
"""

from meninx.imaging.file_walk import is_junk, walk_files
from meninx.imaging.head_crop import crop_to_head
from meninx.imaging.images import read_head, read_image, read_mask, scale_intensity
from meninx.imaging.series import SeriesKind
from meninx.imaging.slices import Axis, SliceChoice

__all__ = [
    "Axis",
    "SeriesKind",
    "SliceChoice",
    "crop_to_head",
    "is_junk",
    "read_head",
    "read_image",
    "read_mask",
    "scale_intensity",
    "walk_files",
]
