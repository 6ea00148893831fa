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

from meninx.cohort.framing import resize

SIDE = 64  # pixels of a thumbnail

# Correlation of details, in the whole picture and in its centre, from which two pictures are
# copies. Measured: between different patients of 53 MRI and of phantoms it is at most 0.72;
# copies are at 0.93 and above, unless more than a twelfth was cut off on each side of the head.
COPY = 0.85
CENTRE = 0.75  # radius, of half a side: within it outlines, alike in all heads, play no part
FREQUENCIES = 16  # low frequencies a direction that the hash looks at
CROPPED = (0.0, 0.07)  # of a side; between them the hash tolerates
LEAST_HASH = 0.35  # agreement of hash bits, -1 to 1, below which no pair is proposed
PARTNERS = 6  # proposed for each image, at most
CHUNK = 256  # pairs registered together
# Registered in turn: at every how many pixels, by how many steps, and the least likeness there
# with which a pair goes on.
LEVELS = ((4, 8, 0.5), (2, 4, 0.7), (1, 3, 0.0))
LEAST_OVERLAP = 0.7  # of a picture that the other must cover


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


def make_thumbnail(head: np.ndarray) -> bytes:
    """Make a small grey picture of a head.

    Parameters
    ----------
    head
        ``(h, w)`` in [0, 1], as :func:`meninx.cohort.frame_head` gives it.

    Returns
    -------
    bytes
        64 × 64 values, 0 to 255, row by row.
    """
    return (resize(head, (SIDE, SIDE)) * 255).round().astype(np.uint8).tobytes()


def find_near_duplicates(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs of pictures that are copies of each other.

    Parameters
    ----------
    thumbnails
        ``(n, 64, 64)`` uint8, as :func:`make_thumbnail` gives.

    Returns
    -------
    pairs
        ``(m, 2)`` rows, the lower first, in ascending order.
    likeness
        ``(m,)`` the correlation of their details, `COPY` to 1.
    """
    pairs, likeness = compare_candidates(thumbnails)
    return pairs[likeness >= COPY], likeness[likeness >= COPY]


def compare_candidates(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Register and correlate every pair that the hash proposes; as :func:`find_near_duplicates`."""
    proposals = propose_pairs(thumbnails)
    details = _keep_details(thumbnails)
    likeness = np.concatenate(
        [np.zeros(0)]
        + [
            _measure_likeness(details, proposals, slice(start, start + CHUNK))
            for start in range(0, len(proposals.whole), CHUNK)
        ]
    )
    ends = np.sort(np.stack([proposals.whole, proposals.part], axis=1), axis=1)
    pairs, number = np.unique(ends, axis=0, return_inverse=True)
    best = np.full(len(pairs), -1.0)
    np.maximum.at(best, number, likeness)
    return pairs, best


def propose_pairs(thumbnails: np.ndarray) -> Proposals:
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
    nearest = min(PARTNERS, count - 1)
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


def _keep_details(thumbnails: np.ndarray) -> np.ndarray:
    """Take outline and brightness away, and noise: what is left tells one brain from another."""
    roots = np.sqrt(thumbnails.astype(np.float32) / 255)
    fine, coarse = ((0, sigma, sigma) for sigma in (1.0, 4.0))
    details: np.ndarray = ndimage.gaussian_filter(roots, fine) - ndimage.gaussian_filter(
        roots, coarse
    )
    return details / np.maximum(details.std(axis=(1, 2), keepdims=True), 1e-6)


def _measure_likeness(details: np.ndarray, proposals: Proposals, chunk: slice) -> np.ndarray:
    """Register pairs and correlate what they share, ``(m,)``."""
    part = details[proposals.part[chunk]]
    whole = np.stack(
        [
            details[row][:: -1 if up else 1, :: -1 if mirror else 1]
            for row, (up, mirror) in zip(proposals.whole[chunk], proposals.flip[chunk], strict=True)
        ]
    )
    warp = _start_warp(proposals.crop[chunk])
    likeness = np.full(len(part), -1.0)
    left = np.arange(len(part))
    for stride, steps, least in LEVELS:
        warp = _register(part[left], whole[left], warp, stride, steps)
        seen, inside = _sample(whole[left], warp, stride)
        likeness[left] = _correlate(part[left, ::stride, ::stride], seen, inside)
        good = likeness[left] >= least
        left, warp = left[good], warp[good]
        if len(left) == 0:
            break
    return likeness


def _start_warp(crop: np.ndarray) -> np.ndarray:
    """Give the maps ``(m, 2, 3)`` of (y, x, 1), both in [-1, 1], that undo each crop."""
    warp = np.zeros((len(crop), 2, 3), dtype=np.float32)
    for axis in (0, 1):
        before, after = crop[:, 2 * axis], crop[:, 2 * axis + 1]
        warp[:, axis, axis] = 1 - before - after
        warp[:, axis, 2] = before - after
    return warp


def _register(
    part: np.ndarray, whole: np.ndarray, warp: np.ndarray, stride: int, steps: int
) -> np.ndarray:
    """Improve the maps that lay `whole` over `part`, by Gauss-Newton steps."""
    grid = _make_grid(stride)
    gradients = np.gradient(part, 2 / SIDE, axis=(1, 2))
    slopes = np.concatenate(
        [g[:, ::stride, ::stride].reshape(len(part), 1, -1) * grid.T for g in gradients], axis=1
    )
    curvature = slopes @ slopes.transpose(0, 2, 1)
    curvature += 1e-3 * np.trace(curvature, axis1=1, axis2=2)[:, None, None] * np.eye(6) / 6
    inverse = np.linalg.inv(curvature).astype(np.float32)
    target = part[:, ::stride, ::stride].reshape(len(part), -1)
    for _ in range(steps):
        seen, inside = _sample(whole, warp, stride)
        pull = slopes @ ((seen - target) * inside)[:, :, None]
        step = (inverse @ pull).reshape(-1, 2, 3)
        warp = _compose(warp, np.clip(step, -0.1, 0.1))
    return warp


def _compose(warp: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Follow the inverse of the map 1 + step by a map, ``(m, 2, 3)``."""
    bottom = np.broadcast_to(np.array([0, 0, 1], dtype=np.float32), (len(warp), 1, 3))
    moved = np.concatenate([np.eye(2, 3, dtype=np.float32) + step, bottom], axis=1)
    return warp @ np.linalg.inv(moved)


def _sample(whole: np.ndarray, warp: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Look at pictures through maps: values ``(m, p)``, and whether each was inside."""
    places = (_make_grid(stride) @ warp.transpose(0, 2, 1) + 1) * (SIDE / 2) - 0.5
    low = np.floor(places).astype(np.int32)
    y, x = np.clip(low, 0, SIDE - 2).transpose(2, 0, 1)
    down, right = np.clip(places.transpose(2, 0, 1) - (y, x), 0, 1)
    flat = whole.reshape(len(whole), -1)
    corner = y * SIDE + x
    value = [np.take_along_axis(flat, corner + shift, axis=1) for shift in (0, 1, SIDE, SIDE + 1)]
    upper = value[0] * (1 - right) + value[1] * right
    lower = value[2] * (1 - right) + value[3] * right
    inside = ((places > -1) & (places < SIDE)).all(axis=2)
    return upper * (1 - down) + lower * down, inside


def _make_grid(stride: int) -> np.ndarray:
    """Give (y, x, 1) of every pixel, or every stride-th, from -1 to 1, ``(p, 3)``."""
    places = ((np.arange(0, SIDE, stride) + 0.5) * 2 / SIDE - 1).astype(np.float32)
    y, x = np.meshgrid(places, places, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.ones(y.size, np.float32)], axis=1)


def _correlate(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Correlate pictures with rows ``(m, p)``, in the whole and in the centre; the lesser counts.

    It is -1 where they hardly overlap.
    """
    rows = one.reshape(len(one), -1)
    grid = _make_grid(SIDE // one.shape[1])
    centre = np.hypot(grid[:, 0], grid[:, 1]) < CENTRE
    likeness = np.minimum(
        _correlate_where(rows, other, inside), _correlate_where(rows, other, inside & centre)
    )
    return np.where(inside.mean(axis=1) >= LEAST_OVERLAP, likeness, -1.0)


def _correlate_where(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> np.ndarray:
    count = np.maximum(where.sum(axis=1, keepdims=True), 1)
    a = (one - (one * where).sum(axis=1, keepdims=True) / count) * where
    b = (other - (other * where).sum(axis=1, keepdims=True) / count) * where
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    likeness: np.ndarray = (a * b).sum(axis=1) / np.maximum(norm, 1e-12)
    return likeness
