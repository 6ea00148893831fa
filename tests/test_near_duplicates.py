"""Near-duplicates: copies are found, alike organs are not copies, and a wrong finding can go."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meninx.cohort import Cohort, Severity, audit
from meninx.cohort.file_index import list_manifest
from meninx.cohort.near_duplicates.confirm import FEW_PAIRS, FULL, find_copies
from meninx.cohort.sampling import USUAL_RULE, read_samples
from meninx.errors import CohortError, StudyError
from meninx.study import Study

from . import test_cli
from .conftest import SHARED_DATA
from .test_audit import found, recompress, rescale, save, write_heads
from .test_head_crop import draw_head

call = test_cli.call


def open_set(name):
    folder = SHARED_DATA / "suite" / name
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}")
    return read_samples(list_manifest(folder / "manifest.csv", None, False)[0], USUAL_RULE)[0]


def name_pairs(samples, pairs):
    return {tuple(sorted((samples[one].path.stem, samples[two].path.stem))) for one, two in pairs}


def between_patients(samples, pairs):
    return [(one, two) for one, two in pairs if samples[one].patient != samples[two].patient]


def across_classes(samples, pairs):
    return [(one, two) for one, two in pairs if samples[one].label != samples[two].label]


def draw_small(seed, kind, size=28):
    """Draw a rim around soft texture, so small that the rim is most of it."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radii = size / 2 + random.normal(0, 0.7, 2), size * random.uniform(0.34, 0.4, 2)
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    coarse = Image.fromarray(random.normal(0, 1, (5, 5)).astype(np.float32))
    texture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    head = np.where(distance < 1, 0.42 + 0.1 * texture, 0.01)
    head = np.where((distance < 1) & (distance > 0.85), 0.75, head)
    angle = np.pi * kind + random.normal(0, 0.15)
    spot = np.hypot(rows - centre[0] - 5 * np.sin(angle), columns - centre[1] - 5 * np.cos(angle))
    return head + 0.35 * np.exp(-((spot / 2) ** 2)) + random.normal(0, 0.008, head.shape)


def test_small_pictures_of_different_patients_are_not_copies(tmp_path):
    for number in range(24):
        kind = number % 2
        save(draw_small(number, kind), tmp_path / f"c{kind}" / f"{number}.png")
    assert len(Cohort.open(tmp_path).copies) == 0


def draw_alike(seed, size=144):
    """Draw an organ framed alike: one skull and one pattern for all, finer texture of its own."""
    shared, _ = draw_head(0, size, size)
    fine = np.random.default_rng(seed).uniform(0.8, 1.2, (24, 24)).astype(np.float32)
    own = Image.fromarray(fine).resize((size, size), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed + 1000).normal(0, 0.01, shared.shape)
    return np.clip(shared * np.asarray(own) + noise, 0, 1)


def test_organs_that_are_framed_alike_are_not_copies_and_their_copies_are(tmp_path):
    for number in range(16):
        save(draw_alike(number), tmp_path / "ab"[number % 2] / f"{number:02d}.png")
    assert len(Cohort.open(tmp_path).copies) == 0
    save(recompress(rescale(draw_alike(3)[:, ::-1], 0.7), 60), tmp_path / "b" / "copy.png")
    cohort = Cohort.open(tmp_path)
    assert name_pairs(cohort.samples, cohort.copies) == {("03", "copy")}


@pytest.mark.parametrize("patients", [2, 5])
def test_a_copy_is_found_among_few_images(tmp_path, patients):
    folder = write_heads(tmp_path, patients=patients)
    save(recompress(draw_head(2)[0][::-1], 60), folder / "a" / "copy.png")
    cohort = Cohort.open(folder)
    assert name_pairs(cohort.samples, cohort.copies) == {("a01", "copy")}


def test_copies_of_a_copy_are_one_picture(tmp_path):
    folder = write_heads(tmp_path, patients=4)
    head = draw_head(2)[0]
    changed = (head[:, ::-1], rescale(head, 0.6), recompress(head, 50), head[::-1] ** 0.8)
    for number, copy in enumerate(changed):
        save(copy, folder / "a" / f"copy{number}.png")
    cohort = Cohort.open(folder)
    same = ["a01", *(f"copy{number}" for number in range(4))]
    assert name_pairs(cohort.samples, cohort.copies) == set(combinations(same, 2))
    (finding,) = found(cohort, "near-duplicates")
    assert len(finding.files) == 5


def test_a_chain_is_not_one_picture_unless_its_ends_are_alike_too(tmp_path):
    """Left half of one head with right half of another: like both, which are not alike."""
    from meninx.cohort.near_duplicates.confirm import join_completely
    from meninx.cohort.near_duplicates.search import align_candidates

    folder = write_heads(tmp_path, patients=3)
    samples = Cohort.open(folder).samples
    seen = [sample.appearance.thumbnail for sample in samples[:3]]
    thumbnails = np.stack([np.frombuffer(one, np.uint8).reshape(64, 64) for one in seen])
    pairs = align_candidates(thumbnails)
    chain = pairs.take(np.zeros(2, int))
    chain.whole[:], chain.part[:] = (0, 1), (1, 2)
    assert join_completely(thumbnails, chain, np.array([0.9, 0.95])) == [[1, 2]]


def test_the_bar_rises_with_how_alike_the_pairs_of_a_cohort_are():
    random = np.random.default_rng(0)
    bars = [FULL.over(np.tanh(random.normal(z, 0.1, 60))) for z in (0.0, 0.5, 0.8, 1.4)]
    assert bars == sorted(bars) and bars[0] == FULL.lowest and bars[-1] == FULL.highest
    assert FULL.over(np.full(FEW_PAIRS - 1, 0.1)) == FULL.usual


# --- waved through by name --------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path):
    """Give a folder in which a01 of class a has a copy in class b."""
    folder = write_heads(tmp_path / "data", patients=4)
    save(draw_head(2)[0][:, ::-1], folder / "b" / "copy.png")
    return folder


def test_an_error_names_the_pair_and_how_to_wave_it_through(twins, call):
    code, _, error = call("study", twins, "-o", twins.parent / "run")
    assert code == 2 and "--allow-copies" in error
    assert str(twins / "a" / "a01.png") in error and str(twins / "b" / "copy.png") in error


def test_pairs_that_are_allowed_are_no_findings_and_join_nobody(twins, tmp_path):
    allowed = tmp_path / "allowed.csv"
    allowed.write_text("# looked at by eye\n\na/a01.png, b/copy.png\n")
    cohort = Cohort.open(twins, allow_copies=allowed)
    assert len(cohort.copies) == 0 and len(set(cohort.groups)) == 9
    assert not found(cohort, "near-duplicates")
    (finding,) = found(cohort, "copies-allowed")
    assert finding.severity is Severity.INFO and "(--allow-copies): 1;" in finding.advice
    assert [Path(file).name for file in finding.files] == ["a01.png", "copy.png"]
    assert not any(name in finding.advice for name in ("a01", "copy.png"))
    assert len(finding.samples) == 2


def test_what_the_audit_prints_can_be_used_to_allow(twins, tmp_path, call):
    _, output, _ = call("audit", twins, "--json")
    (files,) = [f["files"] for f in json.loads(output)["findings"] if "near" in f["kind"]]
    allowed = tmp_path / "allowed.csv"
    allowed.write_text(",".join(files))
    _, output, _ = call("audit", twins, "--json", "--allow-copies", allowed)
    kinds = [finding["kind"] for finding in json.loads(output)["findings"]]
    assert "copies-allowed" in kinds and "near-duplicates" not in kinds


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a/a01.png,b/nobody.png", "not in the cohort: b/nobody.png"),
        ("a/a01.png", "line 1 must name two images"),
        ("a/a01.png,a/a01.png", "line 1 must name two images"),
        (b"\xff\xfe\x00", "no text of pairs"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_names_no_pairs_is_refused(twins, tmp_path, content, reason):
    allowed = tmp_path / "allowed.csv"
    if content is not None:
        allowed.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CohortError, match=reason):
        Cohort.open(twins, allow_copies=allowed)


def test_a_study_with_other_allowed_pairs_is_another_study(twins, tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a/a01.png,b/copy.png\n")
    other.write_text("a/a01.png,b/copy.png\na/a00.png,a/a02.png\n")
    from meninx.results import RunFolder

    described = [Study(Cohort.open(twins, allow_copies=it))._describe() for it in (one, other)]
    assert described[0]["allowed_copies"]["pairs"] == 1
    assert not any(name in str(described) for name in ("a01", "copy.png"))
    RunFolder(tmp_path / "run").begin(described[0], False)
    with pytest.raises(StudyError, match="its allowed_copies differ"):
        RunFolder(tmp_path / "run").begin(described[1], False)


def test_without_allowed_pairs_nothing_is_recorded_of_them(tmp_path):
    cohort = Cohort.open(write_heads(tmp_path, patients=2))
    assert "allowed_copies" not in Study(cohort)._describe()
    assert not [finding for finding in audit(cohort) if finding.kind == "copies-allowed"]


# --- real images ------------------------------------------------------------------------------


def test_among_blood_cells_the_copy_across_classes_is_found():
    samples = open_set("wbc")
    pairs = find_copies(samples)
    assert name_pairs(samples, across_classes(samples, pairs)) == {("060", "090")}
    assert len(pairs) < 20  # no chain of lymphocytes


@pytest.mark.slow
def test_in_breast_ultrasound_four_copies_are_across_classes():
    samples = open_set("busi")
    assert name_pairs(samples, across_classes(samples, find_copies(samples))) == {
        ("benign (399)", "malignant (93)"),
        ("benign (406)", "malignant (94)"),
        ("benign (85)", "malignant (52)"),
        ("benign (437)", "normal (34)"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alzheimer", "skin", "handsigns", "steel", "catsdogs"])
def test_different_patients_of_real_sets_are_no_copies(name):
    samples = open_set(name)
    assert between_patients(samples, find_copies(samples)) == []


@pytest.mark.parametrize("count", [pytest.param(53, marks=pytest.mark.slow), 12])
def test_different_patients_in_a_draw_of_registered_brains_are_no_copies(count):
    samples = open_set("alzheimer")
    for seed in range(3):
        rows = sorted(np.random.default_rng(seed).permutation(len(samples))[:count])
        drawn = [samples[row] for row in rows]
        assert between_patients(drawn, find_copies(drawn)) == []
