"""From what is listed to samples: every file is decoded once, to see that it is sound.

In: entries of a folder or a manifest. Out: samples, with what must be known of them again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from meninx.cohort.appearance import measure_appearance
from meninx.cohort.as_array import remember
from meninx.cohort.file_index import Entry, Skipped
from meninx.cohort.sample import Sample
from meninx.errors import CohortError, ImageError
from meninx.imaging.images import decode_frame, fingerprint_pixels, open_frames
from meninx.imaging.silence_loggers import silence_loggers
from meninx.imaging.slices import Axis, SliceChoice, choose_slices


@dataclass(frozen=True)
class SampleRule:
    """How files become samples, where a manifest does not say.

    Attributes
    ----------
    slices
        How many to take of each volume, at least 1.
    choice
        Which ones; see :func:`meninx.imaging.slices.choose_slices`.
    axis
        Across which NIfTI and FreeSurfer volumes are sliced.
    whole_image
        Give images whole. By default the samples are framed: what is read of them is the head
        alone, so that nothing drawn around it can steer a model.
    """

    slices: int = 1
    choice: SliceChoice = SliceChoice.EVEN
    axis: Axis = Axis.AXIAL
    whole_image: bool = False

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise CohortError(f"slices is {self.slices}; take at least 1 of each volume")


USUAL_RULE = SampleRule()

# Files that are read at a time. Decoders and arrays let other threads run while they work, Python
# does not: two threads take 0.7 of the time of one, and more take no less.
READERS = 2


def read_samples(entries: Sequence[Entry], rule: SampleRule) -> tuple[list[Sample], list[Skipped]]:
    """Decode what is listed and measure it.

    Returns
    -------
    samples
        In the order of the entries.
    bad
        The entries that cannot be read, and why.
    """
    samples: list[Sample] = []
    bad = []
    # Quiet around them all: to begin and end it for every image takes a tenth of the time.
    with silence_loggers(), ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(partial(_try_entry, rule=rule), entries):
            if isinstance(found, Skipped):
                bad.append(found)
            else:
                samples += found
    return samples, bad


def _try_entry(entry: Entry, rule: SampleRule) -> list[Sample] | Skipped:
    try:
        return _read_entry(entry, rule)
    except ImageError as problem:
        return Skipped(entry.path, entry.label, problem.reason)


def _read_entry(entry: Entry, rule: SampleRule) -> list[Sample]:
    frames = open_frames(entry.path, entry.axis or rule.axis)

    def decode(frame: int) -> np.ndarray:
        return decode_frame(entry.path, frames, frame)

    wanted = [0 if entry.frame is None else entry.frame]
    if frames.count > 1 and entry.frame is None:
        wanted = choose_slices(frames.count, rule.slices, rule.choice, decode)
    return [_make_sample(entry, rule, frames.count, frame, decode(frame)) for frame in wanted]


def _make_sample(
    entry: Entry, rule: SampleRule, count: int, frame: int, pixels: np.ndarray
) -> Sample:
    """Make a sample of one of a file's `count` frames, and measure it."""
    sample = Sample(
        path=entry.path,
        label=entry.label,
        patient=entry.name if entry.patient is None else entry.patient,
        frame=frame if count > 1 or entry.frame is not None else None,
        fold=entry.fold,
        mask=entry.mask,
        fingerprint=fingerprint_pixels(pixels),
        axis=entry.axis or rule.axis,
        is_cropped=not rule.whole_image,
        appearance=measure_appearance(entry.path, pixels),
        is_synthetic=entry.synthetic,
    )
    remember(sample, pixels)
    return sample
