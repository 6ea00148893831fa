"""Near-duplicates: one picture twice, though the two files differ.

In: a small picture (thumbnail) of each image's head. Out: the pairs that are copies of each
other, flipped, rescaled, re-compressed, brightened or a little cropped though they be.

Two steps. A perceptual hash, the signs of the low frequencies of the cosine transform
(Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), proposes
a few partners for each image, in all flips and slight crops, by matrix products. Each pair is
then laid over one another (affine registration, inverse compositional: Baker & Matthews 2004,
IJCV 56:221) and confirmed by the correlation of their details: two heads are alike in outline,
only copies are alike in detail.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import fft, ndimage

from meninx.cohort.appearance import THUMBNAIL as SIDE
from meninx.cohort.near_duplicates.registration import MARGIN, look_through, make_grid, register

# Correlation of details, in the whole picture and in its centre, from which two pictures are
# copies. Measured: between different patients of 53 MRI and of phantoms it is at most 0.72;
# copies are at 0.93 and above, unless more than a twelfth was cut off on each side of the head.
COPY = 0.85
CENTRE = 0.75  # radius, of half a side: within it outlines, alike in all heads, play no part
FREQUENCIES = 16  # low frequencies a direction that the hash looks at
CROPPED = (0.0, 0.07)  # of a side; between them the hash tolerates
LEAST_HASH = 0.35  # agreement of hash bits, -1 to 1, below which no pair is proposed
PARTNERS = 6  # proposed for each image, at most
MOST_DETAIL = 3.0  # spreads of the centre
LEAST_INNER = 0.2  # spread of the centre, of that of the whole: an empty centre is no measure
DETAILS = (1.0, 4.0)  # pixels: what is finer is noise, what is coarser is outline
CHUNK = 256  # pairs registered together
# Registered in turn: at every how many pixels, by how many steps, and the least likeness there
# with which a pair goes on.
LEVELS = ((4, 8, 0.5), (2, 4, 0.7), (1, 3, 0.0))
LEAST_OVERLAP = 0.6  # of a picture that the other must cover


@dataclass(frozen=True, eq=False)
class Proposals:
    """Pairs that may be copies: the picture `whole`, flipped and cropped, may be `part`.

    Attributes
    ----------
    whole, part
        ``(m,)`` rows of the thumbnails.
    flip
        ``(m, 2)`` bool: exchanged top and bottom, left and right.
    crop
        ``(m, 4)``: cut off at the top, bottom, left and right, as a part of the side.
    """

    whole: np.ndarray
    part: np.ndarray
    flip: np.ndarray
    crop: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignments:
    """Pairs laid over one another: the picture `whole`, flipped and moved, shows `part`.

    Attributes
    ----------
    whole, part, flip
        As of :class:`Proposals`.
    warp
        ``(m, 2, 3)`` maps from `part` to the flipped `whole`.
    likeness
        ``(m,)`` correlation of their details; -1 where they hardly overlap.
    """

    whole: np.ndarray
    part: np.ndarray
    flip: np.ndarray
    warp: np.ndarray
    likeness: np.ndarray

    def __len__(self) -> int:
        return len(self.likeness)

    def take(self, chosen: np.ndarray) -> "Alignments":
        """Give some of the pairs, by their numbers or as a mask."""
        return Alignments(
            self.whole[chosen],
            self.part[chosen],
            self.flip[chosen],
            self.warp[chosen],
            self.likeness[chosen],
        )


def align_candidates(thumbnails: np.ndarray, partners: int = PARTNERS) -> Alignments:
    """Register and correlate every pair that the hash proposes.

    Parameters
    ----------
    thumbnails
        ``(n, 64, 64)`` uint8, as `meninx.cohort.appearance.make_thumbnail` gives.
    partners
        That are proposed for each image, at most.

    Returns
    -------
    Alignments
        Each pair once, as it agrees best; in the order of its rows, the lower one before.
    """
    proposals = propose_pairs(thumbnails, partners)
    details = keep_details(thumbnails.astype(np.float32) / 255, *DETAILS)
    likeness = np.full(len(proposals.whole), -1.0)
    warp = _start_warp(proposals.crop)
    for start in range(0, len(likeness), CHUNK):
        chunk = slice(start, start + CHUNK)
        likeness[chunk], warp[chunk] = _align(details, proposals, chunk)
    ends = np.sort(np.stack([proposals.whole, proposals.part], axis=1), axis=1)
    best_last = np.lexsort((likeness, ends[:, 1], ends[:, 0]))
    is_last = np.append((ends[best_last][1:] != ends[best_last][:-1]).any(axis=1), True)
    found = Alignments(proposals.whole, proposals.part, proposals.flip, warp, likeness)
    return found.take(best_last[is_last[: len(best_last)]])


def propose_pairs(thumbnails: np.ndarray, most: int = PARTNERS) -> Proposals:
    """Propose for each picture those that agree with it best by perceptual hash."""
    count = len(thumbnails)
    pictures = thumbnails.astype(np.float32)
    transforms = [_make_cosines(before, after) for before, after in product(CROPPED, CROPPED)]
    crops = list(product(CROPPED, CROPPED))
    rows = [np.einsum("fs,nst->nft", transform, pictures) for transform in transforms]
    hashes = _take_signs(rows[0] @ transforms[0].T)
    best = np.full((count, count), -1.0, dtype=np.float32)
    variant = np.zeros((count, count), dtype=np.int16)
    variants = list(product(range(len(crops)), range(len(crops)), (False, True), (False, True)))
    for number, (vertical, horizontal, upside_down, mirrored) in enumerate(variants):
        other = _take_signs(_flip(rows[vertical] @ transforms[horizontal].T, upside_down, mirrored))
        agreement = hashes @ other.T / hashes.shape[1]
        better = agreement > best
        best[better], variant[better] = agreement[better], number
    np.fill_diagonal(best, -1)
    nearest = min(most, count - 1)
    partners = np.argpartition(-best, nearest - 1, axis=1)[:, :nearest] if nearest > 0 else best
    part = np.repeat(np.arange(count), nearest)
    whole = partners.astype(np.int64).ravel()[: len(part)]
    likely = best[part, whole] >= LEAST_HASH
    part, whole = part[likely], whole[likely]
    chosen = [variants[number] for number in variant[part, whole]]
    return Proposals(
        whole,
        part,
        np.array([flips for *_, up, mirror in chosen for flips in [(up, mirror)]]).reshape(-1, 2),
        np.array([(*crops[v], *crops[h]) for v, h, *_ in chosen]).reshape(-1, 4),
    )


def _make_cosines(before: float, after: float) -> np.ndarray:
    """Make the matrix ``(16, 64)`` that cuts off both ends, stretches and transforms."""
    places = (before + (np.arange(SIDE) + 0.5) / SIDE * (1 - before - after)) * SIDE - 0.5
    stretch = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SIDE)))
    cosines = fft.dct(np.eye(SIDE), axis=0, norm="ortho")[:FREQUENCIES]
    matrix: np.ndarray = (cosines @ stretch).astype(np.float32)
    return matrix


def _flip(frequencies: np.ndarray, upside_down: bool, mirrored: bool) -> np.ndarray:
    """Flip pictures ``(n, f, f)`` given by their frequencies: the odd ones change sign."""
    odd = 1.0 - 2.0 * (np.arange(FREQUENCIES) % 2)
    signs = np.outer(odd if upside_down else odd**2, odd if mirrored else odd**2)
    return frequencies * signs.astype(np.float32)


def _take_signs(frequencies: np.ndarray) -> np.ndarray:
    """Give the hash ``(n, f² - 1)`` of ±1; the mean brightness is left out."""
    return np.sign(frequencies.reshape(len(frequencies), -1)[:, 1:])


def keep_details(pictures: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Take outline and brightness away, and noise: what is left tells one brain from another.

    Parameters
    ----------
    pictures
        ``(n, s, s)`` in [0, 1].
    fine, coarse
        Widths in pixels of the two Gaussians between which details lie.

    Returns
    -------
    numpy.ndarray
        ``(n, s, s)``, of spread 1 in the centre; stronger edges are clipped, so that the black
        corners of a rotated picture do not drown it.
    """
    roots = np.sqrt(pictures)
    smooth = [
        ndimage.gaussian_filter(roots, (0, sigma, sigma), mode="nearest")
        for sigma in (fine, coarse)
    ]
    details: np.ndarray = smooth[0] - smooth[1]
    spread = details.std(axis=(1, 2), keepdims=True)
    grid = make_grid(pictures.shape[-1]).reshape(*pictures.shape[1:], 3)
    inner = details[:, np.hypot(grid[..., 0], grid[..., 1]) < CENTRE].std(axis=1)[:, None, None]
    scaled = details / np.maximum(np.maximum(inner, LEAST_INNER * spread), 1e-6)
    clipped: np.ndarray = np.clip(scaled, -MOST_DETAIL, MOST_DETAIL)
    return clipped


def _align(
    details: np.ndarray, proposals: Proposals, chunk: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Register pairs and correlate what they share: likeness ``(m,)``, maps ``(m, 2, 3)``."""
    part = details[proposals.part[chunk]]
    whole = np.stack(
        [
            flip_picture(details[row], flip)
            for row, flip in zip(proposals.whole[chunk], proposals.flip[chunk], strict=True)
        ]
    )
    warps = _start_warp(proposals.crop[chunk])
    likeness = np.full(len(part), -1.0)
    left = np.arange(len(part))
    for stride, steps, least in LEVELS:
        warps[left] = register(part[left], whole[left], warps[left], stride, steps)
        seen, inside = look_through(whole[left], warps[left], stride)
        likeness[left] = _correlate(part[left, ::stride, ::stride], seen, inside)
        left = left[likeness[left] >= least]
        if len(left) == 0:
            break
    return likeness, warps


def flip_picture(picture: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Exchange top and bottom, left and right, of a picture ``(h, w)``."""
    up, mirror = flip
    return picture[:: -1 if up else 1, :: -1 if mirror else 1]


def _start_warp(crop: np.ndarray) -> np.ndarray:
    """Give the maps ``(m, 2, 3)`` of (y, x, 1), both in [-1, 1], that undo each crop."""
    warp = np.zeros((len(crop), 2, 3), dtype=np.float32)
    for axis in (0, 1):
        before, after = crop[:, 2 * axis], crop[:, 2 * axis + 1]
        warp[:, axis, axis] = 1 - before - after
        warp[:, axis, 2] = before - after
    return warp


def _correlate(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Correlate pictures with rows ``(m, p)``, in the whole and in the centre; the lesser counts.

    It is -1 where they hardly overlap.
    """
    rows = one.reshape(len(one), -1)
    grid = make_grid(SIDE, SIDE // one.shape[1])
    centre = np.hypot(grid[:, 0], grid[:, 1]) < CENTRE
    likeness = np.minimum(
        _correlate_where(rows, other, inside), _correlate_where(rows, other, inside & centre)
    )
    return np.where(inside.mean(axis=1) >= LEAST_OVERLAP * MARGIN**2, likeness, -1.0)


def _correlate_where(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> np.ndarray:
    count = np.maximum(where.sum(axis=1, keepdims=True), 1)
    a = (one - (one * where).sum(axis=1, keepdims=True) / count) * where
    b = (other - (other * where).sum(axis=1, keepdims=True) / count) * where
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    likeness: np.ndarray = (a * b).sum(axis=1) / np.maximum(norm, 1e-12)
    return likeness
