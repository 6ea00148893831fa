"""MATLAB files of the public CE-MRI set: one slice each, and where its tumour is.

Jun Cheng, "brain tumor dataset", figshare 1512427 (2017), CC BY 4.0. Its files are MATLAB v7.3,
which is HDF5; the structure `cjdata` holds `image`, `label`, `PID` and `tumorMask`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.frame_source import FrameSource, refuse_oversized

if TYPE_CHECKING:
    import h5py

STRUCTURE = "cjdata"


def open_matlab(path: Path) -> FrameSource:
    """Open the image of a `cjdata` structure."""
    with open_structure(path) as structure:
        find_matrix(structure, "image")  # refuses before anything is decoded
    return FrameSource(1, lambda _: _read_matrix(path, "image"))


def read_tumour_mask(path: Path) -> np.ndarray:
    """Read where the tumour is, (h, w) bool, from a `cjdata` structure.

    Raises
    ------
    ImageError
        The file has none.
    """
    return _read_matrix(path, "tumorMask") > 0


@contextmanager
def open_structure(path: Path) -> Iterator["h5py.Group"]:
    """Open the structure of a file of the set.

    Raises
    ------
    ImageError
        It has none of its own.
    """
    import h5py

    with h5py.File(path, "r") as file:
        # Soft and external links would be followed to other files; the set has none.
        if file.get(STRUCTURE, getlink=True).__class__ is not h5py.HardLink:
            raise ImageError(f"it is an HDF5 or MATLAB 7.3 file without the structure {STRUCTURE}")
        yield file[STRUCTURE]


def find_matrix(group: "h5py.Group", name: str, most: int | None = None) -> "h5py.Dataset":
    """Find a matrix of numbers, with at most so many values.

    Raises
    ------
    ImageError
        There is none, it lies elsewhere, or it is too large.
    """
    import h5py

    if group.get(name, getlink=True).__class__ is not h5py.HardLink:
        raise ImageError(f"its structure {STRUCTURE} has no {name}")
    matrix = group[name]
    if not isinstance(matrix, h5py.Dataset) or matrix.external or matrix.is_virtual:
        raise ImageError(f"its {name} is not a matrix of its own")
    if matrix.dtype.kind not in "buif":
        raise ImageError(f"its {name} holds no numbers")
    refuse_oversized(int(matrix.size or 0))
    if not matrix.size or (most is not None and matrix.size > most):
        raise ImageError(f"its {name} has {matrix.size or 0} values")
    return matrix


def _read_matrix(path: Path, name: str) -> np.ndarray:
    with open_structure(path) as structure:
        return np.asarray(find_matrix(structure, name)[()]).T  # MATLAB stores columns first
