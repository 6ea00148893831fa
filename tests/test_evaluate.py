"""Evaluation: splits keep patients apart, scores are right, intervals and choice are honest."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from meninx.errors import LeakError, StudyError
from meninx.evaluate import (
    Predictions,
    calibrate,
    compare,
    evaluate,
    keep_patients_apart,
    select_best,
    split_by_patient,
)

CLASSES = ("a", "b", "c")


def make_predictions(seed=0, skill=1.0, images=60, repeats=2, images_per_patient=1):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), images // 3)
    logits = random.normal(size=(repeats, len(labels), 3))
    logits[:, np.arange(len(labels)), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    patients = np.array([f"P{row // images_per_patient}" for row in range(len(labels))])
    return Predictions(CLASSES, labels, patients, probabilities)


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
    class Careless:
        def __init__(self, *arguments, **settings):
            pass

        def split(self, X, y, groups):
            yield np.arange(0, len(y), 2), np.arange(1, len(y), 2)

    monkeypatch.setattr("meninx.evaluate.splits.StratifiedGroupKFold", Careless)
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


def test_choosing_among_cells_without_skill_is_not_rewarded():
    """The best of thirty guessers looks good; the headline knows better."""
    naive, headline = [], []
    for study in range(8):
        cells = {
            f"cell{i}": make_predictions(seed=100 * study + i, skill=0, images=54, repeats=1)
            for i in range(30)
        }
        selection = select_best(cells, seed=study)
        naive.append(selection.naive.value)
        headline.append(selection.headline)
    assert np.mean(naive) > 0.43
    assert np.mean([score.value for score in headline]) == pytest.approx(1 / 3, abs=0.04)
    assert all(score.low < 1 / 3 < score.high for score in headline)


def test_a_clearly_better_cell_is_chosen_and_costs_little():
    cells = {"good": make_predictions(1, skill=3), "bad": make_predictions(2, skill=0)}
    selection = select_best(cells)
    assert selection.chosen == "good"
    assert selection.shares["good"] == pytest.approx(1)
    assert selection.headline.value == pytest.approx(selection.naive.value, abs=0.02)


def test_equal_cells_differ_by_nothing():
    same = make_predictions()
    difference = compare(same, same)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


# Calibration


def test_temperature_cools_down_a_model_that_is_too_sure():
    honest = make_predictions(skill=1.0, images=600, repeats=1)
    logits = 3 * np.log(honest.probabilities)
    sure = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    assert calibrate(honest).temperature == pytest.approx(1, abs=0.25)
    temperature = calibrate(Predictions(CLASSES, honest.labels, honest.patients, sure)).temperature
    assert temperature == pytest.approx(3 * calibrate(honest).temperature, rel=0.02)


def test_prediction_sets_hold_the_true_class_as_often_as_they_say():
    learned = calibrate(make_predictions(seed=1, images=600, repeats=1))
    new = make_predictions(seed=2, images=3000, repeats=1)
    probabilities = learned.apply(np.log(new.probabilities[0]))
    covered = learned.choose_set(probabilities)[np.arange(3000), new.labels].mean()
    assert covered == pytest.approx(0.90, abs=0.03)
