"""Splits: a patient is on one side, whatever the way of dividing."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meninx.errors import LeakError, StudyError
from meninx.evaluate import keep_patients_apart, leave_one_patient_out, split_by_patient


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
