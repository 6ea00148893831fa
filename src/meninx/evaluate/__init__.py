"""Evaluation: what a classifier is worth on patients it has not seen.

It stands after fine-tuning. In come labels, patients and out-of-fold predictions; out go
splits that keep each patient on one side, scores with intervals resampled by patient, and the
score of choosing the best cell, which pays for the choice.
"""

from meninx.evaluate.calibration import Calibration, calibrate
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import Estimate, Scores, evaluate
from meninx.evaluate.selection import Selection, compare, select_best
from meninx.evaluate.splits import Split, keep_patients_apart, split_by_patient

__all__ = [
    "Calibration",
    "Estimate",
    "Predictions",
    "Scores",
    "Selection",
    "Split",
    "calibrate",
    "compare",
    "evaluate",
    "keep_patients_apart",
    "select_best",
    "split_by_patient",
]
