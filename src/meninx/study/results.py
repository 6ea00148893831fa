"""The results: what the out-of-fold predictions of all models say, and what is written of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_curve

from meninx.evaluate import (
    Aggregation,
    LearningCurve,
    Nested,
    Predictions,
    Scores,
    Selection,
    aggregate,
    assess_calibration,
    compare,
    compare_with_each,
    count_several_labels,
    evaluate,
    measure_predictive_values,
    permutation_test,
    select_best,
)
from meninx.matrix import SizeSimilarityMatrix
from meninx.ood import OODDetector
from meninx.results import convert, evaluation
from meninx.results.schema import ScoreRow
from meninx.study.plan import Model, Role


@dataclass(frozen=True, eq=False)
class ModelResult:
    """A model that has been run: its out-of-fold predictions and what they cost."""

    model: Model
    predictions: Predictions
    seconds: float


@dataclass(frozen=True, eq=False)
class Results:
    """The scores of every model and the choice among the candidates.

    Attributes
    ----------
    models
        Model name to its result.
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

    models: Mapping[str, ModelResult]
    scores: Mapping[str, Scores]
    selection: Selection
    seed: int
    prevalence: Mapping[str, float] | None = None
    aggregation: Aggregation = Aggregation.MEAN

    @classmethod
    def score(
        cls,
        models: Mapping[str, ModelResult],
        seed: int,
        prevalence: Mapping[str, float] | None = None,
        aggregation: Aggregation = Aggregation.MEAN,
    ) -> "Results":
        """Score every model and choose.

        Parameters
        ----------
        models
            Model name to its result; at least one candidate.
        seed, prevalence, aggregation
            See :class:`Results`; the last two are settled before training.
        """
        scores = {name: evaluate(result.predictions, seed) for name, result in models.items()}
        selection = select_best(_keep_candidates(models), seed)
        return cls(models, scores, selection, seed, prevalence, aggregation)

    @property
    def chosen(self) -> ModelResult:
        """The chosen model."""
        return self.models[self.selection.chosen]

    def make_rows(self) -> list[ScoreRow]:
        """Make the rows of ``scores.csv``: one a model."""
        return [
            convert(
                ScoreRow,
                {name: score.value for name, score in self.scores[name].overall.items()},
                model=name,
                backbone=result.model.backbone,
                strategy=result.model.strategy,
                cut=result.model.cut,
                role=result.model.role,
                balanced_accuracy_low=self.scores[name].overall["balanced_accuracy"].low,
                balanced_accuracy_high=self.scores[name].overall["balanced_accuracy"].high,
                seconds=round(result.seconds, 2),
            )
            for name, result in self.models.items()
        ]

    def make_evaluation(
        self,
        matrix: SizeSimilarityMatrix,
        learning_curve: tuple[str, LearningCurve] | None = None,
        nested: Nested | None = None,
        ood: OODDetector | None = None,
    ) -> evaluation.Evaluation:
        """Compute everything that ``evaluation.json`` holds.

        Parameters
        ----------
        matrix
            What advised.
        learning_curve
            A model and its learning curve, where it was run.
        nested
            Where nested cross-validation was run.
        ood
            Where it was fitted.

        Raises
        ------
        StudyError
            The stated prevalences are not those of the classes.
        """
        trust = assess_calibration(self.chosen.predictions, self.seed)
        return evaluation.Evaluation(
            models={
                name: convert(evaluation.ModelScores, scores, scores=scores.overall)
                for name, scores in self.scores.items()
            },
            chosen=self._describe_chosen(),
            selection=dict(self.selection.shares),
            chance=convert(
                evaluation.PermutationTest,
                permutation_test(_keep_candidates(self.models), self.seed),
            ),
            comparisons=self._compare_chosen(),
            advice=self._judge_advice(matrix),
            prediction_sets=convert(evaluation.PredictionSets, trust.sets),
            calibration=convert(evaluation.Calibration, trust),
            patient_level=self._score_patients(),
            patients_of_several_labels=count_several_labels(self.chosen.predictions),
            learning_curve=None
            if learning_curve is None
            else convert(evaluation.LearningCurve, learning_curve[1], model=learning_curve[0]),
            nested=None if nested is None else convert(evaluation.Nested, nested),
            ood=None if ood is None else convert(evaluation.FalseAlarms, ood.as_dict()),
        )

    def _describe_chosen(self) -> evaluation.ChosenModel:
        predictions, scores = self.chosen.predictions, self.scores[self.selection.chosen]
        return convert(
            evaluation.ChosenModel,
            scores,
            model=self.selection.chosen,
            classes=self._describe_classes(predictions, scores),
            roc=_draw_rocs(predictions),
        )

    def _describe_classes(self, predictions: Predictions, scores: Scores) -> dict[str, object]:
        """Describe each class: how many there are, its scores, and what its answers are worth."""
        worth = measure_predictive_values(predictions, self.prevalence, self.seed)
        return {
            label: {
                **scores.by_class[label],
                "images": int((predictions.labels == index).sum()),
                "patients": len(np.unique(predictions.patients[predictions.labels == index])),
                "predictive_values": worth[label],
            }
            for index, label in enumerate(predictions.classes)
        }

    def _score_patients(self) -> evaluation.PatientLevel | None:
        """Score by patient; nothing where each has one image.

        Scored are the patients whose images have one label, if there are such of every class.
        """
        predictions = self.chosen.predictions
        if len(np.unique(predictions.patients)) == len(predictions.labels):
            return None
        by_patient = aggregate(predictions, self.aggregation)
        if len(np.unique(by_patient.labels)) < len(predictions.classes):
            return None
        scores = evaluate(by_patient, self.seed)
        return convert(
            evaluation.PatientLevel,
            scores,
            aggregation=self.aggregation,
            patients=len(by_patient.patients),
            scores=scores.overall,
            classes=self._describe_classes(by_patient, scores),
        )

    def _compare_chosen(self) -> tuple[evaluation.Comparison, ...]:
        """Compare the chosen model with every other one."""
        chosen = self.selection.chosen
        others = {
            name: result.predictions for name, result in self.models.items() if name != chosen
        }
        if not others:
            return ()
        compared = compare_with_each(self.chosen.predictions, others, self.seed)
        return tuple(
            convert(evaluation.Comparison, comparison, model=chosen, against=name)
            for name, comparison in compared.items()
        )

    def _judge_advice(self, matrix: SizeSimilarityMatrix) -> evaluation.AdviceHeld | None:
        """Compare what the matrix advised with the best model; nothing where it was not run.

        Its choice is the advised strategy and cut on the backbone with the best LogME.
        """
        advised = (
            name
            for fit in matrix.backbones
            for name, result in self.models.items()
            if result.model.backbone == fit.name and result.model.is_advised
        )
        if (model := next(advised, None)) is None:
            return None
        comparison = compare(self.models[model].predictions, self.chosen.predictions, self.seed)
        return convert(evaluation.AdviceHeld, comparison, model=model, best=self.selection.chosen)


def _draw_rocs(predictions: Predictions) -> dict[str, object]:
    """Draw each class's ROC curve over the images of all repeats together."""
    repeats = len(predictions.probabilities)
    curves: dict[str, object] = {}
    for index, label in enumerate(predictions.classes):
        is_of_class = np.tile(predictions.labels == index, repeats)
        rates = roc_curve(is_of_class, predictions.probabilities[:, :, index].ravel())
        curves[label] = {"false_positive_rate": rates[0], "true_positive_rate": rates[1]}
    return curves


def _keep_candidates(models: Mapping[str, ModelResult]) -> dict[str, Predictions]:
    return {
        name: result.predictions
        for name, result in models.items()
        if result.model.role is Role.CANDIDATE
    }
