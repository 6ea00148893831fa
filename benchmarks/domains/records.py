"""Records: one small parquet file a fit, whole or absent, and all of them in one file."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.domains.policies import Fit
from benchmarks.domains.sources import Draw

from meninx.files import write_whole

COLLECTED = Path(__file__).with_name("fits.parquet")


@dataclass(frozen=True)
class Key:
    """Which fit."""

    draw: Draw
    seed: int
    policy: str

    def file(self, work: Path) -> Path:
        """Give the file of its record."""
        draw = self.draw
        name = f"{draw.source}-{draw.size}-{draw.number}-{self.seed}-{self.policy}.parquet"
        return work / "fits" / name


def write_record(key: Key, fit: Fit, labels: np.ndarray, patients: np.ndarray, work: Path) -> None:
    """Keep a fit with the ``(m,)`` labels and patients of its test images."""
    row = {
        "source": key.draw.source,
        "size": key.draw.size,
        "draw": key.draw.number,
        "seed": key.seed,
        "policy": key.policy,
        "seconds": fit.seconds,
        "prefix_seconds": fit.prefix_seconds,
        "losses": np.array(fit.losses, np.float32),
        "labels": labels.astype(np.int8),
        "patients": patients.astype(np.int16),
        "probabilities": fit.probabilities.astype(np.float16).ravel(),
    }
    content = io.BytesIO()
    pd.DataFrame([row]).to_parquet(content)
    write_whole(key.file(work), content.getvalue())


def collect(work: Path, out: Path = COLLECTED) -> int:
    """Put all records into one file and count them."""
    files = sorted((work / "fits").glob("*.parquet"))
    table = pd.concat(map(pd.read_parquet, files))
    table.to_parquet(out, index=False, compression="zstd", compression_level=19)
    return len(table)


def read_collected(file: Path = COLLECTED) -> pd.DataFrame:
    """Read all records, the probabilities of each ``(m, k)``."""
    table = pd.read_parquet(file)
    table["probabilities"] = [
        flat.astype(float).reshape(len(labels), -1)
        for flat, labels in zip(table["probabilities"], table["labels"], strict=True)
    ]
    return table
