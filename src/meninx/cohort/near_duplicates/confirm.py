"""Copies: which samples show one picture, whether the files are equal or only alike.

Images of one organ, framed alike, are alike; a copy is more. A pair that the search proposes
(`search`) must agree in detail (`agreement`) far beyond
what the pairs of this very cohort reach that are no copies: first as thumbnails, then at full
resolution, for which the few images that are left are read again. The bar lies some robust
standard deviations (median and median absolute deviation: Hampel 1974, JASA 69:383) above the
median of Fisher's z of those pairs, between a lowest and a highest bar.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from meninx.cohort.appearance import THUMBNAIL as SIDE
from meninx.cohort.as_array import as_head
from meninx.cohort.near_duplicates.agreement import (
    LARGEST,
    compare_at_full_resolution,
    measure_agreement,
)
from meninx.cohort.near_duplicates.search import CHUNK, Alignments, align_candidates, flip_picture
from meninx.cohort.sample import Sample
from meninx.imaging.head_crop import shrink

# Correlation of thumbnails: from which a pair is compared with, even if others are enough, and
# from which it may be a copy.
LOOKED_AT, LIKELY = 0.5, 0.8
CLOSING = 0.8  # agreement of thumbnails, with which a pair closes a chain of copies
FEW_PAIRS = 8  # fewer say too little of how alike different patients are; then the bar is fixed
NEIGHBOURS = 24  # pairs, the most alike that are no candidates, that are read again to compare with
SMALL = 0.95  # the least bar for small pictures: they hold little but outlines
SMALL_SIDE = 64  # pixels of the longer side, below which a picture is small
MOST_PAIRS = 500  # read again at most, or two an image
KEPT_PICTURES = 200  # in memory


@dataclass(frozen=True)
class Bar:
    """The agreement from which a pair counts, set by pairs that are no copies.

    Attributes
    ----------
    lowest, highest
        What it lies between.
    deviations
        How many robust standard deviations it lies above the median of the other pairs.
    usual
        What it is where there are too few of those.
    """

    lowest: float
    highest: float
    deviations: float
    usual: float

    def over(self, agreement: np.ndarray) -> float:
        """Set it by the agreement of the most alike pairs; those above the highest are left out."""
        strangers = agreement[agreement < self.highest]
        if len(strangers) < FEW_PAIRS:
            return self.usual
        z = np.arctanh(np.clip(strangers, -0.99, 0.99))
        centre = np.median(z)
        spread = 1.4826 * np.median(np.abs(z - centre))
        return float(np.clip(np.tanh(centre + self.deviations * spread), self.lowest, self.highest))


ROUGH = Bar(lowest=0.4, highest=0.88, deviations=2, usual=0.4)  # chooses what is read again
FULL = Bar(lowest=0.6, highest=0.9, deviations=4, usual=0.88)


def find_copies(samples: Sequence[Sample]) -> np.ndarray:
    """Find the pairs of samples that show the same picture.

    Where a is like b, and b like c, all three are one picture only if a is like c too; else the
    pair that agrees best is kept. Samples whose appearance was not measured are compared by
    their fingerprints only.

    Returns
    -------
    numpy.ndarray
        ``(m, 2)`` rows, the lower first, in ascending order.
    """
    rows_of = defaultdict(list)
    for row, sample in enumerate(samples):
        rows_of[sample.fingerprint].append(row)
    firsts = [rows[0] for rows in rows_of.values() if samples[rows[0]].appearance is not None]
    alike = find_near_duplicates([samples[row] for row in firsts]) if len(firsts) > 1 else []
    pictures = [list(rows) for rows in rows_of.values()]
    together = {rows[0]: rows for rows in pictures}
    for group in alike:
        joined = sorted(row for one in group for row in together.pop(firsts[one]))
        together[joined[0]] = joined
    pairs = [pair for rows in together.values() for pair in combinations(rows, 2)]
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def find_near_duplicates(samples: Sequence[Sample]) -> list[list[int]]:
    """Find the groups of different files that show one picture: rows, ascending."""
    thumbnails = np.stack([_see(sample) for sample in samples])
    found = align_candidates(thumbnails)
    looked_at = max(int((found.likeness >= LOOKED_AT).sum()), 3 * FEW_PAIRS)
    found = found.take(np.argsort(-found.likeness, kind="stable")[:looked_at])
    if len(found) == 0:
        return []
    patients = np.array([sample.patient for sample in samples])
    others = patients[found.whole] != patients[found.part]
    rough = _measure_rough(thumbnails, found)
    best_first = np.argsort(-rough, kind="stable")
    likely = (found.likeness >= LIKELY) & (rough >= ROUGH.over(rough[others]))
    candidates = likely[best_first]
    chosen = best_first[candidates][: max(MOST_PAIRS, 2 * len(samples))]
    if len(chosen) == 0:
        return []
    compared = np.append(chosen, best_first[~candidates][:NEIGHBOURS])
    reader = _Reader(samples)
    full = reader.compare(found.take(compared))
    bar = np.where(reader.find_small(found.take(chosen)), SMALL, 0)
    passed = full[: len(chosen)] >= np.maximum(bar, FULL.over(full[others[compared]]))
    return join_completely(thumbnails, found.take(chosen[passed]), full[: len(chosen)][passed])


def _measure_rough(thumbnails: np.ndarray, found: Alignments) -> np.ndarray:
    """Measure how pairs agree as thumbnails, ``(m,)``."""
    agreement = np.full(len(found), -1.0)
    for start in range(0, len(found), CHUNK):
        chunk = slice(start, start + CHUNK)
        part = thumbnails[found.part[chunk]].astype(np.float32) / 255
        turned = [
            flip_picture(thumbnails[row], flip)
            for row, flip in zip(found.whole[chunk], found.flip[chunk], strict=True)
        ]
        whole = np.stack(turned).astype(np.float32) / 255
        agreement[chunk] = measure_agreement(part, whole, found.warp[chunk])
    return agreement


def join_completely(
    thumbnails: np.ndarray, copies: Alignments, agreement: np.ndarray
) -> list[list[int]]:
    """Join copies to pictures in which each is a copy of each: complete linkage.

    A pair that closes a chain of copies is looked at as thumbnails only, in which rescaling and
    compressing leave no trace.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import squareform

    count = len(thumbnails)
    graph = coo_array((agreement, (copies.whole, copies.part)), shape=(count, count)).tocsr()
    _, chain_of = connected_components(graph, directed=False)
    pictures = []
    for chain in np.flatnonzero(np.bincount(chain_of) > 1):
        rows = np.flatnonzero(chain_of == chain)
        known = graph[rows][:, rows].toarray()
        agreed = np.maximum(known, known.T)
        if len(rows) > 2:
            closing = align_candidates(thumbnails[rows], partners=len(rows))
            closes = _measure_rough(thumbnails[rows], closing) >= CLOSING
            closes &= closing.likeness >= LIKELY
            ends = closing.whole[closes], closing.part[closes]
            agreed[ends] = np.maximum(agreed[ends], FULL.lowest)
            agreed = np.maximum(agreed, agreed.T)
        distance = np.where(agreed > 0, 1 - agreed, 2.0)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), "complete")
        picture_of = fcluster(tree, 1.0, "distance")
        pictures += [rows[picture_of == picture].tolist() for picture in np.unique(picture_of)]
    return [picture for picture in pictures if len(picture) > 1]


class _Reader:
    """Reads images again, and keeps the last ones."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def compare(self, found: Alignments) -> np.ndarray:
        """Compare pairs at full resolution, ``(m,)``, in an order that reads few images twice."""
        agreement = np.full(len(found), -1.0)
        for pair in np.lexsort((found.whole, found.part)):
            part, whole = self._read(int(found.part[pair])), self._read(int(found.whole[pair]))
            agreement[pair] = compare_at_full_resolution(
                part, whole, found.flip[pair], found.warp[pair]
            )
        return agreement

    def find_small(self, found: Alignments) -> np.ndarray:
        """Find the pairs of which a picture is small, ``(m,)`` bool."""
        ends = zip(found.whole, found.part, strict=True)
        sides = [min(max(self._read(int(row)).shape) for row in pair) for pair in ends]
        return np.array(sides) < SMALL_SIDE

    def _read(self, row: int) -> np.ndarray:
        """Read a sample as its thumbnail was made: the head alone, grey."""
        if row not in self._kept:
            pixels = as_head(self._samples[row])
            grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
            self._kept[row] = shrink(grey, LARGEST)
        self._kept.move_to_end(row)
        if len(self._kept) > KEPT_PICTURES:
            self._kept.popitem(last=False)
        return self._kept[row]


def _see(sample: Sample) -> np.ndarray:
    assert sample.appearance is not None
    return np.frombuffer(sample.appearance.thumbnail, dtype=np.uint8).reshape(SIDE, SIDE)
