"""DICOM: single images and multi-frame objects."""

from pathlib import Path

import numpy as np

from meninx.cohort.frames import Frames, invert, refuse_oversized
from meninx.errors import ImageError


def open_dicom(path: Path) -> Frames:
    """Open a DICOM file, in any transfer syntax that pydicom and pylibjpeg decode.

    Values are after the modality transform (rescale slope and intercept); MONOCHROME1,
    where 0 is white, is inverted. Only pixels and their description are looked at.
    """
    from pydicom import dcmread
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
    from pydicom.uid import ImplicitVRLittleEndian

    dataset = dcmread(path, force=True)  # force: old files lack the preamble
    dataset.file_meta.setdefault("TransferSyntaxUID", ImplicitVRLittleEndian)
    if "PixelData" not in dataset:
        raise ImageError("it is a DICOM file without an image in it")
    refuse_oversized(int(dataset.Rows) * int(dataset.Columns))
    photometric = str(dataset.PhotometricInterpretation)

    def decode(frame: int) -> np.ndarray:
        pixels = pixel_array(dataset, index=frame)
        if photometric == "PALETTE COLOR":
            return apply_color_lut(pixels, dataset)
        if pixels.ndim == 3:
            return pixels
        values = apply_modality_lut(pixels, dataset)
        return invert(values) if photometric == "MONOCHROME1" else values

    return Frames(max(1, int(dataset.get("NumberOfFrames") or 1)), decode)
