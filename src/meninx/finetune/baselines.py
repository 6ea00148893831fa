"""Baselines: what a score must beat before it says anything about transfer learning."""

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from meninx.cohort import Images, as_array

BINS = 64


def make_majority_classifier() -> DummyClassifier:
    """Make a classifier that ignores the image and knows only how frequent the classes are."""
    return DummyClassifier(strategy="prior")


def make_histogram_classifier() -> Pipeline:
    """Make a classifier of intensity histograms: how bright an image is, not what it shows.

    It takes what :func:`compute_histograms` gives.
    """
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    )


def compute_histograms(images: Images) -> np.ndarray:
    """Count each image's intensities.

    Parameters
    ----------
    images
        As for :class:`meninx.finetune.FineTunedClassifier`; n of them.

    Returns
    -------
    np.ndarray
        ``(n, 64)``: the part of the pixels in each of 64 equal bins of [0, 1], square-rooted so
        that a black background does not drown the rest.
    """
    rows = [np.histogram(as_array(image), bins=BINS, range=(0, 1))[0] for image in images]
    counts = np.asarray(rows, dtype=float)
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True))
