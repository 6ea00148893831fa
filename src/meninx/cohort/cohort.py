"""The cohort: labelled images, and which patient each belongs to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.cohort.file_index import NO_LABELS, Entry, Skipped, list_folder, list_manifest
from meninx.cohort.near_duplicates import find_copies, read_allowed_copies
from meninx.cohort.pseudonyms import Pseudonyms
from meninx.cohort.sample import Sample
from meninx.cohort.sampling import USUAL_RULE, SampleRule, read_samples
from meninx.errors import CohortError

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
        return f"{count} cannot be used: {'; '.join(reason for _, reason in self.bad)}"


@dataclass(frozen=True)
class Cohort:
    """The labelled images of one problem, each with its patient; read-only and valid.

    Open one with :meth:`open`, :meth:`from_folder` or :meth:`from_manifest`. Rows of all
    arrays are in the order of `samples`, which does not depend on the file system.

    Names that leave the cohort are pseudonyms: keyed hashes of pixels, with the user's own key
    (see :mod:`meninx.cohort.pseudonyms`). They hold nothing of a file's or a patient's name, and
    stay the same when the files are moved or renamed. No order depends on them.

    Attributes
    ----------
    samples
        The images, n of them, by label, then path, then slice.
    patients_known
        False when nothing said who the patients are, so that each file was taken for one.
    skipped
        The images that were left out because they cannot be used.
    allowed_copies
        Pairs of rows, the lower first, that are said to be no copies, however alike.

    Raises
    ------
    CohortError
        There are fewer than two classes, or fewer than two patients in one of them; folds
        are given for some samples only, there is but one, or a patient is in two.
    """

    samples: tuple[Sample, ...]
    patients_known: bool = True
    skipped: tuple[Skipped, ...] = ()
    allowed_copies: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self.samples)
        _check_folds(self.samples)
        for label, patients in self.count_patients().items():
            if patients < 2:
                raise CohortError(
                    f"class {label!r} has images of one patient only (copies of one picture count "
                    "as one patient); a class needs at least two to be tested on another"
                )

    @classmethod
    def open(
        cls,
        path: Path | str,
        patient_pattern: str | None = None,
        rule: SampleRule = USUAL_RULE,
        *,
        allow_outside: bool = False,
        skip_bad: bool = False,
        allow_copies: Path | None = None,
    ) -> "Cohort":
        """Open a manifest (.csv), a folder that holds manifest.csv, or a folder of classes.

        See :meth:`from_manifest` and :meth:`from_folder` for the parameters.
        """
        path = Path(path)
        manifest = path / "manifest.csv" if path.is_dir() else path
        if not manifest.is_file():
            return cls.from_folder(
                path, patient_pattern, rule, skip_bad=skip_bad, allow_copies=allow_copies
            )
        return cls.from_manifest(
            manifest,
            patient_pattern,
            rule,
            allow_outside=allow_outside,
            skip_bad=skip_bad,
            allow_copies=allow_copies,
        )

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        patient_pattern: str | None = None,
        rule: SampleRule = USUAL_RULE,
        *,
        skip_bad: bool = False,
        allow_copies: Path | None = None,
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
        rule
            How files become samples: which slices of volumes, and whether framed.
        skip_bad
            Leave images that cannot be read out and record them in `skipped`.
        allow_copies
            A file of pairs that are no copies; see :mod:`meninx.cohort.near_duplicates.allowed`.

        Raises
        ------
        CohortError
            The folder does not make a cohort; see :class:`Cohort`.
        UnreadableImagesError
            Images cannot be read; all of them are in its `bad`.
        """
        entries = list_folder(Path(folder), patient_pattern)
        return cls._from_entries(entries, [], rule, skip_bad, allow_copies)

    @classmethod
    def from_manifest(
        cls,
        csv_file: Path | str,
        patient_pattern: str | None = None,
        rule: SampleRule = USUAL_RULE,
        *,
        allow_outside: bool = False,
        skip_bad: bool = False,
        allow_copies: Path | None = None,
    ) -> "Cohort":
        """Open the images listed in a CSV file (UTF-8; comma, semicolon or tab).

        Parameters
        ----------
        csv_file
            Columns `image` (relative to the file's folder) and `label`; and, if known,
            `patient`, `fold` (whole numbers, to be used as they are), `slice` (of a volume,
            from 0), `axis` (axial, coronal, sagittal: across which slices are counted), `mask`,
            `synthetic` (true or false). Others are passed over.
        patient_pattern, rule, skip_bad, allow_copies
            As in :meth:`from_folder`. A pattern only where there is no column `patient`; of the
            rule, slices only for rows without a `slice`, the axis for those without an `axis`.
        allow_outside
            Accept images that lie outside the manifest's folder.

        Raises
        ------
        CohortError
            The manifest does not make a cohort; see :class:`Cohort`.
        UnreadableImagesError
            Images cannot be read or have no label; all of them are in its `bad`.
        """
        entries, unlabelled = list_manifest(Path(csv_file), patient_pattern, allow_outside)
        return cls._from_entries(entries, unlabelled, rule, skip_bad, allow_copies)

    @classmethod
    def _from_entries(
        cls,
        entries: Sequence[Entry],
        unlabelled: Sequence[Skipped],
        rule: SampleRule,
        skip_bad: bool,
        allow_copies: Path | None,
    ) -> "Cohort":
        samples, unreadable = read_samples(entries, rule)
        bad = [*unlabelled, *unreadable]
        if bad and not skip_bad:
            raise UnreadableImagesError([(it.path, f"{it.path}: {it.reason}") for it in bad])
        return cls(
            tuple(samples),
            patients_known=all(entry.patient is not None for entry in entries),
            skipped=tuple(bad),
            allowed_copies=read_allowed_copies(Path(allow_copies), entries, samples)
            if allow_copies
            else (),
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in alphabetical order."""
        return tuple(sorted({sample.label for sample in self.samples}))

    @property
    def synthetic(self) -> bool:
        """Whether any image was made by a program rather than a scanner."""
        return any(sample.is_synthetic for sample in self.samples)

    @property
    def images(self) -> np.ndarray:
        """The samples as an array (n,) of objects, to be indexed by scikit-learn."""
        return np.fromiter(self.samples, dtype=object, count=len(self.samples))

    @property
    def labels(self) -> np.ndarray:
        """The class of each sample as an index into `classes`, (n,) int64."""
        index = {label: number for number, label in enumerate(self.classes)}
        return np.array([index[sample.label] for sample in self.samples], dtype=np.int64)

    @cached_property
    def patients(self) -> np.ndarray:
        """The pseudonym of each sample's patient, (n,) str."""
        names = self._pseudonyms.give_all("P", list(self._patient_digests.values()))
        name_of = dict(zip(self._patient_digests, names, strict=True))
        return np.array([name_of[sample.patient] for sample in self.samples])

    @cached_property
    def sample_names(self) -> np.ndarray:
        """The pseudonym of each sample, (n,) str, no two alike."""
        fingerprints = [sample.fingerprint for sample in self.samples]
        return np.array(self._pseudonyms.give_all("S", fingerprints))

    @cached_property
    def copies(self) -> np.ndarray:
        """The pairs of samples that show the same picture, ``(m, 2)`` rows, the lower first.

        Identical ones, and near-duplicates: flipped, rescaled, re-compressed, brightened or a
        little cropped; see :mod:`meninx.cohort.near_duplicates`. Not those that were allowed.
        """
        found = find_copies(self.samples)
        allowed = set(self.allowed_copies)
        kept = [(int(one), int(other)) not in allowed for one, other in found]
        return found[np.array(kept, dtype=bool)]

    @property
    def groups(self) -> np.ndarray:
        """What a split must keep together, (n,) int64: patients, joined where they share a picture.

        Two patients who have the same picture are most likely one who was entered twice. Groups
        are numbered from 0 by their pixels, so that their order, with which chance is drawn,
        depends neither on the key nor on names.
        """
        digests = np.array([self._patient_digests[sample.patient] for sample in self.samples])
        return np.unique(digests[self._first_rows], return_inverse=True)[1]

    @property
    def group_names(self) -> np.ndarray:
        """The pseudonym of each sample's group, (n,) str: that of the group's first patient."""
        return self.patients[self._first_rows]

    @property
    def key_identity(self) -> str:
        """Which key the pseudonyms are made with; it tells nothing of the key."""
        return self._pseudonyms.identity

    @property
    def fingerprint(self) -> str:
        """One checksum of all pixels, labels, groups and folds, whatever the key."""
        rows = [
            (sample.fingerprint, sample.label, int(group), sample.fold)
            for sample, group in zip(self.samples, self.groups, strict=True)
        ]
        return sha256(repr(rows).encode()).hexdigest()

    @property
    def is_cropped(self) -> bool:
        """Whether reading a sample gives the head alone."""
        return all(sample.is_cropped for sample in self.samples)

    @property
    def folds(self) -> np.ndarray | None:
        """The predefined fold of each sample, (n,) int64, or None when there is none."""
        folds = [sample.fold for sample in self.samples if sample.fold is not None]
        return np.array(folds, dtype=np.int64) if folds else None

    def counts(self) -> dict[str, int]:
        """Count the images of each class."""
        found = Counter(sample.label for sample in self.samples)
        return {label: found[label] for label in self.classes}

    def count_patients(self) -> dict[str, int]:
        """Count the patients with images of each class, those who share a picture as one."""
        groups, labels = self.groups, self.labels
        return {
            label: len(np.unique(groups[labels == number]))
            for number, label in enumerate(self.classes)
        }

    def table(self) -> "pd.DataFrame":
        """Give the cohort as a table that may be written down: no path, no patient's own name.

        Columns: sample, patient, label, fold (if predefined).
        """
        import pandas as pd

        columns: dict[str, Iterable[object]] = {
            "sample": self.sample_names,
            "patient": self.patients,
            "label": [sample.label for sample in self.samples],
        }
        if self.folds is not None:
            columns["fold"] = self.folds
        return pd.DataFrame(columns)

    @cached_property
    def _pseudonyms(self) -> Pseudonyms:
        return Pseudonyms.open_own()

    @cached_property
    def _patient_digests(self) -> dict[str, str]:
        """The user's name of each patient → a digest of the patient's pixels, which orders them."""
        fingerprints = defaultdict(list)
        for sample in self.samples:
            fingerprints[sample.patient].append(sample.fingerprint)
        return {
            patient: sha256("".join(sorted(own)).encode()).hexdigest()
            for patient, own in fingerprints.items()
        }

    @cached_property
    def _first_rows(self) -> np.ndarray:
        """The row of the first sample of each sample's group, (n,) int64."""
        return _join_sharing([sample.patient for sample in self.samples], self.copies)


def _check_labels(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CohortError("there are no images")
    for sample in samples:
        if sample.label.strip().lower() in NO_LABELS:
            raise CohortError(f"the label of {sample.path} is {sample.label!r}; give it a class")
    labels = sorted({sample.label for sample in samples})
    spelled: dict[str, str] = {}
    for label in labels:
        if (other := spelled.setdefault(label.casefold(), label)) != label:
            raise CohortError(
                f"the classes {other!r} and {label!r} differ by case only; give one spelling"
            )
    if len(labels) < 2:
        raise CohortError(f"every image is of class {labels[0]!r}; at least two are needed")


def _check_folds(samples: Sequence[Sample]) -> None:
    folds_of: defaultdict[str, dict[int, Path]] = defaultdict(dict)
    for sample in samples:
        if sample.fold is not None:
            folds_of[sample.patient].setdefault(sample.fold, sample.path)
    if not folds_of:
        return
    missing = sum(sample.fold is None for sample in samples)
    if missing:
        raise CohortError(f"{missing} of {len(samples)} images have no fold; give all one, or none")
    if len(set().union(*folds_of.values())) < 2:
        raise CohortError("all images are in one fold; at least two are needed to test on another")
    # Files are named, never the patient: an error may end in a log.
    torn = [own for own in folds_of.values() if len(own) > 1]
    if torn:
        told = "; ".join(
            " and ".join(f"{own[it]} (fold {it})" for it in sorted(own)) for own in torn
        )
        raise CohortError(f"a patient is in one fold only, but these are of one patient: {told}")


def _join_sharing(names: Sequence[str], copies: np.ndarray) -> np.ndarray:
    """For each row, the first row of its group: rows linked by a name or by being copies."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, first_named, patient = np.unique(names, return_index=True, return_inverse=True)
    links = np.concatenate([np.stack([np.arange(len(names)), first_named[patient]], 1), copies])
    size = (len(names), len(names))
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=size)
    _, component = connected_components(graph, directed=False)
    _, first, row_group = np.unique(component, return_index=True, return_inverse=True)
    return first[row_group]
