"""How well a backbone's frozen features suit a cohort's classes, before any training."""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

# Leaving out one patient at a time costs a fit a patient; above this many, ten groups do.
MOST_PATIENTS_ONE_BY_ONE = 100
NEIGHBOURS = 5


def measure_logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute LogME, the log evidence of a Bayesian linear model per image.

    Parameters
    ----------
    features
        ``(n, d)``.
    labels
        ``(n,)`` class indices.

    Returns
    -------
    float
        Mean over classes, nats per image; the higher, the better the features suit the labels.

    References
    ----------
    You, Liu, Wang and Long 2021, "LogME: practical assessment of pre-trained models for
    transfer learning", ICML, algorithm 1.
    """
    left, singular, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    targets = np.eye(labels.max() + 1)[labels]
    targets = targets - targets.mean(axis=0)
    return float(np.mean([_maximise_evidence(left, singular**2, target) for target in targets.T]))


def _maximise_evidence(left: np.ndarray, eigenvalues: np.ndarray, target: np.ndarray) -> float:
    """Maximise the evidence of one target over the precisions of weights and noise."""
    count = len(target)
    projected = (left.T @ target) ** 2
    outside = max(float(target @ target - projected.sum()), 0.0)
    weight_precision, noise_precision = 1.0, 1.0
    for _ in range(100):
        ratio = weight_precision / noise_precision
        effective = float((eigenvalues / (eigenvalues + ratio)).sum())
        weights = float((eigenvalues * projected / (eigenvalues + ratio) ** 2).sum())
        residual = float((projected * (ratio / (eigenvalues + ratio)) ** 2).sum()) + outside
        weight_precision = effective / max(weights, 1e-12)
        noise_precision = (count - effective) / max(residual, 1e-12)
        if abs(weight_precision / noise_precision - ratio) <= 1e-3 * ratio:
            break
    ratio = weight_precision / noise_precision
    weights = float((eigenvalues * projected / (eigenvalues + ratio) ** 2).sum())
    residual = float((projected * (ratio / (eigenvalues + ratio)) ** 2).sum()) + outside
    evidence = (
        -np.log1p(eigenvalues / ratio).sum()
        + count * np.log(noise_precision)
        - noise_precision * residual
        - weight_precision * weights
        - count * np.log(2 * np.pi)
    )
    return float(evidence / 2 / count)


def measure_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute the regularised H-score: how much of the features' spread lies between classes.

    Parameters
    ----------
    features
        ``(n, d)``.
    labels
        ``(n,)`` class indices.

    Returns
    -------
    float
        0 or more, at most one less than the number of classes when classes have equal size;
        higher is better.

    References
    ----------
    Bao et al. 2019, "An information-theoretic approach to transferability", ICIP; with the
    Ledoit-Wolf shrinkage of Ibrahim et al. 2022, "Newer is not always better", ECML, without
    which it means nothing when there are fewer images than features.
    """
    centred = features - features.mean(axis=0)
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    variances = singular**2 / len(centred)
    floor = shrinkage * variances.sum() / features.shape[1]
    names, counts = np.unique(labels, return_counts=True)
    means = np.stack([centred[labels == name].mean(axis=0) for name in names]) @ right.T
    between = (counts / len(labels)) @ means**2
    return float((1 - shrinkage) * (between / ((1 - shrinkage) * variances + floor)).sum())


def measure_probe(features: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """Score logistic regression, leaving one patient out at a time.

    Parameters
    ----------
    features
        ``(n, d)``.
    labels, patients
        ``(n,)`` of each image.

    Returns
    -------
    float
        Balanced accuracy, in [0, 1]. It ranks backbones; it is no score of a study.
    """
    # With fewer images than features, the components hold all there is, at a part of the cost.
    model = make_pipeline(
        StandardScaler(),
        PCA(),
        LogisticRegression(C=100 / features.shape[1], class_weight="balanced", max_iter=200),
    )
    return _score_leaving_out(model, features, labels, patients)


def measure_nearest_neighbours(
    features: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> float:
    """Score the vote of the five nearest images of other patients, by cosine.

    Parameters and result are those of :func:`measure_probe`.
    """
    training = len(features) - np.bincount(np.unique(patients, return_inverse=True)[1]).max()
    model = KNeighborsClassifier(min(NEIGHBOURS, int(training)), metric="cosine")
    return _score_leaving_out(model, features, labels, patients)


def _score_leaving_out(
    model: ClassifierMixin, features: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> float:
    one_by_one = len(np.unique(patients)) <= MOST_PATIENTS_ONE_BY_ONE
    splitter = LeaveOneGroupOut() if one_by_one else StratifiedGroupKFold(10)
    # The fits do not gain from threads: divided among two, all took a third longer with 53 images
    # (four times as long beside another busy process), and as much longer with 1,000.
    with threadpool_limits(1):
        predicted = cross_val_predict(model, features, labels, groups=patients, cv=splitter)
    return float(balanced_accuracy_score(labels, predicted))
