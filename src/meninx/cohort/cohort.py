"""The cohort: labelled images, and which patient each belongs to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.cohort.images import choose_frames, decode_frame, fingerprint_pixels, open_frames
from meninx.cohort.listing import NO_LABELS, Entry, list_folder, list_manifest, name_some
from meninx.cohort.sample import Sample
from meninx.errors import CohortError, ImageError

if TYPE_CHECKING:
    import pandas as pd


class UnreadableImagesError(CohortError):
    """Some images of a cohort cannot be read.

    Attributes
    ----------
    bad
        Every one of them: (path, reason).
    """

    def __init__(self, bad: Sequence[tuple[Path, str]]) -> None:
        super().__init__(bad)
        self.bad = tuple(bad)

    def __str__(self) -> str:
        count = "1 image" if len(self.bad) == 1 else f"{len(self.bad)} images"
        reasons = name_some([reason for _, reason in self.bad], separator="; ")
        return f"{count} cannot be used: {reasons}"


@dataclass(frozen=True)
class Cohort:
    """The labelled images of one problem, each with its patient; read-only and valid.

    Open one with :meth:`open`, :meth:`from_folder` or :meth:`from_manifest`. Rows of all
    arrays are in the order of `samples`, which does not depend on the file system.

    Names that leave the cohort are pseudonyms made from pixels: they hold nothing of a
    file's or a patient's name, and stay the same when the files are moved or renamed.

    Attributes
    ----------
    samples
        The images, n of them, by label, then path, then slice.
    patients_known
        False when nothing said who the patients are, so that each file was taken for one.
    synthetic
        Whether any image was made by a program rather than a scanner.

    Raises
    ------
    CohortError
        There are fewer than two classes, or fewer than two patients in one of them; a
        patient has two labels; folds are given for some samples only, there is but one, or
        a patient is in two.
    """

    samples: tuple[Sample, ...]
    patients_known: bool = True
    synthetic: bool = False

    def __post_init__(self) -> None:
        _check_labels(self.samples)
        _check_folds(self.samples)
        groups, labels = self.groups, self.labels
        for number, label in enumerate(self.classes):
            if len(set(groups[labels == number])) < 2:
                raise CohortError(
                    f"class {label!r} has images of one patient only (identical images count as "
                    "one patient); a class needs at least two to be tested on another"
                )

    @classmethod
    def open(
        cls, path: Path | str, patient_pattern: str | None = None, slices: int = 1
    ) -> "Cohort":
        """Open a manifest (.csv), a folder that holds manifest.csv, or a folder of classes.

        See :meth:`from_manifest` and :meth:`from_folder` for the parameters.
        """
        path = Path(path)
        manifest = path / "manifest.csv" if path.is_dir() else path
        if manifest.is_file():
            return cls.from_manifest(manifest, patient_pattern, slices)
        return cls.from_folder(path, patient_pattern, slices)

    @classmethod
    def from_folder(
        cls, folder: Path | str, patient_pattern: str | None = None, slices: int = 1
    ) -> "Cohort":
        """Open a folder that has one sub-folder for each class.

        Parameters
        ----------
        folder
            Images may be at any depth below the class folders. Hidden files, folders named
            `masks` and text beside the images are passed over; all else must be an image.
        patient_pattern
            A regular expression searched in each file name; its first group, or all it
            matches, names the patient. Without it each file is its own patient.
        slices
            How many slices to take of each volume, evenly spaced in its central half.

        Raises
        ------
        CohortError
            The folder does not make a cohort; see :class:`Cohort`.
        UnreadableImagesError
            Images cannot be read; all of them are in its `bad`.
        """
        return cls._from_entries(list_folder(Path(folder), patient_pattern), slices)

    @classmethod
    def from_manifest(
        cls,
        csv_file: Path | str,
        patient_pattern: str | None = None,
        slices: int = 1,
        allow_outside: bool = False,
    ) -> "Cohort":
        """Open the images listed in a CSV file (UTF-8; comma, semicolon or tab).

        Parameters
        ----------
        csv_file
            Columns `image` (relative to the file's folder) and `label`; and, if known,
            `patient`, `fold` (whole numbers, to be used as they are), `slice` (of a volume,
            from 0), `mask`, `synthetic` (true or false). Others are passed over.
        patient_pattern, slices
            As in :meth:`from_folder`. A pattern only where there is no column `patient`;
            `slices` only for rows without a `slice`.
        allow_outside
            Accept images that lie outside the manifest's folder.

        Raises
        ------
        CohortError
            The manifest does not make a cohort; see :class:`Cohort`.
        UnreadableImagesError
            Images cannot be read; all of them are in its `bad`.
        """
        return cls._from_entries(
            list_manifest(Path(csv_file), patient_pattern, allow_outside), slices
        )

    @classmethod
    def _from_entries(cls, entries: Sequence[Entry], slices: int) -> "Cohort":
        if slices < 1:
            raise CohortError(f"slices is {slices}; take at least 1 of each volume")
        samples: list[Sample] = []
        bad: list[tuple[Path, str]] = []
        for entry in entries:
            try:
                samples += _read_samples(entry, slices)
            except ImageError as problem:
                bad.append((entry.path, str(problem)))
        if bad:
            raise UnreadableImagesError(bad)
        return cls(
            tuple(samples),
            patients_known=all(entry.patient is not None for entry in entries),
            synthetic=any(entry.synthetic for entry in entries),
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in alphabetical order."""
        return tuple(sorted({sample.label for sample in self.samples}))

    @property
    def images(self) -> np.ndarray:
        """The samples as an array (n,) of objects, to be indexed by scikit-learn."""
        return np.fromiter(self.samples, dtype=object, count=len(self.samples))

    @property
    def labels(self) -> np.ndarray:
        """The class of each sample as an index into `classes`, (n,) int64."""
        index = {label: number for number, label in enumerate(self.classes)}
        return np.array([index[sample.label] for sample in self.samples], dtype=np.int64)

    @property
    def patients(self) -> np.ndarray:
        """The pseudonym of each sample's patient, (n,) str."""
        return np.array([self._patient_names[sample.patient] for sample in self.samples])

    @property
    def sample_names(self) -> np.ndarray:
        """The pseudonym of each sample, (n,) str, no two alike."""
        return np.array(_name_by_content("S", [sample.fingerprint for sample in self.samples]))

    @property
    def groups(self) -> np.ndarray:
        """What a split must keep together, (n,) str: patients, joined where images are shared.

        Two patients who have an identical image are most likely one who was entered twice.
        """
        names = self.patients
        return names[_join_sharing(names, [sample.fingerprint for sample in self.samples])]

    @property
    def folds(self) -> np.ndarray | None:
        """The predefined fold of each sample, (n,) int64, or None when there is none."""
        folds = [sample.fold for sample in self.samples if sample.fold is not None]
        return np.array(folds, dtype=np.int64) if folds else None

    def counts(self) -> dict[str, int]:
        """Count the images of each class."""
        found = Counter(sample.label for sample in self.samples)
        return {label: found[label] for label in self.classes}

    def table(self) -> "pd.DataFrame":
        """Give the cohort as a table that may be written down: no path, no patient's own name.

        Columns: sample, patient, label, fold (if predefined), fingerprint.
        """
        import pandas as pd

        columns: dict[str, Iterable[object]] = {
            "sample": self.sample_names,
            "patient": self.patients,
            "label": [sample.label for sample in self.samples],
        }
        if self.folds is not None:
            columns["fold"] = self.folds
        columns["fingerprint"] = [sample.fingerprint for sample in self.samples]
        return pd.DataFrame(columns)

    @cached_property
    def _patient_names(self) -> dict[str, str]:
        """The user's name of each patient → the pseudonym."""
        fingerprints = defaultdict(list)
        for sample in self.samples:
            fingerprints[sample.patient].append(sample.fingerprint)
        digests = [sha256("".join(sorted(own)).encode()) for own in fingerprints.values()]
        names = _name_by_content("P", [digest.hexdigest() for digest in digests])
        return dict(zip(fingerprints, names, strict=True))


def _read_samples(entry: Entry, slices: int) -> list[Sample]:
    """Decode what an entry lists once, to see that it is sound and to know it again."""
    frames = open_frames(entry.path)
    wanted = choose_frames(frames.count, slices) if entry.frame is None else [entry.frame]
    return [
        Sample(
            path=entry.path,
            label=entry.label,
            patient=entry.name if entry.patient is None else entry.patient,
            frame=frame if frames.count > 1 or entry.frame is not None else None,
            fold=entry.fold,
            mask=entry.mask,
            fingerprint=fingerprint_pixels(decode_frame(entry.path, frames, frame)),
        )
        for frame in wanted
    ]


def _check_labels(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CohortError("there are no images")
    labels_of = defaultdict(set)
    for sample in samples:
        if sample.label.strip().lower() in NO_LABELS:
            raise CohortError(f"the label of {sample.path} is {sample.label!r}; give it a class")
        labels_of[sample.patient].add(sample.label)
    labels = sorted(set().union(*labels_of.values()))
    if len(labels) < 2:
        raise CohortError(f"every image is of class {labels[0]!r}; at least two are needed")
    for patient, own in labels_of.items():
        if len(own) > 1:
            raise CohortError(
                f"patient {patient!r} has images of the classes {' and '.join(sorted(own))}; a "
                "patient has one label (if two patients share a number, tell them apart)"
            )


def _check_folds(samples: Sequence[Sample]) -> None:
    folds_of: defaultdict[str, set[int]] = defaultdict(set)
    for sample in samples:
        if sample.fold is not None:
            folds_of[sample.patient].add(sample.fold)
    if not folds_of:
        return
    missing = sum(sample.fold is None for sample in samples)
    if missing:
        raise CohortError(f"{missing} of {len(samples)} images have no fold; give all one, or none")
    if len(set().union(*folds_of.values())) < 2:
        raise CohortError("all images are in one fold; at least two are needed to test on another")
    for patient, own in folds_of.items():
        if len(own) > 1:
            raise CohortError(
                f"patient {patient!r} is in the folds {' and '.join(map(str, sorted(own)))}; "
                "a patient is in one fold only"
            )


def _name_by_content(kind: str, digests: Sequence[str]) -> list[str]:
    """Name each item by the first digits of its digest; equal digests get -2, -3 after it."""
    distinct = set(digests)
    length = 8
    while len({digest[:length] for digest in distinct}) < len(distinct):
        length += 1
    seen: Counter[str] = Counter()
    names = []
    for digest in digests:
        seen[digest] += 1
        repeat = f"-{seen[digest]}" if seen[digest] > 1 else ""
        names.append(f"{kind}-{digest[:length]}{repeat}")
    return names


def _join_sharing(names: np.ndarray, fingerprints: Sequence[str]) -> np.ndarray:
    """For each row, the first row of its group: rows linked by a name or a fingerprint."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, patient = np.unique(names, return_inverse=True)
    _, image = np.unique(fingerprints, return_inverse=True)
    size = patient.max() + 1 + image.max() + 1
    links = (np.ones(len(names)), (patient, patient.max() + 1 + image))
    _, component = connected_components(coo_array(links, shape=(size, size)), directed=False)
    _, first, row_group = np.unique(component[patient], return_index=True, return_inverse=True)
    return first[row_group]
