"""The statistics hold what they say, in simulated studies whose truth is known.

``python -m benchmarks.intervals`` measures the same with more studies, for docs/statistics.md.
"""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from meninx.evaluate import (
    Aggregation,
    assess_calibration,
    compare_with_each,
    evaluate,
    fit_learning_curve,
    measure_predictive_values,
    permutation_test,
    select_best,
)
from meninx.evaluate.calibration_error import estimate_calibration_error
from meninx.evaluate.learning_curve import PowerLaw
from meninx.study.plan import Model, Role
from meninx.study.results import ModelResult, Results
from tests.simulated_studies import (
    find_truth,
    shuffle_labels,
    simulate_learning,
    simulate_model,
    simulate_models,
)

THOUSANDFOLD_SURE = 3.3  # standard deviations


def holds(estimate, truth):
    return estimate.low <= truth <= estimate.high


def test_with_shuffled_labels_the_best_of_thirty_looks_good_and_the_headline_does_not():
    naive, headline = [], []
    for study in range(10):
        random = np.random.default_rng(study)
        models = shuffle_labels(random, simulate_models(random, [1.0] * 30))
        named = {str(number): model for number, model in enumerate(models)}
        selection = select_best(named, study)
        naive.append(selection.naive.value)
        headline.append(selection.headline)
    assert np.mean(naive) > 1 / 3 + 0.06
    assert np.mean([score.value for score in headline]) == pytest.approx(1 / 3, abs=0.04)
    assert all(holds(score, 1 / 3) for score in headline)


SCORES = ("balanced_accuracy", "macro_f1", "specificity", "auc", "log_loss", "brier")


def assert_covered(held, studies):
    """A nominal 95 % covers 92 to 98 %: by chance a true 92 or 98 % is outside once in twenty."""
    for name, count in held.items():
        is_seldom = binom.cdf(count, studies, 0.92) < 0.05
        is_often = binom.sf(count - 1, studies, 0.98) < 0.05
        assert not (is_seldom or is_often), (name, count / studies)


def test_headline_and_scores_are_held_by_their_intervals_as_often_as_they_say():
    random, studies = np.random.default_rng(0), 150
    truth, _ = find_truth(2.0)
    held = dict.fromkeys(("headline", *SCORES), 0)
    for study in range(studies):
        models = simulate_models(random, [2.0] * 6)
        selection = select_best({str(i): model for i, model in enumerate(models)}, study)
        held["headline"] += holds(selection.headline, truth["balanced_accuracy"])
        scores = evaluate(models[0], study).overall
        for name in SCORES:
            held[name] += holds(scores[name], truth[name])
    assert_covered(held, studies)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"repeats": 5}, {"images_per_patient": 4}], ids=["single", "repeats", "images"]
)
@pytest.mark.parametrize("skill", [0.0, 1.0, 2.0, 2.6])
def test_intervals_cover_as_often_as_they_say(settings, skill):
    random, studies = np.random.default_rng(1), 400
    truth, by_class = find_truth(skill)
    held = dict.fromkeys((*SCORES, "class"), 0)
    for study in range(studies):
        scores = evaluate(simulate_model(random, skill, **settings), study)
        for name in SCORES:
            held[name] += holds(scores.overall[name], truth[name])
        held["class"] += holds(scores.by_class["a"]["sensitivity"], by_class["sensitivity"][0])
    assert_covered(held, studies)


@pytest.mark.slow
def test_areas_next_to_one_are_held_as_often_as_they_say():
    """With four images a patient, once 99.8 % were, when both limits were drawn alike."""
    random, studies, held = np.random.default_rng(0), 400, 0
    truth, _ = find_truth(3.4)
    for study in range(studies):
        model = simulate_model(random, 3.4, images_per_patient=4)
        held += holds(evaluate(model, study).overall["auc"], truth["auc"])
    assert_covered({"auc": held}, studies)


@pytest.mark.parametrize("scale", [1.0, 6.0], ids=["modest", "too sure"])
def test_the_calibration_error_is_held_where_nearly_all_answers_are_right(scale):
    """Once 62 to 74 % were, when confidences of other patients were taken to be these.

    Where the truth is near 0 it can be missed on one side only, so up to 100 % is no surprise;
    that the interval says something is seen by its width.
    """
    random, studies, held, widths = np.random.default_rng(0), 150, 0, []
    truth, _ = find_truth(3.4, scale)
    for study in range(studies):
        error = estimate_calibration_error(simulate_model(random, 3.4, scale=scale), study)
        held += holds(error, truth["calibration_error"])
        widths.append(error.high - error.low)
    assert binom.cdf(held, studies, 0.95) > 0.01
    assert np.mean(widths) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"repeats": 5}, {"images_per_patient": 4}], ids=["single", "repeats", "images"]
)
@pytest.mark.parametrize(("skill", "scale"), [(0.0, 1.0), (1.0, 1.0), (2.0, 2.0), (2.0, 6.0)])
def test_the_calibration_error_covers_as_often_as_it_says(settings, skill, scale):
    """Where the model is calibrated the truth is at the edge, and can be missed on one side."""
    random, studies, held, widths = np.random.default_rng(2), 300, 0, []
    truth, _ = find_truth(skill, scale)
    for study in range(studies):
        model = simulate_model(random, skill, scale=scale, **settings)
        error = estimate_calibration_error(model, study)
        held += holds(error, truth["calibration_error"])
        widths.append(error.high - error.low)
    if truth["calibration_error"] > 0.02:
        assert_covered({"calibration_error": held}, studies)
    assert binom.cdf(held, studies, 0.95) > 0.01
    assert np.mean(widths) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 5])
@pytest.mark.parametrize("skills", [[1.0] * 10, [2.6] * 10, np.linspace(1.6, 2.6, 10)])
def test_the_headline_covers_as_often_as_it_says(skills, repeats):
    random, studies, held = np.random.default_rng(1), 200, 0
    for study in range(studies):
        models = simulate_models(random, skills, repeats=repeats)
        selection = select_best({str(i): model for i, model in enumerate(models)}, study)
        truth = find_truth(skills[int(selection.chosen)])[0]["balanced_accuracy"]
        held += holds(selection.headline, truth)
    assert_covered({"headline": held}, studies)


@pytest.mark.slow
@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_tests_find_nothing_in_five_of_a_hundred_studies_at_most(skill):
    random = np.random.default_rng(0)
    alone, any_found, chance = [], [], []
    studies = 200
    for study in range(studies):
        models = simulate_models(random, [skill] * 5)
        others = {str(number): model for number, model in enumerate(models[1:])}
        compared = list(compare_with_each(models[0], others, study).values())
        alone.append(compared[0].p_value < 0.05)
        any_found.append(min(comparison.p_adjusted for comparison in compared) < 0.05)
        named = {str(number): model for number, model in enumerate(shuffle_labels(random, models))}
        chance.append(permutation_test(named, study).p_value < 0.05)
    limit = 0.05 + THOUSANDFOLD_SURE * np.sqrt(0.05 * 0.95 / studies)
    assert max(np.mean(alone), np.mean(any_found), np.mean(chance)) <= limit
    assert np.mean(chance) > 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"repeats": 5}, {"images_per_patient": 4}])
def test_prediction_sets_and_predictive_values_hold_what_they_say(settings):
    random = np.random.default_rng(0)
    _, by_class = find_truth(2.0)
    ill, healthy = 0.02 * by_class["sensitivity"][0], 0.98 * (1 - by_class["specificity"][0])
    coverage, worth = [], []
    for study in range(150):
        model = simulate_model(random, 2.0, **settings)
        sets = assess_calibration(model, study).sets
        coverage.append([one.coverage.value for one in sets.by_class.values()])
        found = measure_predictive_values(model, {"a": 0.02, "b": 0.49, "c": 0.49}, study)["a"]
        worth.append(holds(found.ppv, ill / (ill + healthy)))
    by_class_covered = np.mean(coverage, axis=0)
    assert by_class_covered.min() > 0.88
    assert by_class_covered.max() < 0.97
    assert 0.9 < np.mean(worth) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("law", [PowerLaw(0.05, 1.2, 0.5), PowerLaw(0.02, 2.0, 0.7)])
def test_forecasts_hold_the_score_of_the_larger_study(law):
    random = np.random.default_rng(0)
    held, wrong = [], []
    for study in range(100):
        curve = fit_learning_curve(simulate_learning(random, law, (10, 17, 25, 34, 42)), study)
        truths = [law.score(42 * forecast.factor) for forecast in curve.forecast]
        found = [forecast.balanced_accuracy for forecast in curve.forecast]
        held.append([holds(one, truth) for one, truth in zip(found, truths, strict=True)])
        wrong.append([one.value - truth for one, truth in zip(found, truths, strict=True)])
    assert np.mean(held, axis=0).min() >= 0.88
    assert np.abs(np.mean(wrong, axis=0)).max() < 0.04


# What is written of them


def make_results(skills, **settings):
    models = simulate_models(np.random.default_rng(0), skills, **settings)
    return {
        f"model{number}": ModelResult(
            Model(
                name=f"model{number}",
                backbone="net",
                strategy="frozen",
                cut=None,
                role=Role.CANDIDATE if number else Role.BASELINE,
                repeats=1,
                trained_parameters=1,
                reason="",
                is_advised=number == 1,
            ),
            model,
            1.0,
        )
        for number, model in enumerate(models)
    }


MATRIX = SimpleNamespace(backbones=[SimpleNamespace(name="net")])


def evaluate_all(models, **settings):
    return Results.score(models, seed=0, **settings).make_evaluation(MATRIX)


def test_the_evaluation_holds_every_statistic():
    found = evaluate_all(make_results([0.0, 1.5, 2.0]))
    assert {"brier", "calibration_error"} < set(found.models["model0"].scores)
    assert found.chance.p_value < 0.01
    assert found.prediction_sets.is_class_conditional
    assert found.calibration.before.error_if_perfect > 0
    assert all(row.p_value <= row.p_adjusted for row in found.comparisons)
    assert found.advice.model == "model1"
    assert found.chosen.classes["a"].predictive_values.is_cohort_prevalence
    assert found.patient_level is found.learning_curve is found.nested is None
    assert found.patients_of_several_labels == 0


def test_the_evaluation_speaks_of_patients_where_they_have_several_images():
    models = make_results([0.0, 2.0], images_per_patient=3)
    prevalence = {"a": 0.1, "b": 0.5, "c": 0.4}
    found = evaluate_all(models, prevalence=prevalence, aggregation=Aggregation.MAX).patient_level
    assert (found.aggregation, found.patients) == ("max", 53)
    assert found.classes["a"].predictive_values.prevalence == pytest.approx(0.1)
    assert np.sum(found.confusion) == pytest.approx(53)


def test_the_evaluation_leaves_patients_of_several_labels_out_of_the_scores_by_patient():
    models = make_results([0.0, 2.0], images_per_patient=2)
    for result in models.values():
        result.predictions.patients[:4] = 30  # of a class of which patient 30 is not
    found = evaluate_all(models)
    assert found.patients_of_several_labels == 1
    assert found.patient_level.patients == 50
    assert np.sum(found.patient_level.confusion) == pytest.approx(50)


def test_the_evaluation_has_no_score_by_patient_where_no_patient_of_a_class_has_one_label():
    models = make_results([0.0, 2.0], images_per_patient=2)
    for result in models.values():
        predictions = result.predictions
        predictions.patients[predictions.labels == 0] = 30
    found = evaluate_all(models)
    assert found.patients_of_several_labels == 1 and found.patient_level is None


def test_the_value_of_a_class_that_is_never_given_is_none():
    models = make_results([0.0, 2.0])
    for result in models.values():
        result.predictions.probabilities[:, :, 2] *= 1e-9
    assert evaluate_all(models).chosen.classes["c"].predictive_values.ppv.value is None


def test_all_statistics_of_a_usual_study_take_few_seconds():
    models = make_results(np.linspace(1, 2, 10), repeats=5)
    started = time.process_time()
    evaluate_all(models)
    assert time.process_time() - started < 5
