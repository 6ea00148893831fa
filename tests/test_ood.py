"""OODScore: flags what is unlike the cohort, and says how often it does so in vain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from meninx.cohort import Cohort, as_head, fingerprint_of
from meninx.errors import CohortError, ImageError
from meninx.ood import OODDetector
from meninx.ood.detector import Ellipsoid, OODScore, choose_threshold, flag_held_out
from tests.conftest import SHARED_DATA, draw_disc


@pytest.fixture(scope="module")
def real_cohort(real_mri):
    return Cohort.open(real_mri)


@pytest.fixture(scope="module")
def real_detector(real_cohort):
    return OODDetector.fit(real_cohort.images, real_cohort.groups)


@pytest.fixture(scope="module")
def disc_detector():
    random = np.random.default_rng(0)
    discs = [draw_disc(random, number % 3) for number in range(24)]
    return OODDetector.fit(discs, np.arange(24) // 2)


def share_flagged(detector, images):
    return np.mean([ood.is_out_of_distribution for ood in detector.assess(images)])


def read_all(files):
    images = []
    for file in files:
        try:
            images.append(as_head(file))
        except ImageError:  # a test file of no image; reading has its own tests
            continue
    return images


def draw_noise():
    random = np.random.default_rng(1)
    white = [random.uniform(0, 1, (200, 160)).astype(np.float32) for _ in range(3)]
    blurred = [gaussian_filter(random.normal(size=(200, 200)), 8) for _ in range(3)]
    return white + [((x - x.min()) / np.ptp(x)).astype(np.float32) for x in blurred]


def draw_blanks():
    even = [np.full((128, 128), value, np.float32) for value in (0, 0.5, 1)]
    dotted = np.zeros((128, 128), np.float32)
    dotted[60, 60] = 1
    return [*even, dotted]


def test_noise_and_blank_frames_are_flagged(disc_detector):
    assert share_flagged(disc_detector, draw_noise()) == 1
    assert share_flagged(disc_detector, draw_blanks()) == 1


def test_new_images_of_the_same_kind_mostly_pass(disc_detector):
    random = np.random.default_rng(9)
    new = [draw_disc(random, number % 3) for number in range(40)]
    assert share_flagged(disc_detector, new) <= 0.2


def test_photographs_and_other_anatomy_are_flagged_beside_real_mri(real_detector):
    skimage = pytest.importorskip("skimage")
    pydicom = pytest.importorskip("pydicom")
    photos = read_all(sorted((SHARED_DATA / "photos").glob("*.jpg")))
    pictures = read_all((Path(skimage.__file__).parent / "data").iterdir())
    scans = read_all((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    assert min(len(photos), len(pictures)) >= 20 and len(scans) >= 40
    assert share_flagged(real_detector, photos) == 1
    assert share_flagged(real_detector, pictures) == 1
    assert share_flagged(real_detector, scans) == 1
    assert share_flagged(real_detector, [as_head(x) for x in draw_noise() + draw_blanks()]) == 1


def test_slices_of_other_patients_pass_about_as_often_as_stated(real_detector, real_cohort):
    learned_from = {sample.fingerprint for sample in real_cohort.samples}
    files = sorted((SHARED_DATA / "cemri").rglob("*.jpg"))[::25]
    others = [as_head(file) for file in files if fingerprint_of(file) not in learned_from]
    assert len(others) > 40
    assert share_flagged(real_detector, others) <= max(real_detector.false_alarm_rate.high, 0.12)


def test_the_false_alarm_rate_counts_held_out_images(real_detector):
    rate = real_detector.false_alarm_rate
    assert rate.value == real_detector.alarms / real_detector.images
    assert 0 <= rate.low <= rate.value <= rate.high <= 0.25 and rate.low < rate.high


def test_the_stated_level_is_not_exceeded_on_patients_held_out():
    """With few patients the rate is about half of the level, as the docstring says."""
    random = np.random.default_rng(2)
    rates = [
        flag_held_out(random.normal(size=(60, 8)), np.arange(60), level=0.1).mean()
        for _ in range(20)
    ]
    assert 0.02 <= np.mean(rates) <= 0.1


def test_held_out_images_are_judged_without_their_patient():
    """A patient far from all others is flagged in all images; learned from, it would pass."""
    random = np.random.default_rng(3)
    features = random.normal(size=(60, 5))
    features[:6] += 30
    patients = np.repeat(np.arange(10), 6)
    assert flag_held_out(features, patients, 0.05)[:6].all()
    leaking = Ellipsoid.fit(features)
    threshold = choose_threshold(leaking.measure(features), 0.05)
    assert not (leaking.measure(features)[:6] > threshold).all()


def test_labels_order_and_company_change_nothing(disc_detector):
    random = np.random.default_rng(4)
    images = [draw_disc(random, 0) for _ in range(3)]
    together = [ood.distance for ood in disc_detector.assess(images)]
    alone = [disc_detector.assess([image])[0].distance for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_what_was_written_down_judges_as_before(disc_detector):
    random = np.random.default_rng(5)
    images = [draw_disc(random, 1), *draw_blanks()]
    restored = OODDetector.from_tensors(disc_detector.as_dict(), disc_detector.as_tensors())
    assert restored.assess(images) == disc_detector.assess(images)
    assert restored.as_dict() == disc_detector.as_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"network": "resnet18"},
        {"cut": "stem"},
        {"threshold": None},
        {"threshold": float("nan")},
        {"false_alarm_rate": 3},
        {"level": "high"},
    ],
)
def test_facts_that_do_not_fit_are_refused(disc_detector, change):
    with pytest.raises(ValueError):
        OODDetector.from_tensors({**disc_detector.as_dict(), **change}, disc_detector.as_tensors())


@pytest.mark.parametrize("fault", ["lost", "shape", "nan"])
def test_numbers_that_do_not_fit_are_refused(disc_detector, fault):
    tensors = disc_detector.as_tensors()
    if fault == "lost":
        del tensors["centre"]
    elif fault == "shape":
        tensors["whitening"] = tensors["whitening"][:, :5]
    else:
        tensors["scale"] = tensors["scale"] * float("nan")
    with pytest.raises(ValueError):
        OODDetector.from_tensors(disc_detector.as_dict(), tensors)


def test_too_few_patients_are_refused():
    images = [draw_disc(np.random.default_rng(row), 0) for row in range(6)]
    with pytest.raises(CohortError, match="at least 4 patients, not 3"):
        OODDetector.fit(images, np.arange(6) // 2)


def test_no_distance_is_flagged_too():
    assert OODScore(float("nan"), 1.0).is_out_of_distribution
    assert not replace(OODScore(1.0, 1.0)).is_out_of_distribution


def test_a_channel_that_never_varied_does_not_decide():
    random = np.random.default_rng(6)
    features = random.normal(size=(40, 6))
    features[:, 2] = 1.0
    new = random.normal(size=(40, 6))
    new[:, 2] = 1.0 + 1e-6 * random.normal(size=40)
    distances = Ellipsoid.fit(features).measure(new)
    assert np.isfinite(distances).all() and distances.max() < 5


@settings(max_examples=60, deadline=None)
@given(
    distances=st.lists(st.floats(0, 100), min_size=2, max_size=200),
    level=st.floats(0.01, 0.5),
)
def test_at_most_the_level_lies_beyond_the_threshold(distances, level):
    threshold = choose_threshold(np.array(distances), level)
    assert np.mean(np.array(distances) > threshold) <= level
    assert threshold in distances
