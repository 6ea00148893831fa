"""The audit: planted faults are found, each in its kind, and clean cohorts are left in peace."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from meninx.cohort import Cohort, Severity, audit
from meninx.cohort.appearance import measure_appearance
from meninx.cohort.audit.shortcuts import ALPHA, measure_auc, measure_shortcuts
from meninx.cohort.near_duplicates.search import align_candidates
from meninx.imaging.head_crop import find_head
from meninx.phantom import phantom

from . import test_cli
from .conftest import SHARED_DATA
from .test_head_crop import draw_head

call = test_cli.call


def save(pixels, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * np.clip(pixels, 0, 1)).round().astype(np.uint8)).save(path, **options)


def write_heads(folder, patients=12, first=0, suffix=".png"):
    """Write two classes of heads that differ in nothing, a patient an image."""
    for label in ("a", "b"):
        for number in range(patients):
            seed = first + 2 * number + (label == "b")
            save(draw_head(seed)[0], folder / label / f"{label}{number:02d}{suffix}")
    return folder


def found(cohort, kind, strict=False):
    return [finding for finding in audit(cohort, strict) if finding.kind == kind]


def recompress(pixels, quality=25):
    buffer = io.BytesIO()
    save_to = Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    save_to.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)) / 255


def rescale(pixels, factor):
    height, width = (round(side * factor) for side in pixels.shape)
    small = Image.fromarray(pixels.astype(np.float32)).resize((width, height))
    return np.asarray(small)


def cut_into_head(pixels, part=0.06):
    """Crop to less than the head."""
    rows, columns = find_head(pixels).box
    margins = [round(part * (side.stop - side.start)) for side in (rows, columns)]
    return pixels[
        rows.start + margins[0] : rows.stop - margins[0],
        columns.start + margins[1] : columns.stop,
    ]


COPIES = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by half": lambda pixels: pixels[::-1, ::-1],
    "smaller": lambda pixels: rescale(pixels, 0.6),
    "larger": lambda pixels: rescale(pixels, 1.7),
    "re-compressed": recompress,
    "brighter": lambda pixels: 0.6 * pixels + 0.25,
    "other contrast": lambda pixels: pixels**0.75,
    "noisier": lambda pixels: pixels + np.random.default_rng(1).normal(0, 0.02, pixels.shape),
    "cropped": lambda pixels: cut_into_head(pixels),
    "padded": lambda pixels: np.pad(pixels, ((5, 40), (30, 0))),
    "with text": lambda pixels: np.where(
        (np.arange(160)[:, None] < 12) & (np.arange(144) % 5 < 2), 1, pixels
    ),
    "mirrored, smaller, re-compressed": lambda p: recompress(rescale(p[:, ::-1], 0.7), 40),
}


# --- duplicates -------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_however_it_was_changed(tmp_path, copy):
    folder = write_heads(tmp_path, patients=5)
    save(COPIES[copy](draw_head(4)[0]), folder / "a" / "copy.png")
    cohort = Cohort.open(folder)
    (finding,) = found(cohort, "near-duplicates")
    assert [Path(file).name for file in finding.files] == ["a02.png", "copy.png"]
    assert finding.severity is Severity.WARNING
    rows = [Path(sample.path).name in ("a02.png", "copy.png") for sample in cohort.samples]
    assert len(set(cohort.groups[rows])) == 1 and len(set(cohort.groups)) == 10
    assert cohort.groups[rows][0] not in cohort.groups[~np.array(rows)]


def test_heads_of_different_patients_are_not_taken_for_copies(tmp_path):
    cohort = Cohort.open(write_heads(tmp_path, patients=20))
    assert len(cohort.copies) == 0
    assert len(set(cohort.groups)) == 40


def test_a_copy_in_another_class_is_an_error(tmp_path):
    folder = write_heads(tmp_path, patients=4)
    save(draw_head(2)[0][:, ::-1], folder / "b" / "copy.png")
    (finding,) = found(Cohort.open(folder), "near-duplicates")
    assert finding.severity is Severity.ERROR and "(a, b)" in finding.advice


def test_a_copy_of_another_patient_is_refused_when_strict(tmp_path):
    folder = write_heads(tmp_path, patients=4)
    save(draw_head(2)[0][::-1], folder / "a" / "copy.png")
    cohort = Cohort.open(folder, patient_pattern=r"^(\w+)\.")
    (lenient,), (strict,) = (found(cohort, "near-duplicates", strict) for strict in (False, True))
    assert lenient.severity is Severity.WARNING and "count as one patient" in lenient.advice
    assert strict.severity is Severity.ERROR and "different patients" in strict.advice


def test_a_copy_in_another_fold_is_an_error_and_of_one_patient_is_only_told(tmp_path):
    folder = write_heads(tmp_path, patients=4)
    save(draw_head(2)[0][:, ::-1], folder / "a" / "copy.png")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))

    def write_manifest(columns, describe):
        rows = [f"{file},{file[0]},{describe(file)}" for file in files]
        (folder / "manifest.csv").write_text("\n".join([f"image,label,{columns}", *rows]))

    in_second_fold = ("a/copy.png", "a/a03.png", "b/b03.png")
    write_manifest("patient,fold", lambda file: f"{file},{int(file in in_second_fold)}")
    (finding,) = found(Cohort.open(folder), "near-duplicates")
    assert finding.severity is Severity.ERROR and "in different folds" in finding.advice
    of_one = ("a/copy.png", "a/a01.png")
    write_manifest("patient", lambda file: "same" if file in of_one else file)
    (finding,) = found(Cohort.open(folder), "near-duplicates")
    assert finding.severity is Severity.INFO and "of one patient" in finding.advice


def test_slices_of_one_patient_alike_in_two_classes_are_a_warning_and_no_error(tmp_path):
    # One with the tumour beside one without: the study goes on.
    folder = write_heads(tmp_path, patients=4)
    save(draw_head(2)[0][:, ::-1], folder / "b" / "copy.png")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    of_one = ("b/copy.png", "a/a01.png")
    rows = [f"{file},{file[0]},{'same' if file in of_one else file}" for file in files]
    (folder / "manifest.csv").write_text("\n".join(["image,label,patient", *rows]))
    (finding,) = found(Cohort.open(folder), "near-duplicates")
    assert finding.severity is Severity.WARNING and "different labels" in finding.advice


def test_thumbnails_of_anything_can_be_compared(tmp_path):
    random = np.random.default_rng(0)
    odd = [np.eye(3), random.random((1, 1)), random.random((2, 700)), random.random((40, 30, 3))]
    file = tmp_path / "odd.png"  # only its header would be read
    file.touch()
    made = [measure_appearance(file, pixels).thumbnail for pixels in odd]
    thumbnails = np.stack([np.frombuffer(one, np.uint8).reshape(64, 64) for one in made])
    found = align_candidates(thumbnails)
    pairs = {frozenset(pair) for pair in zip(found.whole, found.part, strict=True)}
    assert np.isfinite(found.likeness).all() and len(pairs) == len(found)
    assert len(align_candidates(thumbnails[:1])) == 0


def test_no_two_of_the_real_patients_are_joined(real_mri):
    cohort = Cohort.open(real_mri)
    assert len(cohort.copies) == 0


@pytest.mark.slow
def test_in_the_large_real_set_only_slices_of_one_fold_and_class_are_joined():
    if not (SHARED_DATA / "cemri").is_dir():
        pytest.skip(f"real images are not at {SHARED_DATA / 'cemri'}")
    cohort = Cohort.open(SHARED_DATA / "cemri")
    assert not [finding for finding in audit(cohort) if finding.severity is Severity.ERROR]
    one, other = cohort.copies.T
    assert (cohort.labels[one] == cohort.labels[other]).all()
    assert (cohort.folds[one] == cohort.folds[other]).all()


# --- unreadable and blank ---------------------------------------------------------------------


def test_the_audit_command_lists_unreadable_and_empty_files_as_findings(tmp_path, call):
    folder = write_heads(tmp_path, patients=3)
    (folder / "a" / "empty.png").write_bytes(b"")
    (folder / "b" / "cut.png").write_bytes((folder / "b" / "b00.png").read_bytes()[:300])
    code, output, _ = call("audit", folder, "--json")
    assert code == 0
    (finding,) = [f for f in json.loads(output)["findings"] if f["kind"] == "skipped"]
    assert {Path(file).name for file in finding["files"]} == {"empty.png", "cut.png"}
    assert "the file is empty" in finding["advice"]


def test_a_blank_image_is_an_error(tmp_path):
    folder = write_heads(tmp_path, patients=3)
    speck = np.zeros((100, 100))
    speck[40, 50:55] = 1
    save(speck, folder / "a" / "blank.png")
    (finding,) = found(Cohort.open(folder), "blank")
    assert finding.severity is Severity.ERROR
    assert [Path(file).name for file in finding.files] == ["blank.png"]


def test_strict_audit_ends_with_code_2_and_a_sentence(tmp_path, call):
    folder = write_heads(tmp_path, patients=3)
    save(draw_head(2)[0][::-1], folder / "a" / "copy.png")
    assert call("audit", folder)[0] == 0
    code, output, error = call("audit", folder, "--strict", "--json")
    assert code == 2 and error.startswith("meninx: the audit found 1 error")
    assert json.loads(output)["findings"][0]["severity"] == "error"


# --- patients of several labels ---------------------------------------------------------------


def test_patients_with_images_of_several_labels_are_told_and_their_images_named(tmp_path):
    folder = write_heads(tmp_path, patients=6)
    cohort = Cohort.open(folder, patient_pattern=r"(?<=[ab])0[0-2]|[ab]0[3-9]")
    (finding,) = found(cohort, "several-labels")
    assert finding.severity is Severity.INFO
    assert "3 of 9 patients have images of several labels" in finding.advice
    names = sorted(Path(file).name for file in finding.files)
    assert names == ["a00.png", "a01.png", "a02.png", "b00.png", "b01.png", "b02.png"]
    assert not found(Cohort.open(folder), "several-labels")


# --- shortcuts --------------------------------------------------------------------------------


def shortcuts(cohort):
    return [f.advice.split(" of an image")[0] for f in found(cohort, "shortcut")]


# Each changes one fact and nothing else that the audit looks at.
PLANTED = {
    "the file format": lambda pixels, path: save(pixels, path.with_suffix(".bmp.tif")),
    "the image size": lambda pixels, path: save(np.kron(pixels, np.ones((2, 2))), path),
    "the aspect": lambda pixels, path: save(turn_frame(pixels), path),
    "the bit depth": lambda pixels, path: Image.fromarray((60000 * pixels).astype(np.uint16)).save(
        path
    ),
    "the colour": lambda pixels, path: Image.fromarray(
        np.stack([255 * pixels, 250 * pixels, 255 * pixels], 2).astype(np.uint8)
    ).save(path),
    "the mean intensity": lambda pixels, path: save(np.maximum(pixels, 2 * pixels - 0.2), path),
    "the border": lambda pixels, path: save(np.pad(pixels[8:-8, 8:-8], 8), path),
    "the text in the corners": lambda pixels, path: save(write_text(pixels), path),
}


def turn_frame(pixels):
    """Take background off left and right and put it above and below: as many pixels, narrower."""
    return np.pad(pixels[:, 8:-8], ((10, 10), (0, 0)), mode="reflect")


def write_text(pixels):
    """Write two faint lines at the top left, beside the head."""
    rows, columns = np.indices(pixels.shape)
    is_ink = (columns < 28) & (columns % 4 < 2) & (rows % 10 > 4) & (rows < 20)
    return np.where(is_ink, 0.3, pixels)


def test_noise_beside_the_head_is_not_called_text(tmp_path):
    """A smaller field of view is noisier, and that is not what is burned into an image."""
    folder = write_heads(tmp_path, patients=15)
    for number in range(15):
        path = folder / "b" / f"b{number:02d}.png"
        pixels = np.asarray(Image.open(path)) / 255
        noise = np.random.default_rng(number).normal(0, 0.015, pixels.shape)
        save(pixels + np.abs(noise), path)
    assert "the text in the corners" not in shortcuts(Cohort.open(folder))


@pytest.mark.parametrize("fact", PLANTED)
def test_a_fact_that_gives_the_class_away_is_named(tmp_path, fact):
    folder = write_heads(tmp_path, patients=15)
    for number in range(15):
        path = folder / "b" / f"b{number:02d}.png"
        pixels = np.asarray(Image.open(path)) / 255
        path.unlink()
        PLANTED[fact](pixels, path)
    (finding,) = found(Cohort.open(folder), "shortcut")
    assert finding.advice.startswith(f"{fact} of an image, which is not anatomy")
    told = len(finding.files)
    assert f"it marks a, b most: {told} of 30 images, which are named" in finding.advice
    assert 26 <= told <= 30 and len(set(finding.files)) == len(set(finding.samples)) == told


def save_scan(pixels, path, **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientName = "Secret^Name"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.PixelData = (4000 * pixels).astype("<u2").tobytes()
    path.parent.mkdir(exist_ok=True, parents=True)
    data.save_as(path, enforce_file_format=True)


# What a header says of each class; in neither is a value the other's alone but in the fact named.
SCANNED = {
    "the manufacturer": ("Manufacturer", {"a": "Zephyr", "b": "Quorum"}),
    "the scanner model": ("ManufacturerModelName", {"a": "Zephyr", "b": "Quorum"}),
    "the field strength": ("MagneticFieldStrength", {"a": "1.5", "b": "3"}),
    "the station": ("StationName", {"a": "Zephyr", "b": "Quorum"}),
    "the scanning sequence": ("ScanningSequence", {"a": "SE", "b": "GR"}),
    "the sequence name": ("SequenceName", {"a": "*se2d1", "b": "*fl3d1"}),
    "the protocol": ("ProtocolName", {"a": "Zephyr", "b": "Quorum"}),
    "the echo time": ("EchoTime", {"a": "9.1", "b": "98"}),
    "the repetition time": ("RepetitionTime", {"a": "550", "b": "4200"}),
    "the stored bits": ("BitsStored", {"a": 12, "b": 16}),
}


def write_scans(folder, describe, count=36):
    """Write heads that differ in nothing, whose headers say what is told of each; classes a, b."""
    random = np.random.default_rng(5)
    usual = {
        "Manufacturer": ("Zephyr", "Quorum"),
        "ScanningSequence": ("SE", "GR"),
        "ProtocolName": ("T1", "T2"),
    }
    for number in range(count):
        label = "ab"[number % 2]
        header = {tag: values[random.integers(2)] for tag, values in usual.items()}
        header["StudyDate"] = f"20{random.integers(10, 24)}{random.integers(1, 13):02d}17"
        header |= describe(label, random)
        save_scan(draw_head(number)[0], folder / label / f"{number}.dcm", **header)
    return Cohort.open(folder)


def fit(tag, value):
    """The highest bit that goes with a number of bits."""
    return {"HighBit": value - 1} if tag == "BitsStored" else {}


@pytest.mark.parametrize("fact", SCANNED)
def test_what_a_dicom_header_says_of_scanner_and_sequence_is_named_by_itself(tmp_path, fact):
    tag, values = SCANNED[fact]
    cohort = write_scans(
        tmp_path, lambda label, random: {tag: values[label], **fit(tag, values[label])}
    )
    assert shortcuts(cohort) == [fact]


def test_a_class_that_was_scanned_earlier_is_named_though_no_two_dates_are_alike(tmp_path):
    def date(label, random):
        years = {"a": (2010, 2017), "b": (2017, 2024)}[label]
        return {"StudyDate": f"{random.integers(*years)}{random.integers(1, 13):02d}17"}

    assert shortcuts(write_scans(tmp_path, date)) == ["the date"]


def test_headers_that_say_nothing_of_the_class_are_not_named(tmp_path):
    assert shortcuts(write_scans(tmp_path, lambda label, random: {})) == []


def test_values_of_a_header_are_not_told(tmp_path):
    def describe(label, random):
        value = {"a": "Zephyr", "b": "Quorum"}[label]
        return {"Manufacturer": value, "StudyDate": {"a": "20190511", "b": "20200604"}[label]}

    cohort = write_scans(tmp_path, describe)
    assert shortcuts(cohort) == ["the manufacturer", "the date"]
    told = json.dumps([finding.advice for finding in audit(cohort)])
    assert not any(word in told for word in ("Zephyr", "Quorum", "Secret", "2019", "2020"))
    assert "Zephyr" not in repr(cohort)


def test_a_header_that_lacks_a_number_or_has_none_is_no_fault(tmp_path):
    """And images without any header, beside those that have one, are known by that."""
    given = {"a": {"EchoTime": "9.1"}, "b": {"StudyDate": ""}}
    write_scans(tmp_path, lambda label, random: given[label], count=24)
    for path in sorted((tmp_path / "b").iterdir()):
        save(draw_head(int(path.stem))[0], path.with_suffix(".png"))
        path.unlink()
    assert {"the file format", "the date", "the echo time"} <= set(shortcuts(Cohort.open(tmp_path)))


@pytest.mark.parametrize("images", [2, 6])
def test_shortcuts_are_found_and_rarely_invented_where_patients_have_several_labels(images):
    """Twenty patients have images of both labels, ten of one."""
    random = np.random.default_rng(images)
    labels = np.concatenate([np.tile([0, 1], 10 * images), np.arange(10) % 2])
    groups = np.concatenate([np.repeat(np.arange(20), images), 20 + np.arange(10)])
    (given,) = measure_shortcuts({"fact": labels[:, None] + 0.0}, labels, groups)
    assert given.p < 0.01
    p_values = []
    for _ in range(12):
        of_patient = random.normal(size=(30, 1))[groups] + random.normal(size=(len(labels), 1))
        p_values.append(measure_shortcuts({"fact": of_patient}, labels, groups)[0].p)
    assert min(p_values) > 0.005 and 0.25 < np.mean(p_values) < 0.75


def test_shortcuts_keep_patients_together():
    """A number a patient tells nothing of other patients, however many images each has."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 10)
    labels = np.repeat(random.permutation(np.arange(20) % 2), 10)
    fact = np.repeat(random.normal(size=20), 10)[:, None] + random.normal(0, 1e-3, (200, 1))
    (tested,) = measure_shortcuts({"fact": fact}, labels, groups)
    assert tested.p > 0.05
    (given,) = measure_shortcuts({"fact": labels[:, None] + 0.0}, labels, groups)
    assert given.p < 0.01 and given.auc > 0.99
    assert sorted(given.told) == list(range(200))


def test_only_the_class_that_a_fact_marks_is_named_and_its_clearest_images_first():
    """Brightness marks most images of the last class; of the other two it tells nothing apart."""
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], 20)
    brightness = random.normal(size=60)
    brightness[42:] += 6 + np.arange(18) / 10  # two of the last class look like the others
    (given,) = measure_shortcuts({"fact": brightness[:, None]}, labels, np.arange(60))
    assert given.p < 0.01
    assert given.marked == (2,)
    assert set(given.told) == set(range(42, 60))
    assert brightness[list(given.told[:6])].min() > np.median(brightness[42:])


def test_facts_that_do_not_vary_are_not_tested():
    labels, groups = np.arange(10) % 2, np.arange(10)
    assert measure_shortcuts({"same": np.ones((10, 1))}, labels, groups) == []


def test_false_alarms_are_as_rare_as_stated():
    """60 cohorts of 53 patients with 8 facts that say nothing, some of them alike."""
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(60):
        labels = np.repeat([0, 1, 2], [16, 22, 15])
        facts = {f"number {i}": random.normal(size=(53, 1 + i % 3)) for i in range(5)}
        facts |= {f"word {i}": np.eye(3)[random.integers(0, 3, 53)] for i in range(2)}
        facts["almost the same"] = facts["number 0"] + random.normal(0, 0.1, (53, 1))
        alarms += min(s.p for s in measure_shortcuts(facts, labels, np.arange(53))) <= ALPHA
    assert alarms <= 8  # of 60 at 5 %: more happens in 1 % of cases


@pytest.mark.slow
def test_clean_phantoms_are_seldom_flagged(tmp_path):
    """Over 20 seeds; at the stated 5 % a cohort, more than three would be a fault."""
    flagged = 0
    for seed in range(20):
        cohort = Cohort.open(phantom(tmp_path / str(seed), seed=seed))
        flagged += bool(found(cohort, "shortcut"))
        assert len(cohort.copies) == 0
        assert not [finding for finding in audit(cohort) if finding.severity is Severity.ERROR]
    assert flagged <= 3


# --- counts -----------------------------------------------------------------------------------


def test_the_audit_says_how_many_patients_and_which_k_they_allow(tmp_path):
    folder = write_heads(tmp_path, patients=4)
    (finding,) = found(Cohort.open(folder), "few-patients")
    assert "(a 4, b 4)" in finding.advice and "at most 4 folds" in finding.advice
    (counts,) = found(Cohort.open(folder), "counts")
    assert "8 images of 8 patients" in counts.advice and "a 4/4, b 4/4" in counts.advice
    assert "at most 4 folds" in counts.advice
    assert "fewest patients sets that limit (a, b)" in counts.advice


def test_every_finding_names_the_files_it_rests_on(tmp_path):
    """Also those about the cohort as a whole: none is without files, severity and advice."""
    folder = write_heads(tmp_path, patients=13)
    for number in range(4, 13):
        (folder / "b" / f"b{number:02d}.png").unlink()
    rows = [
        f"{path.relative_to(folder)},{path.parent.name},{path.parent.name == 'b'}"
        for path in sorted(folder.rglob("*.png"))
    ]
    (folder / "manifest.csv").write_text("\n".join(["image,label,synthetic", *rows]))
    findings = {finding.kind: finding for finding in audit(Cohort.open(folder))}
    assert set(findings) == {
        "few-patients", "imbalance", "patients-unknown", "counts", "small", "synthetic",
    }  # fmt: skip
    assert all(finding.advice and finding.severity for finding in findings.values())
    for kind in ("few-patients", "imbalance", "counts", "synthetic"):
        assert {Path(file).parent.name for file in findings[kind].files} == {"b"}
        assert len(findings[kind].files) == len(findings[kind].samples) == 4
    for kind in ("patients-unknown", "small"):
        assert len(findings[kind].files) == len(findings[kind].samples) == 17


@pytest.mark.filterwarnings("error")
def test_without_two_classes_a_fact_tells_nothing_apart():
    scores = np.array([[0.1, 0.4, 0.8], [0.1, 0.4, 0.8]])
    targets = np.array([[0, 0, 0], [0, 0, 1]])
    assert measure_auc(scores, targets).tolist() == [0.5, 1.0]
