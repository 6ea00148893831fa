"""Draws: which 53 images everybody trains on, in which folds, and who is tested."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

# The flagship's class sizes.
COUNTS = {"glioma": 22, "meningioma": 16, "pituitary": 15}
FOLDS = 5
TESTED = 400
# Patients are not known in this source, but no patient is in both of its folds.
TRAINING_FOLD, TEST_FOLD = 1, 2


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """Image files with their classes, sorted by class and then by name.

    Attributes
    ----------
    paths
        n files.
    labels
        ``(n,)`` names of classes.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray

    @classmethod
    def of_table(cls, table: pd.DataFrame, folder: Path) -> "LabelledFiles":
        """Take the rows of a manifest that lies in a folder."""
        ordered = table.sort_values(["label", "image"])
        return cls(tuple(folder / name for name in ordered["image"]), ordered["label"].to_numpy())

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def targets(self) -> np.ndarray:
        """``(n,)`` indices of the classes in alphabetical order."""
        return np.searchsorted(sorted(COUNTS), self.labels)

    def take(self, rows: np.ndarray) -> "LabelledFiles":
        """Take some of the rows."""
        return LabelledFiles(tuple(self.paths[row] for row in rows), self.labels[rows])

    def copy_to(self, folder: Path) -> "LabelledFiles":
        """Copy the files into one sub-folder a class, as Meninx and fastai like them."""
        copies = []
        for path, label in zip(self.paths, self.labels, strict=True):
            (folder / label).mkdir(parents=True, exist_ok=True)
            copies.append(Path(shutil.copy(path, folder / label / path.name)))
        return replace(self, paths=tuple(copies))


@dataclass(frozen=True, eq=False)
class Draw:
    """One training set with its folds, and the images of other patients it is tested on.

    Attributes
    ----------
    number
        Its seed, and that of everything random that is done with it.
    train
        53 images of one half of the source.
    folds
        ``(53,)`` the stratified fold of each, the same for every competitor.
    test
        400 images of the other half, the same in every draw.
    timed_folds
        Those that the timed cross-validation goes through.
    most_epochs
        Where only a trial is wanted, no recipe trains longer.
    """

    number: int
    train: LabelledFiles
    folds: np.ndarray
    test: LabelledFiles
    timed_folds: tuple[int, ...] = tuple(range(FOLDS))
    most_epochs: int | None = None

    @property
    def is_trial(self) -> bool:
        """Whether it only shows that everything runs."""
        return self.most_epochs is not None

    def epochs(self, usual: int) -> int:
        """Give how many epochs to train where a recipe says so many."""
        return usual if self.most_epochs is None else min(usual, self.most_epochs)

    def splits(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the rows to train on and those to predict, fold by fold."""
        for fold in self.timed_folds:
            yield np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)

    def trimmed(self) -> "Draw":
        """Make a trial of it: one fold, one epoch, every tenth test image."""
        rows = np.arange(0, len(self.test), 10)
        return replace(self, test=self.test.take(rows), timed_folds=(0,), most_epochs=1)


def draw_images(manifest: Path, number: int) -> Draw:
    """Draw a training set from a manifest with the columns image, label and fold.

    Parameters
    ----------
    manifest
        Of ``cemri``: fold 1 is drawn from, fold 2 is tested on.
    number
        Which draw; the same number gives the same draw.
    """
    table = pd.read_csv(manifest)
    source = table[table["fold"] == TRAINING_FOLD]
    chosen = pd.concat(
        [
            source[source["label"] == label].sample(count, random_state=number)
            for label, count in COUNTS.items()
        ]
    )
    others = table[table["fold"] == TEST_FOLD]
    train = LabelledFiles.of_table(chosen, manifest.parent)
    folds = np.empty(len(train), dtype=int)
    division = StratifiedKFold(FOLDS, shuffle=True, random_state=number)
    for fold, (_, rows) in enumerate(division.split(train.labels, train.labels)):
        folds[rows] = fold
    test = others.sample(min(TESTED, len(others)), random_state=0)
    return Draw(number, train, folds, LabelledFiles.of_table(test, manifest.parent))


def make_draw(manifest: Path, number: int, is_trial: bool) -> Draw:
    """Draw images; for a trial, few folds and epochs."""
    draw = draw_images(manifest, number)
    return draw.trimmed() if is_trial else draw
