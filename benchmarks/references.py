"""Measure how far well-known images are from ImageNet: the axis that a cohort is read against.

Writes src/meninx/matrix/references.csv. Sources are the photographs and brain MRI beside the
project (../shared/data), images that scikit-image, pydicom and nibabel ship for their own
examples and tests, the phantom, and noise. Run it again when the reference backbone or the
reading of images changes:

    python benchmarks/references.py --data ../shared/data
"""

import argparse
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import skimage
from pydicom.data import get_testdata_file

from meninx.backbones import Backbone
from meninx.imaging import read_image
from meninx.matrix.matrix import REFERENCE_BACKBONE
from meninx.matrix.references import REFERENCES_FILE
from meninx.matrix.similarity import measure_similarity, observe
from meninx.phantom import phantom

SKIMAGE = Path(skimage.__file__).parent / "data"
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"


def read_skimage(*names: str) -> list[np.ndarray]:
    """Read pictures that scikit-image ships."""
    return [read_image(SKIMAGE / name) for name in names]


def read_folder(pattern: str, most: int) -> Callable[[Path], list[np.ndarray]]:
    """Make a reader of every so many files of a folder, evenly spaced."""

    def read(data: Path) -> list[np.ndarray]:
        files = sorted(data.glob(pattern))
        return [read_image(file) for file in files[:: max(1, len(files) // most)][:most]]

    return read


def draw_phantom(_: Path) -> list[np.ndarray]:
    """Draw the phantom of seed 0."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = phantom(Path(folder) / "phantom", seed=0)
        with manifest.open(encoding="utf-8") as file:
            return [read_image(manifest.parent / row["image"]) for row in csv.DictReader(file)]


def draw_noise(_: Path) -> list[np.ndarray]:
    """Draw white noise."""
    random = np.random.default_rng(0)
    return [random.random((224, 224), dtype=np.float32) for _ in range(20)]


REFERENCES: dict[str, tuple[str, Callable[[Path], list[np.ndarray]]]] = {
    "photographs": ("24 of the Kodak suite", read_folder("photos/*.jpg", 24)),
    "colour snapshots": (
        "scikit-image: astronaut, coffee, chelsea, rocket, motorcycle",
        lambda _: read_skimage(
            "astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"
        ),
    ),
    "grey textures": (
        "scikit-image: brick, grass, gravel",
        lambda _: read_skimage("brick.png", "grass.png", "gravel.png"),
    ),
    "histology": ("scikit-image: ihc", lambda _: read_skimage("ihc.png")),
    "retina": ("scikit-image: retina", lambda _: read_skimage("retina.jpg")),
    "printed page": ("scikit-image: page, text", lambda _: read_skimage("page.png", "text.png")),
    "brain MRI, contrast": (
        "200 slices of Cheng 2017 (cemri)",
        read_folder("cemri/images/*.jpg", 200),
    ),
    "brain MRI, 53 slices": (
        "53 slices of Cheng 2017 (cemri53)",
        read_folder("cemri53/*/*.jpg", 53),
    ),
    "brain MRI, anatomy": (
        "nibabel: anatomical.nii, middle slices",
        lambda _: [read_image(NIBABEL / "anatomical.nii", frame) for frame in range(8, 18, 2)],
    ),
    "small MRI": ("pydicom: MR_small", lambda _: [read_dicom("MR_small.dcm")]),
    "small CT": ("pydicom: CT_small", lambda _: [read_dicom("CT_small.dcm")]),
    "phantom": ("meninx phantom --seed 0", draw_phantom),
    "white noise": ("20 of 224 × 224", draw_noise),
    "blank": ("one black frame", lambda _: [np.zeros((224, 224), np.float32)]),
}


def read_dicom(name: str) -> np.ndarray:
    """Read a test image that pydicom ships."""
    file = get_testdata_file(name)
    assert isinstance(file, str)
    return read_image(Path(file))


def main() -> None:
    """Measure every reference and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    reference = Backbone.load(REFERENCE_BACKBONE)
    rows = []
    for name, (source, read) in REFERENCES.items():
        images = read(data)
        (seen,) = observe([reference], images)
        similarity = measure_similarity(seen.moments, np.arange(len(images)).astype(str))
        rows.append((f"{similarity.kl:.4f}", name, len(images), source))
        print(*rows[-1])
    with REFERENCES_FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kl", "name", "images", "source"])
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    main()
