"""Time and memory as images grow: the frozen cell and the last stages' cell, five folds each.

The source has 1,225 images; beyond that, means of two images of a class stand in. Their pixels are
new, so nothing is found in the cache; only time and memory are measured on them.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.speed.competitor import Stopwatch
from benchmarks.speed.draws import FOLDS
from benchmarks.speed.meninx_cells import LAST_STAGE, make_cell, run_cell
from benchmarks.speed.plain_pytorch import LAST_STAGE_EPOCHS
from benchmarks.speed.processes import run_watched
from benchmarks.speed.records import measure_once
from PIL import Image
from sklearn.model_selection import StratifiedKFold

from meninx.cohort import Cohort
from meninx.evaluate import Split

SIZES = (53, 300, 1000, 3000)
TRIAL_SIZES = (12, 24)


def scale(manifest: Path, out: Path, is_trial: bool) -> None:
    """Measure each size that is not in the file of records yet."""
    for size in TRIAL_SIZES if is_trial else SIZES:
        for name in ("frozen", "partial"):
            key = {"kind": "scale", "images": size, "cell": name, "is_trial": is_trial}
            record = measure_once(out, key, partial(measure_size, manifest, size, name))
            if record:
                print(f"{size:5} images  {name:8}  {record['seconds']:7.1f} s", flush=True)


def measure_size(manifest: Path, size: int, name: str) -> dict[str, Any]:
    """Run one cell on so many images in a fresh process, from a cold cache."""
    with tempfile.TemporaryDirectory(prefix="meninx-scale-") as folder:
        work = Path(folder)
        write_images(manifest, size, work / "images")
        command = [sys.executable, "-m", "benchmarks.speed.scaling", str(work), name]
        watched = run_watched(command, {"MENINX_CACHE": str(work / "cache")})
        answer = json.loads((work / "answer.json").read_text())
    return {**answer, "peak_bytes": watched.peak_bytes}


def write_images(manifest: Path, size: int, folder: Path) -> None:
    """Write images of a manifest into class folders, in the classes' proportions."""
    table = pd.read_csv(manifest).sample(frac=1, random_state=0).reset_index(drop=True)
    labels, names = table["label"].tolist(), table["image"].tolist()
    files_of = table.groupby("label")["image"].apply(list).to_dict()
    for number in range(size):
        again, row = divmod(number, len(table))
        label, name = labels[row], names[row]
        picture = _open_grey(manifest.parent / name)
        if again:
            own = files_of[label]
            partner = _open_grey(manifest.parent / own[(own.index(name) + again) % len(own)])
            picture = Image.blend(picture, partner.resize(picture.size), 0.5)
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture.save(folder / label / f"{number:05d}.jpg", quality=95)


def _open_grey(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("L")


def split_evenly(labels: np.ndarray) -> Iterator[Split]:
    """Divide labels into stratified folds."""
    division = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels)
    for fold, (train, test) in enumerate(division):
        yield Split(0, fold, train, test)


def run_one(work: Path, name: str) -> dict[str, object]:
    """Read a folder's images and run one cell on them."""
    cells = {
        "frozen": make_cell("frozen"),
        "partial": make_cell("partial", LAST_STAGE, LAST_STAGE_EPOCHS),
    }
    watch = Stopwatch()
    with watch.time("read"):
        cohort = Cohort.from_folder(work / "images")
    run_cell(cells[name], cohort, list(split_evenly(cohort.labels)), 0, watch)
    return {"seconds": sum(watch.seconds.values()), "phases": watch.seconds}


if __name__ == "__main__":
    own_folder = Path(sys.argv[1])
    own_answer = run_one(own_folder, sys.argv[2])
    (own_folder / "answer.json").write_text(json.dumps(own_answer))
