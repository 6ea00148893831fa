"""The matrix: distance from ImageNet, the quadrant and what follows from it."""

import numpy as np
import pytest

from meninx.backbones import Backbone
from meninx.cohort import read_image
from meninx.errors import CohortError
from meninx.matrix import SizeSimilarityMatrix
from meninx.matrix.advice import Quadrant, advise, find_quadrant
from meninx.matrix.matrix import SIMILARITY_BORDER
from meninx.matrix.similarity import LayerMoments, measure_similarity, observe
from meninx.matrix.transferability import measure_logme, measure_probe
from tests.conftest import SHARED_DATA

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def ruler():
    return Backbone.load(LITE0)


def measure(ruler, images):
    moments = observe(ruler, images).moments
    return measure_similarity(moments, np.arange(len(images)).astype(str))


def make_noise(count, seed=0):
    random = np.random.default_rng(seed)
    return [random.random((96, 96)).astype(np.float32) for _ in range(count)]


def test_images_with_the_running_statistics_themselves_are_at_distance_zero():
    random = np.random.default_rng(0)
    mean, variance = random.normal(size=50), random.uniform(0.5, 2, 50)
    images = 40
    scatter = random.normal(0, 0.01, (images, 50))
    exact = LayerMoments("bn", "stem", mean + scatter, mean**2 + variance + scatter, mean, variance)
    similarity = measure_similarity([exact], np.arange(images).astype(str))
    assert similarity.kl == pytest.approx(0, abs=1e-3)


def test_the_divergence_is_that_of_two_normal_distributions():
    # KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2
    layer = LayerMoments(
        "bn", "stem", np.ones((3, 5)), np.full((3, 5), 5.0), np.zeros(5), np.ones(5)
    )
    similarity = measure_similarity([layer], np.array(["a", "b", "c"]))
    assert similarity.kl == pytest.approx((4 - np.log(4)) / 2)


def test_dead_channels_do_not_count():
    variance = np.array([1.0, 1, 1, 1, 1e-9, 1e-9])
    squares = np.tile(np.array([1.0, 1, 1, 1, 1, 1]), (3, 1))
    layer = LayerMoments("bn", "stem", np.zeros((3, 6)), squares, np.zeros(6), variance)
    assert measure_similarity([layer], np.array(["a", "b", "c"])).kl == pytest.approx(0)


def test_noise_is_far_from_imagenet(ruler):
    assert measure(ruler, make_noise(6)).kl > 0.4


def test_photographs_are_nearer_than_mri_and_mri_is_nearer_than_noise(ruler, real_mri):
    photos = [read_image(path) for path in sorted((SHARED_DATA / "photos").glob("*.jpg"))[:12]]
    scans = [read_image(path) for path in sorted(real_mri.glob("*/*.jpg"))[::4]]
    near, middle, far = (measure(ruler, images).kl for images in (photos, scans, make_noise(6)))
    assert near < SIMILARITY_BORDER < middle < far


def test_few_images_of_a_source_agree_with_many(ruler, real_mri):
    scans = [read_image(path) for path in sorted(real_mri.glob("*/*.jpg"))]
    few, many = measure(ruler, scans[::6]), measure(ruler, scans[:40])
    assert few.low <= many.kl <= few.high or many.low <= few.kl <= many.high


def test_the_interval_holds_the_value_and_is_the_same_again(ruler):
    similarity = measure(ruler, make_noise(6))
    assert similarity.low <= similarity.kl <= similarity.high
    assert similarity == measure(ruler, make_noise(6))


@pytest.mark.parametrize(
    ("is_large", "is_similar", "quadrant", "strategy"),
    [
        (True, False, "Q1", "full"),
        (True, True, "Q2", "partial"),
        (False, False, "Q3", "partial"),
        (False, True, "Q4", "frozen"),
    ],
)
def test_each_quadrant_has_its_strategy(is_large, is_similar, quadrant, strategy):
    by_stage = {"stem": 0.4, **{f"stage{i}": 0.05 * i for i in range(1, 8)}}
    found = find_quadrant(is_large, is_similar)
    advice = advise(found, by_stage)
    assert (found, advice.strategy) == (Quadrant(quadrant), strategy)
    assert (advice.cut is not None) == (strategy == "partial")
    assert advice.reasons and all(reason.endswith(".") for reason in advice.reasons)


def test_logme_is_higher_for_features_that_tell_the_classes_apart():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noise = random.normal(size=(60, 40))
    telling = noise + 3 * np.eye(3)[labels] @ random.normal(size=(3, 40))
    assert measure_logme(telling, labels) > measure_logme(noise, labels) + 0.2


def test_the_probe_leaves_patients_out():
    """Features that name the patient, not the class, are worthless on another patient."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 3)
    labels = np.repeat(np.arange(20) % 2, 3)
    features = np.repeat(random.normal(size=(20, 50)), 3, axis=0)
    assert measure_probe(features, labels, patients) < 0.75
    assert measure_probe(features, labels, np.arange(60)) > 0.95


def test_the_matrix_of_a_small_cohort_keeps_its_contract(disc_cohort):
    measured = SizeSimilarityMatrix.measure(disc_cohort, [LITE0]).as_dict()
    assert measured["images"] == measured["patients"] == 18
    assert measured["classes"] == {"dotted": 6, "plain": 6, "striped": 6}
    assert {"kl", "low", "high", "layers"} <= measured["similarity"].keys()
    assert {"name", "kl"} <= measured["similarity"]["layers"][0].keys()
    assert measured["size"] == {"per_class": 6, "border": 1000}
    assert measured["quadrant"] in {"Q1", "Q2", "Q3", "Q4"}
    assert {"strategy", "cut", "reasons"} == measured["advice"].keys()
    (fit,) = measured["backbones"]
    assert fit.keys() == {"name", "logme", "probe", "milliseconds"}


def test_features_that_are_not_numbers_are_named(disc_cohort, monkeypatch):
    from meninx.matrix import matrix

    def observe_badly(backbone, images):
        seen = observe(backbone, images)
        seen.features[3] = np.nan
        return seen

    monkeypatch.setattr(matrix, "observe", observe_badly)
    with pytest.raises(CohortError, match=disc_cohort.sample_names[3]):
        SizeSimilarityMatrix.measure(disc_cohort, [LITE0])
