"""The cohort stage: reading images, who they belong to, and auditing them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, TiffImagePlugin
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from sklearn.model_selection import GroupKFold

from meninx.cohort import (
    Cohort,
    Sample,
    SampleRule,
    Severity,
    UnreadableImagesError,
    as_array,
    as_head,
    audit,
)
from meninx.cohort.pixel_cache import PixelCache
from meninx.cohort.pseudonyms import shorten_digests
from meninx.errors import CohortError, ImageError
from meninx.imaging import read_image
from meninx.imaging.images import scale_intensity
from meninx.imaging.slices import choose_frames

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
SECRET = "Wulandari"  # a patient's name, which must never come out


def picture(seed=0, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def save_dicom(path, pixels, **elements):
    """Write an uncompressed DICOM file of unsigned pixels (h, w), (n, h, w) or (h, w, 3)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = dataset.PatientID = SECRET
    is_colour = pixels.shape[-1] == 3
    if is_colour:
        dataset.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if is_colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of three patients with two images each; patients named in the files."""
    seed = 0
    for label in ("metastasis", "normal"):
        for patient in range(3):
            for number in range(2):
                seed += 1
                name = f"{SECRET}{label[0]}{patient}_{number}.png"
                save_png(tmp_path / "data" / label / name, picture(seed))
    return tmp_path / "data"


def write_manifest(folder, header, rows, separator=","):
    """Write a manifest, making the picture of each row that has none yet (first model)."""
    for seed, row in enumerate(rows):
        path = folder / str(row[0])
        if row[0] and not path.exists() and path.is_relative_to(folder) and ".." not in row[0]:
            save_png(path, picture(seed))
    lines = [header, *(separator.join(map(str, row)) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


ROWS = [
    ("a0.png", "metastasis", "p0", 1),
    ("a1.png", "metastasis", "p0", 1),
    ("a2.png", "metastasis", "p1", 2),
    ("b0.png", "normal", "p2", 1),
    ("b1.png", "normal", "p3", 2),
]


# --- reading images ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path, pixels: Image.fromarray(pixels).save(path, "PNG"), id="png"),
        pytest.param(lambda path, pixels: Image.fromarray(pixels).save(path, "TIFF"), id="tiff"),
        pytest.param(
            lambda path, pixels: Image.fromarray(pixels).save(path, "TIFF", compression="tiff_lzw"),
            id="tiff-lzw",
        ),
        pytest.param(tifffile.imwrite, id="tifffile"),
        pytest.param(
            lambda path, pixels: tifffile.imwrite(path, pixels, byteorder=">"), id="big-endian"
        ),
        pytest.param(lambda path, pixels: np.save(path.open("wb"), pixels), id="npy"),
        pytest.param(save_dicom, id="dicom"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_grey_format_gives_the_same_pixels_in_8_and_16_bits(tmp_path, write, dtype):
    values = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    write(tmp_path / "x", values)  # no extension: files are known by what they contain
    pixels = read_image(tmp_path / "x")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, scale_intensity(values.astype(np.float32)))
    assert len(np.unique(pixels)) > (200 if dtype == np.uint8 else 500)


def test_jpeg_is_read_closely(tmp_path):
    ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "x.jpg") - scale_intensity(np.float32(ramp))).max() < 0.03


def test_jpeg_is_turned_as_its_exif_tag_says(tmp_path):
    pixels = np.zeros((32, 64), np.uint8)
    pixels[:, :16] = 255  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif)
    upright = read_image(tmp_path / "x.jpg")
    assert upright.shape == (64, 32)
    assert upright[:8].mean() > 0.9 > 0.1 > upright[-8:].mean()


def test_pages_of_a_compressed_tiff_are_its_frames(tmp_path):
    stack = picture(shape=(5, 20, 30))
    first, *others = (Image.fromarray(page) for page in stack)
    first.save(tmp_path / "x.tif", save_all=True, append_images=others, compression="tiff_lzw")
    for frame in range(5):
        np.testing.assert_array_equal(
            read_image(tmp_path / "x.tif", frame), scale_intensity(np.float32(stack[frame]))
        )


@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "dcm"])
def test_colour_stays_colour_and_grey_stored_as_colour_becomes_grey(tmp_path, suffix):
    colour = picture(shape=(20, 30, 3))
    grey = np.repeat(picture(shape=(20, 30, 1)), 3, axis=2)
    shapes = []
    for name, pixels in (("colour", colour), ("grey", grey)):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "npy":
            np.save(path, pixels)
        elif suffix == "dcm":
            save_dicom(path, pixels)
        else:
            Image.fromarray(pixels).save(path)
        shapes.append(read_image(path).shape)
    assert shapes == [(20, 30, 3), (20, 30)]


def test_16_bit_colour_tiff_keeps_its_channels_scaled_together(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60_000, (20, 30, 3)).astype(np.uint16)
    pixels[..., 2] //= 4
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb")
    read = read_image(tmp_path / "x.tif")
    assert read[..., 2].max() < 0.3 < 0.9 < read[..., 0].max()


def test_transparent_pixels_are_black_whatever_colour_hides_under_them(tmp_path):
    pixels = np.repeat(picture(shape=(20, 30, 1)), 4, axis=2)
    pixels[..., 3] = 255
    pixels[:5] = (250, 10, 90, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    read = read_image(tmp_path / "x.png")
    assert read.shape == (20, 30) and (read[:5] == 0).all() and read[5:].max() == 1
    np.testing.assert_array_equal(read, read_image(tmp_path / "x.tif"))


def test_palette_png_is_read_through_its_palette(tmp_path):
    pixels = picture(shape=(20, 30))
    image = Image.fromarray(pixels)
    image.putpalette([255 - level for level in range(256) for _ in range(3)])
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.png"), scale_intensity(np.float32(255 - pixels))
    )


def test_palette_tiff_is_read_through_its_palette(tmp_path):
    pixels = picture()
    ramp = np.arange(256, dtype=np.uint16) * 257
    tifffile.imwrite(
        tmp_path / "x.tif",
        pixels,
        photometric="palette",
        colormap=np.stack([ramp, ramp[::-1], ramp]),
    )
    read = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(read[..., 0], read[..., 2])
    np.testing.assert_allclose(read[..., 0], 1 - read[..., 1], atol=0.02)


def test_white_is_zero_formats_are_inverted(tmp_path):
    pixels = picture()
    expected = scale_intensity(np.float32(pixels))
    save_dicom(tmp_path / "x.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite")
    for name in ("x.dcm", "x.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name), 1 - expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_white_is_zero_tiff_is_inverted_too(tmp_path, dtype):
    pixels = picture().astype(dtype)
    # Pillow inverts 8 bits as it writes the tag, but not 16.
    shown = pixels if dtype == np.uint8 else pixels.max() + pixels.min() - pixels
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(pixels).save(tmp_path / "x.tif", compression="tiff_lzw", tiffinfo=tags)
    np.testing.assert_allclose(
        read_image(tmp_path / "x.tif"), scale_intensity(np.float32(shown)), atol=1e-6
    )


def test_dicom_rescale_is_applied(tmp_path):
    pixels = picture()
    # A negative slope turns bright into dark, which scaling by percentiles cannot hide.
    save_dicom(tmp_path / "x.dcm", pixels, RescaleSlope=-2, RescaleIntercept=100)
    expected = scale_intensity(np.float32(100) - 2 * np.float32(pixels))
    np.testing.assert_allclose(read_image(tmp_path / "x.dcm"), expected, atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_dicom_gives_the_same_pixels(tmp_path, syntax):
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture(shape=(3, 64, 80))))
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "y.dcm")
    for frame in range(3):
        np.testing.assert_array_equal(
            read_image(tmp_path / "y.dcm", frame), read_image(tmp_path / "x.dcm", frame)
        )


def test_old_dicom_without_preamble_is_read(tmp_path):
    save_dicom(tmp_path / "x.dcm", picture())
    (tmp_path / "old").write_bytes((tmp_path / "x.dcm").read_bytes()[132:])
    dataset = dcmread(tmp_path / "x.dcm")
    dataset.file_meta = FileMetaDataset()  # and without the words that say how it is encoded
    dataset.save_as(tmp_path / "older", implicit_vr=True, little_endian=True)
    for name in ("old", "older"):
        np.testing.assert_array_equal(read_image(tmp_path / name), read_image(tmp_path / "x.dcm"))


@pytest.mark.parametrize("suffix", ["dcm", "tif", "npy"])
def test_the_middle_frame_of_a_stack_is_the_default(tmp_path, suffix):
    stack = picture(shape=(7, 20, 30))
    path = tmp_path / f"x.{suffix}"
    {"dcm": save_dicom, "tif": tifffile.imwrite, "npy": np.save}[suffix](path, stack)
    for frame, expected in ((None, stack[3]), (0, stack[0]), (6, stack[6])):
        np.testing.assert_array_equal(
            read_image(path, frame), scale_intensity(np.float32(expected))
        )
    with pytest.raises(ImageError, match="no frame 7; frames are 0 to 6"):
        read_image(path, 7)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAR", "ILA"])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_nifti_slices_are_axial_with_anterior_up_however_they_are_stored(
    tmp_path, orientation, name
):
    anatomy = np.random.default_rng(0).normal(0, 1, (10, 12, 9)).astype(np.float32)
    anatomy[8:, 10:] = 50  # a mark in front, at the patient's right
    anatomy[:, :, 6:] += 5  # brighter towards the head
    canonical = nib.Nifti1Image(anatomy, np.diag([1, 1, 2, 1]))
    stored = canonical.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
        )
    )
    assert "".join(nib.aff2axcodes(stored.affine)) == orientation
    nib.save(stored, tmp_path / name)
    middle = read_image(tmp_path / name)
    assert middle.shape == (12, 10)
    assert (middle[:2, :2] == 1).all()  # the patient's right is on the left, as in DICOM
    np.testing.assert_array_equal(middle, scale_intensity(anatomy[::-1, ::-1, 4].T))
    np.testing.assert_array_equal(
        read_image(tmp_path / name, 8), scale_intensity(anatomy[::-1, ::-1, 8].T)
    )


def test_the_first_volume_of_a_nifti_series_is_taken(tmp_path):
    series = np.random.default_rng(0).integers(0, 99, (10, 12, 5, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(series, np.eye(4)), tmp_path / "x.nii")
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.nii"),
        scale_intensity(np.float32(series[::-1, ::-1, 2, 0].T)),
    )


def test_intensities_are_scaled_by_percentiles_so_that_a_hot_pixel_changes_nothing(tmp_path):
    ramp = np.linspace(0, 1000, 40_000).reshape(200, 200).astype(np.uint16)
    hot = ramp.copy()
    hot[0, :100] = 65_535
    save_png(tmp_path / "ramp.png", ramp)
    save_png(tmp_path / "hot.png", hot)
    read = read_image(tmp_path / "ramp.png")
    assert read.min() == 0 and read.max() == 1
    assert np.isclose((read == 0).mean(), 0.005, atol=0.001)
    assert np.isclose((read == 1).mean(), 0.005, atol=0.001)
    assert np.abs(read_image(tmp_path / "hot.png")[1:] - read[1:]).max() < 0.01


def test_something_tiny_on_an_even_ground_is_still_seen():
    pixels = np.zeros((100, 100), np.float32)
    pixels[50, 50] = 7
    assert scale_intensity(pixels).sum() == 1


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)),
    st.integers(1, 50),
    st.integers(-5000, 5000),
)
def test_brightness_and_contrast_of_the_scanner_change_nothing(pixels, gain, offset):
    if pixels.min() == pixels.max():
        pixels[0, 0] ^= 1
    scaled = scale_intensity(pixels.astype(np.float32))
    assert scaled.shape == pixels.shape and scaled.min() == 0 and scaled.max() == 1
    again = scale_intensity(pixels.astype(np.float32) * gain + offset)
    np.testing.assert_allclose(again, scaled, atol=1e-6)


@given(st.integers(1, 400), st.integers(1, 20))
def test_chosen_slices_are_distinct_and_in_the_central_half(count, slices):
    chosen = choose_frames(count, slices)
    assert 1 <= len(chosen) <= slices and chosen == sorted(set(chosen))
    assert all(count / 4 - 1 < frame < 3 * count / 4 for frame in chosen)
    assert choose_frames(count, 1) == [count // 2]


# --- bad images -------------------------------------------------------------------------------


LARGE = picture(shape=(100, 100))


def cut_short(write):
    def write_half(path):
        write(path)
        path.write_bytes(path.read_bytes()[:3000])

    return write_half


def save_npy(pixels):
    return lambda path: np.save(path.open("wb"), pixels)


def save_dicom_without_image(path):
    dataset = dcmread(save_dicom(path, picture()))
    del dataset.PixelData
    dataset.save_as(path)


def save_nifti_by_another_name(path):
    nib.save(nib.Nifti1Image(picture(shape=(5, 5, 5)), np.eye(4)), path.with_suffix(".nii"))
    path.with_suffix(".nii").rename(path)


BAD_IMAGES = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image, though long enough to be one\n" * 20),
    "truncated png": cut_short(lambda path: save_png(path, LARGE)),
    "truncated jpeg": cut_short(lambda path: Image.fromarray(LARGE).save(path, "JPEG")),
    "truncated dicom": cut_short(lambda path: save_dicom(path, LARGE)),
    "truncated tiff": cut_short(lambda path: tifffile.imwrite(path, LARGE)),
    "truncated npy": cut_short(save_npy(LARGE)),
    "constant": lambda path: save_png(path, np.full((20, 30), 9, np.uint8)),
    "nan": save_npy(np.array([[1.0, 2.0], [3.0, np.nan]])),
    "inf": save_npy(np.array([[1.0, 2.0], [3.0, np.inf]])),
    "no pixels": save_npy(np.zeros((0, 5))),
    "one number": save_npy(np.float32(1)),
    "complex": save_npy(picture() * 1j),
    "pickle": save_npy(np.array([[print, 1]], dtype=object)),
    "dicom without image": save_dicom_without_image,
    "nifti by another name": save_nifti_by_another_name,
}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "the file is empty"),
        (
            "text",
            "not a PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM, NIfTI, MGH, NumPy or MATLAB 7.3 file",
        ),
        ("truncated png", "damaged"),
        ("truncated jpeg", "damaged"),
        ("truncated dicom", "damaged"),
        ("truncated tiff", "damaged"),
        ("truncated npy", "damaged"),
        ("constant", "every pixel has the same value"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
        ("no pixels", "no pixels"),
        ("one number", r"its shape is \(\)"),
        ("complex", "not real numbers"),
        ("pickle", "it holds Python objects, which are not loaded"),
        ("dicom without image", "without an image"),
        ("nifti by another name", r"must end in \.nii"),
    ],
)
def test_a_bad_image_is_refused_in_one_sentence_with_its_path(tmp_path, fault, reason):
    path = tmp_path / "scan.dcm"
    BAD_IMAGES[fault](path)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageError, match="it is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("side", [11_000, 14_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    # One bit a pixel, all zero: a few kilobytes that would open to gigabytes.
    Image.new("1", (side, side)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["npy", "nii", "dcm", "tif"])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.lib.format.open_memmap(path, "w+", np.uint8, (20_000, 20_000))  # a sparse file
    elif suffix == "nii":
        header = nib.Nifti1Header()
        header.set_data_shape((20_000, 20_000, 2))
        path.write_bytes(header.binaryblock + b"\0" * 4)
    elif suffix == "dcm":
        save_dicom(path, picture(), Rows=20_000, Columns=20_000)
    else:
        tifffile.imwrite(path, shape=(20_000, 20_000), dtype=np.uint8)
    with pytest.raises(ImageError, match="400 megapixels"):
        read_image(path)


# --- cohorts from folders ---------------------------------------------------------------------


def test_class_folders_give_labels_and_the_pattern_gives_patients(folder):
    cohort = Cohort.from_folder(folder, patient_pattern=r"^(\w+)_")
    assert cohort.classes == ("metastasis", "normal")
    assert cohort.counts() == {"metastasis": 6, "normal": 6}
    assert cohort.labels.tolist() == [0] * 6 + [1] * 6
    assert cohort.patients_known and not cohort.synthetic and cohort.folds is None
    assert (cohort.patients[::2] == cohort.patients[1::2]).all()
    assert len(set(cohort.patients)) == 6


def test_a_pattern_without_a_group_means_all_it_matches(folder):
    grouped = Cohort.from_folder(folder, patient_pattern=r"^(\w+)_")
    whole = Cohort.from_folder(folder, patient_pattern=rf"{SECRET}[mn]\d")
    assert (grouped.patients == whole.patients).all()


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", "is not a regex"), (r"_0\.png|zzz", "finds no patient in .*_1.png.* and 3 more")],
)
def test_a_pattern_that_cannot_work_is_refused(folder, pattern, reason):
    with pytest.raises(CohortError, match=reason):
        Cohort.from_folder(folder, patient_pattern=pattern)


def test_without_a_pattern_each_image_is_its_own_patient(folder):
    cohort = Cohort.from_folder(folder)
    assert not cohort.patients_known
    assert len(set(cohort.patients)) == 12
    assert [f.kind for f in audit(cohort)].count("patients-unknown") == 1


def test_nested_images_are_found_and_what_is_no_image_is_passed_over(folder):
    before = Cohort.from_folder(folder).table()
    for clutter in (
        ".DS_Store",
        "notes.txt",
        "normal/Thumbs.db",
        "normal/DICOMDIR",
        "README",
        "normal/.hidden.png",
        "normal/masks/m.png",
        "masks/m.png",
        "__MACOSX/normal/x.png",
    ):
        (folder / clutter).parent.mkdir(parents=True, exist_ok=True)
        (folder / clutter).write_text("clutter")
    assert Cohort.from_folder(folder).table().equals(before)
    save_png(folder / "normal" / "2024" / "deep.png", picture(99))
    assert Cohort.from_folder(folder).counts()["normal"] == 7


def test_all_unreadable_images_are_told_at_once(folder):
    bad = sorted(folder.rglob("*.png"))[2:7]
    for path in bad:
        path.write_bytes(b"broken")
    with pytest.raises(UnreadableImagesError) as caught:
        Cohort.from_folder(folder)
    assert [path for path, _ in caught.value.bad] == bad
    message = str(caught.value)
    assert message.startswith("5 images cannot be used") and "\n" not in message
    assert all(str(path) in message for path in bad)


def test_a_folder_that_makes_no_cohort_is_refused(tmp_path, folder):
    def refused(path, reason):
        with pytest.raises(CohortError, match=reason):
            Cohort.open(path)

    refused(tmp_path / "nowhere", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")
    (folder / "third").mkdir()
    refused(folder, "third: this class folder holds no image")
    (folder / "third").rmdir()
    save_png(folder / "stray.png", picture())
    refused(folder, "stray.png is not in a class folder")
    (folder / "stray.png").unlink()
    for path in list((folder / "normal").iterdir())[1:]:
        path.unlink()
    refused(folder, "class 'normal' has images of one patient only")
    (folder / "normal").rename(tmp_path / "elsewhere")
    refused(folder, "every image is of class 'metastasis'")


def test_a_patient_may_have_images_of_several_labels_and_stays_one_patient(folder):
    cohort = Cohort.from_folder(folder, patient_pattern=r"(\d)_")
    shared = {
        patient
        for patient in set(cohort.groups)
        if len(set(cohort.labels[cohort.groups == patient])) > 1
    }
    assert shared and sum(cohort.count_patients().values()) > len(set(cohort.groups))
    with pytest.raises(CohortError, match="images of one patient only"):
        Cohort(tuple(replace(sample, patient="same") for sample in cohort.samples))


def test_volumes_give_the_wanted_number_of_slices_of_one_patient(tmp_path):
    for seed, label in enumerate(("a", "a", "b", "b")):
        (tmp_path / label).mkdir(exist_ok=True)
        volume = nib.Nifti1Image(picture(seed, (8, 9, 20)), np.eye(4))
        nib.save(volume, tmp_path / label / f"{seed}.nii.gz")
    assert [sample.frame for sample in Cohort.open(tmp_path).samples] == [10] * 4
    cohort = Cohort.open(tmp_path, rule=SampleRule(slices=3))
    assert [sample.frame for sample in cohort.samples] == [6, 10, 13] * 4
    assert len(set(cohort.patients)) == 4 and len(set(cohort.sample_names)) == 12
    first = cohort.samples[0]
    np.testing.assert_array_equal(as_array(first), read_image(first.path, 6))
    assert not np.array_equal(as_array(first), read_image(first.path))
    with pytest.raises(CohortError, match="slices is 0"):
        Cohort.open(tmp_path, rule=SampleRule(slices=0))


# --- cohorts from manifests -------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_manifest_gives_labels_patients_and_folds(tmp_path, separator, mark):
    header = separator.join(["Image", "label", "patient", "fold"])
    manifest = write_manifest(tmp_path, header, ROWS, separator)
    manifest.write_bytes(mark + manifest.read_bytes())
    cohort = Cohort.open(tmp_path)  # a folder that holds manifest.csv
    assert cohort == Cohort.open(manifest) == Cohort.from_manifest(manifest)
    assert cohort.patients_known
    assert cohort.folds.tolist() == [1, 1, 2, 1, 2]
    assert [sample.patient for sample in cohort.samples] == ["p0", "p0", "p1", "p2", "p3"]
    assert list(cohort.table().columns) == ["sample", "patient", "label", "fold"]


def test_a_manifest_without_patients_keeps_its_folds(tmp_path):
    rows = [(image, label, fold) for image, label, _, fold in ROWS]
    cohort = Cohort.open(write_manifest(tmp_path, "image,label,fold", rows))
    assert not cohort.patients_known and cohort.folds.tolist() == [1, 1, 2, 1, 2]
    assert len(set(cohort.groups)) == 5
    (unknown,) = [found for found in audit(cohort) if found.kind == "patients-unknown"]
    assert "predefined folds are trusted" in unknown.advice
    with_pattern = Cohort.open(tmp_path, patient_pattern="^(a[01]|b0|..)")
    assert with_pattern.patients_known


def test_a_manifest_says_slices_masks_and_what_is_synthetic(tmp_path):
    save_png(tmp_path / "m.png", picture())
    np.save(tmp_path / "v.npy", picture(7, (6, 8, 9)))
    rows = [
        ("v.npy", "a", "p0", 1, "m.png", "true"),
        ("v.npy", "a", "p0", 4, "", "true"),
        ("x.png", "a", "p1", "", "", "true"),
        ("y.png", "b", "p2", "", "", "true"),
        ("z.png", "b", "p3", "", "", "true"),
    ]
    cohort = Cohort.open(write_manifest(tmp_path, "image,label,patient,slice,mask,synthetic", rows))
    assert [sample.frame for sample in cohort.samples] == [1, 4, None, None, None]
    assert cohort.samples[0].mask == tmp_path / "m.png" and cohort.samples[1].mask is None
    assert cohort.synthetic
    assert Severity.WARNING in {f.severity for f in audit(cohort) if f.kind == "synthetic"}


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        (
            "image,label,patient,fold",
            ("gone/x.png", "normal", "p9", 1),
            "gone/x.png: there is no such file",
        ),
        ("image,label,patient,fold", ("", "normal", "p9", 1), "line 7: the column image is empty"),
        ("image,label,patient,fold", ("c.png", "", "p9", 1), r"c.png: its label is '' \(line 7\)"),
        ("image,label,patient,fold", ("c.png", "NaN", "p9", 1), "c.png: its label is 'NaN'"),
        ("image,label,patient,fold", ("c.png", "normal", "", 1), "line 7: c.png has no patient"),
        ("image,label,patient,fold", ("c.png", "normal", "p9", ""), "1 of 6 images have no fold"),
        ("image,label,patient,fold", ("c.png", "normal", "p9", "x"), "fold is 'x', not a whole"),
        (
            "image,label,patient,fold",
            ("c.png", "normal", "p3", 1),
            r"c.png \(fold 1\) and .*b1.png \(fold 2\)",
        ),
        ("image,label,patient,fold", ("a0.png", "metastasis", "p0", 1), "a0.png is listed more"),
        ("image,label,patient,fold", ("../c.png", "normal", "p9", 1), "outside the manifest's"),
        ("image,label,patient,fold", ("/etc/hosts", "normal", "p9", 1), "outside the manifest's"),
        ("image,label,patient,fold", ("c.png", "normal", "p9", 1, 5), "line 7 has 5 cells"),
        ("image,label,patient,synthetic", ("c.png", "normal", "p9", "maybe"), "synthetic is"),
        ("image,label,patient,slice", ("c.png", "normal", "p9", "-1"), "slice is '-1', not a"),
        ("image,label,patient,slice", ("c.png", "normal", "p9", "8"), "has no frame 8"),
        ("image,label,patient,mask", ("c.png", "normal", "p9", "no.png"), "there is no file no.p"),
        ("image,label,label,fold", ("c.png", "normal", "p9", 1), "the same name"),
        ("image,class,patient,fold", ("c.png", "normal", "p9", 1), "it has no column label"),
    ],
)
def test_a_manifest_with_a_fault_is_refused(tmp_path, header, row, reason):
    keep = 4 if header.endswith("fold") else 3
    rows = [(*good[:keep], *[""] * (4 - keep)) for good in ROWS]
    manifest = write_manifest(tmp_path, header, [*rows, row])
    (tmp_path / "gone" / "x.png").unlink(missing_ok=True)
    with pytest.raises(CohortError, match=reason) as caught:
        Cohort.open(manifest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"image,label\n", "it lists no images"),
        ("image,label\nä.png,x\n".encode("latin-1"), "not UTF-8"),
        (b'image,label\n"x.png,a\n', "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content, reason):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(CohortError, match=reason):
        Cohort.open(tmp_path / "list.csv")


def test_one_fold_is_refused_and_a_pattern_beside_a_patient_column_too(tmp_path):
    manifest = write_manifest(tmp_path, "image,label,patient,fold", [(*r[:3], 1) for r in ROWS])
    with pytest.raises(CohortError, match="all images are in one fold"):
        Cohort.open(manifest)
    with pytest.raises(CohortError, match="patient pattern cannot be given as well"):
        Cohort.open(manifest, patient_pattern="a")


def test_a_volume_with_chosen_slices_is_not_listed_whole_as_well(tmp_path):
    np.save(tmp_path / "v.npy", picture(7, (6, 8, 9)))
    rows = [("v.npy", "a", "p0", 1), ("v.npy", "a", "p0", ""), *((*r[:3], "") for r in ROWS)]
    manifest = write_manifest(tmp_path, "image,label,patient,slice", rows)
    with pytest.raises(CohortError, match="is listed more than once"):
        Cohort.open(manifest)


def test_images_outside_the_manifests_folder_are_read_when_allowed(tmp_path):
    save_png(tmp_path / "out.png", picture(50))
    rows = [("../out.png", "normal", "p9", 1), *ROWS]
    (tmp_path / "in").mkdir()
    manifest = write_manifest(tmp_path / "in", "image,label,patient,fold", rows)
    assert len(Cohort.from_manifest(manifest, allow_outside=True).samples) == 6


# --- order, pseudonyms, groups ----------------------------------------------------------------


def test_order_does_not_depend_on_the_file_system_or_the_manifest(folder, tmp_path, monkeypatch):
    expected = Cohort.from_folder(folder)
    listed = Path.iterdir, Path.rglob
    for method, name in zip(listed, ("iterdir", "rglob"), strict=True):
        monkeypatch.setattr(
            Path, name, lambda self, *a, method=method: reversed(sorted(method(self, *a)))
        )
    assert Cohort.from_folder(folder) == expected
    monkeypatch.undo()
    (tmp_path / "m").mkdir()
    forward = Cohort.open(write_manifest(tmp_path / "m", "image,label,patient,fold", ROWS))
    backward = Cohort.open(write_manifest(tmp_path / "m", "image,label,patient,fold", ROWS[::-1]))
    assert forward == backward


def test_the_fingerprint_knows_the_shape(tmp_path):
    values = picture(3, (16, 24))
    for name, shape in (("a/0", (16, 24)), ("a/1", (24, 16)), ("b/0", (12, 32)), ("b/1", (32, 12))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", values.reshape(shape))
    assert len({sample.fingerprint for sample in Cohort.open(tmp_path).samples}) == 4


def test_pseudonyms_outlive_renaming_and_re_encoding(folder):
    pattern = r"^(\w+)_"
    before = Cohort.from_folder(folder, pattern)
    for path in sorted(folder.rglob("*.png")):
        tifffile.imwrite(path.with_name(f"renamed-{path.stem}.tif"), np.asarray(Image.open(path)))
        path.unlink()
    after = Cohort.from_folder(folder, r"^renamed-(\w+)_")
    assert after.table().equals(before.table())


def test_no_output_holds_a_patients_name(folder):
    for seed, path in enumerate(sorted(folder.rglob("*.png")), start=100):
        save_dicom(path.with_name(f"{SECRET}-{path.stem}x.dcm"), picture(seed))
    rows = []
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        name = path.relative_to(folder).as_posix()
        rows.append((name, path.parent.name, f"{SECRET}-{path.parent.name}-{number // 2}"))
    manifest = write_manifest(folder, "image,label,patient", rows)
    for cohort in (Cohort.from_folder(folder, rf"({SECRET}\w+)_"), Cohort.from_manifest(manifest)):
        findings = audit(cohort)
        written = [
            cohort.table().to_csv(),
            *cohort.patients,
            *cohort.sample_names,
            *cohort.group_names,
            *(finding.advice for finding in findings),
            *(name for finding in findings for name in finding.samples),
        ]
        assert SECRET in str(cohort.samples[0])  # the search below can find it
        assert not any(SECRET.lower() in text.lower() for text in written)
        assert all(name.startswith("P-") for name in cohort.patients)
        assert all(name.startswith("S-") for name in cohort.sample_names)


def sample(label, patient, fingerprint, fold=None):
    return Sample(Path(f"{patient}.png"), label, patient, fold=fold, fingerprint=fingerprint)


def cohort_of(*triples):
    return Cohort(tuple(sample(*triple) for triple in triples))


def test_identical_images_join_their_patients_into_one_group():
    cohort = cohort_of(
        ("a", "p0", "1" * 64),
        ("a", "p1", "1" * 64),  # p1 has an image of p0
        ("a", "p1", "2" * 64),
        ("a", "p2", "2" * 64),  # and p2 one of p1: all three are one
        ("a", "p3", "3" * 64),
        ("b", "p4", "4" * 64),
        ("b", "p5", "5" * 64),
    )
    assert len(set(cohort.patients)) == 6
    groups = cohort.groups
    assert len(set(groups[:4])) == 1 and len(set(groups)) == 4
    assert cohort.group_names[:4].tolist() == [cohort.patients[0]] * 4
    assert len(set(cohort.sample_names)) == 7
    assert cohort.sample_names[1] == cohort.sample_names[0] + "-2"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=25))
def test_groups_never_part_a_patient_or_an_image(pairs):
    fixed = [("a", "x", "x"), ("a", "y", "y"), ("b", "z", "z"), ("b", "w", "w")]
    cohort = cohort_of(*fixed, *(("a", f"p{p}", f"{i:064x}") for p, i in pairs))
    groups, parted = cohort.groups, set()
    for key in ("patient", "fingerprint"):
        for value in {getattr(s, key) for s in cohort.samples}:
            rows = [getattr(s, key) == value for s in cohort.samples]
            parted.add(len(set(groups[rows])))
    assert parted == {1}
    assert len(set(groups[:4])) == 4  # and what shares nothing is not joined


def test_a_class_of_one_patient_entered_twice_is_refused():
    with pytest.raises(CohortError, match="class 'b' has images of one patient only"):
        cohort_of(("a", "p0", "1"), ("a", "p1", "2"), ("b", "p2", "3"), ("b", "p3", "3"))


def test_pseudonyms_that_would_collide_are_longer():
    first, second = "0" * 8 + "1" * 56, "0" * 8 + "2" * 56
    assert shorten_digests([first, "3" * 64]) == ["00000000", "33333333"]
    assert shorten_digests([first, second, first]) == ["000000001", "000000002", "000000001-2"]


def test_samples_can_be_indexed_and_split_by_scikit_learn(folder):
    cohort = Cohort.from_folder(folder, patient_pattern=r"^(\w+)_")
    images = cohort.images
    assert images.shape == (12,) and images.dtype == object
    for train, test in GroupKFold(3).split(images, cohort.labels, cohort.groups):
        assert not {s.patient for s in images[train]} & {s.patient for s in images[test]}
    assert as_array(images[0]).shape == (20, 30)


# --- audit ------------------------------------------------------------------------------------


def unique_rows(label, count):
    return [(label, f"{label}{number}", f"{label}{number}") for number in range(count)]


def kinds(cohort):
    return {finding.kind: finding for finding in audit(cohort) if finding.kind != "counts"}


def test_of_a_clean_cohort_only_the_counts_are_told():
    (counts,) = audit(cohort_of(*unique_rows("a", 50), *unique_rows("b", 50)))
    assert counts.kind == "counts" and counts.severity == "info"


@pytest.mark.parametrize(
    ("twin", "severity", "advice"),
    [
        (("b", "b0", "a0"), Severity.ERROR, "labelled differently (a, b)"),
        (("a", "new", "a0"), Severity.WARNING, "count as one patient from now on"),
        (("a", "a0", "a0"), Severity.INFO, "of one patient"),
    ],
)
def test_exact_duplicates_are_found(twin, severity, advice):
    cohort = cohort_of(*unique_rows("a", 50), *unique_rows("b", 50), twin)
    finding, _ = audit(cohort)
    assert (finding.kind, finding.severity) == ("exact-duplicates", severity)
    assert advice in finding.advice
    assert finding.files == ("a0.png", f"{twin[1]}.png")
    assert len(finding.samples) == 2
    assert list(finding.as_dict()) == ["kind", "severity", "files", "advice", "message"]
    assert finding.as_dict()["severity"] == severity.value


def test_duplicates_in_two_folds_are_an_error():
    cohort = cohort_of(
        *((*row, number % 2) for number, row in enumerate(unique_rows("a", 6))),
        *((*row, number % 2) for number, row in enumerate(unique_rows("b", 6))),
        ("a", "new", "a0", 1),
    )
    finding = audit(cohort)[0]
    assert (finding.kind, finding.severity) == ("exact-duplicates", Severity.ERROR)
    assert "in different folds" in finding.advice


def test_few_patients_imbalance_and_small_size_are_told():
    found = kinds(cohort_of(*unique_rows("a", 13), *unique_rows("b", 4)))
    assert set(found) == {"few-patients", "imbalance", "small"}
    assert "(b 4)" in found["few-patients"].advice and len(found["few-patients"].files) == 4
    assert "17 images are few" in found["small"].advice
    assert found["small"].severity == Severity.INFO
    assert set(kinds(cohort_of(*unique_rows("a", 15), *unique_rows("b", 5)))) == {"small"}


def test_the_gravest_finding_comes_first():
    rows = [*unique_rows("a", 16), *unique_rows("b", 4), ("b", "b0", "a0")]
    severities = [finding.severity for finding in audit(cohort_of(*rows))]
    assert severities == ["error", "warning", "warning", "info", "info"]


# --- the stage as a whole ---------------------------------------------------------------------


def test_the_flagship_sized_real_set_opens():
    if not (SHARED_DATA / "cemri53").is_dir():
        pytest.skip(f"real images are not at {SHARED_DATA / 'cemri53'}")
    cohort = Cohort.open(SHARED_DATA / "cemri53")
    assert cohort.counts() == {"glioma": 22, "meningioma": 16, "pituitary": 15}
    assert as_array(cohort.samples[0]).ndim == 2
    assert "exact-duplicates" not in kinds(cohort)


def test_importing_the_stage_is_light():
    code = (
        "import sys, meninx.cohort; "
        "print({'torch', 'nilearn', 'pandas', 'nibabel', 'pydicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_dicom_with_a_tiff_header_in_its_preamble_is_read_as_dicom():
    file = get_testdata_file("MR_small.dcm")
    assert Path(file).read_bytes()[:4] == b"II*\0"
    assert read_image(file).shape == (64, 64)


def test_an_image_that_was_opened_is_not_decoded_again(tmp_path):
    for seed in range(4):
        save_png(tmp_path / "ab"[seed % 2] / f"{seed}.png", picture(seed))
    cohort = Cohort.from_folder(tmp_path)
    expected = [as_head(sample.path) for sample in cohort.samples]
    for sample in cohort.samples:
        sample.path.unlink()
    for sample, pixels in zip(cohort.samples, expected, strict=True):
        np.testing.assert_array_equal(as_array(sample), pixels)


def test_pixels_are_kept_up_to_a_size_and_the_oldest_go_first():
    cache = PixelCache(most_bytes=2 * 400)
    for name in "abc":
        cache.put(name, np.zeros(100, np.float32))
    cache.put("too large", np.zeros(201, np.float32))
    assert cache.get("a") is None and cache.get("too large") is None
    with pytest.raises(ValueError, match="read-only"):
        cache.get("c")[0] = 1


@pytest.mark.parametrize("text", ["nan", "NA", "n/a", "None", "unknown", "?", " "])
def test_a_word_for_no_patient_is_not_a_patient(tmp_path, text):
    rows = "".join(f"{seed}.png,{'ab'[seed % 2]},{text}\n" for seed in range(4))
    for seed in range(4):
        save_png(tmp_path / f"{seed}.png", picture(seed))
    (tmp_path / "manifest.csv").write_text("image,label,patient\n" + rows)
    with pytest.raises(CohortError, match="has no patient"):
        Cohort.open(tmp_path)


def test_classes_that_differ_by_spelling_only_are_not_two(tmp_path):
    for seed, label in enumerate(("Glioma", "glioma", "b", "b")):
        save_png(tmp_path / "case" / label / f"{seed}.png", picture(seed))
    with pytest.raises(CohortError, match="'Glioma' and 'glioma' differ by case only"):
        Cohort.from_folder(tmp_path / "case")
    for seed, label in enumerate(("sel\u00e9", "sele\u0301", "b", "b")):
        save_png(tmp_path / "accent" / label / f"{seed}.png", picture(seed))
    assert Cohort.from_folder(tmp_path / "accent").counts() == {"b": 2, "sel\u00e9": 2}


def write_pictures(folder, *names):
    for seed, name in enumerate(names):
        save_png(folder / name, picture(seed))


def test_masks_beside_images_are_masks(tmp_path):
    write_pictures(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png", "a/hand_seg.png")
    for name in ("a/1_mask.png", "a/1_mask_1.png", "b/2-Seg.png"):
        save_png(tmp_path / name, np.uint8(picture(9) > 128) * 255)
    cohort = Cohort.from_folder(tmp_path)
    masks = {sample.path.relative_to(tmp_path).as_posix(): sample.mask for sample in cohort.samples}
    assert masks == {
        "a/1.png": tmp_path / "a/1_mask.png", "a/2.png": None, "a/hand_seg.png": None,
        "b/1.png": None, "b/2.png": tmp_path / "b/2-Seg.png",
    }  # fmt: skip


def test_a_run_folder_among_the_classes_is_no_class(tmp_path):
    write_pictures(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png", "run/figures/roc.png")
    (tmp_path / "run" / "study.toml").touch()
    assert Cohort.from_folder(tmp_path).classes == ("a", "b")


def test_a_patient_may_stand_in_a_folders_name(tmp_path):
    names = [f"{label}/P{number}/{slice}.png" for label, number in ("a1", "a2", "b3", "b4")
             for slice in range(2)]  # fmt: skip
    write_pictures(tmp_path, *names)
    cohort = Cohort.from_folder(tmp_path, r"P\d")
    assert cohort.patients_known and len(set(cohort.patients)) == 4


@pytest.mark.parametrize(
    "text",
    ["image,label\nim\\{}.png,{}\n", "sep=;\nimage;label\nim/{}.png;{}\n",
     "image,label,,\nim/{}.png,{},,\n"],
    ids=["backslashes", "sep", "empty columns"],
)  # fmt: skip
def test_a_manifest_as_a_spreadsheet_writes_it_is_read(tmp_path, text):
    write_pictures(tmp_path, *(f"im/{number}.png" for number in range(4)))
    *head, row = text.splitlines(keepends=True)
    rows = "".join(row.format(number, "ab"[number % 2]) for number in range(4))
    (tmp_path / "manifest.csv").write_text("".join(head) + rows)
    assert Cohort.open(tmp_path).counts() == {"a": 2, "b": 2}


def test_folders_of_a_division_above_the_classes_are_joined(tmp_path, caplog):
    parts = [f"{part}/{label}/{number}.png" for part in ("Training", "test") for label in "ab"
             for number in range(2)]  # fmt: skip
    write_pictures(tmp_path, *parts)
    assert Cohort.from_folder(tmp_path).counts() == {"a": 4, "b": 4}
    assert "Training and test stand above the classes" in caplog.text


def test_nothing_below_the_folders_of_a_division_is_passed_over(tmp_path):
    write_pictures(
        tmp_path, *(f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab")
    )
    (tmp_path / "train" / "run").mkdir()
    (tmp_path / "train" / "run" / "study.toml").touch()
    assert Cohort.from_folder(tmp_path).counts() == {"a": 2, "b": 2}
    write_pictures(tmp_path, "train/stray.png")
    with pytest.raises(CohortError, match=r"train: stray\.png is not in a class folder"):
        Cohort.from_folder(tmp_path)


def test_a_long_windows_path_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "manifest.csv").write_text("image,label\n" + "im\\" + "x" * 5000 + ".png,a\n")
    with pytest.raises(CohortError):
        Cohort.open(tmp_path)
