"""NIfTI and FreeSurfer volumes, and NumPy arrays."""

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.frame_source import FrameSource, flatten_alpha, refuse_oversized
from meninx.imaging.geometry import square_pixels
from meninx.imaging.slices import Axis

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.spatialimages import SpatialImage

SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
COLOURS = (3, 4)  # channels, the fourth being transparency
MAXIMUM_BYTES = 8 << 30  # unpacked, of a whole volume or series


def open_volume(path: Path, axis: Axis = Axis.AXIAL) -> FrameSource:
    """Open a volume of NIfTI or FreeSurfer (MGH); its slices across an axis are its frames.

    Axial slices run from the feet to the head, coronal ones from back to front, sagittal ones
    from the patient's left to the right. Each is shown as a radiologist sees it and as a DICOM
    file holds it (see :func:`meninx.imaging.geometry.turn_upright`), with square pixels. The
    volume is brought to its closest canonical orientation; oblique ones are not resampled.
    Of a series (4-D) the first volume is taken.
    """
    import nibabel as nib

    if not path.name.lower().endswith(SUFFIXES):
        raise ImageError("it is NIfTI, but its name must end in .nii or .nii.gz to be read")
    try:
        image = nib.load(path)
    except nib.filebasedimages.ImageFileError:
        raise ImageError("it is damaged: its header is not whole") from None
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise ImageError("it holds no volume")
    shape = image.shape
    if len(shape) < 3 or min(shape) < 1:
        raise ImageError(f"its shape is {shape}, not that of a volume")
    if not np.isfinite(image.affine).all():
        raise ImageError("its affine does not say which way is up")
    # For each voxel axis: which of right, front and head it runs along, and whether backwards.
    towards, direction = nib.io_orientation(image.affine).T
    across = list(Axis).index(axis)
    if sorted(towards.tolist()) != [0, 1, 2]:
        raise ImageError("its affine does not say which way is up")
    stored_axis = int(np.flatnonzero(towards == across)[0])
    count = int(shape[stored_axis])
    refuse_oversized(int(np.prod(shape[:3], dtype=object)) // count)
    _refuse_cut_short(path, image)
    sizes = np.delete(nib.affines.voxel_sizes(image.affine)[np.argsort(towards)], across)

    def decode(frame: int) -> np.ndarray:
        index = frame if direction[stored_axis] > 0 else count - 1 - frame
        slab = [slice(None)] * 3
        slab[stored_axis] = slice(index, index + 1)
        first_volume = [0] * (len(shape) - 3)
        canonical = nib.as_closest_canonical(image.slicer[(*slab, *first_volume)])
        plane = np.take(np.asanyarray(canonical.dataobj), 0, axis=across)
        shown = _separate_colours(plane[::-1, ::-1].T)
        return square_pixels(shown, height=sizes[1], width=sizes[0])

    return FrameSource(count, decode)


def _refuse_cut_short(path: Path, image: "SpatialImage") -> None:
    """Raise EOFError when a file has fewer bytes than its header says, even if slices are whole.

    The last four bytes of a gzip file say how much it holds; where they do not agree (two parts
    in a row, or cut off) it is unpacked to see.
    """
    values = cast("ArrayProxy", image.dataobj)
    expected = values.offset + int(np.prod(values.shape, dtype=object)) * values.dtype.itemsize
    if not path.name.lower().endswith((".gz", ".mgz")):
        if path.stat().st_size < expected:
            raise EOFError
        return
    with path.open("rb") as packed:
        packed.seek(-4, os.SEEK_END)
        if int.from_bytes(packed.read(4), "little") == expected % 2**32:
            return
    if expected > MAXIMUM_BYTES:
        raise ImageError("it unpacks to far more than a volume should")
    with gzip.open(path) as unpacked:
        while expected > 0:
            part = unpacked.read(min(expected, 1 << 20))
            if not part:
                raise EOFError
            expected -= len(part)


def _separate_colours(plane: np.ndarray) -> np.ndarray:
    """Give a plane of NIfTI's RGB or RGBA voxels as ``(h, w, 3)``; grey ones stay as they are."""
    if plane.dtype.names is None:
        return plane
    return flatten_alpha(np.stack([plane[name] for name in plane.dtype.names], axis=-1))


def open_numpy(path: Path) -> FrameSource:
    """Open a .npy array: (h, w), colours (h, w, 3 or 4), or a volume (slices, h, w).

    One channel, (h, w, 1) or (1, h, w), is grey. An array whose first axis is 3 or 4 may be colours
    or slices, and is refused. Arrays of objects are refused, since
    loading them can run code.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as problem:
        if "Python objects" in str(problem):
            raise ImageError("it holds Python objects, which are not loaded") from None
        raise
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[:, :, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in COLOURS):
        refuse_oversized(array.shape[0] * array.shape[1])
        return FrameSource(1, lambda _: flatten_alpha(np.asarray(array)))
    if array.ndim == 3 and array.shape[0] in COLOURS:
        raise ImageError(
            f"its shape is {array.shape}, which may be {array.shape[0]} colours or as many slices; "
            "save colours as (h, w, 3), and slices one a file"
        )
    if array.ndim != 3 or array.shape[0] == 0:
        raise ImageError(f"its shape is {array.shape}, not (h, w), (h, w, 3) or (slices, h, w)")
    refuse_oversized(array.shape[1] * array.shape[2])
    return FrameSource(array.shape[0], lambda frame: np.asarray(array[frame]))
