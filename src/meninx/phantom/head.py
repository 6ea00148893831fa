"""A phantom patient's head: what is drawn once for a patient, and the signal it gives at a point.

All classes draw from the same distributions but for three facts of disease: the lesion and the
ventricles in leptomeningeal metastasis, and the marrow in leukaemia. The ranges were set so that
53 patients are hard but not hopeless to tell apart (see tests/test_phantom.py).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from meninx.phantom.anatomy import Anatomy, Array, SmoothField

# Mean and spread of the marrow's signal relative to white matter. Leukaemic marrow has lost its
# fat, so it is darker on T1; the ranges overlap.
_MARROW = {"lm": (1.3, 0.16), "leukemia": (0.45, 0.15), "normal": (1.3, 0.16)}
# How often hydrocephalus accompanies leptomeningeal metastasis.
_HYDROCEPHALUS = 0.4
_VENTRICLE_CENTRE = np.array([0.0, -15.0, 14.0], np.float32).reshape(3, 1, 1)
_VENTRICLE_REACH = 38.0
_CHOROID_PLEXUS = np.array([24.0, -40.0, 10.0], np.float32).reshape(3, 1, 1)
# Template T1 of fluid, grey and white matter: the knots of the patient's own contrast.
_TEMPLATE_TISSUES = (0.26, 0.65, 0.87)


@dataclass(frozen=True)
class Lesion:
    """Leptomeningeal metastasis: thin enhancement of the pia in patches, and nodules on it.

    Attributes
    ----------
    patches
        Field whose high values are the diseased stretches of the subarachnoid space.
    threshold
        Value above which `patches` means disease.
    nodules
        Centres `(k, 3)` in MNI millimetres.
    radii
        Radii `(k,)` of the nodules in millimetres.
    level
        Signal of fully enhancing tissue relative to white matter.
    """

    patches: SmoothField
    threshold: float
    nodules: Array
    radii: Array
    level: float

    def coverage(self, points: Array, pia: Array, skull: Array) -> Array:
        """Fraction of each point `(h, w)` that is lesion, in [0, 1].

        Parameters
        ----------
        points
            MNI points `(3, h, w)` in millimetres.
        pia
            How much of each point lies along the pia, `(h, w)`, in [0, 1].
        skull
            Signed distance to the inner table there, `(h, w)`, in millimetres.
        """
        linear = pia * expit((self.patches.over(points) - self.threshold) / 0.12)
        nodular = np.zeros_like(linear)
        for centre, radius in zip(self.nodules, self.radii, strict=True):
            distance = np.linalg.norm(points - centre.reshape(3, 1, 1), axis=0)
            np.maximum(nodular, expit((radius - distance) / 0.4), out=nodular)
        return np.maximum(linear, nodular) * (skull < 0.5)


class Warp:
    """A random smooth displacement of space by about `amplitude` millimetres."""

    def __init__(self, rng: np.random.Generator, amplitude: float, spacing: float) -> None:
        self._amplitude = np.float32(amplitude)
        self._axes = [SmoothField(rng, spacing) for _ in range(3)]

    def over(self, points: Array) -> Array:
        """Displacements `(3, h, w)` in millimetres at points `(3, h, w)`."""
        return self._amplitude * np.stack([axis.over(points) for axis in self._axes])


@dataclass(frozen=True)
class Head:
    """One patient: shape, tissue contrast, vessels and, in one class, a lesion.

    Every number is drawn by `draw_head`; lengths are in millimetres, signals relative to white
    matter.
    """

    size: Array
    shape: Warp
    folds: Warp
    ventricle_growth: float
    tissues: tuple[float, float, float]
    sulcal_depth: float
    marrow: float
    marrow_thickness: float
    marrow_texture: SmoothField
    skull_variation: SmoothField
    scalp: float
    scalp_thickness: float
    muscle_thickness: float
    vessels: SmoothField
    vessel_width: float
    vessel_level: float
    dura_level: float
    plexus_level: float
    lesion: Lesion | None

    def to_template(self, anatomy: Anatomy, points: Array) -> Array:
        """Where in the average head the patient's points `(3, h, w)` lie, in millimetres."""
        placed = points / self.size.reshape(3, 1, 1) + self.shape.over(points)
        # Gyri differ between people more than skulls do.
        depth = -anatomy.distance_to_skull(placed)
        placed = placed + expit((depth - 8) / 2.5) * self.folds.over(points)
        offset = placed - _VENTRICLE_CENTRE
        nearness = np.exp(-(offset**2).sum(axis=0) / (2 * _VENTRICLE_REACH**2))
        return placed - self.ventricle_growth * nearness * offset

    def signal(self, anatomy: Anatomy, points: Array) -> tuple[Array, Array]:
        """Post-contrast T1 signal and lesion coverage, each `(h, w)`, at points `(3, h, w)`."""
        where = self.to_template(anatomy, points)
        skull = anatomy.distance_to_skull(where)
        sulci = anatomy.sample(anatomy.sulci, where, skull < 1)
        signal = self._brain(anatomy, where, sulci, skull)
        signal = np.maximum(signal, self._enhancement(anatomy, where, sulci, skull))
        coverage = np.zeros_like(signal)
        if self.lesion is not None:
            pia = anatomy.sample(anatomy.pia, where, skull < 1)
            coverage = self.lesion.coverage(where, pia, skull)
            signal = np.maximum(signal, signal + coverage * (self.lesion.level - signal))
        return self._cover(signal, where, skull), coverage

    def _brain(self, anatomy: Anatomy, where: Array, sulci: Array, skull: Array) -> Array:
        t1 = anatomy.sample(anatomy.t1, where, skull < 1)
        fluid, grey, white = self.tissues
        brain = np.interp(t1, (0.1, *_TEMPLATE_TISSUES, 1.0), (fluid, fluid, grey, white, 1.05))
        # The average of many brains has shallow sulci; a single one has dark ones.
        shade = np.clip(self.sulcal_depth * sulci, 0, 1)
        return (brain + shade * (fluid - brain)).astype(np.float32)

    def _enhancement(self, anatomy: Anatomy, where: Array, sulci: Array, skull: Array) -> Array:
        """Brighten what takes up contrast agent in everyone: vessels, dura, choroid plexus."""
        x, y, _ = where
        # A vessel is where a sulcus meets the zero of a random field: a curve in the sulcus.
        lumen = np.exp(-((self.vessels.over(where) / self.vessel_width) ** 2))
        vessels = self.vessel_level * lumen * expit((sulci - 0.3) / 0.06)
        falx = np.exp(-((x / 0.9) ** 2)) * (sulci > 0.15) * (np.abs(y + 15) > 35)
        dura = self.dura_level * np.maximum(falx, np.exp(-((skull / 0.9) ** 2)))
        width = np.where(y < 0, 4.5, 2.0)
        sinus = self.vessel_level * np.exp(-((x / width) ** 2) - ((skull / 2.5) ** 2))
        plexus = self.plexus_level * self._choroid_plexus(anatomy, where)
        return np.maximum.reduce([vessels, dura, sinus, plexus]).astype(np.float32)

    def _choroid_plexus(self, anatomy: Anatomy, where: Array) -> Array:
        """Fraction `(h, w)` that is choroid plexus, in the atrium of each lateral ventricle."""
        mirrored = np.stack([np.abs(where[0]), where[1], where[2]])
        distance = np.linalg.norm(mirrored - _CHOROID_PLEXUS, axis=0)
        ventricle = anatomy.sample(anatomy.ventricles, where, distance < 15)
        return ventricle * np.exp(-((distance / 7.0) ** 2))

    def _cover(self, signal: Array, where: Array, skull: Array) -> Array:
        """Lay skull, muscle, fat and skin around the brain."""
        variation = self.skull_variation.over(where)
        inner = 1.6
        marrow = inner + self.marrow_thickness * np.exp(0.18 * variation)
        outer = marrow + 2.2
        x, y, z = where
        temple = expit((np.abs(x) - 45) / 4) * expit((y + 30) / 8) * expit((20 - z) / 6)
        muscle = outer + self.muscle_thickness * temple
        fat = muscle + self.scalp_thickness * np.exp(-0.2 * variation)
        texture = np.exp(0.12 * self.marrow_texture.over(where))
        # Where each layer starts, and its signal; compact bone and air give nearly none.
        layers = (
            (0.6, 0.12),  # inner table
            (inner, self.marrow * texture),
            (marrow, 0.12),  # outer table
            (outer, 0.62),  # muscle
            (muscle, self.scalp),  # fat
            (fat, 0.85),  # skin
            (fat + 1.8, 0.0),  # air
        )
        for start, level in layers:
            signal = signal + expit((skull - start) / 0.35) * (level - signal)
        return signal.astype(np.float32)


def draw_head(
    rng: np.random.Generator,
    disease: np.random.Generator,
    anatomy: Anatomy,
    label: str,
    level: float,
) -> Head:
    """Draw a patient.

    Parameters
    ----------
    rng
        Source of everything that all classes share.
    disease
        Source of what disease changes.
    anatomy
        The average head.
    label
        Class: `lm`, `leukemia` or `normal`.
    level
        Height of the patient's slice in millimetres; a lesion lies near it.
    """
    growth = float(rng.normal(0.05, 0.09))
    centre, spread = _MARROW[label]
    lesion = None
    if label == "lm":
        growth += float(disease.uniform(0.1, 0.3)) * (disease.random() < _HYDROCEPHALUS)
        lesion = _draw_lesion(disease, anatomy, level)
    return Head(
        size=rng.normal([0.98, 0.98, 1.0], 0.035).astype(np.float32),
        shape=Warp(rng, amplitude=4.5, spacing=70.0),
        folds=Warp(rng, amplitude=2.6, spacing=18.0),
        ventricle_growth=float(np.clip(growth, -0.15, 0.4)),
        tissues=(rng.uniform(0.22, 0.36), rng.uniform(0.74, 0.86), 1.0),
        sulcal_depth=rng.uniform(1.0, 1.8),
        marrow=float(np.clip(disease.normal(centre, spread), 0.2, 1.8)),
        marrow_thickness=rng.uniform(3.2, 5.2),
        marrow_texture=SmoothField(rng, 9.0),
        skull_variation=SmoothField(rng, 45.0),
        scalp=rng.uniform(1.25, 2.2),
        scalp_thickness=rng.uniform(2.0, 5.0),
        muscle_thickness=rng.uniform(2.0, 5.0),
        vessels=SmoothField(rng, rng.uniform(11.0, 18.0)),
        vessel_width=rng.uniform(0.06, 0.16),
        vessel_level=rng.uniform(1.0, 1.9),
        dura_level=rng.uniform(0.2, 0.9),
        plexus_level=rng.uniform(0.6, 1.6),
        lesion=lesion,
    )


def _draw_lesion(rng: np.random.Generator, anatomy: Anatomy, level: float) -> Lesion:
    # One number from nearly invisible to florid drives extent, nodules and brightness together.
    burden = float(rng.uniform(0, 1))
    patches = SmoothField(rng, 20.0)
    low = round(level - 10 - anatomy.origin[2])
    pia = np.argwhere(anatomy.pia[:, :, low : low + 20] > 0.5)
    chosen = pia[rng.integers(len(pia), size=2000)] + (0, 0, low)
    sites = (chosen + np.asarray(anatomy.origin)).astype(np.float32)
    values = patches.at(sites.T)
    extent = 0.2 + 0.65 * burden
    threshold = float(np.quantile(values, 1 - extent))
    count = rng.poisson(1 + 7 * burden)
    diseased = sites[values > threshold]
    return Lesion(
        patches=patches,
        threshold=threshold,
        nodules=diseased[rng.integers(len(diseased), size=count)],
        radii=rng.uniform(1.3, 3.5, size=count).astype(np.float32),
        level=1.1 + 1.0 * burden * float(rng.uniform(0.7, 1.0)),
    )
