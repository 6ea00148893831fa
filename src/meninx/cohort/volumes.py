"""NIfTI volumes and NumPy arrays."""

from pathlib import Path

import numpy as np

from meninx.cohort.frames import Frames, refuse_oversized
from meninx.errors import ImageError


def open_nifti(path: Path) -> Frames:
    """Open a NIfTI volume; its axial slices, from the feet to the head, are its frames.

    Of a series (4-D) the first volume is taken. A slice is shown as a radiologist sees it
    and as a DICOM file holds it: anterior up, the patient's right on the left.
    """
    import nibabel as nib

    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ImageError("it is NIfTI, but its name must end in .nii or .nii.gz to be read")
    image = nib.load(path)
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise ImageError("it holds no volume")
    shape = image.shape
    if len(shape) < 3 or 0 in shape:
        raise ImageError(f"its shape is {shape}, not that of a volume")
    # The voxel axis that runs from feet to head, and whether it runs the other way.
    towards, direction = nib.io_orientation(image.affine).T
    if not (towards == 2).any():
        raise ImageError("its affine does not say which way is up")
    axis = int(np.flatnonzero(towards == 2)[0])
    count = shape[axis]
    refuse_oversized(int(np.prod(shape[:3])) // count)

    def decode(frame: int) -> np.ndarray:
        index = frame if direction[axis] > 0 else count - 1 - frame
        slab = [slice(None)] * 3
        slab[axis] = slice(index, index + 1)
        first_volume = [0] * (len(shape) - 3)
        canonical = nib.as_closest_canonical(image.slicer[(*slab, *first_volume)])
        to_right_to_anterior = np.asanyarray(canonical.dataobj)[:, :, 0]
        return to_right_to_anterior[::-1, ::-1].T

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
