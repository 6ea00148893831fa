"""Splits: a patient is on one side, whatever the way of dividing."""

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from meninx.errors import LeakError, StudyError
from meninx.evaluate import (
    RepeatedStratifiedPatientKFold,
    derive_seed,
    keep_patients_apart,
    leave_one_patient_out,
    plan_nested,
    split_by_patient,
)
from meninx.evaluate.folds import Rule, keeps_rule


@st.composite
def cohorts(draw):
    """Labels and patients: 2 to 3 classes, 2 to 6 patients each, 1 to 3 images a patient."""
    labels, patients = [], []
    for label in range(draw(st.integers(2, 3))):
        for number in range(draw(st.integers(2, 6))):
            images = draw(st.integers(1, 3))
            labels += [label] * images
            patients += [f"{label}-{number}"] * images
    return np.array(labels), np.array(patients)


@settings(deadline=None, max_examples=40)
@given(cohorts(), st.integers(2, 6), st.integers(1, 3))
def test_every_image_is_tested_once_a_repeat_and_no_patient_is_on_both_sides(data, folds, repeats):
    labels, patients = data
    for splits in (
        split_by_patient(labels, patients, folds, repeats),
        leave_one_patient_out(labels, patients),
    ):
        for repeat in {split.repeat for split in splits}:
            tested = np.concatenate([split.test for split in splits if split.repeat == repeat])
            assert sorted(tested) == list(range(len(labels)))
        for split in splits:
            assert not set(patients[split.train]) & set(patients[split.test])
            assert len(split.train) + len(split.test) == len(labels)


@st.composite
def cohorts_of_several_labels(draw):
    """Labels and patients: 2 to 4 classes of two patients or more, 2 to 7 patients in all."""
    classes = draw(st.integers(2, 4))
    count = draw(st.integers(2, 7))
    labels, patients = [], []
    for patient in range(count):
        own = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=5))
        labels += own
        patients += [patient] * len(own)
    for label in range(classes):
        for patient in draw(st.permutations(range(count)))[:2]:
            labels.append(label)
            patients.append(patient)
    return np.array(labels), np.array(patients)


def can_be_divided(labels, patients, folds, is_each_fold):
    """Try every division of a few patients, by the definition."""
    of = [set(labels[patients == patient].tolist()) for patient in np.unique(patients)]
    everything = set(labels.tolist())
    for division in itertools.product(range(folds), repeat=len(of)):
        inside = [
            [own for own, at in zip(of, division, strict=True) if at == f] for f in range(folds)
        ]
        outside = [
            [own for own, at in zip(of, division, strict=True) if at != f] for f in range(folds)
        ]
        if not all(inside) or any(set().union(*own) != everything for own in outside):
            continue
        if not is_each_fold or all(set().union(*own) == everything for own in inside):
            return True
    return False


@settings(deadline=None, max_examples=60)
@given(cohorts_of_several_labels(), st.integers(2, 4), st.integers(0, 3))
def test_patients_of_several_labels_are_on_one_side_and_every_class_is_trained_on(
    data, folds, seed
):
    labels, patients = data
    fewest = min(len(set(patients[labels == label])) for label in set(labels))
    wished = range(2, min(folds, fewest) + 1)
    in_each = [count for count in wished if can_be_divided(labels, patients, count, True)]
    most = min(folds, len(set(patients)))
    try:
        splits = split_by_patient(labels, patients, folds, 2, seed)
    except StudyError as error:
        assert not any(can_be_divided(labels, patients, n, False) for n in range(2, most + 1))
        assert "--leave-one-patient-out" in str(error)
        splits = leave_one_patient_out(labels, patients)
        in_each = []
    for split in splits:
        assert len(split.test) and set(labels[split.train]) == set(labels)
        assert not set(patients[split.train]) & set(patients[split.test])
        assert sorted([*split.train, *split.test]) == list(range(len(labels)))
        assert not in_each or set(labels[split.test]) == set(labels)
    if in_each:
        assert len({split.fold for split in splits}) == max(in_each)


def test_a_fold_that_would_lack_a_class_is_mended_by_moving_few_patients():
    """Scikit-learn's procedure tests the two patients of the second class together."""
    labels, patients = np.array([0, 2, 0, 2, 1, 1]), np.array([0, 0, 1, 2, 2, 3])
    usual = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    assert any(set(labels[test]) != {0, 1, 2} for _, test in usual.split(labels, labels, patients))
    for split in split_by_patient(labels, patients, folds=2, repeats=1):
        assert set(patients[split.test]) in ({0, 3}, {1, 2})


def test_a_rule_that_a_division_breaks_is_noticed():
    """A planted fault: all patients of the second class are in one fold."""
    shown = np.array([[1, 0], [1, 1], [1, 1], [1, 0]])
    for rule in Rule:
        assert not keeps_rule(shown, np.array([0, 1, 1, 0]), 2, rule)
        assert keeps_rule(shown, np.array([0, 0, 1, 1]), 2, rule)


def test_divisions_of_patients_of_several_labels_are_the_same_again():
    random = np.random.default_rng(5)
    patients = np.repeat(np.arange(24), 3)
    labels = random.integers(0, 6, 72)
    one, again = (split_by_patient(labels, patients, 4, 2, seed=3) for _ in range(2))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(one, again, strict=True))


def test_inner_folds_keep_patients_of_several_labels_apart():
    patients, labels = np.repeat(np.arange(12), 3), np.tile([0, 1, 2], 12)
    for nested in plan_nested(split_by_patient(labels, patients, 3, 1), labels, patients, 3):
        for split in nested.inner:
            assert set(labels[split.train]) == {0, 1, 2}
            assert not set(patients[split.train]) & set(patients[split.test])
            assert not set(patients[nested.outer.test]) & set(patients[split.train])


def test_folds_are_stratified_by_class():
    labels = np.repeat([0, 1, 2], [16, 22, 15])
    for split in split_by_patient(labels, np.arange(53), folds=5, repeats=3):
        counts = np.bincount(labels[split.test], minlength=3)
        assert abs(counts - np.array([16, 22, 15]) / 5).max() < 1


def test_repeats_are_other_shuffles_and_a_seed_gives_them_again():
    labels = np.repeat([0, 1], 10)
    first, again = (split_by_patient(labels, np.arange(20), repeats=2, seed=4) for _ in range(2))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].test, first[5].test)


def test_fewer_folds_are_used_and_said_when_a_class_has_too_few_patients(caplog):
    labels = np.repeat([0, 1], [9, 3])
    with caplog.at_level(logging.WARNING):
        splits = split_by_patient(labels, np.arange(12), folds=5, repeats=1)
    assert len(splits) == 3
    assert "3 folds in place of 5" in caplog.text
    with pytest.raises(StudyError, match="1 are possible"):
        split_by_patient(labels, np.repeat([0, 1, 2], [5, 4, 3]), folds=5)


def test_predefined_folds_are_honoured_and_checked():
    labels, folds = np.array([0, 1, 0, 1]), np.array([3, 3, 7, 7])
    splits = split_by_patient(labels, np.arange(4), predefined=folds)
    assert [split.test.tolist() for split in splits] == [[0, 1], [2, 3]]
    with pytest.raises(LeakError):
        split_by_patient(labels, np.array(["a", "b", "a", "c"]), predefined=folds)


@pytest.mark.parametrize("folds", [[0, 0, 0, 1, 1, 1], [0] * 6], ids=["by class", "one"])
def test_predefined_folds_that_leave_a_class_unlearnt_are_refused(folds):
    labels = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(StudyError, match="holds all patients of a class"):
        split_by_patient(labels, np.arange(6), predefined=np.array(folds))


def test_leaving_one_patient_out_tests_each_patient_alone():
    labels, patients = np.array([0, 0, 0, 1, 1]), np.array(["a", "a", "b", "c", "d"])
    splits = leave_one_patient_out(labels, patients)
    assert [set(patients[split.test]) for split in splits] == [{"a"}, {"b"}, {"c"}, {"d"}]
    assert [split.fold for split in splits] == [0, 1, 2, 3]
    assert {split.repeat for split in splits} == {0}
    with pytest.raises(StudyError, match="one patient only"):
        leave_one_patient_out(labels, np.array(["a", "a", "b", "c", "c"]))


def test_a_planted_leak_is_refused():
    with pytest.raises(LeakError, match="both sides"):
        keep_patients_apart(np.array(["a", "b", "a"]), np.array([0, 1]), np.array([2]))


def test_seeds_share_no_repeat():
    labels, patients = np.arange(60) % 3, np.arange(60)
    divisions = [
        tuple(tuple(split.test.tolist()) for split in splits if split.repeat == repeat)
        for seed in (0, 1)
        for splits in [split_by_patient(labels, patients, repeats=5, seed=seed)]
        for repeat in range(5)
    ]
    assert len(set(divisions)) == 10


def test_parts_of_a_study_have_seeds_of_their_own():
    paths = [(seed, repeat, fold) for seed in (0, 1) for repeat in range(5) for fold in range(5)]
    assert len({derive_seed(*path) for path in paths}) == len(paths)


def test_scikit_learn_splits_by_patient_as_a_study_does():
    labels, patients = np.array([0, 1, 0, 1, 0, 1, 1, 0] * 3), np.arange(24) // 3
    splitter = RepeatedStratifiedPatientKFold(4, n_repeats=2, random_state=3)
    ours = split_by_patient(labels, patients, 4, 2, seed=3)
    for (train, test), split in zip(splitter.split(None, labels, patients), ours, strict=True):
        np.testing.assert_array_equal(train, split.train)
        np.testing.assert_array_equal(test, split.test)
    scores = cross_val_score(
        DummyClassifier(), np.zeros((24, 1)), labels, groups=patients, cv=splitter
    )
    assert len(scores) == splitter.get_n_splits(None, labels, patients) == ours.folds * ours.repeats


def test_a_splitter_without_patients_is_refused():
    with pytest.raises(StudyError, match="give the patient of each image"):
        next(RepeatedStratifiedPatientKFold(2).split(None, [0, 1, 0, 1]))
