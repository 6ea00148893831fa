"""The cohort: labelled images, and which patient each belongs to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.cohort.appearance import measure_appearance
from meninx.cohort.copies import find_copies
from meninx.cohort.images import decode_frame, fingerprint_pixels, open_frames
from meninx.cohort.listing import NO_LABELS, Entry, Skipped, list_folder, list_manifest
from meninx.cohort.sample import Sample
from meninx.cohort.slices import Axis, SliceChoice, choose_slices
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
        return f"{count} cannot be used: {'; '.join(reason for _, reason in self.bad)}"


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
    skipped
        The images that were left out because they cannot be used.

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
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        _check_labels(self.samples)
        _check_folds(self.samples)
        groups, labels = self.groups, self.labels
        for number, label in enumerate(self.classes):
            if len(set(groups[labels == number])) < 2:
                raise CohortError(
                    f"class {label!r} has images of one patient only (copies of one picture count "
                    "as one patient); a class needs at least two to be tested on another"
                )

    @classmethod
    def open(
        cls,
        path: Path | str,
        patient_pattern: str | None = None,
        slices: int = 1,
        *,
        choose: SliceChoice = SliceChoice.EVEN,
        axis: Axis = Axis.AXIAL,
        allow_outside: bool = False,
        skip_bad: bool = False,
        whole_image: bool = False,
    ) -> "Cohort":
        """Open a manifest (.csv), a folder that holds manifest.csv, or a folder of classes.

        See :meth:`from_manifest` and :meth:`from_folder` for the parameters.
        """
        path = Path(path)
        manifest = path / "manifest.csv" if path.is_dir() else path
        if not manifest.is_file():
            return cls.from_folder(
                path,
                patient_pattern,
                slices,
                choose=choose,
                axis=axis,
                skip_bad=skip_bad,
                whole_image=whole_image,
            )
        return cls.from_manifest(
            manifest,
            patient_pattern,
            slices,
            allow_outside,
            choose=choose,
            axis=axis,
            skip_bad=skip_bad,
            whole_image=whole_image,
        )

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        patient_pattern: str | None = None,
        slices: int = 1,
        *,
        choose: SliceChoice = SliceChoice.EVEN,
        axis: Axis = Axis.AXIAL,
        skip_bad: bool = False,
        whole_image: bool = False,
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
            How many slices to take of each volume.
        choose
            By which rule; see :func:`meninx.cohort.slices.choose_slices`.
        axis
            Across which NIfTI volumes are sliced.
        skip_bad
            Leave images that cannot be read out and record them in `skipped`.
        whole_image
            Give images whole. By default the samples are framed: what is read of them is the
            head alone, so that nothing drawn around it can steer a model.

        Raises
        ------
        CohortError
            The folder does not make a cohort; see :class:`Cohort`.
        UnreadableImagesError
            Images cannot be read; all of them are in its `bad`.
        """
        entries = list_folder(Path(folder), patient_pattern)
        return cls._from_entries(
            entries, [], _SampleRule(slices, choose, axis, whole_image), skip_bad
        )

    @classmethod
    def from_manifest(
        cls,
        csv_file: Path | str,
        patient_pattern: str | None = None,
        slices: int = 1,
        allow_outside: bool = False,
        *,
        choose: SliceChoice = SliceChoice.EVEN,
        axis: Axis = Axis.AXIAL,
        skip_bad: bool = False,
        whole_image: bool = False,
    ) -> "Cohort":
        """Open the images listed in a CSV file (UTF-8; comma, semicolon or tab).

        Parameters
        ----------
        csv_file
            Columns `image` (relative to the file's folder) and `label`; and, if known,
            `patient`, `fold` (whole numbers, to be used as they are), `slice` (of a volume,
            from 0), `axis` (axial, coronal, sagittal: across which slices are counted), `mask`,
            `synthetic` (true or false). Others are passed over.
        patient_pattern, slices, choose, axis, skip_bad, whole_image
            As in :meth:`from_folder`. A pattern only where there is no column `patient`;
            `slices` only for rows without a `slice`, `axis` for those without an `axis`.
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
        return cls._from_entries(
            entries, unlabelled, _SampleRule(slices, choose, axis, whole_image), skip_bad
        )

    @classmethod
    def _from_entries(
        cls,
        entries: Sequence[Entry],
        unlabelled: Sequence[Skipped],
        rule: "_SampleRule",
        skip_bad: bool,
    ) -> "Cohort":
        samples: list[Sample] = []
        bad = list(unlabelled)
        for entry in entries:
            try:
                samples += _read_samples(entry, rule)
            except ImageError as problem:
                reason = str(problem).removeprefix(f"{entry.path}: ")
                bad.append(Skipped(entry.path, entry.label, reason))
        if bad and not skip_bad:
            raise UnreadableImagesError([(it.path, f"{it.path}: {it.reason}") for it in bad])
        return cls(
            tuple(samples),
            patients_known=all(entry.patient is not None for entry in entries),
            synthetic=any(entry.synthetic for entry in entries),
            skipped=tuple(bad),
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

    @cached_property
    def copies(self) -> np.ndarray:
        """The pairs of samples that show the same picture, ``(m, 2)`` rows, the lower first.

        Identical ones, and near-duplicates: flipped, rescaled, re-compressed, brightened or a
        little cropped; see :mod:`meninx.cohort.duplicates`.
        """
        return find_copies(self.samples)

    @property
    def groups(self) -> np.ndarray:
        """What a split must keep together, (n,) str: patients, joined where they share a picture.

        Two patients who have the same picture are most likely one who was entered twice.
        """
        names = self.patients
        return names[_join_sharing(names, self.copies)]

    @property
    def is_framed(self) -> bool:
        """Whether reading a sample gives the head alone."""
        return all(sample.is_framed for sample in self.samples)

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


@dataclass(frozen=True)
class _SampleRule:
    """How files become samples, where a manifest does not say."""

    slices: int
    choice: SliceChoice
    axis: Axis
    whole_image: bool

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise CohortError(f"slices is {self.slices}; take at least 1 of each volume")


def _read_samples(entry: Entry, rule: _SampleRule) -> list[Sample]:
    """Decode what an entry lists once, to see that it is sound and to know it again."""
    axis = entry.axis or rule.axis
    frames = open_frames(entry.path, axis)

    def decode(frame: int) -> np.ndarray:
        return decode_frame(entry.path, frames, frame)

    wanted = [0 if entry.frame is None else entry.frame]
    if frames.count > 1 and entry.frame is None:
        wanted = choose_slices(frames.count, rule.slices, rule.choice, decode)
    return [_make_sample(entry, rule, frames.count, frame, decode(frame)) for frame in wanted]


def _make_sample(
    entry: Entry, rule: _SampleRule, count: int, frame: int, pixels: np.ndarray
) -> Sample:
    """Make a sample of one of a file's `count` frames, and measure it."""
    return Sample(
        path=entry.path,
        label=entry.label,
        patient=entry.name if entry.patient is None else entry.patient,
        frame=frame if count > 1 or entry.frame is not None else None,
        fold=entry.fold,
        mask=entry.mask,
        fingerprint=fingerprint_pixels(pixels),
        axis=entry.axis or rule.axis,
        is_framed=not rule.whole_image,
        appearance=measure_appearance(entry.path, pixels),
    )


def _check_labels(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CohortError("there are no images")
    labels_of: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for sample in samples:
        if sample.label.strip().lower() in NO_LABELS:
            raise CohortError(f"the label of {sample.path} is {sample.label!r}; give it a class")
        labels_of[sample.patient].setdefault(sample.label, sample.path)
    labels = sorted(set().union(*labels_of.values()))
    if len(labels) < 2:
        raise CohortError(f"every image is of class {labels[0]!r}; at least two are needed")
    # Files are named, never the patient: an error may end in a log.
    torn = [own for own in labels_of.values() if len(own) > 1]
    if torn:
        told = "; ".join(" and ".join(f"{own[it]} ({it})" for it in sorted(own)) for own in torn)
        raise CohortError(
            f"a patient has one label, but these are of one patient: {told} (if two patients "
            "share a number, tell them apart)"
        )


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
    torn = [own for own in folds_of.values() if len(own) > 1]
    if torn:
        told = "; ".join(
            " and ".join(f"{own[it]} (fold {it})" for it in sorted(own)) for own in torn
        )
        raise CohortError(f"a patient is in one fold only, but these are of one patient: {told}")


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


def _join_sharing(names: np.ndarray, copies: np.ndarray) -> np.ndarray:
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
