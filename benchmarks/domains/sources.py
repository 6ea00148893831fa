"""Sources and draws: which images everybody trains on, and who is tested."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from meninx.cohort import Cohort
from meninx.phantom import phantom

SUITE = ("alzheimer", "busi", "skin", "wbc", "handsigns", "steel", "catsdogs")
SOURCES = (*SUITE, "cemri", "phantom")
PHANTOM_COUNTS = {"lm": 106, "leukemia": 145, "normal": 99}
PHANTOM_SEED = 1000
# Pictures that another class has too (the suite's README); one side is left out.
CROSS_CLASS_COPIES = {
    "busi": ("benign (399).png", "benign (406).png", "benign (85).png", "benign (437).png"),
    "wbc": ("neutrophil/060.png",),
}
MOST_TESTED = 200
FEWEST_OF_CLASS = 2


@dataclass(frozen=True)
class Draw:
    """A training set of `size` images from a source, and the test images that go with it."""

    source: str
    size: int
    number: int


@dataclass(frozen=True, eq=False)
class Source:
    """The images of one domain.

    Attributes
    ----------
    cohort
        Where they come from.
    rows
        Those of its samples that are used.
    """

    cohort: Cohort
    rows: np.ndarray

    def draw(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows of the cohort to train on, and rows of other patients to test on.

        Both have the classes about as the source has them. Patients are taken in random order,
        each with all images that are still wanted; who gave one is not tested. Where the source
        has folds, because its patients are not known, draws go by turns from one to the other.
        """
        random = np.random.default_rng([draw.size, draw.number])
        labels, groups, folds = self.cohort.labels, self.cohort.groups, self.cohort.folds
        rows = random.permutation(self.rows)
        wanted = _apportion(draw.size, labels[self.rows])
        own = np.zeros(len(labels), dtype=int) if folds is None else folds - folds.min()
        inside = rows[own[rows] == (0 if folds is None else draw.number % 2)]
        outside = inside if folds is None else rows[own[rows] != draw.number % 2]
        train = _take_by_group(inside, labels, groups, wanted)
        others = outside[~np.isin(groups[outside], groups[train])]
        room = _apportion(min(MOST_TESTED, len(others)), labels[others])
        test = [others[labels[others] == label][:count] for label, count in enumerate(room)]
        return np.sort(train), np.sort(np.concatenate(test))


@cache
def open_source(name: str, data: Path, work: Path) -> Source:
    """Open a source; the phantom is drawn when it is not there yet."""
    folder = data / ("suite" if name in SUITE else "") / name
    if name == "phantom":
        folder = work / "phantom"
        if not (folder / "manifest.csv").exists():
            phantom(folder, seed=PHANTOM_SEED, counts=PHANTOM_COUNTS)
    cohort = Cohort.from_manifest(folder / "manifest.csv")
    left_out = CROSS_CLASS_COPIES.get(name, ())
    paths = [sample.path.as_posix() for sample in cohort.samples]
    kept = [row for row, path in enumerate(paths) if not path.endswith(left_out)]
    return Source(cohort, np.array(kept))


def _apportion(size: int, labels: np.ndarray) -> np.ndarray:
    """Divide a number over classes as frequent as they are, by largest remainders."""
    shares = size * np.bincount(labels) / len(labels)
    counts = np.maximum(np.floor(shares).astype(int), FEWEST_OF_CLASS)
    missing = max(size - counts.sum(), 0)
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    return counts


def _take_by_group(
    rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    left, taken = wanted.copy(), []
    for group in dict.fromkeys(groups[rows].tolist()):
        for row in rows[groups[rows] == group]:
            if left[labels[row]] > 0:
                left[labels[row]] -= 1
                taken.append(row)
    return np.array(taken)
