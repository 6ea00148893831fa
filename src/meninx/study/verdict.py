"""The verdict: what the out-of-fold predictions of all cells say, as tables."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from meninx.evaluate import (
    Estimate,
    Predictions,
    Scores,
    Selection,
    compare,
    evaluate,
    select_best,
)
from meninx.matrix import SizeSimilarityMatrix
from meninx.study.plan import Cell, Role


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell that has been run: its out-of-fold predictions and what they cost."""

    cell: Cell
    predictions: Predictions
    seconds: float


@dataclass(frozen=True, eq=False)
class Verdict:
    """The scores of every cell and the choice among the candidates."""

    results: Mapping[str, CellResult]
    scores: Mapping[str, Scores]
    selection: Selection

    @classmethod
    def reach(cls, results: Mapping[str, CellResult], seed: int) -> "Verdict":
        """Score every cell and choose.

        Parameters
        ----------
        results
            Cell name to its result; at least one candidate.
        seed
            Of the bootstraps.
        """
        scores = {name: evaluate(result.predictions, seed) for name, result in results.items()}
        candidates = {
            name: result.predictions
            for name, result in results.items()
            if result.cell.role is Role.CANDIDATE
        }
        return cls(results, scores, select_best(candidates, seed))

    @property
    def chosen(self) -> CellResult:
        """The chosen cell."""
        return self.results[self.selection.chosen]

    def scores_table(self) -> pd.DataFrame:
        """Make the table ``scores.csv``: one row a cell."""
        return pd.DataFrame(
            [
                {
                    "cell": name,
                    "backbone": result.cell.backbone,
                    "strategy": result.cell.strategy,
                    "cut": result.cell.cut or "",
                    "role": result.cell.role.value,
                    "balanced_accuracy": self.scores[name].overall["balanced_accuracy"].value,
                    "balanced_accuracy_low": self.scores[name].overall["balanced_accuracy"].low,
                    "balanced_accuracy_high": self.scores[name].overall["balanced_accuracy"].high,
                    "macro_f1": self.scores[name].overall["macro_f1"].value,
                    "auc": self.scores[name].overall["auc"].value,
                    "log_loss": self.scores[name].overall["log_loss"].value,
                    "seconds": round(result.seconds, 2),
                }
                for name, result in self.results.items()
            ]
        )

    def as_dict(self, matrix: SizeSimilarityMatrix, seed: int) -> dict[str, Any]:
        """Give what ``evaluation.json`` holds."""
        chosen = self.selection.chosen
        return {
            "cells": {
                name: {
                    "repeats": scores.repeats,
                    "scores": {metric: asdict(value) for metric, value in scores.overall.items()},
                }
                for name, scores in self.scores.items()
            },
            "chosen": self._describe_chosen(),
            "selection": dict(self.selection.shares),
            "comparisons": [
                {"cell": chosen, "against": name, **_describe_difference(difference)}
                for name, result in self.results.items()
                if name != chosen
                and (difference := compare(self.chosen.predictions, result.predictions, seed))
            ],
            **self._judge_advice(matrix, seed),
        }

    def _judge_advice(self, matrix: SizeSimilarityMatrix, seed: int) -> dict[str, Any]:
        """Compare what the matrix advised with the best cell; nothing where it was not run.

        Its choice is the advised strategy and cut on the backbone with the best LogME.
        """
        cell = next(
            (
                name
                for fit in matrix.backbones
                for name, result in self.results.items()
                if result.cell.backbone == fit.name and result.cell.is_advised
            ),
            None,
        )
        if cell is None:
            return {}
        best = self.selection.chosen
        difference = compare(self.results[cell].predictions, self.chosen.predictions, seed)
        return {"advice": {"cell": cell, "best": best, **_describe_difference(difference)}}

    def _describe_chosen(self) -> dict[str, Any]:
        predictions, scores = self.chosen.predictions, self.scores[self.selection.chosen]
        return {
            "cell": self.selection.chosen,
            "classes": {
                label: {
                    "images": int((predictions.labels == index).sum()),
                    "patients": len(np.unique(predictions.patients[predictions.labels == index])),
                    **{name: asdict(value) for name, value in scores.by_class[label].items()},
                }
                for index, label in enumerate(predictions.classes)
            },
            "confusion": scores.confusion.tolist(),
            "roc": {
                label: _draw_roc(predictions, index)
                for index, label in enumerate(predictions.classes)
            },
        }


def _describe_difference(difference: Estimate) -> dict[str, float]:
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }


def _draw_roc(predictions: Predictions, index: int) -> dict[str, list[float]]:
    """Draw a class's ROC curve over the images of all repeats together."""
    repeats = len(predictions.probabilities)
    rates = roc_curve(
        np.tile(predictions.labels == index, repeats),
        predictions.probabilities[:, :, index].ravel(),
    )
    return {"false_positive_rate": rates[0].tolist(), "true_positive_rate": rates[1].tolist()}
