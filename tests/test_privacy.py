"""A patient's name goes in by every door and comes out by none."""

import gzip
import io
import os
import subprocess
import sys
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

from meninx.cohort import Cohort, audit, read_image
from meninx.errors import MeninxError
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
