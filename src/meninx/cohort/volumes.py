"""NIfTI volumes and NumPy arrays."""

from pathlib import Path

import numpy as np

from meninx.cohort.frames import Frames, refuse_oversized
from meninx.cohort.geometry import square_pixels
from meninx.cohort.slices import Axis
from meninx.errors import ImageError


def open_nifti(path: Path, axis: Axis = Axis.AXIAL) -> Frames:
    """Open a NIfTI volume; its slices across an axis are its frames.

    Axial slices run from the feet to the head, coronal ones from back to front, sagittal ones
    from the patient's left to the right. Each is shown as a radiologist sees it and as a DICOM
    file holds it (see :func:`meninx.cohort.geometry.turn_upright`), with square pixels. The
    volume is brought to its closest canonical orientation; oblique ones are not resampled.
    Of a series (4-D) the first volume is taken.
    """
    import nibabel as nib

    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ImageError("it is NIfTI, but its name must end in .nii or .nii.gz to be read")
    image = nib.load(path)
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
    sizes = np.delete(nib.affines.voxel_sizes(image.affine)[np.argsort(towards)], across)

    def decode(frame: int) -> np.ndarray:
        index = frame if direction[stored_axis] > 0 else count - 1 - frame
        slab = [slice(None)] * 3
        slab[stored_axis] = slice(index, index + 1)
        first_volume = [0] * (len(shape) - 3)
        canonical = nib.as_closest_canonical(image.slicer[(*slab, *first_volume)])
        plane = np.take(np.asanyarray(canonical.dataobj), 0, axis=across)
        return square_pixels(plane[::-1, ::-1].T, height=sizes[1], width=sizes[0])

    return Frames(count, decode)


def open_numpy(path: Path) -> Frames:
    """Open a .npy array: (h, w), (h, w, 3), or a volume (slices, h, w).

    An array whose last axis is 3 is taken for colour. Arrays of objects are refused, since
    loading them can run code.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
        refuse_oversized(array.shape[0] * array.shape[1])
        return Frames(1, lambda _: np.asarray(array))
    if array.ndim != 3 or array.shape[0] == 0:
        raise ImageError(f"its shape is {array.shape}, not (h, w), (h, w, 3) or (slices, h, w)")
    refuse_oversized(array.shape[1] * array.shape[2])
    return Frames(array.shape[0], lambda frame: np.asarray(array[frame]))
