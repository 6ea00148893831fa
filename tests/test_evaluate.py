"""Evaluation: splits keep patients apart, scores are right, intervals and choice are honest."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin
from statsmodels.stats.proportion import proportion_confint

from meninx.errors import LeakError, StudyError
from meninx.evaluate import (
    Aggregation,
    Calibration,
    Predictions,
    Split,
    aggregate,
    assess_calibration,
    calibrate,
    compare,
    compare_with_each,
    count_several_labels,
    count_training_patients,
    cross_fit,
    evaluate,
    fit_learning_curve,
    keep_patients_apart,
    measure_predictive_values,
    permutation_test,
    plan_nested,
    score_nested,
    select_best,
    split_by_patient,
    subsample_patients,
)
from meninx.evaluate.bootstrap import draw_patients, draw_weights
from meninx.evaluate.calibration_error import (
    divide_by_confidence,
    estimate_calibration_error,
    expect_error_if_perfect,
    measure_calibration_error,
)
from meninx.evaluate.intervals import count_worth, estimate_area, estimate_share
from meninx.evaluate.losses import estimate_loss
from meninx.evaluate.scores import measure
from meninx.evaluate.selection import estimate_balanced_accuracy

CLASSES = ("a", "b", "c")


def make_predictions(seed=0, skill=1.0, images=60, repeats=2, images_per_patient=1):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), images // 3)
    logits = random.normal(size=(repeats, len(labels), 3))
    logits[:, np.arange(len(labels)), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    patients = np.array([f"P{row // images_per_patient}" for row in range(len(labels))])
    return Predictions(CLASSES, labels, patients, probabilities)


def make_patients_of_several_labels(seed=0, skill=1.0, patients=24, of_one=0, together=0.0):
    """Make predictions of patients with one image of each class, and of some of one class.

    ``together`` is the part of what is guessed that all images of a patient share.
    """
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.tile(np.arange(3), patients), np.arange(of_one) % 3])
    names = np.concatenate([np.repeat(np.arange(patients), 3), patients + np.arange(of_one)])
    logits = (1 - together) * random.normal(size=(2, len(labels), 3))
    logits += together * random.normal(size=(patients + of_one, 3))[names]
    logits[:, np.arange(len(labels)), labels] += skill
    return Predictions(CLASSES, labels, names, softmax(logits, axis=2))


# Splits


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=6, max_size=30),
    folds=st.integers(2, 5),
    seed=st.integers(0, 1000),
)
def test_a_patient_is_on_one_side_of_every_split(sizes, folds, seed):
    patients = np.repeat([f"P{i}" for i in range(len(sizes))], sizes)
    labels = np.repeat([i % 2 for i in range(len(sizes))], sizes)
    splits = split_by_patient(labels, patients, folds, repeats=2, seed=seed)
    for split in splits:
        assert not set(patients[split.train]) & set(patients[split.test])
    for repeat in (0, 1):
        tested = np.concatenate([split.test for split in splits if split.repeat == repeat])
        assert sorted(tested) == list(range(len(patients)))


def test_a_planted_leak_is_refused():
    patients = np.array(["P1", "P1", "P2", "P3"])
    with pytest.raises(LeakError, match="P1 is on both sides"):
        keep_patients_apart(patients, np.array([0, 2]), np.array([1, 3]))


def test_a_leak_in_predefined_folds_is_refused():
    labels, patients = np.array([0, 1, 0, 1]), np.array(["P1", "P2", "P1", "P3"])
    with pytest.raises(LeakError):
        split_by_patient(labels, patients, predefined=np.array([1, 1, 2, 2]))


def test_a_leak_planted_in_the_splitter_is_caught(monkeypatch):
    def divide_carelessly(labels, *rest):
        return np.arange(len(labels)) % 2

    monkeypatch.setattr("meninx.evaluate.splits.divide", divide_carelessly)
    patients = np.repeat(["P1", "P2", "P3", "P4"], 2)
    with pytest.raises(LeakError):
        split_by_patient(np.array([0, 0, 0, 0, 1, 1, 1, 1]), patients, folds=2, repeats=1)


def test_predefined_folds_are_used_once_as_they_are():
    folds = np.array([1, 1, 2, 2, 1, 2])
    splits = split_by_patient(
        np.array([0, 1, 0, 1, 0, 1]), np.arange(6).astype(str), repeats=5, predefined=folds
    )
    assert [split.test.tolist() for split in splits] == [[0, 1, 4], [2, 3, 5]]


def test_folds_are_reduced_to_the_patients_of_the_smallest_class():
    labels = np.array([0] * 10 + [1] * 3)
    splits = split_by_patient(labels, np.arange(13).astype(str), folds=5, repeats=1)
    assert len(splits) == 3
    assert all((labels[split.test] == 1).sum() == 1 for split in splits)


def test_a_class_with_one_patient_cannot_be_split():
    with pytest.raises(StudyError, match="2 patients in each class"):
        split_by_patient(np.array([0, 0, 1, 1]), np.array(["P1", "P2", "P3", "P3"]))


def test_every_fold_has_every_class_in_proportion():
    labels = np.repeat([0, 1, 2], [16, 22, 15])
    for split in split_by_patient(labels, np.arange(53).astype(str), 5, 3):
        assert np.bincount(labels[split.test], minlength=3).min() >= 3


# Scores


def test_scores_agree_with_scikit_learn():
    predictions = make_predictions(skill=1.0)
    scores = evaluate(predictions)
    expected = {
        "balanced_accuracy": lambda y, p: metrics.balanced_accuracy_score(y, p.argmax(1)),
        "macro_f1": lambda y, p: metrics.f1_score(y, p.argmax(1), average="macro"),
        "sensitivity": lambda y, p: metrics.recall_score(y, p.argmax(1), average="macro"),
        "auc": lambda y, p: metrics.roc_auc_score(y, p, multi_class="ovr"),
        "log_loss": metrics.log_loss,
        "brier": lambda y, p: metrics.brier_score_loss(y, p, scale_by_half=False),
    }
    for name, score in expected.items():
        mean = np.mean([score(predictions.labels, p) for p in predictions.probabilities])
        assert scores.overall[name].value == pytest.approx(mean), name
    specificity = np.mean(
        [
            metrics.recall_score(predictions.labels != k, p.argmax(1) != k)
            for p in predictions.probabilities
            for k in range(3)
        ]
    )
    assert scores.overall["specificity"].value == pytest.approx(specificity)
    assert scores.confusion.sum() == pytest.approx(60)


def test_ties_count_half_in_the_area_under_the_curve():
    probabilities = np.full((1, 6, 3), 1 / 3)
    predictions = Predictions(CLASSES, np.arange(6) % 3, np.arange(6).astype(str), probabilities)
    assert evaluate(predictions).overall["auc"].value == pytest.approx(0.5)


def test_every_score_lies_in_its_interval_and_is_reproduced_by_its_seed():
    once, again = evaluate(make_predictions()), evaluate(make_predictions())
    for name, estimate in once.overall.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate == again.overall[name]


def test_images_of_one_patient_make_the_interval_wider_than_as_many_patients_do():
    def width(images_per_patient):
        alone = make_predictions(images=60, repeats=1)
        copies = np.repeat(np.arange(60), images_per_patient)
        predictions = Predictions(
            CLASSES,
            alone.labels[copies],
            alone.patients[copies],
            alone.probabilities[:, copies],
        )
        pretended = Predictions(
            CLASSES,
            predictions.labels,
            np.arange(len(copies)).astype(str),
            predictions.probabilities,
        )
        kept, split = (evaluate(p).overall["balanced_accuracy"] for p in (predictions, pretended))
        return (kept.high - kept.low) / (split.high - split.low)

    assert width(4) == pytest.approx(2, abs=0.3)


def tabulate(predictions):
    parts = []
    for repeat, probabilities in enumerate(predictions.probabilities):
        part = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES])
        part["sample"] = [f"S{row}" for row in range(len(part))]
        part["patient"], part["repeat"] = predictions.patients, repeat
        part["label"] = [CLASSES[label] for label in predictions.labels]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_predictions_come_back_from_their_table_in_any_order_of_rows():
    predictions = make_predictions()
    shuffled = tabulate(predictions).sample(frac=1, random_state=0)
    read = Predictions.from_table(shuffled, [f"S{row}" for row in range(60)])
    np.testing.assert_array_equal(read.probabilities, predictions.probabilities)
    assert read.labels.tolist() == predictions.labels.tolist()


@pytest.mark.parametrize("fault", ["lost", "doubled", "unnormalised"])
def test_half_a_result_is_not_taken_for_a_whole_one(fault):
    table = tabulate(make_predictions())
    if fault == "lost":
        table = table.drop(index=7)
    elif fault == "doubled":
        table = pd.concat([table, table.iloc[:1]])
    else:
        table.loc[3, "p_a"] = 0.9
    with pytest.raises(StudyError, match="out-of-fold"):
        Predictions.from_table(table, [f"S{row}" for row in range(60)])


# Choice


def test_choosing_among_models_without_skill_is_not_rewarded():
    """The best of thirty guessers looks good; the headline knows better."""
    naive, headline = [], []
    for study in range(8):
        models = {
            f"model{i}": make_predictions(seed=100 * study + i, skill=0, images=54, repeats=1)
            for i in range(30)
        }
        selection = select_best(models, seed=study)
        naive.append(selection.naive.value)
        headline.append(selection.headline)
    assert np.mean(naive) > 0.43
    assert np.mean([score.value for score in headline]) == pytest.approx(1 / 3, abs=0.04)
    assert all(score.low < 1 / 3 < score.high for score in headline)


def test_a_clearly_better_model_is_chosen_and_costs_little():
    models = {"good": make_predictions(1, skill=3), "bad": make_predictions(2, skill=0)}
    selection = select_best(models)
    assert selection.chosen == "good"
    assert selection.shares["good"] == pytest.approx(1)
    assert selection.headline.value == pytest.approx(selection.naive.value, abs=0.02)


def test_equal_models_do_not_differ():
    same = make_predictions()
    comparison = compare(same, same)
    assert comparison.difference.value == 0
    assert comparison.difference.low <= 0 <= comparison.difference.high
    assert comparison.p_value == comparison.p_adjusted == 1


def test_a_difference_is_found_and_corrected_for_the_number_of_comparisons():
    good, bad = make_predictions(1, skill=3), make_predictions(2, skill=0)
    others = {"bad": bad, **{f"same{i}": good for i in range(9)}}
    alone, among = compare(good, bad), compare_with_each(good, others)["bad"]
    assert alone.difference.low > 0.3
    assert alone.p_value == alone.p_adjusted == among.p_value < 0.001
    assert among.p_adjusted == pytest.approx(10 * among.p_value)


def test_exchanging_answers_of_patients_is_less_sure_than_of_their_images():
    def p_value(images_per_patient):
        one = make_predictions(1, 1.4, repeats=1, images_per_patient=images_per_patient)
        other = make_predictions(2, 0.7, repeats=1, images_per_patient=images_per_patient)
        return compare(one, other).p_value

    assert p_value(10) > 2 * p_value(1)


# PermutationTest


def test_a_guesser_is_not_told_from_chance_and_a_skilled_model_is():
    guessers = {str(seed): make_predictions(seed, skill=0) for seed in range(5)}
    chance = permutation_test(guessers)
    assert chance.p_value > 0.05
    assert chance.balanced_accuracy.value > 1 / 3  # the best of five
    assert permutation_test({"good": make_predictions(skill=2)}).p_value == 1 / 2000


def test_chance_permutes_patients_and_not_images():
    """Ten right patients of twelve images each are no 120 right answers."""
    many = make_predictions(3, skill=0.6, images=60, repeats=1, images_per_patient=20)
    single = make_predictions(3, skill=0.6, images=60, repeats=1)
    assert permutation_test({"many": many}).p_value > permutation_test({"single": single}).p_value


@pytest.mark.parametrize("of_one", [0, 30])
def test_chance_is_told_where_patients_have_images_of_several_labels(of_one):
    skilled = make_patients_of_several_labels(skill=1.5, of_one=of_one)
    chance = permutation_test({"good": skilled})
    assert chance.p_value == 1 / 2000
    assert 0.15 < chance.balanced_accuracy.low < 1 / 3 < chance.balanced_accuracy.high < 0.5
    p_values = [
        permutation_test({"guess": make_patients_of_several_labels(seed, 0, of_one=of_one)}).p_value
        for seed in range(20)
    ]
    assert min(p_values) > 0.005 and 0.3 < np.mean(p_values) < 0.7


def test_chance_keeps_the_images_of_a_patient_of_several_labels_together():
    """Guesses that neighbouring images share are no evidence: half-slices with and without."""
    random, labels = np.random.default_rng(0), np.tile([0, 0, 0, 0, 1, 1, 1, 1], 16)
    patients, found = np.repeat(np.arange(16), 8), 0
    for _ in range(40):
        # A patient's upper half and lower half are each taken for one class, at random.
        given = np.repeat(random.integers(0, 2, 32), 4)
        probabilities = 0.2 + 0.6 * np.eye(2)[given]
        guesser = Predictions(("a", "b"), labels, patients, probabilities[None])
        found += permutation_test({"guesser": guesser}).p_value < 0.05
    assert found <= 6


# Intervals


def test_no_draw_lacks_a_class_and_patients_of_several_labels_are_drawn_together():
    labels = np.array([0, 1, 0, 2, 0, 1, 1, 2, 0, 0, 1, 1])
    patients = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    for draw in (draw_patients, draw_weights):
        times = draw(labels, patients, 500)
        for patient in range(4):
            assert np.ptp(times[:, patients == patient], axis=1).max() == 0
        assert all((times[:, labels == label].sum(axis=1) > 0).all() for label in range(3))
        np.testing.assert_allclose(times[:, patients < 4].sum(axis=1) / 2, 4)
        np.testing.assert_allclose(times[:, [8, 9]].sum(axis=1), 2)
        assert times.std(axis=0).min() > 0


def test_a_patient_of_several_labels_is_worth_one_patient():
    labels, patients = np.tile(np.arange(3), 20), np.repeat(np.arange(20), 3)
    assert count_worth(labels, patients, 3) == 20
    assert count_worth(labels, np.arange(60), 3) == pytest.approx(60)


@pytest.mark.parametrize("together", [0.0, 0.7])
def test_intervals_hold_the_truth_where_patients_have_images_of_several_labels(together):
    settings = {"skill": 1.0, "together": together}
    many = make_patients_of_several_labels(patients=3000, **settings)
    truth = metrics.balanced_accuracy_score(many.labels, many.predicted[0]), many.losses.mean()
    held = np.zeros(2)
    for seed in range(40):
        some = make_patients_of_several_labels(seed, of_one=12, **settings)
        draws = draw_weights(some.labels, some.patients)
        accuracy = estimate_balanced_accuracy(some)
        loss = estimate_loss(some.losses.mean(axis=0), some, draws)
        held += [
            it.low <= true <= it.high for it, true in zip((accuracy, loss), truth, strict=True)
        ]
    assert held.min() >= 34


def test_every_statistic_can_be_computed_where_all_patients_have_several_labels():
    models = {str(skill): make_patients_of_several_labels(1, skill) for skill in (0.5, 1.5)}
    selection = select_best(models)
    assert selection.chosen == "1.5"
    assert 0 < selection.headline.low < selection.headline.value < selection.headline.high < 1
    trust = assess_calibration(models["1.5"])
    assert 0.8 < trust.sets.coverage.value <= 1 and trust.sets.is_class_conditional
    assert compare(models["1.5"], models["0.5"]).p_value < 0.05
    assert all(0 < value.ppv.low < 1 for value in measure_predictive_values(models["1.5"]).values())


@pytest.mark.parametrize("estimate_score", [estimate_share, estimate_area])
@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(0, 1),
    spread=st.floats(0, 0.3),
    patients=st.floats(1, 500),
    seed=st.integers(0, 100),
)
def test_an_interval_of_a_share_holds_its_value_and_stays_between_0_and_1(
    estimate_score, value, spread, patients, seed
):
    draws = value + spread * np.random.default_rng(seed).normal(size=50)
    estimate = estimate_score(value, draws, patients)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0


def test_all_right_is_not_certainty():
    perfect = make_predictions(skill=50, images=54)
    scores = evaluate(perfect)
    assert scores.overall["balanced_accuracy"].value == 1
    assert scores.overall["balanced_accuracy"].low < 0.96
    assert scores.by_class["a"]["sensitivity"].low < 0.87  # 18 patients
    assert select_best({"perfect": perfect}).headline.low < 0.96


def test_an_interval_of_single_images_is_about_wilsons():
    predictions = make_predictions(skill=1.5, repeats=1)
    right = (predictions.predicted[0] == predictions.labels)[predictions.labels == 0].sum()
    low, high = proportion_confint(right, 20, method="wilson")
    sensitivity = evaluate(predictions).by_class["a"]["sensitivity"]
    assert sensitivity.low == pytest.approx(low, abs=0.03)
    assert sensitivity.high == pytest.approx(high, abs=0.03)


def test_the_spread_of_areas_is_delongs():
    """DeLong, DeLong and Clarke-Pearson 1988: the variance from each image's part of pairs won."""
    predictions = make_predictions(skill=1.5, repeats=1, images=90)
    probabilities, inside = predictions.probabilities[0, :, 0], predictions.labels == 0
    won = probabilities[inside][:, None] > probabilities[~inside][None, :]
    parts = won.mean(axis=1), won.mean(axis=0)
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    draws = draw_weights(predictions.labels, predictions.patients)
    assert measure(predictions, draws).by_class["auc"][:, 0].std() == pytest.approx(error, rel=0.1)


def test_intervals_of_losses_reach_further_up_where_few_patients_bear_the_loss():
    """A loss that was hardly seen may be larger; one that all share is known."""
    predictions = make_predictions(repeats=1)
    draws = draw_weights(predictions.labels, predictions.patients)
    random = np.random.default_rng(0)
    skewed, even = random.exponential(size=60) ** 3, random.uniform(0.9, 1.1, 60)
    rare, common = (estimate_loss(losses, predictions, draws) for losses in (skewed, even))
    assert np.log(rare.high / rare.value) > 1.3 * np.log(rare.value / rare.low)
    error = even.std(ddof=1) / np.sqrt(60)
    assert common.high - common.value == pytest.approx(2 * error, rel=0.15)
    assert common.value - common.low == pytest.approx(2 * error, rel=0.15)


@pytest.mark.parametrize("patients", [1, 2, 3])
def test_losses_of_hardly_any_patients_have_a_finite_interval(patients):
    predictions = make_predictions(images=3 * patients, repeats=1)
    draws = draw_weights(predictions.labels, predictions.patients)
    for losses in (predictions.losses[0], np.eye(3 * patients)[0], np.zeros(3 * patients)):
        found = estimate_loss(losses, predictions, draws)
        assert 0 <= found.low <= found.value <= found.high < np.inf


def test_with_one_candidate_the_headline_is_as_sure_as_its_score():
    """Nothing is chosen, so nothing is paid for it: not even by scoring on 37 % of a draw."""
    selection = select_best({"only": make_predictions(skill=1.0)})
    assert selection.headline.value == pytest.approx(selection.naive.value, abs=0.01)
    assert selection.headline.low == pytest.approx(selection.naive.low, abs=0.015)
    assert selection.headline.high == pytest.approx(selection.naive.high, abs=0.015)


# Predictive values


def test_predictive_values_at_the_cohorts_prevalence_are_counted():
    predictions = make_predictions(skill=1.0, repeats=1)
    confusion = metrics.confusion_matrix(predictions.labels, predictions.predicted[0])
    found = measure_predictive_values(predictions)
    for index, label in enumerate(CLASSES):
        assert found[label].ppv.value == pytest.approx(
            confusion[index, index] / confusion[:, index].sum()
        )
        others = np.delete(confusion, index, axis=1)
        assert found[label].npv.value == pytest.approx(1 - others[index].sum() / others.sum())
        assert found[label].is_cohort_prevalence


def test_a_rare_disease_makes_a_positive_answer_worth_less():
    predictions = make_predictions(skill=1.5)
    rare = measure_predictive_values(predictions, {"a": 0.01, "b": 0.5, "c": 0.49})["a"]
    usual = measure_predictive_values(predictions)["a"]
    assert rare.ppv.value < usual.ppv.value / 3
    assert rare.npv.value > usual.npv.value
    assert not rare.is_cohort_prevalence
    assert rare.ppv.low <= rare.ppv.value <= rare.ppv.high


def test_a_class_that_is_never_given_has_no_positive_predictive_value():
    probabilities = np.tile([0.1, 0.5, 0.4], (1, 30, 1))
    predictions = Predictions(CLASSES, np.arange(30) % 3, np.arange(30), probabilities)
    found = measure_predictive_values(predictions)
    assert np.isnan(found["a"].ppv.value)
    assert found["a"].npv.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("stated", [{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.4, "c": 0.3}])
def test_prevalences_that_are_not_those_of_the_classes_are_refused(stated):
    with pytest.raises(StudyError, match="prevalences"):
        measure_predictive_values(make_predictions(), stated)


# Patients


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    images=st.sampled_from([1, 2, 4, 5]),
    how=st.sampled_from(Aggregation),
)
def test_a_patients_answer_does_not_depend_on_the_order_of_images(seed, images, how):
    predictions = make_predictions(seed, images=60, images_per_patient=images)
    order = np.random.default_rng(seed).permutation(60)
    once, again = aggregate(predictions, how), aggregate(predictions.take(order), how)
    np.testing.assert_allclose(once.probabilities, again.probabilities)
    np.testing.assert_allclose(once.probabilities.sum(axis=2), 1)
    if images == 1:
        assert evaluate(once).overall["auc"] == evaluate(again).overall["auc"]
        np.testing.assert_allclose(
            once.probabilities[
                :, np.argsort(np.unique(predictions.patients, return_index=True)[1])
            ],
            predictions.probabilities,
        )


def test_one_suspicious_slice_counts_by_maximum_and_not_by_mean():
    slices = np.array([[0.9, 0.1, 0]] * 5 + [[0.2, 0.8, 0]] * 1)[None]
    predictions = Predictions(CLASSES, np.ones(6, int), np.array(["P"] * 6), slices)
    assert aggregate(predictions, Aggregation.MEAN).predicted.item() == 0
    np.testing.assert_allclose(
        aggregate(predictions, Aggregation.MAX).probabilities.ravel(), [0.9 / 1.7, 0.8 / 1.7, 0]
    )
    top = aggregate(predictions, Aggregation.TOP_K).probabilities.ravel()
    np.testing.assert_allclose(top, np.array([0.9, 1 / 3, 0]) / (0.9 + 1 / 3))


def test_a_patient_of_two_classes_has_no_one_answer_and_is_left_out():
    labels, patients = np.array([0, 1, 0, 2, 2]), np.array(["P", "P", "P", "Q", "Q"])
    slices = np.array(
        [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0, 0.2, 0.8], [0.2, 0, 0.8]]
    )
    predictions = Predictions(CLASSES, labels, patients, slices[None])
    answers = aggregate(predictions)
    assert (answers.patients.tolist(), answers.labels.tolist()) == (["Q"], [2])
    np.testing.assert_allclose(answers.probabilities[0], [[0.1, 0.1, 0.8]])
    assert count_several_labels(predictions) == 1
    assert len(aggregate(predictions.take(np.arange(3))).labels) == 0


# Nested cross-validation


def make_nested(skills):
    """Two models on 60 patients, with inner and outer predictions of the same skill."""
    models = {
        name: make_predictions(seed, skill) for seed, (name, skill) in enumerate(skills.items())
    }
    any_model = next(iter(models.values()))
    splits = split_by_patient(any_model.labels, any_model.patients, 5, 2)
    plan = plan_nested(splits, any_model.labels, any_model.patients)
    inner = {
        name: [[model.probabilities[1, split.test] for split in nested.inner] for nested in plan]
        for name, model in models.items()
    }
    return plan, models, inner


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=24),
    seed=st.integers(0, 100),
)
def test_inner_folds_cover_the_outer_training_side_and_keep_patients_apart(sizes, seed):
    patients = np.repeat([f"P{i}" for i in range(len(sizes))], sizes)
    labels = np.repeat([i % 2 for i in range(len(sizes))], sizes)
    splits = split_by_patient(labels, patients, 3, repeats=2, seed=seed)
    plan = plan_nested(splits, labels, patients, folds=3)
    assert len(plan) == 3
    for nested in plan:
        tested = np.concatenate([split.test for split in nested.inner])
        assert sorted(tested) == sorted(nested.outer.train)
        for split in nested.inner:
            sides = [set(patients[rows]) for rows in (split.train, split.test, nested.outer.test)]
            assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_nested_chooses_inside_and_scores_outside():
    plan, models, inner = make_nested({"good": 3.0, "bad": 0.0})
    nested = score_nested(plan, models, inner)
    assert nested.chosen == {"good": 5}
    right = (models["good"].predicted[0] == models["good"].labels).mean()
    assert nested.balanced_accuracy.value == pytest.approx(right)


def test_nested_never_looks_at_outer_predictions_to_choose():
    plan, models, inner = make_nested({"good": 3.0, "bad": 0.0})
    swapped = score_nested(plan, models, {"good": inner["bad"], "bad": inner["good"]})
    assert swapped.chosen == {"bad": 5}
    assert swapped.balanced_accuracy.value < 0.5


# Learning curve


def test_smaller_parts_of_the_patients_lie_within_larger_ones_and_hold_every_class():
    labels, patients = np.repeat(np.arange(3), 40), np.repeat(np.arange(60), 2)
    split = split_by_patient(labels, patients, 5, 1)[2]
    parts = [subsample_patients(split, part, labels, patients, 7) for part in (0.1, 0.4, 0.7, 1)]
    for small, large in pairwise(parts):
        assert set(patients[small.train]) < set(patients[large.train])
    assert parts[-1].train.tolist() == split.train.tolist()
    assert all((part.test == split.test).all() for part in parts)
    assert np.bincount(labels[parts[0].train]).min() >= 2  # both images of a patient
    assert count_training_patients(parts[3:], patients) == 48


def test_parts_hold_classes_that_only_patients_of_several_labels_show():
    labels, patients = [], []
    for patient in range(30):
        own = [0, 1] + ([2] if patient in (3, 8, 21) else []) if patient < 20 else [patient % 2]
        labels += own
        patients += [patient] * len(own)
    labels, patients = np.array(labels), np.array(patients)
    for split in split_by_patient(labels, patients, 3, 1):
        parts = [subsample_patients(split, part, labels, patients, 7) for part in (0.1, 0.4, 0.8)]
        assert all(set(labels[part.train]) == {0, 1, 2} for part in parts)
        for small, large in pairwise(parts):
            assert set(patients[small.train]) < set(patients[large.train])


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_a_part_that_is_none_is_refused(fraction):
    split = Split(0, 0, np.arange(4), np.arange(4, 6))
    with pytest.raises(StudyError, match="part of the patients"):
        subsample_patients(split, fraction, np.zeros(6, int), np.arange(6))


def test_a_learning_curve_needs_three_sizes():
    with pytest.raises(StudyError, match="3 sizes"):
        fit_learning_curve({10: make_predictions(), 20: make_predictions()})


def test_a_forecast_goes_up_and_its_study_is_surer():
    sizes = {
        size: make_predictions(size, skill) for size, skill in ((12, 0.8), (24, 1.3), (48, 1.7))
    }
    curve = fit_learning_curve(sizes)
    now = curve.points[-1].balanced_accuracy
    twice, fourfold = curve.forecast
    assert now.value - 0.05 < twice.balanced_accuracy.value < fourfold.balanced_accuracy.value < 1
    assert fourfold.interval_width < twice.interval_width < now.high - now.low
    assert (twice.patients, fourfold.patients) == (120, 240)
    scores = [point.balanced_accuracy.value for point in curve.curve]
    assert scores == sorted(scores)


# Calibration


def test_temperature_cools_down_a_model_that_is_too_sure():
    honest = make_predictions(skill=1.0, images=600, repeats=1)
    logits = 3 * np.log(honest.probabilities)
    sure = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    assert calibrate(honest).temperature == pytest.approx(1, abs=0.25)
    temperature = calibrate(Predictions(CLASSES, honest.labels, honest.patients, sure)).temperature
    assert temperature == pytest.approx(3 * calibrate(honest).temperature, rel=0.02)


def test_assurance_is_added_only_where_patients_are_known():
    honest = make_predictions(images=600, repeats=1)
    modest = replace(honest, probabilities=softmax(np.log(honest.probabilities) / 3, axis=2))
    assert calibrate(modest).temperature < 0.5
    unknown = replace(modest, patients_known=False)
    assert calibrate(unknown).temperature == 1
    assert np.allclose(cross_fit(unknown).predictions.probabilities, unknown.probabilities)
    sure = replace(honest, probabilities=softmax(np.log(honest.probabilities) * 3, axis=2))
    assert calibrate(replace(sure, patients_known=False)).temperature > 2


def test_prediction_sets_hold_the_true_class_as_often_as_they_say():
    learned = calibrate(make_predictions(seed=1, images=600, repeats=1))
    new = make_predictions(seed=2, images=3000, repeats=1)
    probabilities = learned.apply(np.log(new.probabilities[0]))
    covered = learned.choose_set(probabilities)[np.arange(3000), new.labels].mean()
    assert covered == pytest.approx(0.90, abs=0.03)


def test_class_thresholds_survive_json_and_are_used():
    learned = calibrate(make_predictions(skill=1.5))
    assert len(learned.class_thresholds) == 3
    again = Calibration(**json.loads(json.dumps(asdict(learned))))
    assert again == learned
    strict = Calibration(1.0, 0.5, class_thresholds=(0.9, 0.1, 0.1))
    assert strict.choose_set(np.array([[0.6, 0.3, 0.1]])).tolist() == [[False, True, True]]


def test_a_class_with_few_patients_gets_no_threshold_of_its_own():
    few = make_predictions(images=27)
    assert calibrate(few).class_thresholds == ()
    assert not assess_calibration(few).sets.is_class_conditional
    assert calibrate(make_predictions(images=30)).class_thresholds


def test_too_few_patients_for_a_level_put_every_class_in_the_set():
    predictions = make_predictions(images=6, repeats=1)
    assert calibrate(predictions).set_threshold == 0


class Known(ClassifierMixin, BaseEstimator):
    """Takes probabilities as they come, so that MAPIE can be given ours."""

    classes_ = np.arange(3)

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)

    def __sklearn_is_fitted__(self):
        return True


def choose_with_mapie(learned_from, labels, new):
    classification = pytest.importorskip("mapie.classification")
    fitted = classification.SplitConformalClassifier(Known(), 0.9, "lac")
    fitted.conformalize(learned_from, labels)
    return fitted.predict_set(new)[1][:, :, 0]


def test_sets_agree_with_mapies():
    """With one threshold; and by class, where MAPIE is shown the images of one class only."""
    predictions = make_predictions(seed=3, images=90, repeats=1)
    learned, labels = calibrate(predictions), predictions.labels
    calibrated = learned.apply(np.log(predictions.probabilities[0]))
    new = learned.apply(np.log(make_predictions(seed=4, images=300, repeats=1).probabilities[0]))
    ours = Calibration(1.0, learned.set_threshold).choose_set(new)
    assert (choose_with_mapie(calibrated, labels, new) == ours).mean() > 0.995
    by_class = learned.choose_set(new)
    for index in range(3):
        rows = labels == index
        theirs = choose_with_mapie(calibrated[rows], labels[rows], new)
        assert (theirs[:, index] == by_class[:, index]).mean() > 0.99
    assert (ours != by_class).any()


def test_repeats_do_not_count_as_patients_as_they_would_for_mapie():
    once = make_predictions(seed=3, images=45, repeats=1)
    five = replace(once, probabilities=np.repeat(once.probabilities, 5, axis=0))
    assert calibrate(five) == calibrate(once)
    calibrated = calibrate(once).apply(np.log(once.probabilities[0]))
    rows = once.labels == 0
    likely = np.linspace(0, 1, 2001)
    new = np.column_stack([likely, 1 - likely, 0 * likely])
    theirs = [
        choose_with_mapie(np.repeat(calibrated[rows], times, 0), np.zeros(15 * times, int), new)
        for times in (1, 5)
    ]
    assert theirs[1][:, 0].sum() < theirs[0][:, 0].sum()


def test_a_patients_own_label_has_no_say_in_his_set():
    """Whatever a patient's label is said to be, his set is the same."""
    predictions = make_predictions(seed=5, images=90, images_per_patient=2)
    lied = predictions.labels.copy()
    lied[:2] = 2
    changed = Predictions(CLASSES, lied, predictions.patients, predictions.probabilities)
    once, again = cross_fit(predictions), cross_fit(changed)
    assert (once.sets[:, :2] == again.sets[:, :2]).all()
    np.testing.assert_array_equal(
        once.predictions.probabilities[:, :2], again.predictions.probabilities[:, :2]
    )
    assert (once.predictions.probabilities != again.predictions.probabilities).any()


def test_cannot_tell_is_counted():
    guesser = make_predictions(skill=0, images=90)
    sets = assess_calibration(guesser).sets
    assert sets.empty + sets.several > 80
    assert sets.mean_size > 2
    assert sets.coverage.value == pytest.approx(0.9, abs=0.06)
    assert set(sets.by_class) == set(CLASSES)
    sure = assess_calibration(make_predictions(skill=30, images=90)).sets
    assert sure.several == 0
    assert sure.mean_size <= 1


def test_the_calibration_error_is_that_of_the_bins():
    predictions = make_predictions(repeats=1, images=60)
    confidence = predictions.probabilities[0].max(axis=1)
    order = np.argsort(confidence)
    right = predictions.predicted[0] == predictions.labels
    parts = np.split(order, 6)
    expected = np.mean([abs(confidence[part].mean() - right[part].mean()) for part in parts])
    assert evaluate(predictions).overall["calibration_error"].value == pytest.approx(expected)
    bins = divide_by_confidence(predictions)
    assert [one.images for one in bins] == [10] * 6
    assert bins[0].confidence == pytest.approx(confidence[parts[0]].mean())
    assert bins[5].accuracy == pytest.approx(right[parts[5]].mean())


def test_the_interval_of_the_calibration_error_tells_chance_from_a_model_that_is_too_sure():
    honest = make_predictions(skill=1.0, images=120, repeats=1)
    sure = honest.probabilities**6
    sure /= sure.sum(axis=2, keepdims=True)
    error = evaluate(honest).overall["calibration_error"]
    assert error.low == 0
    assert error.high < 0.2
    error = evaluate(replace(honest, probabilities=sure)).overall["calibration_error"]
    assert 0.1 < error.low < error.value < error.high


def predict_with_confidence(confidence, wrong, images=53):
    """All images with one confidence, so many of them given the wrong class."""
    labels = np.arange(images) % 3
    given = np.where(np.arange(images) < wrong, (labels + 1) % 3, labels)
    rest = (1 - confidence) / 2
    probabilities = rest + (confidence - rest) * np.eye(3)[given]
    return Predictions(CLASSES, labels, np.arange(images), probabilities[None])


def answer_by_chance(random, confidence):
    """All images with one confidence, each answered rightly with just that probability."""
    predictions = predict_with_confidence(confidence, wrong=0)
    labels = np.where(random.random(53) < confidence, predictions.labels, predictions.labels - 1)
    return replace(predictions, labels=labels % 3)


def test_a_calibration_error_may_be_none_unless_chance_shows_as_much_in_one_of_twenty_studies():
    """None is at the edge: it can be missed on one side only, which has the chance of both."""
    random = np.random.default_rng(0)
    perfect = [answer_by_chance(random, 0.8) for _ in range(1500)]
    errors = [measure_calibration_error(one) for one in perfect]
    somewhat_rare = [
        one
        for one, error in zip(perfect, errors, strict=True)
        if 0.026 < np.mean(np.array(errors) >= error - 1e-9) < 0.034
    ]
    usual = [one for one, error in zip(perfect, errors, strict=True) if error < np.median(errors)]
    assert somewhat_rare
    assert all(estimate_calibration_error(one).low > 0 for one in somewhat_rare[:3])
    assert all(estimate_calibration_error(one).low == 0 for one in usual[:3])


def test_a_small_calibration_error_of_few_images_may_be_none_or_be_larger():
    """All of 53 right: 0.98 may be just so, or too sure by what the rule of three allows."""
    error = evaluate(predict_with_confidence(0.98, wrong=0)).overall["calibration_error"]
    assert error.low == 0
    assert error.value == pytest.approx(0.02)
    assert 0.03 < error.high < 0.10


def test_confidence_that_is_too_low_is_seen_though_no_answer_is_wrong():
    error = evaluate(predict_with_confidence(0.7, wrong=0)).overall["calibration_error"]
    assert error.value == pytest.approx(0.3)
    assert 0.15 < error.low < 0.3 <= error.high < 0.4


def test_the_calibration_error_allows_for_other_confidences_of_other_patients():
    """All right, so the error is 1 - confidence, and that differs among patients."""
    random = np.random.default_rng(0)
    model = predict_with_confidence(0.9, wrong=0)
    highest = random.choice([0.8, 1.0], size=53)
    rest = (1 - highest) / 2
    spread = rest[:, None] + (highest - rest)[:, None] * np.eye(3)[model.labels]
    error = estimate_calibration_error(replace(model, probabilities=spread[None]))
    assert error.high > error.value + 1.5 * highest.std() / np.sqrt(53)


def test_images_of_a_patient_that_go_together_make_the_calibration_error_less_sure():
    few = make_predictions(seed=2, images=60, repeats=1)
    copies = np.repeat(np.arange(60), 4)
    as_patients = replace(few.take(copies), patients=np.arange(240))
    whole, apart = (estimate_calibration_error(one) for one in (few.take(copies), as_patients))
    assert whole.value == apart.value
    assert whole.high - whole.low > 1.3 * (apart.high - apart.low)


def test_chance_alone_makes_a_calibration_error_that_is_said():
    few, many = (make_predictions(images=size, repeats=1) for size in (60, 3000))
    assert expect_error_if_perfect(few) > 0.07
    assert expect_error_if_perfect(many) < 0.03
