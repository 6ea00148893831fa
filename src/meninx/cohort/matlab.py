"""MATLAB files of the public CE-MRI set: one slice each, with its label, patient and tumour.

Jun Cheng, "brain tumor dataset", figshare 1512427 (2017), CC BY 4.0. Its files are MATLAB v7.3,
which is HDF5; the structure `cjdata` holds `image`, `label`, `PID` and `tumorMask`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.cohort.frames import Frames, refuse_oversized
from meninx.errors import CohortError, ImageError

if TYPE_CHECKING:
    import h5py

STRUCTURE = "cjdata"
TUMOURS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class TumourFacts:
    """What a file of the CE-MRI set says of its slice, beside the pixels."""

    label: str
    patient: str


def open_matlab(path: Path) -> Frames:
    """Open the image of a `cjdata` structure."""
    with _open_structure(path) as structure:
        _find_matrix(structure, "image")  # refuses before anything is decoded
    return Frames(1, lambda _: _read_matrix(path, "image"))


def read_tumour_mask(path: Path) -> np.ndarray:
    """Read where the tumour is, (h, w) bool, from a `cjdata` structure.

    Raises
    ------
    ImageError
        The file has none.
    """
    return _read_matrix(path, "tumorMask") > 0


def read_tumour_facts(path: Path) -> TumourFacts:
    """Read a slice's label and patient from a `cjdata` structure.

    Raises
    ------
    ImageError
        They are missing or not as the set has them.
    """
    with _open_structure(path) as structure:
        number = int(_find_matrix(structure, "label")[()].ravel()[0])
        codes = _find_matrix(structure, "PID", LONGEST_TEXT)[()].ravel()
    if number not in TUMOURS:
        raise ImageError(f"its label is {number}, not 1 (meningioma), 2 (glioma), 3 (pituitary)")
    return TumourFacts(TUMOURS[number], "".join(chr(int(code)) for code in codes).strip("\0 "))


def read_fold_index(path: Path) -> np.ndarray:
    """Read the fold of each file of the set, (n,) int64, from its cvind.mat.

    Raises
    ------
    CohortError
        It cannot be read, or holds no list of folds.
    """
    try:
        values = _read_cvind(path)
    except Exception as problem:
        raise CohortError(f"{path}: it cannot be read as the set's fold index") from problem
    folds = np.asarray(values, dtype=np.float64).ravel()
    if not folds.size or not np.isfinite(folds).all() or (folds != np.round(folds)).any():
        raise CohortError(f"{path}: it holds no list of folds")
    return folds.astype(np.int64)


def _read_cvind(path: Path) -> np.ndarray:
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return np.asarray(_find_matrix(file, "cvind")[()])
    return np.asarray(loadmat(path, variable_names=["cvind"])["cvind"])


@contextmanager
def _open_structure(path: Path) -> Iterator["h5py.Group"]:
    import h5py

    with h5py.File(path, "r") as file:
        # Soft and external links would be followed to other files; the set has none.
        if file.get(STRUCTURE, getlink=True).__class__ is not h5py.HardLink:
            raise ImageError(f"it is an HDF5 or MATLAB 7.3 file without the structure {STRUCTURE}")
        yield file[STRUCTURE]


def _find_matrix(group: "h5py.Group", name: str, most: int | None = None) -> "h5py.Dataset":
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
    with _open_structure(path) as structure:
        return np.asarray(_find_matrix(structure, name)[()]).T  # MATLAB stores columns first
