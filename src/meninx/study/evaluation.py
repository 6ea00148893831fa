"""What ``evaluation.json`` holds: statistics as numbers that JSON can carry.

A number that cannot be computed is null.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from meninx.evaluate import (
    Aggregation,
    CalibrationReport,
    Comparison,
    Estimate,
    LearningCurve,
    Nested,
    PermutationTest,
    Predictions,
    Scores,
    SetScores,
    aggregate,
    assess_calibration,
    count_several_labels,
    evaluate,
    measure_predictive_values,
)

NULL = (
    "labels are exchangeable between patients, given the predictions; of patients with images of "
    "several labels, what was recognised beyond guessing is as often above 0 as below"
)


def describe_estimate(estimate: Estimate) -> dict[str, float | None]:
    """Give a value with its limits, null where there is none."""
    return {
        name: float(number) if np.isfinite(number) else None
        for name, number in asdict(estimate).items()
    }


def describe_scores(scores: Mapping[str, Estimate]) -> dict[str, Any]:
    """Describe scores by name."""
    return {name: describe_estimate(value) for name, value in scores.items()}


def describe_classes(
    predictions: Predictions, scores: Scores, prevalence: Mapping[str, float] | None, seed: int
) -> dict[str, Any]:
    """Describe each class: how many there are, its scores, and what its answers are worth."""
    worth = measure_predictive_values(predictions, prevalence, seed)
    return {
        label: {
            "images": int((predictions.labels == index).sum()),
            "patients": len(np.unique(predictions.patients[predictions.labels == index])),
            **describe_scores(scores.by_class[label]),
            "predictive_values": {
                "prevalence": worth[label].prevalence,
                "is_cohort_prevalence": worth[label].is_cohort_prevalence,
                "ppv": describe_estimate(worth[label].ppv),
                "npv": describe_estimate(worth[label].npv),
            },
        }
        for index, label in enumerate(predictions.classes)
    }


def describe_rocs(predictions: Predictions) -> dict[str, Any]:
    """Draw each class's ROC curve over the images of all repeats together."""
    repeats = len(predictions.probabilities)
    curves = {}
    for index, label in enumerate(predictions.classes):
        rates = roc_curve(
            np.tile(predictions.labels == index, repeats),
            predictions.probabilities[:, :, index].ravel(),
        )
        curves[label] = {
            "false_positive_rate": rates[0].tolist(),
            "true_positive_rate": rates[1].tolist(),
        }
    return curves


def describe_comparison(comparison: Comparison) -> dict[str, float]:
    """Describe a difference in balanced accuracy with its one p-value."""
    return {
        "difference": comparison.difference.value,
        "low": comparison.difference.low,
        "high": comparison.difference.high,
        "p_value": comparison.p_value,
    }


def describe_permutation_test(chance: PermutationTest) -> dict[str, Any]:
    """Describe the permutation test."""
    return {
        "p_value": chance.p_value,
        "permutations": chance.permutations,
        "balanced_accuracy_under_chance": describe_estimate(chance.balanced_accuracy),
        "null": NULL,
    }


def describe_trust(predictions: Predictions, seed: int) -> dict[str, Any]:
    """Describe prediction sets and calibration, each judged without the patient concerned."""
    trust = assess_calibration(predictions, seed)
    return {
        "prediction_sets": _describe_sets(trust.sets),
        "calibration": _describe_calibration(trust),
    }


def describe_patient_level(
    predictions: Predictions,
    how: Aggregation,
    prevalence: Mapping[str, float] | None,
    seed: int,
) -> dict[str, Any]:
    """Describe the scores by patient; nothing where each has one image.

    Scored are the patients whose images have one label, if there are such of every class; how
    many have several is told in any case.
    """
    if len(np.unique(predictions.patients)) == len(predictions.labels):
        return {}
    several = count_several_labels(predictions)
    left_out = {"patients_of_several_labels": several} if several else {}
    by_patient = aggregate(predictions, how)
    if len(np.unique(by_patient.labels)) < len(predictions.classes):
        return left_out
    scores = evaluate(by_patient, seed)
    classes = describe_classes(by_patient, scores, prevalence, seed)
    return {
        **left_out,
        "patient_level": {
            "aggregation": how.value,
            "patients": len(by_patient.patients),
            "scores": describe_scores(scores.overall),
            "classes": {
                label: {name: value for name, value in found.items() if name != "images"}
                for label, found in classes.items()
            },
            "confusion": scores.confusion.tolist(),
        },
    }


def describe_learning_curve(curve: LearningCurve, model: str) -> dict[str, Any]:
    """Describe the learning curve of a model."""
    return {
        "model": model,
        "points": [
            _describe_point(point.patients, point.balanced_accuracy) for point in curve.points
        ],
        "fit": asdict(curve.fit),
        "curve": [
            _describe_point(point.patients, point.balanced_accuracy) for point in curve.curve
        ],
        "forecast": [
            {
                "factor": forecast.factor,
                **_describe_point(forecast.patients, forecast.balanced_accuracy),
                "interval_width": forecast.interval_width,
            }
            for forecast in curve.forecast
        ],
    }


def describe_nested(nested: Nested) -> dict[str, Any]:
    """Describe nested cross-validation."""
    estimate = nested.balanced_accuracy
    return {
        "balanced_accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "chosen": dict(nested.chosen),
    }


def _describe_point(patients: float, score: Estimate) -> dict[str, Any]:
    return {"patients": patients, "balanced_accuracy": describe_estimate(score)}


def _describe_sets(sets: SetScores) -> dict[str, Any]:
    empty, several = round(sets.empty), round(sets.several)
    return {
        "level": sets.level,
        "is_class_conditional": sets.is_class_conditional,
        "coverage": describe_estimate(sets.coverage),
        "mean_size": sets.mean_size,
        # Means over repeats, rounded, so that empty and several add up to images.
        "cannot_tell": {
            "images": empty + several,
            "share": (sets.empty + sets.several) / sets.images,
            "empty": empty,
            "several": several,
        },
        "by_class": {
            label: {
                "images": found.images,
                "coverage": describe_estimate(found.coverage),
                "mean_size": found.mean_size,
                "cannot_tell": round(found.empty + found.several),
            }
            for label, found in sets.by_class.items()
        },
    }


def _describe_calibration(trust: CalibrationReport) -> dict[str, Any]:
    before, after = trust.before, trust.after
    return {
        "temperature": trust.temperature,
        "bins": len(before.bins),
        "error_before": describe_estimate(before.error),
        "error_after": describe_estimate(after.error),
        "error_if_perfect_before": before.error_if_perfect,
        "error_if_perfect_after": after.error_if_perfect,
        "log_loss_before": describe_estimate(before.log_loss),
        "log_loss_after": describe_estimate(after.log_loss),
        "reliability": {
            "before": [asdict(one) for one in before.bins],
            "after": [asdict(one) for one in after.bins],
        },
        "bias_note": (
            f"With this many patients a perfectly calibrated model would show an error of "
            f"{before.error_if_perfect:.2f} on average by chance alone; "
            f"{before.error.value:.2f} was seen before the temperature, and "
            f"{after.error.value:.2f} after it, where chance alone gives "
            f"{after.error_if_perfect:.2f}."
        ),
    }
