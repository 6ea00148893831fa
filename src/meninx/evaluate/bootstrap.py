"""Bootstrap over patients: the images of a patient come and go together."""

import numpy as np

DRAWS = 2000


# A class is so seldom missing that a draw is hardly ever made again as often as this.
MOST_DRAWN_AGAIN = 100


def stratify(labels: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group patients by their class; those with images of several labels are a group of their own.

    Parameters
    ----------
    labels, patients
        ``(n,)`` of each image.

    Returns
    -------
    first
        ``(p,)`` the row of each patient's first image.
    member
        ``(n,)`` each image's patient as an index into ``first``.
    stratum
        ``(p,)`` each patient's class or, for several, one more than the highest class.
    """
    _, first, member = np.unique(patients, return_index=True, return_inverse=True)
    stratum = labels[first].copy()
    stratum[member[labels != labels[first][member]]] = labels.max() + 1
    return first, member, stratum


def draw_patients(
    labels: np.ndarray, patients: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Draw patients with replacement, class by class.

    Parameters
    ----------
    labels, patients
        ``(n,)`` of each image.
    draws
        How many times.
    seed
        Of the draws.

    Returns
    -------
    np.ndarray
        ``(draws, n)`` float: how often each image counts in each draw. Patients are drawn
        within their strata (:func:`stratify`), so that classes keep their number of patients
        of one label. A draw that lacks a class, which only patients of several labels have, is
        made again.
    """
    return _draw(labels, patients, draws, seed, left_out=0)


def draw_weights(
    labels: np.ndarray, patients: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Draw weights of patients whose scores spread as much as scores of new patients do.

    With m patients in a class, a plain bootstrap spreads by the factor (m - 1) / m too little.
    Here m - 1 patients are drawn and count m / (m - 1) times (Rao and Wu 1988, Journal of the
    American Statistical Association 83:231), which makes the variance of a mean right.

    Returns
    -------
    np.ndarray
        ``(draws, n)``, as of :func:`draw_patients`; the one patient of a class always counts.
    """
    return _draw(labels, patients, draws, seed, left_out=1)


def _draw(
    labels: np.ndarray, patients: np.ndarray, draws: int, seed: int, left_out: int
) -> np.ndarray:
    random = np.random.default_rng(seed)
    _, member, stratum = stratify(labels, patients)
    times = _draw_by_stratum(random, stratum, draws, left_out)
    shown = np.zeros((len(stratum), labels.max() + 1))
    shown[member, labels] = 1
    for _ in range(MOST_DRAWN_AGAIN):
        lacking = np.flatnonzero((times @ shown[:, np.unique(labels)] == 0).any(axis=1))
        if not len(lacking):
            break
        times[lacking] = _draw_by_stratum(random, stratum, len(lacking), left_out)
    return times[:, member]


def _draw_by_stratum(
    random: np.random.Generator, stratum: np.ndarray, draws: int, left_out: int
) -> np.ndarray:
    """Draw how often each patient counts, ``(draws, p)``."""
    times = np.zeros((draws, len(stratum)))
    for name in np.unique(stratum):
        those = np.flatnonzero(stratum == name)
        size = len(those)
        picks = max(size - left_out, 1)
        times[:, those] = random.multinomial(picks, np.full(size, 1 / size), draws) * size / picks
    return times
