"""The verdict: what the out-of-fold predictions of all cells say, as tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from meninx.evaluate import (
    Aggregation,
    LearningCurve,
    Nested,
    Predictions,
    Scores,
    Selection,
    compare,
    compare_with_each,
    evaluate,
    judge_chance,
    select_best,
)
from meninx.matrix import SizeSimilarityMatrix
from meninx.study.evaluation import (
    describe_chance,
    describe_classes,
    describe_comparison,
    describe_learning_curve,
    describe_nested,
    describe_patient_level,
    describe_rocs,
    describe_scores,
    describe_trust,
)
from meninx.study.plan import Cell, Role


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell that has been run: its out-of-fold predictions and what they cost."""

    cell: Cell
    predictions: Predictions
    seconds: float


@dataclass(frozen=True, eq=False)
class Verdict:
    """The scores of every cell and the choice among the candidates.

    Attributes
    ----------
    results
        Of every cell.
    scores
        Of every cell, by image.
    selection
        Which candidate is best, and what that claim is worth.
    seed
        Of the bootstraps and permutations.
    prevalence
        Class to its share where the classifier would be used; by default the cohort's own.
    aggregation
        How a patient's images make one answer.
    """

    results: Mapping[str, CellResult]
    scores: Mapping[str, Scores]
    selection: Selection
    seed: int
    prevalence: Mapping[str, float] | None = None
    aggregation: Aggregation = Aggregation.MEAN

    @classmethod
    def reach(
        cls,
        results: Mapping[str, CellResult],
        seed: int,
        prevalence: Mapping[str, float] | None = None,
        aggregation: Aggregation = Aggregation.MEAN,
    ) -> "Verdict":
        """Score every cell and choose.

        Parameters
        ----------
        results
            Cell name to its result; at least one candidate.
        seed, prevalence, aggregation
            See :class:`Verdict`; the last two are settled before training.
        """
        scores = {name: evaluate(result.predictions, seed) for name, result in results.items()}
        selection = select_best(_keep_candidates(results), seed)
        return cls(results, scores, selection, seed, prevalence, aggregation)

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

    def as_dict(
        self,
        matrix: SizeSimilarityMatrix,
        learning_curve: tuple[str, LearningCurve] | None = None,
        nested: Nested | None = None,
    ) -> dict[str, Any]:
        """Give what ``evaluation.json`` holds.

        Parameters
        ----------
        matrix
            What advised.
        learning_curve
            A cell and its learning curve, where it was run.
        nested
            Where nested cross-validation was run.

        Raises
        ------
        StudyError
            The stated prevalences are not those of the classes.
        """
        return {
            "cells": {
                name: {"repeats": scores.repeats, "scores": describe_scores(scores.overall)}
                for name, scores in self.scores.items()
            },
            "chosen": self._describe_chosen(),
            "selection": dict(self.selection.shares),
            "chance": describe_chance(judge_chance(_keep_candidates(self.results), self.seed)),
            "comparisons": self._compare_chosen(),
            **self._judge_advice(matrix),
            **describe_trust(self.chosen.predictions, self.seed),
            **describe_patient_level(
                self.chosen.predictions, self.aggregation, self.prevalence, self.seed
            ),
            **(
                {"learning_curve": describe_learning_curve(learning_curve[1], learning_curve[0])}
                if learning_curve
                else {}
            ),
            **({"nested": describe_nested(nested)} if nested else {}),
        }

    def _compare_chosen(self) -> list[dict[str, Any]]:
        """Compare the chosen cell with every other one."""
        chosen = self.selection.chosen
        others = {
            name: result.predictions for name, result in self.results.items() if name != chosen
        }
        if not others:
            return []
        compared = compare_with_each(self.chosen.predictions, others, self.seed)
        return [
            {
                "cell": chosen,
                "against": name,
                **describe_comparison(comparison),
                "p_adjusted": comparison.p_adjusted,
            }
            for name, comparison in compared.items()
        ]

    def _judge_advice(self, matrix: SizeSimilarityMatrix) -> dict[str, Any]:
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
        comparison = compare(self.results[cell].predictions, self.chosen.predictions, self.seed)
        return {"advice": {"cell": cell, "best": best, **describe_comparison(comparison)}}

    def _describe_chosen(self) -> dict[str, Any]:
        predictions, scores = self.chosen.predictions, self.scores[self.selection.chosen]
        return {
            "cell": self.selection.chosen,
            "classes": describe_classes(predictions, scores, self.prevalence, self.seed),
            "confusion": scores.confusion.tolist(),
            "roc": describe_rocs(predictions),
        }


def _keep_candidates(results: Mapping[str, CellResult]) -> dict[str, Predictions]:
    return {
        name: result.predictions
        for name, result in results.items()
        if result.cell.role is Role.CANDIDATE
    }
