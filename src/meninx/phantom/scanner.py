"""The scanner: from a head to the picture a workstation would export.

Acquisition is drawn from the same distributions for every class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meninx.phantom.anatomy import Anatomy, Array, SmoothField
from meninx.phantom.head import Head

# Rows and columns of exported matrices, some rectangular as real scanners give.
_MATRICES = ((256, 256), (256, 208), (288, 288), (288, 240), (320, 260), (256, 224))


@dataclass(frozen=True)
class Acquisition:
    """How one patient's examination was made.

    Attributes
    ----------
    matrix
        Rows and columns of the exported picture.
    pixel
        Pixel size in millimetres.
    resolution
        Fraction of k-space sampled along rows and columns, each in (0, 1].
    thickness
        Slice thickness in millimetres.
    rotation
        From scanner to head, `(3, 3)`.
    centre
        Middle of the first slice, `(3,)`, in millimetres.
    bias
        Coil sensitivity: logarithmic gain over space.
    noise
        Standard deviation of the complex noise, relative to white matter.
    ceiling
        Percentile of the picture that becomes the brightest grey value.
    gamma
        Exponent of the export's grey scale.
    """

    matrix: tuple[int, int]
    pixel: float
    resolution: tuple[float, float]
    thickness: float
    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    bias: tuple[float, SmoothField]
    noise: float
    ceiling: float
    gamma: float

    def points(self, offset: float) -> Array:
        """Head coordinates `(3, h, w)` of the slice `offset` millimetres above the first."""
        height, width = self.matrix
        rows = (np.arange(height) - (height - 1) / 2) * self.pixel
        columns = (np.arange(width) - (width - 1) / 2) * self.pixel
        # Rows go from the forehead back; the patient's left is on the right of the picture.
        y, x = np.meshgrid(-rows, -columns, indexing="ij")
        plane = np.stack([x, y, np.full_like(x, offset)])
        # Not a matrix product: BLAS may round otherwise with another number of threads.
        turned = np.einsum("ij,jhw->ihw", self.rotation, plane)
        return (turned + self.centre.reshape(3, 1, 1)).astype(np.float32)


def draw_acquisition(rng: np.random.Generator, level: float) -> Acquisition:
    """Draw scanner, protocol and the patient's position for a slice at height `level` (mm)."""
    matrix = _MATRICES[rng.integers(len(_MATRICES))]
    view = rng.uniform(220, 255)
    sharp = rng.uniform(0.8, 1.0)
    tilt = rng.normal([6.0, 0.0, 0.0], [5.0, 3.0, 4.0])
    return Acquisition(
        matrix=matrix,
        pixel=view / matrix[0],
        resolution=(sharp, sharp * rng.uniform(0.75, 1.0)),
        thickness=rng.uniform(1.0, 4.0),
        rotation=_rotation(np.deg2rad(tilt)),
        centre=np.array([rng.normal(0, 3), rng.normal(-18, 4), level]),
        bias=(rng.uniform(0.05, 0.22), SmoothField(rng, 70.0)),
        noise=float(np.exp(rng.uniform(np.log(0.015), np.log(0.035)))),
        ceiling=rng.uniform(99.3, 99.9),
        gamma=float(np.exp(rng.uniform(np.log(0.62), np.log(1.55)))),
    )


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation by nod, roll and turn `(3,)` in radians; a positive nod lifts the forehead."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    nod = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    roll = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return nod @ roll @ turn


def scan(
    head: Head, anatomy: Anatomy, acquisition: Acquisition, offset: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Make one slice.

    Parameters
    ----------
    head, anatomy, acquisition
        The patient, the average head, the examination.
    offset
        Height above the examination's first slice in millimetres.
    rng
        Source of this slice's noise.

    Returns
    -------
    picture, mask
        Grey values `(h, w)` in 0 … 255, and where the lesion is `(h, w)`.
    """
    # Three thin slices stand for the thick one: partial volume.
    thin = [
        head.signal(anatomy, acquisition.points(offset + step * acquisition.thickness))
        for step in (-1 / 3, 0.0, 1 / 3)
    ]
    signal = np.mean([s for s, _ in thin], axis=0)
    coverage = np.mean([c for _, c in thin], axis=0)
    strength, field = acquisition.bias
    gain = np.exp(strength * field.over(acquisition.points(offset)))
    magnitude = _measure(signal * gain, acquisition, rng)
    return _export(magnitude, acquisition), coverage > 0.35


def _measure(
    signal: NDArray[np.floating], acquisition: Acquisition, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Sample k-space to the acquisition's resolution, with noise: the magnitude is Rician."""
    noise = rng.standard_normal((2, *signal.shape)) * acquisition.noise
    space = np.fft.fft2(signal + noise[0] + 1j * noise[1])
    for axis, fraction in enumerate(acquisition.resolution):
        frequency = np.abs(np.fft.fftfreq(signal.shape[axis])) / (0.5 * fraction)
        # A Tukey window, as scanners apply against ringing: flat, then a raised cosine.
        edge = np.clip((frequency - 0.6) / 0.4, 0, 1)
        window = 0.5 * (1 + np.cos(np.pi * edge))
        space *= window[:, None] if axis == 0 else window[None, :]
    return np.abs(np.fft.ifft2(space))


def _export(magnitude: NDArray[np.float64], acquisition: Acquisition) -> NDArray[np.uint8]:
    scaled = np.clip(magnitude / np.percentile(magnitude, acquisition.ceiling), 0, 1)
    return np.round(255 * scaled**acquisition.gamma).astype(np.uint8)
