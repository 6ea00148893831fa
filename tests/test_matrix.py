"""The matrix: distance from ImageNet, the quadrant and what follows from it."""

import numpy as np
import pytest

from meninx.backbones import Backbone
from meninx.errors import CohortError
from meninx.imaging import read_image
from meninx.matrix import SizeSimilarityMatrix
from meninx.matrix.advice import (
    Quadrant,
    Thresholds,
    advise,
    count_stages_to_train,
    find_quadrant,
)
from meninx.matrix.references import load_references
from meninx.matrix.similarity import LayerMoments, measure_similarity, observe
from meninx.matrix.transferability import (
    measure_h_score,
    measure_logme,
    measure_nearest_neighbours,
    measure_probe,
)
from tests.conftest import SHARED_DATA

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def reference_backbone():
    return Backbone.load(LITE0)


def measure(reference_backbone, images):
    moments = observe([reference_backbone], images)[0].moments
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


def test_noise_is_far_from_imagenet(reference_backbone):
    assert measure(reference_backbone, make_noise(6)).kl > 0.4


def test_photographs_are_nearer_than_mri_and_mri_is_nearer_than_noise(reference_backbone, real_mri):
    photos = [read_image(path) for path in sorted((SHARED_DATA / "photos").glob("*.jpg"))[:12]]
    scans = [read_image(path) for path in sorted(real_mri.glob("*/*.jpg"))[::4]]
    near, middle, far = (
        measure(reference_backbone, images).kl for images in (photos, scans, make_noise(6))
    )
    assert near < Thresholds().similarity < middle < far


def test_few_images_of_a_source_agree_with_many(reference_backbone, real_mri):
    scans = [read_image(path) for path in sorted(real_mri.glob("*/*.jpg"))]
    few, many = measure(reference_backbone, scans[::6]), measure(reference_backbone, scans[:40])
    assert few.low <= many.kl <= few.high or many.low <= few.kl <= many.high


def test_the_interval_holds_the_value_and_is_the_same_again(reference_backbone):
    similarity = measure(reference_backbone, make_noise(6))
    assert similarity.low <= similarity.kl <= similarity.high
    assert similarity == measure(reference_backbone, make_noise(6))


BY_STAGE = {
    "stem": 0.4,
    "stage1": 0.2,
    "stage2": 0.05,
    "stage3": 0.03,
    "stage4": 0.2,
    "stage5": 0.3,
}
PARAMETERS = {name: 1_000_000 for name in BY_STAGE}


def give_advice(images_per_class, kl, by_stage=BY_STAGE):
    return advise(images_per_class, kl, by_stage, PARAMETERS, Thresholds())


@pytest.mark.parametrize(
    ("images_per_class", "kl", "quadrant", "strategy"),
    [
        (5000, 0.2, "Q1", "full"),
        (5000, 0.02, "Q2", "partial"),
        (20, 0.2, "Q3", "partial"),
        (20, 0.02, "Q4", "frozen"),
    ],
)
def test_each_quadrant_has_its_strategy(images_per_class, kl, quadrant, strategy):
    advice = give_advice(images_per_class, kl)
    assert find_quadrant(images_per_class, kl, Thresholds()) == Quadrant(quadrant)
    assert advice.strategy == strategy
    assert (advice.cut is not None) == (advice.trained_stages > 0) == (strategy == "partial")
    assert (advice.learning_rate is None) == (strategy == "frozen")


def test_the_thresholds_can_be_moved():
    assert find_quadrant(20, 0.2, Thresholds(size=10, similarity=0.5)) == Quadrant.Q2
    assert find_quadrant(20, 0.02, Thresholds(similarity=0.01)) == Quadrant.Q3


def test_training_starts_behind_the_stage_that_agrees_best_with_imagenet():
    assert give_advice(20, 0.2).cut == "stage4"
    assert give_advice(20, 0.2, {**BY_STAGE, "stage4": 0.01}).cut == "stage5"


def test_the_last_stage_is_trained_even_where_it_agrees_best():
    assert give_advice(20, 0.2, {**BY_STAGE, "stage5": 0.001}).cut == "stage5"


def test_never_more_stages_are_trained_than_the_size_allows():
    early = {**BY_STAGE, "stem": 0.001}
    assert count_stages_to_train(early, most=2) == 2
    assert give_advice(20, 0.2, early).trained_stages == 4


def test_every_part_of_the_advice_has_its_reason_in_one_sentence():
    reasons = [reason.text for reason in give_advice(20, 0.2).reasons]
    for part in (
        "images per class",
        "nats from ImageNet",
        "stage4",
        "layers",
        "Augmentation",
        "rate",
    ):
        assert part in " ".join(reasons)
    assert all(reason[0].isupper() or reason[0].isdigit() for reason in reasons)
    assert all(reason.endswith(".") for reason in reasons)


def test_near_the_threshold_the_advice_is_softer():
    for images, code in ((20, "size_few"), (700, "size_few_near"), (1500, "size_many_near")):
        assert give_advice(images, 0.2).reasons[0].code == code


def test_references_span_the_axis_in_order():
    kl = {reference.name: reference.kl for reference in load_references()}
    assert (
        kl["photographs"] < Thresholds().similarity < kl["brain MRI, contrast"] < kl["white noise"]
    )
    assert all(reference.images > 0 and reference.source for reference in load_references())


def test_size_and_colour_of_the_same_image_hardly_matter(reference_backbone, real_mri):
    scans = [read_image(path) for path in sorted(real_mri.glob("*/*.jpg"))[::5]]
    halved = [scan[::2, ::2] for scan in scans]
    coloured = [np.repeat(scan[:, :, None], 3, axis=2) for scan in scans]
    same = measure(reference_backbone, scans)
    assert measure(reference_backbone, coloured).kl == pytest.approx(same.kl, abs=1e-4)
    assert same.low <= measure(reference_backbone, halved).kl <= same.high


def test_five_images_of_a_source_agree_with_a_hundred(reference_backbone):
    if not (SHARED_DATA / "cemri").is_dir():
        pytest.skip(f"no real images at {SHARED_DATA}")
    files = sorted((SHARED_DATA / "cemri" / "images").glob("*.jpg"))
    few = measure(reference_backbone, files[:: len(files) // 5][:5])
    many = measure(reference_backbone, files[::12])
    assert few.low <= many.kl <= few.high


def test_logme_is_higher_for_features_that_tell_the_classes_apart():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noise = random.normal(size=(60, 40))
    telling = noise + 3 * np.eye(3)[labels] @ random.normal(size=(3, 40))
    assert measure_logme(telling, labels) > measure_logme(noise, labels) + 0.2


def test_the_h_score_is_higher_for_features_that_tell_the_classes_apart():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noise = random.normal(size=(60, 400))
    telling = noise + 3 * np.eye(3)[labels] @ random.normal(size=(3, 400))
    assert 0 <= measure_h_score(noise, labels) < measure_h_score(telling, labels) <= 2


def test_neighbours_of_the_same_patient_do_not_vote():
    random = np.random.default_rng(0)
    patients, labels = np.repeat(np.arange(20), 6), np.repeat(np.arange(20) % 2, 6)
    features = np.repeat(random.normal(size=(20, 50)), 6, axis=0)
    assert measure_nearest_neighbours(features, labels, patients) < 0.75
    assert measure_nearest_neighbours(features, labels, np.arange(120)) > 0.9


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
    assert measured["size"]["per_class"] == 6 and measured["size"]["threshold"] == 1000
    assert measured["size"]["trained_parameters"]["head"] == 0
    assert measured["size"]["patients"] == {"dotted": 6, "plain": 6, "striped": 6}
    assert measured["quadrant"] in {"Q1", "Q2", "Q3", "Q4"}
    assert {"strategy", "cut", "reasons"} <= measured["advice"].keys()
    (fit,) = measured["backbones"]
    assert {"name", "logme", "probe", "milliseconds"} <= fit.keys()
    assert fit["kl"] == pytest.approx(measured["similarity"]["kl"])


def test_features_that_are_not_numbers_are_named(disc_cohort, monkeypatch):
    from meninx.matrix import matrix

    def observe_badly(backbones, images):
        seen = observe(backbones, images)
        seen[0].features[3] = np.nan
        return seen

    monkeypatch.setattr(matrix, "observe", observe_badly)
    with pytest.raises(CohortError, match=disc_cohort.sample_names[3]):
        SizeSimilarityMatrix.measure(disc_cohort, [LITE0])


def test_a_backbone_without_batch_statistics_gets_advice_too(disc_cohort, monkeypatch):
    """Similarity is the reference backbone's; such a backbone only has none of its own."""
    untrained = {
        LITE0: Backbone.load(LITE0),
        "convnext_atto": Backbone.untrained("convnext_atto").resized(64),
    }
    monkeypatch.setattr(Backbone, "load", lambda name: untrained[name])
    matrix = SizeSimilarityMatrix.measure(disc_cohort, ["convnext_atto"])
    (fit,) = matrix.backbones
    assert fit.kl is None and np.isfinite(fit.logme)
    assert matrix.similarity.kl > 0 and matrix.advice.reasons
