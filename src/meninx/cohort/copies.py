"""Copies: which samples show one picture, whether the files are equal or only alike."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from meninx.cohort.duplicates import SIDE, find_near_duplicates
from meninx.cohort.sample import Sample


def find_copies(samples: Sequence[Sample]) -> np.ndarray:
    """Find the pairs of samples that show the same picture.

    Samples whose appearance was not measured are compared by their fingerprints only.

    Returns
    -------
    numpy.ndarray
        ``(m, 2)`` rows, the lower first, in ascending order.
    """
    rows_of = defaultdict(list)
    for row, sample in enumerate(samples):
        rows_of[sample.fingerprint].append(row)
    identical = [(rows[0], row) for rows in rows_of.values() for row in rows[1:]]
    firsts = [rows[0] for rows in rows_of.values() if samples[rows[0]].appearance is not None]
    pairs = np.array(identical, dtype=np.int64).reshape(-1, 2)
    if len(firsts) > 1:
        alike, _ = find_near_duplicates(np.stack([_see(samples[row]) for row in firsts]))
        pairs = np.concatenate([pairs, np.array(firsts)[alike].reshape(-1, 2)])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _see(sample: Sample) -> np.ndarray:
    assert sample.appearance is not None
    return np.frombuffer(sample.appearance.thumbnail, dtype=np.uint8).reshape(SIDE, SIDE)
