"""Bootstrap over patients: the images of a patient come and go together."""

import numpy as np

DRAWS = 2000


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
        ``(draws, n)`` float: how often each image counts in each draw. Classes keep their
        number of patients, so that none is ever missing. A patient with images of several
        classes is drawn with the first of them.
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
    names, first, member = np.unique(patients, return_index=True, return_inverse=True)
    class_of_patient = labels[first]
    times = np.zeros((draws, len(names)))
    for label in np.unique(class_of_patient):
        those = np.flatnonzero(class_of_patient == label)
        size = len(those)
        picks = max(size - left_out, 1)
        times[:, those] = random.multinomial(picks, np.full(size, 1 / size), draws) * size / picks
    return times[:, member]
