"""Localisation: whether a heatmap lies on the lesion more than a blind one would."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from meninx.evaluate.bootstrap import draw_patients
from meninx.evaluate.intervals import Estimate, estimate_share

LEVEL = 0.95


@dataclass(frozen=True)
class Marked:
    """One image whose lesion is known.

    Attributes
    ----------
    patient
        Pseudonym.
    mass
        Part of the heatmap that lies on the lesion; 0 where the heatmap is empty.
    chance
        Part of the head that is lesion: what a heatmap would get that is spread evenly over it.
    is_pointed_at
        Whether the heatmap's strongest place lies on the lesion.
    """

    patient: str
    mass: float
    chance: float
    is_pointed_at: bool

    @classmethod
    def measure(
        cls, patient: str, heatmap: np.ndarray, lesion: np.ndarray, head: np.ndarray
    ) -> Self:
        """Compare a heatmap with a lesion.

        Parameters
        ----------
        patient
            Pseudonym.
        heatmap
            ``(h, w)`` in [0, 1].
        lesion, head
            ``(h, w)`` bool, neither empty; the head holds all that a blind heatmap may be
            expected to find.
        """
        total = float(heatmap.sum())
        return cls(
            patient=patient,
            mass=float(heatmap[lesion].sum()) / total if total > 0 else 0.0,
            chance=float(lesion.sum() / (head | lesion).sum()),
            is_pointed_at=bool(total > 0 and lesion.flat[heatmap.argmax()]),
        )


@dataclass(frozen=True)
class Localisation:
    """How well the heatmaps of a cohort lie on its lesions; each with its 95 % interval.

    Attributes
    ----------
    images, patients
        How many have a known lesion.
    mass, chance
        Means of :class:`Marked`.
    difference, gain
        Mass minus chance, and mass divided by chance.
    pointing
        Part of the images whose lesion holds the strongest place (Zhang et al. 2018, "Top-down
        neural attention by excitation backprop", IJCV: the pointing game); by chance it would
        be `chance`.
    """

    images: int
    patients: int
    mass: Estimate
    chance: Estimate
    difference: Estimate
    gain: Estimate
    pointing: Estimate

    @classmethod
    def average(cls, marked: Sequence[Marked], seed: int = 0) -> Self:
        """Average over images, with intervals by a bootstrap over patients (pointing: Wilson's).

        Parameters
        ----------
        marked
            At least one.
        seed
            Of the bootstrap.
        """
        patients = np.array([one.patient for one in marked])
        draws = draw_patients(np.zeros(len(marked), dtype=int), patients, seed=seed)
        counts = np.vstack([np.ones(len(marked)), draws])
        weights = counts / counts.sum(axis=1, keepdims=True)
        mass = weights @ np.array([one.mass for one in marked])
        chance = weights @ np.array([one.chance for one in marked])
        pointing = weights @ np.array([float(one.is_pointed_at) for one in marked])
        return cls(
            images=len(marked),
            patients=len(np.unique(patients)),
            mass=_estimate(mass),
            chance=_estimate(chance),
            difference=_estimate(mass - chance),
            gain=_estimate(mass / chance),
            pointing=estimate_share(float(pointing[0]), pointing[1:], len(np.unique(patients))),
        )

    @property
    def is_better_than_chance(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return self.difference.low > 0


def _estimate(values: np.ndarray) -> Estimate:
    """Take the first as the value and the middle 95 % of the rest as its interval."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))
