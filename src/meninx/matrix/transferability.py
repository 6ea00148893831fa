"""How well a backbone's frozen features suit a cohort's classes, before any training."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Leaving out one patient at a time costs a fit a patient; above this many, ten groups do.
MOST_PATIENTS_ONE_BY_ONE = 100


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


def measure_probe(features: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """Compute the balanced accuracy of logistic regression, leaving one patient out at a time.

    Parameters
    ----------
    features
        ``(n, d)``.
    labels, patients
        ``(n,)`` of each image.

    Returns
    -------
    float
        In [0, 1]. It ranks backbones; it is no score of a study.
    """
    # With fewer images than features, the components hold all there is, at a part of the cost.
    model = make_pipeline(
        StandardScaler(),
        PCA(),
        LogisticRegression(C=100 / features.shape[1], class_weight="balanced", max_iter=200),
    )
    one_by_one = len(np.unique(patients)) <= MOST_PATIENTS_ONE_BY_ONE
    splitter = LeaveOneGroupOut() if one_by_one else StratifiedGroupKFold(10)
    predicted = cross_val_predict(model, features, labels, groups=patients, cv=splitter)
    return float(balanced_accuracy_score(labels, predicted))
