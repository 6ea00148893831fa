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
    random = np.random.default_rng(seed)
    names, first, member = np.unique(patients, return_index=True, return_inverse=True)
    class_of_patient = labels[first]
    times = np.zeros((draws, len(names)))
    for label in np.unique(class_of_patient):
        those = np.flatnonzero(class_of_patient == label)
        picked = random.integers(len(those), size=(draws, len(those)))
        for draw, picks in enumerate(picked):
            times[draw, those] = np.bincount(picks, minlength=len(those))
    return times[:, member]
