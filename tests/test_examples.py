"""Examples: shown and tested with few models, each of which had not seen the patient."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from meninx.cohort import Cohort, as_array
from meninx.evaluate import Predictions
from meninx.explain.lesions import find_lesion
from meninx.phantom import phantom
from meninx.study.examples import MOST_FOLDS, MOST_WRONG, choose_examples, choose_folds


@pytest.fixture
def predictions():
    """Thirty images of three classes, in five folds of six; all of folds 1 and 3 are wrong."""
    labels = np.arange(30) % 3
    random = np.random.default_rng(0)
    probabilities = random.uniform(0, 0.1, (1, 30, 3))
    given = labels.copy()
    given[6:12] += 1
    given[18:24] += 1
    given[4] += 1
    probabilities[0, np.arange(30), given % 3] += random.uniform(0.5, 0.7, 30)
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return Predictions(("a", "b", "c"), labels, np.arange(30).astype(str), probabilities)


FOLDS = np.arange(30).reshape(5, 6)


def test_the_folds_with_the_most_wrong_answers_are_looked_at(predictions):
    assert choose_folds(predictions, list(FOLDS)) == [1, 3]
    assert choose_folds(predictions, list(FOLDS[:1])) == [0]
    assert len(choose_folds(predictions, [np.array([row]) for row in range(30)])) == MOST_FOLDS


def test_examples_come_from_the_folds_that_are_looked_at(predictions):
    rows = FOLDS[[0, 1]].ravel()
    examples = choose_examples(predictions, rows)
    assert {example.row for example in examples} <= set(rows.tolist())
    surety = predictions.probabilities[0].max(axis=1)
    is_right = [example.predicted == predictions.labels[example.row] for example in examples]
    assert is_right == [True] * 3 + [False] * MOST_WRONG
    wrong = [surety[example.row] for example in examples if not is_right[examples.index(example)]]
    assert wrong == sorted(wrong, reverse=True)


@pytest.fixture(scope="module")
def phantom_cohort(tmp_path_factory):
    manifest = phantom(tmp_path_factory.mktemp("phantom"), counts={"lm": 3, "normal": 2})
    return Cohort.open(manifest)


def test_a_lesion_lies_in_the_image_that_the_classifier_is_given(phantom_cohort):
    for sample in phantom_cohort.samples:
        lesion = find_lesion(sample)
        assert (lesion is not None) == (sample.label == "lm")
        if lesion is not None:
            assert lesion.region.shape == lesion.head.shape == as_array(sample).shape
            with Image.open(sample.mask) as mask:
                assert lesion.region.shape != mask.size[::-1]  # cropped, as the image is
                assert lesion.region.sum() == (np.asarray(mask) > 0).sum()
            assert (lesion.region & lesion.head).sum() > 0.95 * lesion.region.sum()


@pytest.mark.parametrize("fault", ["none", "other size", "empty", "unreadable"])
def test_a_mask_that_marks_nothing_is_left_out(phantom_cohort, fault, tmp_path):
    sample = next(sample for sample in phantom_cohort.samples if sample.mask)
    mask = tmp_path / "mask.png"
    with Image.open(sample.mask) as picture:
        size = (10, 10) if fault == "other size" else picture.size
    Image.new("L", size, 255 if fault == "other size" else 0).save(mask)
    if fault == "unreadable":
        mask.write_bytes(b"no picture")
    assert find_lesion(replace(sample, mask=None if fault == "none" else mask)) is None
