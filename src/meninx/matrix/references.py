"""The calibrated axis: how far well-known images are from ImageNet.

The figures are measured by ``benchmarks/references.py`` with the reference backbone, as cohorts
are, and lie beside this module with how each was made.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

REFERENCES_FILE = Path(__file__).with_name("references.csv")


@dataclass(frozen=True)
class Reference:
    """A known set of images.

    Attributes
    ----------
    kl
        Distance from ImageNet, nats.
    name
        What they show.
    images
        How many.
    source
        Where they come from.
    """

    kl: float
    name: str
    images: int
    source: str


def load_references() -> tuple[Reference, ...]:
    """Read the table, nearest to ImageNet first."""
    with REFERENCES_FILE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Reference(float(row["kl"]), row["name"], int(row["images"]), row["source"])
            for row in csv.DictReader(file)
        )
