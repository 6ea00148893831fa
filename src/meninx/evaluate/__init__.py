"""Evaluation: what a classifier is worth on patients it has not seen.

It stands after fine-tuning. In come labels, patients and out-of-fold predictions; out go
splits that keep each patient on one side, scores with intervals resampled by patient, the
score of choosing the best model, which pays for the choice, comparisons, calibration with
prediction sets, scores by patient, how many patients would be needed, and which images are
unlike the cohort's.
"""

from meninx.evaluate.aggregation import Aggregation, aggregate, count_several_labels
from meninx.evaluate.calibration import Calibration, calibrate, cross_fit
from meninx.evaluate.calibration_report import CalibrationReport, SetScores, assess_calibration
from meninx.evaluate.intervals import Estimate
from meninx.evaluate.learning_curve import (
    LearningCurve,
    count_training_patients,
    fit_learning_curve,
    subsample_patients,
)
from meninx.evaluate.nested import Nested, NestedSplit, plan_nested, score_nested
from meninx.evaluate.patient_kfold import RepeatedStratifiedPatientKFold
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.predictive_values import measure_predictive_values
from meninx.evaluate.scores import Scores, evaluate
from meninx.evaluate.selection import Selection, select_best
from meninx.evaluate.significance import (
    Comparison,
    PermutationTest,
    compare,
    compare_with_each,
    permutation_test,
)
from meninx.evaluate.splits import (
    Split,
    Splits,
    derive_seed,
    keep_patients_apart,
    leave_one_patient_out,
    split_by_patient,
)

__all__ = [
    "Aggregation",
    "Calibration",
    "CalibrationReport",
    "Comparison",
    "Estimate",
    "LearningCurve",
    "Nested",
    "NestedSplit",
    "PermutationTest",
    "Predictions",
    "RepeatedStratifiedPatientKFold",
    "Scores",
    "Selection",
    "SetScores",
    "Split",
    "Splits",
    "aggregate",
    "assess_calibration",
    "calibrate",
    "compare",
    "compare_with_each",
    "count_several_labels",
    "count_training_patients",
    "cross_fit",
    "derive_seed",
    "evaluate",
    "fit_learning_curve",
    "keep_patients_apart",
    "leave_one_patient_out",
    "measure_predictive_values",
    "permutation_test",
    "plan_nested",
    "score_nested",
    "select_best",
    "split_by_patient",
    "subsample_patients",
]
