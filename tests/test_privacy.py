"""A patient's name goes in by every door and comes out by none."""

import gzip
import io
import logging
import os
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as parquet
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.uid import generate_uid

from meninx.cohort import Cohort, SampleRule, audit
from meninx.cohort.pseudonyms import Pseudonyms
from meninx.errors import CohortError, MeninxError, StudyError
from meninx.finetune import Strategy
from meninx.imaging import read_image
from meninx.imaging.silence_loggers import silence_loggers
from meninx.study import Study, compare_runs
from tests.test_cohort import save_dicom

SECRET = "Qzwulandari"  # in no word list, file of ours or random name
BIRTH = "19371129"
UID = generate_uid(entropy_srcs=["privacy test"])
PLANTED = [SECRET.lower().encode(), BIRTH.encode(), UID.encode()]
TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE"}
GROUPS = {0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040}
KEPT = {"SpecificCharacterSet", "SOPClassUID"}


def plant(path, pixels):
    """Write a DICOM file with the name, birth date and UID in every tag that could hold them."""
    dataset = dcmread(save_dicom(path, pixels))
    planted = 0
    for tag, (kind, *_) in DicomDictionary.items():
        keyword = keyword_for_tag(tag)
        if tag >> 16 not in GROUPS or not keyword or keyword in KEPT:
            continue
        value = SECRET if kind in TEXT else {"DA": BIRTH, "UI": UID, "DT": BIRTH}.get(kind)
        if value:
            dataset.add_new(tag, kind, value)
            planted += 1
    dataset.add_new(0x00091001, "LO", SECRET)
    dataset.save_as(path)
    return planted


def make_data(folder):
    """Write a cohort of every format with the name in headers, comments and file names."""
    random = np.random.default_rng(0)
    for label in (0, 1):
        own = folder / f"class{label}" / SECRET
        own.mkdir(parents=True)
        ramp = np.linspace(0, 100, 64)[:, None] if label else np.linspace(0, 100, 64)[None]
        images = [(ramp + random.random((64, 64)) * 155).astype(np.uint8) for _ in range(8)]
        for number, pixels in enumerate(images[:4]):
            assert plant(own / f"{SECRET}-{number}.dcm", pixels) > 400
        comments, exif = PngInfo(), Image.Exif()
        comments.add_text("Comment", SECRET)
        exif[0x010E] = SECRET
        Image.fromarray(images[4]).save(own / f"{SECRET}.png", pnginfo=comments)
        Image.fromarray(images[5]).save(own / f"{SECRET}.jpg", exif=exif, quality=95)
        tifffile.imwrite(own / f"{SECRET}.tif", images[6], description=SECRET)
        volume = nib.Nifti1Image(images[7][:, :, None], np.eye(4))
        volume.header["descrip"] = volume.header["db_name"] = SECRET.encode()
        nib.save(volume, own / f"{SECRET}.nii.gz")


def unpack(content, name):
    """Give the bytes of a file, and of everything packed in it."""
    yield name.encode("utf-8", "surrogateescape"), content
    if content.startswith(b"\x1f\x8b"):
        yield from unpack(gzip.decompress(content), f"{name}!")
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from unpack(archive.read(member), member)
    if content.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(content)) as image:
            yield b"", repr(image.info).encode() + image.tobytes()
    if content.startswith(b"PAR1"):
        table = parquet.read_table(io.BytesIO(content))
        yield b"", table.to_pandas().to_csv().encode() + repr(table.schema).encode()
    for start in range(len(content)):  # flate streams of PDF and SVG fonts
        if content[start : start + 6] == b"stream" and content[:5] == b"%PDF-":
            try:
                yield b"", zlib.decompressobj().decompress(content[start + 6 :].lstrip(b"\r\n"))
            except zlib.error:
                continue


def search(folder):
    """Name the files below a folder in which, or in whose name, something planted stands."""
    found, searched = [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes() if path.is_file() else b""
        for inner, unpacked in unpack(content, name):
            searched += len(unpacked)
            found += [name for word in PLANTED if word in inner.lower() or word in unpacked.lower()]
    return found, searched


def test_the_search_finds_what_is_packed(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(f"x{SECRET}x".encode()))
    with zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", SECRET.upper() * 50)
    (tmp_path / SECRET).write_bytes(b"")
    make_data(tmp_path / "data")
    found, _ = search(tmp_path)
    assert {"a", "b", SECRET} <= set(found) and len(found) > 20


def test_errors_and_findings_never_hold_what_stands_in_a_header(tmp_path, caplog, recwarn):
    make_data(tmp_path / "data")
    cohort = Cohort.open(tmp_path / "data")
    told = [finding.advice for finding in audit(cohort)] + [cohort.table().to_csv()]
    source = next((tmp_path / "data").rglob("*.dcm")).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(source)
        for at in random.integers(132, len(source) - 3000, 6):
            damaged[at] = random.integers(256)
        (tmp_path / "x.dcm").write_bytes(bytes(damaged))
        try:
            read_image(tmp_path / "x.dcm")
        except MeninxError as refusal:
            told.append(str(refusal))
    told += [record.getMessage() for record in caplog.records]
    told += [str(warning.message) for warning in recwarn]
    everything = "\n".join(told).lower().encode()
    assert not any(word in everything for word in PLANTED)


def test_libraries_are_silent_until_the_last_of_several_readers_has_left(recwarn):
    logger = logging.getLogger("pydicom")
    usual = logger.level
    first, second = silence_loggers(), silence_loggers()
    first.__enter__()
    second.__enter__()
    # The one that came first goes first, as threads do.
    first.__exit__(None, None, None)
    warnings.warn(SECRET, stacklevel=1)
    assert not recwarn.list and not logger.isEnabledFor(logging.CRITICAL)
    second.__exit__(None, None, None)
    warnings.warn("heard again", stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["heard again"] and logger.level == usual


# --- pseudonyms --------------------------------------------------------------------------------


def run_with_key(key, folder, run, monkeypatch):
    monkeypatch.setenv("MENINX_KEY", str(key))
    cohort = Cohort.from_folder(folder, rule=SampleRule(whole_image=True))
    study = Study(cohort, ("tf_efficientnet_lite0",), (Strategy.FROZEN,), folds=2, repeats=1)
    study.run(run, workers=1)
    return run


def read_timeless(file):
    """Give the lines of a file of a run without those that say how long something took."""
    return [line for line in file.read_text().splitlines() if "seconds" not in line]


def test_names_need_the_key_and_nothing_else_depends_on_it(disc_folder, monkeypatch, tmp_path):
    made = {}
    for name in ("one", "two"):
        monkeypatch.setenv("MENINX_KEY", str(tmp_path / name))
        made[name] = Cohort.from_folder(disc_folder)
        assert made[name].key_identity  # the key is read when it is first needed
    one, two = made.values()
    again = Cohort.from_folder(disc_folder)
    assert two.table().equals(again.table()) and two.key_identity == again.key_identity
    assert one.key_identity != two.key_identity
    for names in ("patients", "sample_names", "group_names"):
        assert not set(getattr(one, names)) & set(getattr(two, names))
        assert len(set(getattr(one, names))) == 18
    assert one.samples == two.samples and one.fingerprint == two.fingerprint
    assert (one.groups == two.groups).all() and (one.labels == two.labels).all()
    written = one.table().to_csv()
    assert not any(sample.fingerprint[:8] in written for sample in one.samples)


def test_the_key_is_made_once_where_only_the_user_reads_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MENINX_KEY")
    key = tmp_path / ".config" / "meninx" / "pseudonyms.key"
    identity = Pseudonyms.open_own().identity
    assert key.stat().st_mode & 0o777 == 0o600 and Pseudonyms.open_own().identity == identity
    assert identity not in key.read_text() and key.read_text().strip() not in repr(
        Pseudonyms.open_own()
    )
    key.write_text("no key")
    with pytest.raises(CohortError, match=r"pseudonyms\.key: it is no key of pseudonyms"):
        Pseudonyms.open_own()
    monkeypatch.setenv("MENINX_KEY", str(key / "below a file"))
    with pytest.raises(CohortError, match="cannot be read or made"):
        Pseudonyms.open_own()


@pytest.mark.usefixtures("brief", "unreported")
def test_a_study_scores_the_same_with_any_key_and_does_not_go_on_with_another(
    disc_folder, monkeypatch, tmp_path
):
    one, two = (
        run_with_key(tmp_path / f"key{n}", disc_folder, tmp_path / f"run{n}", monkeypatch)
        for n in (1, 2)
    )
    assert read_timeless(one / "evaluation.json") == read_timeless(two / "evaluation.json")
    tables = [
        parquet.read_table(next(run.glob("models/*frozen/oof.parquet"))).to_pandas()
        for run in (one, two)
    ]
    assert not set(tables[0]["patient"]) & set(tables[1]["patient"])
    assert (
        tables[0]
        .drop(columns=["sample", "patient"])
        .equals(tables[1].drop(columns=["sample", "patient"]))
    )
    assert compare_runs(one, one)["difference"] == 0
    with pytest.raises(StudyError, match="different keys of pseudonyms"):
        compare_runs(one, two)
    with pytest.raises(StudyError, match=r"another key of pseudonyms.*MENINX_KEY"):
        run_with_key(tmp_path / "key1", disc_folder, two, monkeypatch)


@pytest.mark.slow
def test_no_byte_that_a_study_writes_holds_the_patient(tmp_path):
    data, run, cache = tmp_path / f"data-{SECRET}", tmp_path / "run", tmp_path / "cache"
    make_data(data)
    command = [
        sys.executable, "-m", "meninx", "study", data, "-o", run, "--strategies", "frozen",
        "--backbones", "tf_efficientnet_lite0", "--folds", "2", "--repeats", "1",
    ]  # fmt: skip
    environment = {**os.environ, "MENINX_CACHE": str(cache), "MENINX_LOG": "DEBUG"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder in (run, cache):
        found, searched = search(folder)
        assert searched > 10_000 and found == []
    said = (done.stdout + done.stderr).lower().encode()
    assert not any(word in said for word in PLANTED)
    assert Path(run / "report.html").is_file()
