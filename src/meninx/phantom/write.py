"""Drawing the patients of a phantom cohort and writing them down."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from meninx.errors import CohortError
from meninx.phantom.anatomy import Anatomy, load_anatomy
from meninx.phantom.head import Head, draw_head
from meninx.phantom.scanner import Acquisition, draw_acquisition, scan

logger = logging.getLogger(__name__)

# The classes and sizes of the flagship problem: leptomeningeal metastasis, normal with leukaemia,
# normal without. Their order is part of the seeding: a class added here goes last.
COUNTS: Mapping[str, int] = MappingProxyType({"lm": 16, "leukemia": 22, "normal": 15})
_LABELS = tuple(COUNTS)
_COLUMNS = ("image", "label", "patient", "synthetic", "mask")
_NOTICE = "Synthetic image made by the Meninx phantom. Not a patient."
# Heights of the first slice: from the basal cisterns to the top of the ventricles, in millimetres.
_LEVELS = (-2.0, 38.0)
# Slices of one patient lie this far apart, in millimetres.
_SPACING = 5.0
# More would leave the part of the head that is modelled.
_MOST_SLICES = 9
# Patients are numbered out of so many, in an order that the seed shuffles.
_NUMBERS = 9999


@dataclass(frozen=True)
class Patient:
    """A phantom patient: a name that says nothing of the class, a head and its examination."""

    name: str
    label: str
    head: Head
    acquisition: Acquisition
    seeds: np.random.SeedSequence

    def scan(self, anatomy: Anatomy, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Picture and lesion mask `(h, w)` of slice `index`: 0 at the first level, then around."""
        step = (index + 1) // 2 * (1 if index % 2 else -1)
        noise = _generator(self.seeds, 3, index)
        return scan(self.head, anatomy, self.acquisition, step * _SPACING, noise)


def draw_patient(anatomy: Anatomy, seed: int, label: str, rank: int) -> Patient:
    """Draw the patient of a class by its rank in it; no other patient has a say.

    Parameters
    ----------
    anatomy
        The average head.
    seed
        Seed of the cohort.
    label
        Class: `lm`, `leukemia` or `normal`.
    rank
        Number within the class, from 0.
    """
    place = rank * len(_LABELS) + _LABELS.index(label)
    number = 1 + np.random.default_rng(seed).permutation(_NUMBERS)[place]
    seeds = np.random.SeedSequence(seed, spawn_key=(place,))
    examination = _generator(seeds, 0)
    level = float(examination.uniform(*_LEVELS))
    return Patient(
        name=f"phantom-{number:04d}",
        label=label,
        head=draw_head(_generator(seeds, 1), _generator(seeds, 2), anatomy, label, level),
        acquisition=draw_acquisition(examination, level),
        seeds=seeds,
    )


def _generator(seeds: np.random.SeedSequence, *purpose: int) -> np.random.Generator:
    """Open a stream of its own for each purpose, so that one draw more moves no other."""
    key = (*seeds.spawn_key, *purpose)
    return np.random.default_rng(np.random.SeedSequence(seeds.entropy, spawn_key=key))


def phantom(
    out: Path,
    seed: int = 0,
    counts: Mapping[str, int] = COUNTS,
    images_per_patient: int = 1,
) -> Path:
    """Write a synthetic cohort of post-contrast T1 slices on MNI152 anatomy.

    Patients of class `lm` (leptomeningeal metastasis) have linear and nodular enhancement along
    the pia, from nearly invisible to florid, and sometimes wide ventricles; those of `leukemia`
    (normal with leukaemia) have darker marrow in the skull; `normal` has neither. Everything else
    is drawn alike for all. A patient depends on the seed, the class and its rank in the class,
    not on how many others there are; the same seed gives the same bytes. A phantom cohort that is
    already in `out` is replaced.

    Parameters
    ----------
    out
        Folder to write: one sub-folder of 8-bit grey PNG pictures a class, `masks` with 0 and 255
        for the lesions, and `manifest.csv`.
    seed
        Seed of the whole cohort, 0 or more.
    counts
        Patients a class; classes left out have none.
    images_per_patient
        Slices a patient, 1 to 9, 5 mm apart around the same level, each with its own noise.

    Returns
    -------
    Path
        The manifest: columns image, label, patient, synthetic, mask; paths relative to it; mask
        is empty for classes without a lesion.

    Raises
    ------
    CohortError
        If a class is unknown, a number is out of range, or `out` holds something else.
    """
    _check_request(seed, counts, images_per_patient)
    out = Path(out)
    _clear_earlier_phantom(out)
    anatomy = load_anatomy()
    patients = [
        draw_patient(anatomy, seed, label, rank)
        for label in _LABELS
        for rank in range(counts.get(label, 0))
    ]
    # By name, so that the manifest's order says nothing of the class either.
    patients.sort(key=lambda patient: patient.name)
    rows = [
        _write_slice(out, patient, anatomy, index)
        for patient in patients
        for index in range(images_per_patient)
    ]
    manifest = out / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    logger.info("wrote %d synthetic images to %s", len(rows), out)
    return manifest


def _check_request(seed: int, counts: Mapping[str, int], images_per_patient: int) -> None:
    if unknown := set(counts) - set(_LABELS):
        raise CohortError(
            f"the phantom has no class {sorted(unknown)[0]!r}; it has {', '.join(_LABELS)}"
        )
    most = _NUMBERS // len(_LABELS)
    for label, count in counts.items():
        if not 0 <= count <= most:
            raise CohortError(
                f"the phantom makes 0 to {most} patients a class, not {count} {label}"
            )
    if sum(counts.values()) == 0:
        raise CohortError("a phantom cohort needs at least one patient")
    if not 1 <= images_per_patient <= _MOST_SLICES:
        raise CohortError(
            f"the phantom makes 1 to {_MOST_SLICES} images a patient, not {images_per_patient}"
        )
    if seed < 0:
        raise CohortError(f"the phantom's seed must be 0 or more, not {seed}")


def _clear_earlier_phantom(out: Path) -> None:
    """Make room in `out`, also after a phantom that was interrupted before its manifest.

    Only what a phantom wrote is ever removed; where anything else lies, nothing is.
    """
    files = [file for file in out.rglob("*") if not file.is_dir()]
    if not all(_is_phantom_file(file, out) for file in files):
        raise CohortError(f"{out} holds files that are not a phantom cohort; give an empty folder")
    for file in files:
        file.unlink()


def _is_phantom_file(file: Path, out: Path) -> bool:
    if file == out / "manifest.csv":
        return file.read_text("utf-8").startswith(",".join(_COLUMNS))
    return file.parent.name in (*_LABELS, "masks") and file.match("phantom-*.png")


def _write_slice(out: Path, patient: Patient, anatomy: Anatomy, index: int) -> tuple[str, ...]:
    """Write one picture, and its mask if the class has lesions; return its manifest row."""
    pixels, lesion = patient.scan(anatomy, index)
    name = f"{patient.name}_slice-{index + 1}.png"
    image, mask = f"{patient.label}/{name}", ""
    _write_png(out / image, pixels)
    if patient.head.lesion is not None:
        mask = f"masks/{name}"
        _write_png(out / mask, np.where(lesion, 255, 0).astype(np.uint8))
    return image, patient.label, patient.name, "true", mask


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    notice = PngInfo()
    notice.add_text("Synthetic", _NOTICE)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=notice)
