"""The one average head that every phantom patient is a deformation of.

The MNI152 maps (Fonov et al. 2009, ICBM 2009a symmetric) come inside nilearn; nothing is
downloaded. Points are in millimetres of MNI space: x to the right, y forwards, z upwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

Array: TypeAlias = NDArray[np.float32]

# Standard deviation of a cubic B-spline sum over independent unit normals, in three dimensions.
_SPLINE_SPREAD = 0.332
# Smooth functions are evaluated at every fourth pixel (some 3 mm) and interpolated in between.
_STRIDE = 4
# Sulci at least this deep under the surface of the brain may be ventricle, in millimetres.
_VENTRICLE_DEPTH = 14
# A point inside the body of a lateral ventricle, in millimetres.
_LATERAL_VENTRICLE = (8, -5, 21)
# The third ventricle: first and last point of a box, in millimetres.
_THIRD_VENTRICLE = ((-5, -28, -12), (5, 6, 14))
# The skull bridges fissures and cisterns up to twice this wide, in millimetres.
_SKULL_BRIDGE = 18


@dataclass(frozen=True)
class Anatomy:
    """Maps of the average head, on one grid.

    Attributes
    ----------
    t1
        Skull-stripped T1 intensity, `(x, y, z)` at 1 mm, in [0, 1].
    sulci
        Fraction of cerebrospinal fluid outside the ventricles, `(x, y, z)` at 1 mm, in [0, 1]:
        the subarachnoid space.
    pia
        How much of the voxel lies along the pia, `(x, y, z)` at 1 mm, in [0, 1]: narrow sulci
        wholly, wide cisterns along their walls.
    ventricles
        Fraction of cerebrospinal fluid in the lateral and third ventricles, `(x, y, z)` at 1 mm,
        in [0, 1].
    skull
        Signed distance to the inner table of the skull, `(x, y, z)` at 2 mm, in millimetres,
        positive outwards.
    origin
        MNI coordinates of the first voxel, in millimetres.
    """

    t1: Array
    sulci: Array
    pia: Array
    ventricles: Array
    skull: Array
    origin: tuple[float, float, float]

    def sample(self, volume: Array, points: Array, inside: NDArray[np.bool_]) -> Array:
        """Interpolate a map at MNI points `(3, h, w)` where `inside`; 0 elsewhere. `(h, w)`."""
        grid = points[:, inside] - np.asarray(self.origin, np.float32)[:, None]
        values = np.zeros(points.shape[1:], np.float32)
        values[inside] = ndimage.map_coordinates(volume, grid, order=1, mode="nearest")
        return values

    def distance_to_skull(self, points: Array) -> Array:
        """Signed distance `(h, w)` to the inner table in millimetres at MNI points `(3, h, w)`."""
        origin = np.asarray(self.origin, np.float32)[:, None]
        return _evaluate_coarsely(
            lambda some: ndimage.map_coordinates(
                self.skull, (some - origin) / 2, order=1, mode="nearest"
            ),
            points,
        )


@lru_cache(maxsize=1)
def load_anatomy() -> Anatomy:
    """Read the MNI152 maps that nilearn ships and derive fluid spaces and skull from them."""
    # nilearn takes seconds to import; only the phantom needs it.
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    t1 = image.get_fdata(dtype=np.float32)
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    brain = ndimage.binary_fill_holes(t1 > 0)
    fluid = np.where(brain, np.clip(1 - grey - white, 0, 1), 0).astype(np.float32)
    x, y, z = image.affine[:3, 3]
    origin = (float(x), float(y), float(z))
    ventricles = _find_ventricles(fluid, brain, origin)
    sulci = np.where(ventricles, 0, fluid).astype(np.float32)
    return Anatomy(
        t1=t1,
        sulci=sulci,
        pia=_find_pia(sulci),
        ventricles=np.where(ventricles, fluid, 0).astype(np.float32),
        skull=_distance_to_skull(brain[::2, ::2, ::2]),
        origin=origin,
    )


def _find_ventricles(
    fluid: Array, brain: NDArray[np.bool_], origin: tuple[float, float, float]
) -> NDArray[np.bool_]:
    depth = 2 * ndimage.distance_transform_edt(brain[::2, ::2, ::2])
    deep = np.kron(depth > _VENTRICLE_DEPTH, np.ones((2, 2, 2), bool))
    deep = deep[tuple(slice(n) for n in fluid.shape)]
    regions, _ = ndimage.label((fluid > 0.5) & deep)
    inside = tuple(round(p - o) for p, o in zip(_LATERAL_VENTRICLE, origin, strict=True))
    ventricles = ndimage.binary_dilation(regions == regions[inside], iterations=3)
    third = tuple(
        slice(round(low - o), round(high - o) + 1)
        for low, high, o in zip(*_THIRD_VENTRICLE, origin, strict=True)
    )
    ventricles[third] = True
    return ventricles


def _find_pia(sulci: Array) -> Array:
    # Where the neighbourhood is fluid too, the space is wide and the pia is not near.
    wide = ndimage.gaussian_filter(sulci, 1.8, truncate=2.5)
    return expit((sulci - 0.22) / 0.05) * expit((0.5 - wide) / 0.04)


def _distance_to_skull(brain: NDArray[np.bool_]) -> Array:
    # A closing by a ball, made of distance transforms: the inner table is smooth where the brain
    # is not. The margin keeps the ball inside the grid.
    margin = _SKULL_BRIDGE
    padded = np.pad(brain, margin)
    near = ndimage.distance_transform_edt(~padded) <= _SKULL_BRIDGE / 2
    closed = ndimage.distance_transform_edt(near) > _SKULL_BRIDGE / 2
    outwards = ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)
    smooth = ndimage.gaussian_filter(2 * outwards.astype(np.float32), 1.5)
    return smooth[margin:-margin, margin:-margin, margin:-margin]


class SmoothField:
    """A random smooth function of space: cubic B-splines over normally distributed knots.

    Values have mean 0 and standard deviation about 1; `spacing` is the distance of the knots in
    millimetres, so the function varies over about twice that length. It repeats outside the head.
    """

    _EXTENT = 280.0

    def __init__(self, rng: np.random.Generator, spacing: float) -> None:
        knots = int(np.ceil(self._EXTENT / spacing))
        self._spacing = spacing
        self._knots = rng.standard_normal((knots, knots, knots), dtype=np.float32)

    def at(self, points: Array) -> Array:
        """Evaluate at scattered points `(3, n)`; returns `(n,)`."""
        grid = (points + self._EXTENT / 2) / self._spacing
        values = ndimage.map_coordinates(
            self._knots, grid, order=3, mode="grid-wrap", prefilter=False
        )
        return values / np.float32(_SPLINE_SPREAD)

    def over(self, points: Array) -> Array:
        """Evaluate over a slice of points `(3, h, w)`; returns `(h, w)`."""
        return _evaluate_coarsely(self.at, points)


def _evaluate_coarsely(function: Callable[[Array], Array], points: Array) -> Array:
    """Evaluate a smooth function at every fourth point of a slice, and interpolate the rest."""
    _, height, width = points.shape
    coarse = points[:, ::_STRIDE, ::_STRIDE]
    values = function(coarse.reshape(3, -1)).reshape(coarse.shape[1:])
    by_row = _interpolate(values, np.arange(height) / _STRIDE)
    return _interpolate(by_row.T, np.arange(width) / _STRIDE).T


def _interpolate(values: Array, rows: NDArray[np.float64]) -> Array:
    """Linear interpolation between the rows of `(n, m)`, constant past the last."""
    low = np.floor(rows).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (rows - low).astype(np.float32)[:, None]
    return values[low] * (1 - weight) + values[high] * weight
