"""Records: one small parquet file a fit, whole or absent, and all of them in one file."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.domains.policies import Fit
from benchmarks.domains.sources import Draw

from meninx.files import write_whole

COLLECTED = Path(__file__).with_name("fits.parquet")
SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "size": pa.int16(),
        "draw": pa.int8(),
        "seed": pa.int8(),
        "policy": pa.string(),
        "seconds": pa.float32(),
        "prefix_seconds": pa.float32(),
        "losses": pa.list_(pa.float32()),
        "labels": pa.list_(pa.int8()),
        "patients": pa.list_(pa.int16()),
        "probabilities": pa.list_(pa.float16()),
    }
)


@dataclass(frozen=True)
class Key:
    """Which fit."""

    draw: Draw
    seed: int
    policy: str

    def file(self, work: Path) -> Path:
        """Give the file of its record."""
        name = f"{self.draw.source}-{self.draw.size}-{self.draw.number}-{self.seed}-{self.policy}"
        return work / "fits" / f"{name}.parquet"


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
        "losses": list(fit.losses),
        "labels": labels.tolist(),
        "patients": patients.tolist(),
        "probabilities": fit.probabilities.astype(np.float16).ravel(),
    }
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), content)
    write_whole(key.file(work), content.getvalue())


def collect(work: Path, out: Path = COLLECTED) -> int:
    """Put all records into one file and count them."""
    tables = [pq.read_table(file) for file in sorted((work / "fits").glob("*.parquet"))]
    pq.write_table(pa.concat_tables(tables), out, compression="zstd", compression_level=19)
    return len(tables)


def read_collected(file: Path = COLLECTED) -> pd.DataFrame:
    """Read all records, the probabilities of each ``(m, k)``."""
    table = pq.read_table(file).to_pandas()
    table["probabilities"] = [
        np.asarray(flat, dtype=float).reshape(len(labels), -1)
        for flat, labels in zip(table["probabilities"], table["labels"], strict=True)
    ]
    return table
