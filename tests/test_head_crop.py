"""Framing: the head alone, whatever is drawn around it."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from meninx.cohort import (
    Cohort,
    Sample,
    SampleRule,
    as_array,
    as_head,
    audit,
    fingerprint_of,
)
from meninx.imaging import crop_to_head, head_crop, read_head
from meninx.imaging.head_crop import find_head, resize

from .conftest import SHARED_DATA


def draw_head(seed=0, height=160, width=144, skull=0.9, brain=0.45, noise=0.01):
    """Draw a head: a bright skull around a darker, textured brain, on a noisy dark ground."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    centre = (height / 2 + random.uniform(-8, 8), width / 2 + random.uniform(-8, 8))
    radii = (height * random.uniform(0.3, 0.36), width * random.uniform(0.3, 0.36))
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    coarse = random.uniform(0.6, 1.4, (9, 8)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    head = np.where(distance < 0.85, brain * texture, 0)
    head = np.where((distance >= 0.9) & (distance < 1), skull, head)
    noisy = head + np.abs(random.normal(0, noise, head.shape))
    return np.clip(noisy, 0, 1).astype(np.float32), distance < 1


def white_text(pixels):
    """Burn letters into two corners."""
    marked = pixels.copy()
    for row in range(4, 16, 4):
        marked[row : row + 2, 4:26:3] = 1
        marked[-row - 2 : -row, -24:-4:2] = 1
    return marked


def white_frame(pixels):
    marked = pixels.copy()
    marked[:5] = marked[-5:] = 1
    marked[:, :5] = marked[:, -5:] = 1
    return marked


MARKERS = {
    "text": white_text,
    "frame": white_frame,
    "black padding": lambda pixels: np.pad(pixels, ((40, 10), (0, 70))),
    "white padding": lambda pixels: np.pad(pixels, 20, constant_values=1.0),
    "inset frame": lambda pixels: np.pad(white_frame(pixels), 15),
    "corner patch": lambda pixels: np.where(
        np.add.outer(np.arange(pixels.shape[0]), np.arange(pixels.shape[1])) < 30, 1, pixels
    ).astype(np.float32),
}


@pytest.mark.parametrize("skull", [0.9, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_the_head_is_found_whether_skull_or_brain_is_brighter(seed, skull):
    pixels, truth = draw_head(seed, skull=skull)
    head = find_head(pixels)
    assert head.region[truth].mean() > 0.99
    assert (head.region & ~truth).sum() < 0.25 * truth.sum()  # the margin
    framed = crop_to_head(pixels)
    assert framed.dtype == np.float32 and framed.min() == 0 and framed.max() == 1
    assert framed.shape == pixels[head.box].shape


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_drawn_around_the_head_leaves_no_trace(marker, seed):
    pixels, _ = draw_head(seed)
    plain, marked = crop_to_head(pixels), crop_to_head(MARKERS[marker](pixels))
    assert np.abs(np.subtract(marked.shape, plain.shape)).max() <= 4
    # Pixel for pixel but for where the small image that is searched happened to have its pixels.
    histograms = [
        np.histogram(image, bins=16, range=(0, 1))[0] / image.size for image in (plain, marked)
    ]
    assert np.abs(histograms[0] - histograms[1]).max() < 0.03
    if marked.shape == plain.shape:
        assert np.abs(plain - marked).mean() < 0.02


def test_intensities_depend_on_the_head_alone():
    pixels, truth = draw_head()
    stored = 1000 * pixels + 50
    np.testing.assert_allclose(crop_to_head(stored), crop_to_head(pixels), atol=1e-5)
    whiter = np.where(truth, pixels, pixels + 0.02).astype(np.float32)
    inside = truth[find_head(pixels).box]
    if crop_to_head(whiter).shape == inside.shape:
        assert np.abs(crop_to_head(whiter) - crop_to_head(pixels))[inside].max() < 0.03


def test_colour_is_framed_too():
    pixels, _ = draw_head()
    colour = np.stack([pixels, 0.5 * pixels, 0.2 * pixels], axis=2)
    framed = crop_to_head(white_text(colour))
    assert framed.ndim == 3 and framed.shape[2] == 3 and framed.shape[:2] != colour.shape[:2]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 50)),
        np.full((40, 50), 0.7),
        np.eye(3),
        np.random.default_rng(0).uniform(0, 1, (90, 120)),
        np.ones((1, 1)),
    ],
    ids=["black", "grey", "tiny", "noise", "one pixel"],
)
def test_where_no_head_stands_out_the_image_stays_whole(pixels):
    assert find_head(pixels) is None
    assert crop_to_head(pixels).shape == pixels.shape
    assert np.isfinite(crop_to_head(pixels)).all()


def test_photographs_stay_whole():
    skimage_data = pytest.importorskip("skimage.data")
    for name in ("chelsea", "coffee", "camera"):
        pixels = getattr(skimage_data, name)() / 255
        assert crop_to_head(pixels).shape == pixels.shape
    if (SHARED_DATA / "photos").is_dir():
        photos = sorted((SHARED_DATA / "photos").glob("*.*"))
        framed = [find_head(np.asarray(Image.open(photo)) / 255) is not None for photo in photos]
        assert sum(framed) <= 1  # a parrot before a dark wood


def test_every_real_head_is_found(real_mri):
    for path in sorted(real_mri.rglob("*.jpg"))[::4]:
        head = find_head(np.asarray(Image.open(path), dtype=np.float32))
        assert 0.2 < head.region.mean() < 0.95


# --- in a cohort ------------------------------------------------------------------------------


def write_marked_cohort(folder, mark, patients=24):
    """Write two classes of the same kind of head; only the second has the mark."""
    for label in ("plain", "marked"):
        (folder / label).mkdir(parents=True)
        for number in range(patients):
            pixels, _ = draw_head(seed=2 * number + (label == "marked"))
            pixels = mark(pixels) if label == "marked" else pixels
            saved = Image.fromarray((255 * pixels).astype(np.uint8))
            saved.save(folder / label / f"{number:02d}.png")
    return folder


def score(cohort):
    """Cross-validate a quick classifier of small pictures."""
    squares = [
        np.asarray(Image.fromarray(as_array(image)).resize((24, 24), Image.Resampling.BOX)).ravel()
        for image in cohort.images
    ]
    model = LogisticRegression(C=100.0, max_iter=2000)
    return cross_val_score(model, np.array(squares), cohort.labels, cv=6).mean()


@pytest.mark.parametrize("mark", [white_text, white_frame], ids=["text", "frame"])
def test_a_marker_steers_no_model_with_framing_on_and_the_audit_names_it_either_way(tmp_path, mark):
    folder = write_marked_cohort(tmp_path, mark)
    whole, framed = Cohort.open(folder, rule=SampleRule(whole_image=True)), Cohort.open(folder)
    assert score(whole) > 0.85
    assert 0.25 < score(framed) < 0.75  # of 48: chance with its spread
    named = "text in the corners" if mark is white_text else "border"
    for cohort in (whole, framed):
        advice = " ".join(found.advice for found in audit(cohort) if found.kind == "shortcut")
        assert f"the {named} of an image" in advice


def test_framed_and_whole_samples_have_other_fingerprints_and_the_same_names(tmp_path):
    folder = write_marked_cohort(tmp_path, white_text, patients=3)
    whole, framed = Cohort.open(folder, rule=SampleRule(whole_image=True)), Cohort.open(folder)
    assert framed.is_cropped and not whole.is_cropped
    assert fingerprint_of(whole.samples[0]) != fingerprint_of(framed.samples[0])
    assert (whole.sample_names == framed.sample_names).all()
    assert (whole.groups == framed.groups).all()


def test_a_new_file_is_framed_as_a_sample_of_a_cohort_is(tmp_path):
    folder = write_marked_cohort(tmp_path, white_frame, patients=3)
    sample = Cohort.open(folder).samples[0]
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(as_head(sample.path), as_array(sample))
    assert as_array(sample).shape != as_array(sample.path).shape


def test_the_head_is_looked_for_once_however_often_a_sample_is_read(tmp_path, monkeypatch):
    sample = Cohort.open(write_marked_cohort(tmp_path, white_frame, patients=3)).samples[0]
    looked_for = as_head(sample.path)
    arrived = pickle.loads(pickle.dumps(sample))  # as a worker gets it
    monkeypatch.setattr(head_crop, "find_head", lambda pixels: pytest.fail("looked for again"))
    for one in (sample, arrived):
        np.testing.assert_array_equal(as_array(one), looked_for)
        np.testing.assert_array_equal(as_head(one), looked_for)


def test_a_head_is_not_laid_over_another_slice_or_another_file(tmp_path):
    folder = tmp_path / "volumes"
    for label, seeds in (("a", (1, 2)), ("b", (3, 4))):
        (folder / label).mkdir(parents=True)
        for seed in seeds:
            slices = [draw_head(seed + 10 * index)[0] for index in range(5)]
            np.save(folder / label / f"p{seed}.npy", np.stack(slices))
    sample = Cohort.open(folder).samples[0]
    slices = np.load(sample.path)
    for frame, pixels in enumerate(slices):
        np.testing.assert_array_equal(read_head(sample.path, frame), crop_to_head(pixels))
    np.save(sample.path, slices[:, :120, 20:])
    again = read_head(sample.path, sample.frame, known=sample.appearance.head)
    np.testing.assert_array_equal(again, crop_to_head(slices[sample.frame, :120, 20:]))


@given(seed=st.integers(0, 99), side=st.integers(40, 400))
@settings(max_examples=20, deadline=None)
def test_a_head_goes_along_when_its_image_is_made_larger_or_smaller(seed, side):
    pixels, truth = draw_head(seed)
    shape = (side, round(side * truth.shape[1] / truth.shape[0]))
    region = find_head(pixels).scaled_to(shape).region
    expected = resize(truth.astype(np.float32), shape) > 0.5
    assert region.shape == shape
    assert region[expected].mean() > 0.98
    assert (region & ~expected).sum() < 0.3 * expected.sum()  # the margin
