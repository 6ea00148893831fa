"""The public CE-MRI set: a manifest of its slices, with labels, patients, folds and tumours.

Jun Cheng, "brain tumor dataset", figshare 1512427 (2017), CC BY 4.0.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meninx.cohort.manifests import WrittenManifest, relate, tell_all, write_manifest
from meninx.cohort.pseudonyms import Pseudonyms
from meninx.errors import CohortError, ImageError
from meninx.imaging.file_walk import is_junk, walk_files
from meninx.imaging.matlab import find_matrix, open_structure

COLUMNS = ("image", "label", "patient", "fold", "mask")
TUMOURS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class TumourFacts:
    """What a file of the CE-MRI set says of its slice, beside the pixels."""

    label: str
    patient: str


def write_cemri_manifest(
    folder: Path, manifest: Path, key_file: Path, skip_bad: bool = False
) -> WrittenManifest:
    """List the .mat files of the public CE-MRI set with labels, patients, folds and masks.

    Folds are those of the set's own cvind.mat, where it is there: its n-th entry is the fold of
    n.mat.

    Raises
    ------
    CohortError
        The folder holds none of them, or one cannot be read; every bad file is named.
    """
    if not folder.is_dir():
        raise CohortError(f"{folder}: there is no such folder")
    files = [path for path in walk_files(folder, is_junk) if path.suffix.lower() == ".mat"]
    indexes = [path for path in files if path.stem.lower().startswith("cvind")]
    numbered = [path for path in files if path.stem.isascii() and path.stem.isdecimal()]
    if not numbered:
        raise CohortError(f"{folder}: it holds no 1.mat, 2.mat … of the CE-MRI set")
    folds = read_fold_index(indexes[0]) if indexes else None
    rows: list[dict[str, object]] = []
    bad: dict[Path, str] = {}
    names = Pseudonyms.open(key_file)
    for path in sorted(numbered, key=lambda path: (int(path.stem), path)):
        try:
            facts = read_tumour_facts(path)
            fold: object = "" if folds is None else _find_fold(folds, path)
        except Exception as problem:
            told = str(problem) if isinstance(problem, ImageError) else "it is damaged"
            bad[path] = told
            continue
        image = relate(path, manifest)
        rows.append(
            {
                "image": image,
                "label": facts.label,
                "patient": names.give("P", facts.patient),
                "fold": fold,
                "mask": image,
            }
        )
    if bad and not skip_bad:
        raise CohortError(tell_all(bad))
    return write_manifest(manifest, COLUMNS, rows, Counter({"cannot be read": len(bad)}))


def _find_fold(folds: np.ndarray, path: Path) -> int:
    number = int(path.stem)
    if not 1 <= number <= len(folds):
        raise ImageError(f"the fold index has {len(folds)} entries and none for it")
    return int(folds[number - 1])


def read_tumour_facts(path: Path) -> TumourFacts:
    """Read a slice's label and patient from a `cjdata` structure.

    Raises
    ------
    ImageError
        They are missing or not as the set has them.
    """
    with open_structure(path) as structure:
        number = int(find_matrix(structure, "label")[()].ravel()[0])
        codes = find_matrix(structure, "PID", LONGEST_TEXT)[()].ravel()
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
            return np.asarray(find_matrix(file, "cvind")[()])
    return np.asarray(loadmat(path, variable_names=["cvind"])["cvind"])
