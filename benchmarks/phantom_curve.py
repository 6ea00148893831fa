"""Whether the learning curve foretells what more phantom patients bring.

``python -m benchmarks.phantom_curve`` draws phantoms of 53 patients, and from each forecasts, as a
study does, the score with twice and four times as many. The truth is measured on a large phantom
of other patients: the classifier is trained on as many of them as the training side of such a
study has, and asked about all the rest. It writes docs/phantom_curve.md.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit

from meninx.cohort import Cohort
from meninx.evaluate import LearningCurve, Predictions, split_by_patient
from meninx.evaluate.learning_curve import Forecast
from meninx.finetune import Recipe, Strategy
from meninx.phantom import phantom
from meninx.study.further import run_learning_curve
from meninx.study.plan import Model, Role
from meninx.study.results import ModelResult
from meninx.study.tasks import Task, make_classifier, run_task
from meninx.study.workers import Workers, one_thread

PAGE = Path(__file__).resolve().parents[1] / "docs" / "phantom_curve.md"
COUNTS = {"lm": 16, "leukemia": 22, "normal": 15}
FOLDS = 5
FORECASTING_SEEDS = range(8)
# Other patients than those that the forecasts are made from, six times as many.
TRUTH_SEED = 100
TRUTH_FACTOR = 6
# How often other patients of the large phantom are drawn for training.
DRAWS = 12
CELL = Model(
    name="frozen",
    backbone="tf_efficientnet_lite0",
    strategy=Strategy.FROZEN,
    cut=None,
    role=Role.CANDIDATE,
    repeats=1,
    trained_parameters=0,
    reason="It costs least, and a study draws its curve by default.",
    recipe=Recipe(),
)
# Fits of a frozen base are shorter than the start of another process.
WORKERS = Workers(jobs=1)


@dataclass(frozen=True)
class Truth:
    """What studies of a size really score, in the mean.

    Attributes
    ----------
    balanced_accuracy
        Of models trained on as many patients as the training side of such a study has.
    error
        Its standard error, as far as it comes from the patients that are asked about.
    """

    balanced_accuracy: float
    error: float


def open_phantom(folder: Path, seed: int, factor: int = 1) -> Cohort:
    """Open a new phantom with `factor` times the usual patients."""
    counts = {label: factor * count for label, count in COUNTS.items()}
    return Cohort.open(phantom(folder, seed=seed, counts=counts))


def measure_truth(cohort: Cohort, factors: Iterable[float], draws: int) -> dict[float, Truth]:
    """Train on a part of a large cohort and ask about the rest, several times.

    Parameters
    ----------
    cohort
        One image a patient.
    factors
        How many times the usual patients the studies have whose scores are wanted.
    draws
        How often patients are drawn for training.
    """
    usual = sum(COUNTS.values()) * (FOLDS - 1) / FOLDS
    truth = {}
    for factor in factors:
        splits = StratifiedShuffleSplit(draws, train_size=round(usual * factor), random_state=0)
        scores = []
        for train, test in splits.split(cohort.labels, cohort.labels):
            classifier = make_classifier(CELL, 0, cohort.is_cropped, WORKERS.device)
            with one_thread():
                classifier.fit(cohort.images[train], cohort.labels[train])
                answers = classifier.predict(cohort.images[test])
            scores.append(balanced_accuracy_score(cohort.labels[test], answers))
        mean = float(np.mean(scores))
        shares = np.bincount(cohort.labels)
        error = np.sqrt(np.mean(mean * (1 - mean) / shares) / len(shares))
        truth[factor] = Truth(mean, float(error))
    return truth


def forecast(cohort: Cohort, seed: int) -> LearningCurve:
    """Cross-validate the frozen model and draw its learning curve, as a study does."""
    splits = split_by_patient(cohort.labels, cohort.groups, FOLDS, 1, seed, cohort.folds)
    tasks = [Task(CELL, split, seed, cohort.is_cropped) for split in splits]
    probabilities = np.empty((1, len(cohort.labels), len(cohort.classes)))
    work = [(task, cohort.images, cohort.labels) for task in tasks]
    outcomes = WORKERS.run(run_task, work)
    for split, outcome in zip(splits, outcomes, strict=True):
        probabilities[0, split.test] = outcome.probabilities
    predictions = Predictions(cohort.classes, cohort.labels, cohort.groups, probabilities)
    result = ModelResult(CELL, predictions, seconds=0)
    curve = run_learning_curve(cohort, splits, result, seed, WORKERS)
    assert curve is not None
    return curve


def holds(expected: Forecast, truth: Truth) -> bool:
    """Tell whether the interval of a forecast holds the truth."""
    score = expected.balanced_accuracy
    return bool(score.low <= truth.balanced_accuracy <= score.high)


def write_page(truth: Mapping[float, Truth], curves: Mapping[int, LearningCurve]) -> str:
    """Write what was found, as Markdown."""
    factors = [one.factor for one in next(iter(curves.values())).forecast]
    header = [f"at {factor:g}×: forecast (95 % interval) | holds the truth" for factor in factors]
    lines = [
        "# The learning curve on the phantom",
        "",
        "Written by `python -m benchmarks.phantom_curve`. Each row is one phantom of "
        f"{sum(COUNTS.values())} patients ({CELL.backbone}, frozen, {FOLDS} folds once) and its "
        "forecasts of balanced accuracy. The truth is measured on a phantom of "
        f"{TRUTH_FACTOR * sum(COUNTS.values())} other patients: models trained on as many of them "
        f"as the training side of such a study has, asked about all others, {DRAWS} times.",
        "",
        "| patients | truth | standard error |",
        "| --- | --- | --- |",
        *(
            f"| {round(factor * sum(COUNTS.values()))} | {one.balanced_accuracy:.3f} "
            f"| {one.error:.3f} |"
            for factor, one in truth.items()
        ),
        "",
        f"| seed | score now (95 % interval) | {' | '.join(header)} |",
        f"| --- | --- |{' --- | --- |' * len(factors)}",
        *(_write_row(seed, curve, truth) for seed, curve in curves.items()),
        "",
        *(_sum_up(factor, truth, list(curves.values())) for factor in factors),
        "",
    ]
    return "\n".join(lines)


def _write_row(seed: int, curve: LearningCurve, truth: Mapping[float, Truth]) -> str:
    now = curve.points[-1].balanced_accuracy
    models = [str(seed), f"{now.value:.2f} ({now.low:.2f} to {now.high:.2f})"]
    for one in curve.forecast:
        score = one.balanced_accuracy
        models.append(f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})")
        models.append("yes" if holds(one, truth[one.factor]) else "no")
    return f"| {' | '.join(models)} |"


def _sum_up(factor: float, truth: Mapping[float, Truth], curves: Sequence[LearningCurve]) -> str:
    """Say how often and how far the forecasts of one factor were right."""
    forecasts = [one for curve in curves for one in curve.forecast if one.factor == factor]
    scores = [one.balanced_accuracy for one in forecasts]
    held = sum(holds(one, truth[factor]) for one in forecasts)
    off = np.mean([abs(one.value - truth[factor].balanced_accuracy) for one in scores])
    width = np.mean([one.high - one.low for one in scores])
    now = [curve.points[-1].balanced_accuracy.value for curve in curves]
    off_now = np.mean([abs(value - truth[factor].balanced_accuracy) for value in now])
    return (
        f"- At {factor:g}×: the interval held the truth in {held} of {len(forecasts)} forecasts; "
        f"they were {off:.3f} off in the mean, and the interval {width:.2f} wide. Who had taken "
        f"today's score for tomorrow's would have been {off_now:.3f} off."
    )


def main() -> None:
    """Measure and write the page, again after each phantom."""
    curves: dict[int, LearningCurve] = {}
    with tempfile.TemporaryDirectory() as folder:
        cohort = open_phantom(Path(folder), TRUTH_SEED, TRUTH_FACTOR)
        truth = measure_truth(cohort, (1.0, 2.0, 4.0), DRAWS)
    print(truth, flush=True)
    for seed in FORECASTING_SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            curves[seed] = forecast(open_phantom(Path(folder), seed), seed)
        print(_write_row(seed, curves[seed], truth), flush=True)
        PAGE.write_text(write_page(truth, curves))


if __name__ == "__main__":
    main()
