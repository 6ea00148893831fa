"""The verdict: what the out-of-fold predictions of all models say, as tables."""

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
    permutation_test,
    select_best,
)
from meninx.matrix import SizeSimilarityMatrix
from meninx.study.evaluation import (
    describe_classes,
    describe_comparison,
    describe_learning_curve,
    describe_nested,
    describe_patient_level,
    describe_permutation_test,
    describe_rocs,
    describe_scores,
    describe_trust,
)
from meninx.study.plan import Model, Role


@dataclass(frozen=True, eq=False)
class ModelResult:
    """A model that has been run: its out-of-fold predictions and what they cost."""

    model: Model
    predictions: Predictions
    seconds: float


@dataclass(frozen=True, eq=False)
class Verdict:
    """The scores of every model and the choice among the candidates.

    Attributes
    ----------
    results
        Of every model.
    scores
        Of every model, by image.
    selection
        Which candidate is best, and what that claim is worth.
    seed
        Of the bootstraps and permutations.
    prevalence
        Class to its share where the classifier would be used; by default the cohort's own.
    aggregation
        How a patient's images make one answer.
    """

    results: Mapping[str, ModelResult]
    scores: Mapping[str, Scores]
    selection: Selection
    seed: int
    prevalence: Mapping[str, float] | None = None
    aggregation: Aggregation = Aggregation.MEAN

    @classmethod
    def reach(
        cls,
        results: Mapping[str, ModelResult],
        seed: int,
        prevalence: Mapping[str, float] | None = None,
        aggregation: Aggregation = Aggregation.MEAN,
    ) -> "Verdict":
        """Score every model and choose.

        Parameters
        ----------
        results
            Model name to its result; at least one candidate.
        seed, prevalence, aggregation
            See :class:`Verdict`; the last two are settled before training.
        """
        scores = {name: evaluate(result.predictions, seed) for name, result in results.items()}
        selection = select_best(_keep_candidates(results), seed)
        return cls(results, scores, selection, seed, prevalence, aggregation)

    @property
    def chosen(self) -> ModelResult:
        """The chosen model."""
        return self.results[self.selection.chosen]

    def scores_table(self) -> pd.DataFrame:
        """Make the table ``scores.csv``: one row a model."""
        return pd.DataFrame(
            [
                {
                    "model": name,
                    "backbone": result.model.backbone,
                    "strategy": result.model.strategy,
                    "cut": result.model.cut or "",
                    "role": result.model.role.value,
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
            A model and its learning curve, where it was run.
        nested
            Where nested cross-validation was run.

        Raises
        ------
        StudyError
            The stated prevalences are not those of the classes.
        """
        return {
            "models": {
                name: {"repeats": scores.repeats, "scores": describe_scores(scores.overall)}
                for name, scores in self.scores.items()
            },
            "chosen": self._describe_chosen(),
            "selection": dict(self.selection.shares),
            "chance": describe_permutation_test(
                permutation_test(_keep_candidates(self.results), self.seed)
            ),
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
        """Compare the chosen model with every other one."""
        chosen = self.selection.chosen
        others = {
            name: result.predictions for name, result in self.results.items() if name != chosen
        }
        if not others:
            return []
        compared = compare_with_each(self.chosen.predictions, others, self.seed)
        return [
            {
                "model": chosen,
                "against": name,
                **describe_comparison(comparison),
                "p_adjusted": comparison.p_adjusted,
            }
            for name, comparison in compared.items()
        ]

    def _judge_advice(self, matrix: SizeSimilarityMatrix) -> dict[str, Any]:
        """Compare what the matrix advised with the best model; nothing where it was not run.

        Its choice is the advised strategy and cut on the backbone with the best LogME.
        """
        model = next(
            (
                name
                for fit in matrix.backbones
                for name, result in self.results.items()
                if result.model.backbone == fit.name and result.model.is_advised
            ),
            None,
        )
        if model is None:
            return {}
        best = self.selection.chosen
        comparison = compare(self.results[model].predictions, self.chosen.predictions, self.seed)
        return {"advice": {"model": model, "best": best, **describe_comparison(comparison)}}

    def _describe_chosen(self) -> dict[str, Any]:
        predictions, scores = self.chosen.predictions, self.scores[self.selection.chosen]
        return {
            "model": self.selection.chosen,
            "classes": describe_classes(predictions, scores, self.prevalence, self.seed),
            "confusion": scores.confusion.tolist(),
            "roc": describe_rocs(predictions),
        }


def _keep_candidates(results: Mapping[str, ModelResult]) -> dict[str, Predictions]:
    return {
        name: result.predictions
        for name, result in results.items()
        if result.model.role is Role.CANDIDATE
    }
