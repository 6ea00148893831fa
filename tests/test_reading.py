"""Reading clinical images: right in every kind of file, or a sentence that says why not."""

import gzip
import io
import os
import signal
import struct
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pydicom.data
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from pydicom import Dataset, Sequence, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from meninx.errors import ImageError
from meninx.imaging import Axis, read_image, read_mask
from meninx.imaging.codestreams import measure_codestream
from meninx.imaging.dicom import open_dicom
from meninx.imaging.geometry import square_pixels, turn_upright
from meninx.imaging.images import scale_intensity
from meninx.imaging.slices import SliceChoice, choose_slices
from tests.test_cohort import picture, save_dicom

PYDICOM = Path(pydicom.data.__file__).parent / "test_files"
NIBABEL = Path(nib.__file__).parent


def decode(path, frame=0):
    return open_dicom(path).decode(frame)


# --- DICOM: how pixels are stored ---------------------------------------------------------------


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_compression_changes_nothing(tmp_path, syntax, dtype):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 33)).astype(dtype)
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", values))
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "y.dcm")
    np.testing.assert_array_equal(decode(tmp_path / "y.dcm"), values)


@pytest.mark.parametrize("name", ["implicit", "bigendian", "expb", "RLE", "jp2klossless"])
def test_every_transfer_syntax_gives_the_same_pixels(name):
    expected = decode(PYDICOM / "MR_small.dcm")
    np.testing.assert_array_equal(decode(PYDICOM / f"MR_small_{name}.dcm"), expected)


def test_a_deflated_file_gives_the_same_pixels(tmp_path):
    values = picture(3).astype(np.uint16) * 200
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", values))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "y.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(decode(tmp_path / "y.dcm"), values)


def test_baseline_jpeg_is_read_closely(tmp_path):
    ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "JPEG", quality=95)
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", ramp))
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(tmp_path / "y.dcm")
    assert np.abs(decode(tmp_path / "y.dcm") - ramp.astype(float)).max() < 8


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("JPGExtended.dcm", (420, 140), 244), ("SC_rgb_jpeg_gdcm.dcm", (5, 50), (255, 0, 0))],
)
def test_what_only_gdcm_reads_is_read(name, place, value):
    """12-bit JPEG and lossless JPEG, with the values that pydicom's own tests expect."""
    assert np.array_equal(decode(PYDICOM / name)[place], value)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32])
def test_signed_and_wide_pixels_keep_their_values(tmp_path, dtype):
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, 600).reshape(20, 30).astype(dtype)
    save_dicom(tmp_path / "x.dcm", values, PixelRepresentation=int(limits.min < 0))
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values)


def test_bits_above_the_stored_ones_are_ignored(tmp_path):
    values = picture(1).astype(np.uint16)
    dirty = values | 0xF000  # an overlay in the unused bits, as old scanners wrote
    save_dicom(tmp_path / "x.dcm", dirty, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values)


@pytest.mark.parametrize(("keyword", "dtype"), [("Float", "<f4"), ("DoubleFloat", "<f8")])
def test_float_pixels_are_read(tmp_path, keyword, dtype):
    values = np.random.default_rng(0).normal(0, 1e-3, (20, 30)).astype(dtype)
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture()))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 8 * values.itemsize
    setattr(dataset, f"{keyword}PixelData", values.tobytes())
    dataset.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values)


@pytest.mark.parametrize(
    "missing",
    ["PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation", "BitsStored",
     "HighBit", "SOPClassUID", "PatientID"],
)  # fmt: skip
def test_a_missing_optional_tag_has_its_usual_value(tmp_path, missing):
    values = picture(2).astype(np.uint16)
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", values))
    del dataset[missing]
    dataset.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values)


# --- DICOM: how pixels are shown ----------------------------------------------------------------


def test_the_first_window_of_several_is_applied_after_rescaling(tmp_path):
    values = np.arange(600, dtype=np.uint16).reshape(20, 30)
    save_dicom(
        tmp_path / "x.dcm", values, RescaleSlope=2, RescaleIntercept=-100,
        WindowCenter=[300, 900], WindowWidth=[201, 10],
    )  # fmt: skip
    shown = decode(tmp_path / "x.dcm")
    rescaled = values * 2.0 - 100
    expected = np.clip(rescaled, 299.5 - 100, 299.5 + 100)
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.999999
    assert len(np.unique(shown)) == len(np.unique(expected))


@pytest.mark.parametrize(("centre", "width"), [(5000, 10), (100, 0), (100, -5)])
def test_a_window_that_leaves_nothing_to_see_is_passed_over(tmp_path, centre, width):
    values = picture()
    save_dicom(tmp_path / "x.dcm", values, WindowCenter=centre, WindowWidth=width)
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values)


def test_a_voi_table_is_applied(tmp_path):
    values = picture()
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.add_new("LUTData", "US", [(255 - level) ** 2 for level in range(256)])
    save_dicom(tmp_path / "x.dcm", values, VOILUTSequence=Sequence([item]))
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), (255 - values.astype(int)) ** 2)


def test_a_modality_table_is_applied(tmp_path):
    values = picture()
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.add_new("LUTData", "US", [level * 3 for level in range(256)])
    save_dicom(tmp_path / "x.dcm", values, ModalityLUTSequence=Sequence([item]))
    np.testing.assert_array_equal(decode(tmp_path / "x.dcm"), values.astype(int) * 3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_becomes_black(tmp_path, photometric):
    values = 100 + picture().astype(np.int16)
    values[:4] = -2000
    save_dicom(
        tmp_path / "x.dcm", values, PixelRepresentation=1, PixelPaddingValue=-2000,
        PhotometricInterpretation=photometric,
    )  # fmt: skip
    shown = decode(tmp_path / "x.dcm")
    assert (shown[:4] == shown[4:].min()).all() and shown[4:].min() < shown.max()


def test_every_frame_of_an_enhanced_mr_has_its_own_rescaling_and_window(tmp_path):
    values = np.stack([picture(1), picture(1)]).astype(np.uint16)
    frames = []
    for slope in (1, -3):
        rescale, window, group = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 7
        window.WindowCenter, window.WindowWidth = 7 + slope * 128, 100_000
        group.PixelValueTransformationSequence = Sequence([rescale])
        group.FrameVOILUTSequence = Sequence([window])
        frames.append(group)
    save_dicom(tmp_path / "x.dcm", values, PerFrameFunctionalGroupsSequence=Sequence(frames))
    first, second = (decode(tmp_path / "x.dcm", frame) for frame in (0, 1))
    for shown, sign in ((first, 1), (second, -1)):
        assert np.corrcoef(shown.ravel(), sign * values[0].ravel().astype(float))[0, 1] > 0.999


def test_ybr_and_palette_become_rgb():
    for name, place, value in (
        ("SC_ybr_full_422_uncompressed.dcm", (5, 50), (254, 0, 0)),
        ("SC_rgb_jpeg_dcmtk.dcm", (5, 50), (254, 0, 0)),
    ):
        assert np.abs(decode(PYDICOM / name)[place].astype(int) - value).max() <= 2
    assert decode(PYDICOM / "examples_palette.dcm").shape == (350, 800, 3)


AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


@pytest.mark.parametrize("usual", [AXIAL, CORONAL, SAGITTAL])
def test_slices_are_turned_upright_however_they_are_stored(usual):
    pixels = np.arange(12).reshape(3, 4)
    row, column = np.array(usual[:3]), np.array(usual[3:])
    stored = {
        (*row, *column): pixels,
        (*-row, *column): pixels[:, ::-1],
        (*row, *-column): pixels[::-1],
        (*column, *row): pixels.T,
        (*-column, *row): pixels[::-1].T,
    }
    for orientation, turned in stored.items():
        np.testing.assert_array_equal(turn_upright(turned, orientation), pixels)
    for nonsense in (None, (), (0,) * 6, (np.nan,) * 6, (1, 0, 0, 1, 0, 0)):
        np.testing.assert_array_equal(turn_upright(pixels, nonsense), pixels)


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    save_dicom(tmp_path / "x.dcm", picture(shape=(20, 30)), PixelSpacing=[2.0, 1.0])
    assert read_image(tmp_path / "x.dcm").shape == (40, 30)
    for height, width in ((0, 1), (1, -1), (np.nan, 1), (1, 1e6), (1, 1.001)):
        assert square_pixels(picture(), height, width).shape == (20, 30)


# --- other formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAR", "IRA"])
def test_nifti_is_sliced_along_any_axis_however_it_is_stored(tmp_path, axis, orientation):
    anatomy = np.random.default_rng(0).normal(0, 1, (10, 12, 9)).astype(np.float32)
    canonical = nib.Nifti1Image(anatomy, np.eye(4))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    nib.save(canonical.as_reoriented(turn), tmp_path / "x.nii.gz")
    number = list(Axis).index(axis)
    expected = np.take(anatomy, 3, axis=number)[::-1, ::-1].T  # head or front up, right on the left
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.nii.gz", 3, axis), scale_intensity(expected)
    )


def test_an_oblique_nifti_is_sliced_along_its_closest_axes_and_scaled(tmp_path):
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    values = np.random.default_rng(0).integers(0, 99, (8, 9, 7)).astype(np.int16)
    image = nib.Nifti1Image(values, affine)
    image.header.set_slope_inter(-2, 5)
    nib.save(image, tmp_path / "x.nii")
    expected = nib.load(tmp_path / "x.nii").get_fdata()[::-1, ::-1, 3].T
    np.testing.assert_allclose(
        read_image(tmp_path / "x.nii", 3), scale_intensity(expected), atol=1e-6
    )


def test_thick_slices_keep_the_shape_of_the_head_across_the_other_axes(tmp_path):
    volume = nib.Nifti1Image(picture(shape=(20, 20, 5)), np.diag([1, 1, 4, 1]))
    nib.save(volume, tmp_path / "x.nii")
    assert read_image(tmp_path / "x.nii", axis=Axis.CORONAL).shape == (20, 20)


def test_colour_nifti_and_volumes_of_freesurfer_are_read(tmp_path):
    colour = np.zeros((15, 16, 17), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for name in "RGB":
        colour[name] = picture(ord(name), (15, 16, 17))
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "x.nii.gz")
    expected = np.stack([colour[name][::-1, ::-1, 2].T for name in "RGB"], axis=-1)
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.nii.gz", 2), scale_intensity(np.float32(expected))
    )
    volume = picture(1, (15, 16, 17)).astype(np.int16)
    grey = nib.Nifti1Image(volume, np.diag([-1, 1, 2, 1]))
    nib.save(grey, tmp_path / "x.nii")
    for suffix in ("mgh", "mgz"):
        nib.save(nib.MGHImage(volume, grey.affine), tmp_path / f"x.{suffix}")
        for axis in Axis:
            np.testing.assert_array_equal(
                read_image(tmp_path / f"x.{suffix}", 3, axis),
                read_image(tmp_path / "x.nii", 3, axis),
            )
    content = (tmp_path / "x.mgz").read_bytes()
    (tmp_path / "cut.mgz").write_bytes(content[: len(content) // 2])
    refuse(tmp_path / "cut.mgz", "it is damaged")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mgz"])
def test_a_volume_cut_short_is_refused_even_where_the_slice_is_whole(tmp_path, suffix):
    kind = nib.MGHImage if suffix == "mgz" else nib.Nifti1Image
    path = tmp_path / f"x.{suffix}"
    nib.save(kind(picture(9, (8, 9, 20)), np.eye(4)), path)
    content = path.read_bytes()
    assert read_image(path, 2).shape == (9, 8)
    for size in (20, 400, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:size])
        with pytest.raises(ImageError):
            read_image(path, 2)
    if suffix == "nii.gz":  # whole, but in two parts: the last four bytes are of the second alone
        unpacked = gzip.decompress(content)
        path.write_bytes(gzip.compress(unpacked[:900]) + gzip.compress(unpacked[900:]))
        assert read_image(path, 2).shape == (9, 8)


def test_one_bit_png_and_cmyk_jpeg_are_read(tmp_path):
    bits = picture() > 127
    Image.fromarray(bits).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), bits)
    smooth = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 48, axis=0)
    colour = np.stack([smooth, smooth[:, ::-1], smooth], axis=-1)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "x.jpg", quality=98)
    read = read_image(tmp_path / "x.jpg")
    assert np.abs(read - scale_intensity(np.float32(colour))).mean() < 0.05


def save_cjdata(path, image, label=2, patient="MR0412", mask=None):
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["image"], group["label"] = image.T, np.array([[float(label)]])
        group["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        group["tumorMask"] = np.uint8(image > 200 if mask is None else mask).T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def test_matlab_files_of_the_cemri_set_are_read_with_their_mask(tmp_path):
    image = picture(5).astype(np.int16)
    path = save_cjdata(tmp_path / "7.mat", image)
    np.testing.assert_array_equal(read_image(path), scale_intensity(image))
    np.testing.assert_array_equal(read_mask(path), image > 200)
    Image.fromarray(np.uint8(image > 200) * 255).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), image > 200)


def test_a_matlab_file_cannot_lead_to_another_file(tmp_path):
    secret = save_cjdata(tmp_path / "secret.mat", picture().astype(np.int16))
    for number, link in enumerate((h5py.ExternalLink(secret, "/cjdata"), h5py.SoftLink("/other"))):
        with h5py.File(tmp_path / f"{number}.mat", "w") as file:
            file["cjdata"] = link
        with pytest.raises(ImageError, match="without the structure cjdata"):
            read_image(tmp_path / f"{number}.mat")
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file.create_group("cjdata").create_dataset(
            "image", (10, 10), "u1", external=[(str(secret), 0, 100)]
        )
    with pytest.raises(ImageError, match="not a matrix of its own"):
        read_image(tmp_path / "x.mat")


# --- which slices -------------------------------------------------------------------------------


def test_slices_are_chosen_by_rule():
    head = np.zeros((20, 32, 32))
    for number in range(20):  # neck and vertex at the ends, the brain in 8 to 15
        side = 26 if 8 <= number < 16 else 8
        head[number, :side, :side] = 100
    assert choose_slices(20, 1, SliceChoice.MIDDLE, None) == [10]
    assert choose_slices(20, 4, SliceChoice.MIDDLE, None) == [8, 9, 10, 11]
    assert choose_slices(20, 2, SliceChoice.EVEN, None) == [7, 12]
    assert choose_slices(20, 4, SliceChoice.BRAIN, lambda n: head[n]) == [9, 11, 13, 15]
    assert choose_slices(3, 5, SliceChoice.BRAIN, None) == [0, 1, 2]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 70), st.sampled_from(list(SliceChoice)))
def test_chosen_slices_are_some_of_those_there_are(count, slices, choice):
    random = np.random.default_rng(count)
    chosen = choose_slices(count, slices, choice, lambda _: random.random((4, 4)))
    assert 1 <= len(chosen) <= slices and chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))


# --- bad input ----------------------------------------------------------------------------------


def refuse(path, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_jpeg_2000_bomb_in_a_small_dicom_is_refused_by_its_header(tmp_path):
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture(shape=(64, 64))))
    dataset.compress(JPEG2000Lossless)
    stream = bytearray(dataset.PixelData)
    start = stream.find(b"\xff\x4f\xff\x51") + 8
    stream[start : start + 8] = struct.pack(">2I", 60_000, 60_000)
    dataset.PixelData = bytes(stream)
    dataset.save_as(tmp_path / "x.dcm")
    refuse(tmp_path / "x.dcm", "3,600 megapixels")


def test_a_stream_of_another_size_than_its_tags_is_refused(tmp_path):
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture(shape=(64, 64))))
    dataset.compress(JPEGLSLossless)
    dataset.Rows = 32
    dataset.save_as(tmp_path / "x.dcm")
    refuse(tmp_path / "x.dcm", "its tags say 32 × 64 pixels, its compressed data 64 × 64")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_can_be_measured_as_a_stream(content):
    for start in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51"):
        size = measure_codestream(start + content)
        assert size is None or min(size) >= 0


def test_a_deflated_bomb_is_refused(tmp_path):
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture()))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00091001, "OB", b"\0" * 40_000_000)
    dataset.save_as(tmp_path / "x.dcm")
    assert (tmp_path / "x.dcm").stat().st_size < 100_000
    from meninx.imaging import dicom

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom, "MAXIMUM_BYTES", 10_000_000)
        refuse(tmp_path / "x.dcm", "it unpacks to far more")


def test_a_matlab_bomb_is_refused_by_its_header(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file.create_group("cjdata").create_dataset("image", (60_000, 60_000), "u1", chunks=True)
    refuse(tmp_path / "x.mat", "3,600 megapixels")


def test_what_is_no_plain_file_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refuse(tmp_path / "loop", "symbolic link that leads back to itself")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "a device or a pipe")
    refuse(tmp_path / ("x" * 300), "longer than this file system allows")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    save_dicom(tmp_path / "x.dcm", picture()).chmod(0)
    refuse(tmp_path / "x.dcm", "you may not read it")


def test_permission_denied_is_told_in_words(tmp_path, monkeypatch):
    def deny(self, *_):
        raise PermissionError(13, "Permission denied")

    save_dicom(tmp_path / "x.dcm", picture())
    monkeypatch.setattr(Path, "open", deny)
    refuse(tmp_path / "x.dcm", "you may not read it")


@pytest.mark.parametrize("name", ["ä ö 脳 🧠.png", "x" * 251 + ".png", "line\nbreak.png"])
def test_unusual_names_are_no_obstacle(tmp_path, name):
    Image.fromarray(picture()).save(tmp_path / name, "PNG")
    assert read_image(tmp_path / name).shape == (20, 30)


def test_wrong_extensions_and_gzip_of_something_else(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "x.dcm", "PNG")
    assert read_image(tmp_path / "x.dcm").shape == (20, 30)
    (tmp_path / "y.nii.gz").write_bytes(gzip.compress(b"no volume" * 100))
    refuse(tmp_path / "y.nii.gz", "compressed by gzip and no volume")
    (tmp_path / "z.dcm").write_text("patient list\n" * 100)
    refuse(tmp_path / "z.dcm", "it is not a PNG")
    tifffile.imwrite(tmp_path / "w.jpg", picture())
    assert read_image(tmp_path / "w.jpg").shape == (20, 30)


def test_errors_do_not_repeat_what_stands_in_a_header(tmp_path):
    dataset = dcmread(save_dicom(tmp_path / "x.dcm", picture()))
    dataset.PhotometricInterpretation = "WULANDARI"
    dataset.save_as(tmp_path / "x.dcm")
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.add_new("NumberOfFrames", "LO", "WULANDARI")
    dataset.save_as(tmp_path / "y.dcm")
    for name in ("x.dcm", "y.dcm"):
        try:
            read_image(tmp_path / name)
        except ImageError as refusal:
            assert "WULANDARI" not in str(refusal)


# --- crashes that fuzzing found -----------------------------------------------------------------


def test_a_decoder_that_ends_its_process_does_not_end_ours(tmp_path):
    """GDCM aborts on damaged JPEG headers: found by benchmarks/reliability.py."""
    dataset = dcmread(PYDICOM / "SC_rgb_jpeg_gdcm.dcm")
    assert dataset.file_meta.TransferSyntaxUID in (JPEGLossless, "1.2.840.10008.1.2.4.70")
    stream = bytearray(dataset.PixelData)
    start = stream.find(b"\xff\xd8")
    for cut in range(4, 60, 8):
        damaged = bytearray(stream)
        damaged[start + cut + 20 : start + cut + 28] = b"\xff\x00" * 4
        dataset.PixelData = bytes(damaged)
        dataset.save_as(tmp_path / f"{cut}.dcm")
        try:
            read_image(tmp_path / f"{cut}.dcm")
        except ImageError as refusal:
            assert "\n" not in str(refusal)
    assert read_image(PYDICOM / "SC_rgb_jpeg_gdcm.dcm").shape == (100, 100, 3)


def test_a_process_that_dies_or_hangs_is_replaced(monkeypatch):
    from meninx.imaging import decoding

    good = PYDICOM / "MR_small_RLE.dcm"
    expected = read_image(good)
    decoding._process._child.kill()
    decoding._process._child.wait()
    np.testing.assert_array_equal(read_image(good), expected)
    # Stopped, it never answers; else it may be faster than the shortest time it is given.
    decoding._process._child.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 0.1)
    with pytest.raises(ImageError, match="damaged, or no decoder"):
        decoding.decode_apart(good, 0)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_image(good), expected)


def write_tiff_chain(path, nexts, *, is_big=False):
    """Write a TIFF of which only the chain of its pages is sound: n has the next one nexts[n]."""
    head, count, entry, offset = ("<HHHHQ", "<Q", 20, "<Q") if is_big else ("<HHI", "<H", 12, "<I")
    first = struct.calcsize(head)
    size = struct.calcsize(count) + entry + struct.calcsize(offset)
    start = (0x4949, 43, 8, 0, first) if is_big else (0x4949, 42, first)
    width = struct.pack("<HHQQ" if is_big else "<HHII", 256, 3, 1, 20)
    content = struct.pack(head, *start)
    for page in nexts:
        place = 0 if page is None else first + page * size
        content += struct.pack(count, 1) + width + struct.pack(offset, place)
    path.write_bytes(content)


@pytest.mark.parametrize("is_big", [False, True])
def test_a_tiff_whose_pages_go_round_is_refused_at_once(tmp_path, is_big):
    """tifffile follows them for ever: found by benchmarks/reliability.py."""
    for name, nexts in {"itself": [0], "first": [1, 2, 0], "middle": [1, 2, 3, 1]}.items():
        write_tiff_chain(tmp_path / f"{name}.tif", nexts, is_big=is_big)
        refuse(tmp_path / f"{name}.tif", "its pages lead back to an earlier one")
    write_tiff_chain(tmp_path / "x.tif", [1, 900], is_big=is_big)
    refuse(tmp_path / "x.tif", "it ends before its last page does")


def test_a_tiff_of_too_many_pages_is_refused(tmp_path, monkeypatch):
    from meninx.imaging import tiff

    stack = np.stack([picture(seed) for seed in range(4)])
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack", metadata=None)
    monkeypatch.setattr(tiff, "MAXIMUM_FRAMES", 4)
    assert read_image(tmp_path / "x.tif", 3).shape == (20, 30)
    monkeypatch.setattr(tiff, "MAXIMUM_FRAMES", 3)
    refuse(tmp_path / "x.tif", "more than 3 pages")


def test_a_damaged_tiff_says_nothing_beside_its_sentence(tmp_path, capfd):
    """libtiff writes to the terminal what it thinks of a file."""
    Image.fromarray(picture()).save(tmp_path / "x.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        (start,), (size,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    content[start + 4 : start + size] = b"\xff" * (size - 4)
    (tmp_path / "x.tif").write_bytes(content)
    refuse(tmp_path / "x.tif", "compressed pixels are damaged")
    assert capfd.readouterr() == ("", "")


def test_run_lengths_that_lie_are_refused(tmp_path):
    """pylibjpeg-rle panics on them, which is no Exception: found by benchmarks/reliability.py."""
    dataset = dcmread(PYDICOM / "MR_small_RLE.dcm")
    stream = bytearray(dataset.PixelData)
    stream[-600:-100] = b"\x7f" * 500
    dataset.PixelData = bytes(stream)
    dataset.save_as(tmp_path / "x.dcm")
    refuse(tmp_path / "x.dcm", "compressed pixels are damaged")


# --- read right, or refused ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP"])
def test_further_raster_formats_are_read(tmp_path, kind):
    pixels = picture(3)
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(tmp_path / "x", kind, **options)
    np.testing.assert_allclose(
        read_image(tmp_path / "x"), scale_intensity(np.float32(pixels)), atol=0.02
    )


def test_an_animation_has_several_frames(tmp_path):
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    first, last = (read_image(tmp_path / "x.gif", frame) for frame in (0, 2))
    assert first.shape == last.shape and np.abs(first - last).mean() > 0.1


@pytest.mark.parametrize(
    ("shape", "read"),
    [((20, 30, 1), (20, 30)), ((1, 20, 30), (20, 30)), ((20, 30, 4), (20, 30, 3)),
     ((3, 20, 30), None), ((9, 7), None)],
)  # fmt: skip
def test_arrays_with_an_axis_of_channels_are_colours_or_refused(tmp_path, shape, read):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random(shape))
    if read:
        assert read_image(tmp_path / "x.npy").shape == read
    else:
        with pytest.raises(ImageError, match=r"colours or as many slices|at least 8 on a side"):
            read_image(tmp_path / "x.npy")


def test_png_of_deep_colour_is_refused_rather_than_cut_down(tmp_path):
    import struct
    import zlib

    rows = b"".join(b"\0" + bytes(16 * 6) for _ in range(16))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]  # fmt: skip
    with (tmp_path / "x.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in chunks:
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))
    with pytest.raises(ImageError, match="16 bits a channel"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_uncompressed_tiff_is_turned_as_a_compressed_one_is(tmp_path, orientation):
    image = Image.fromarray(picture(4))
    for name, compression in (("plain", None), ("packed", "tiff_lzw")):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[274] = orientation
        image.save(tmp_path / f"{name}.tif", compression=compression, tiffinfo=tags)
    np.testing.assert_array_equal(
        read_image(tmp_path / "plain.tif"), read_image(tmp_path / "packed.tif")
    )


def test_inks_of_print_are_read_alike_whether_compressed_or_not(tmp_path):
    colours = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    inks = Image.fromarray(colours).convert("CMYK")
    inks.save(tmp_path / "plain.tif")
    inks.save(tmp_path / "packed.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(
        read_image(tmp_path / "plain.tif"), read_image(tmp_path / "packed.tif")
    )


def test_values_that_lie_high_in_their_words_are_brought_down(tmp_path):
    pixels = np.random.default_rng(6).integers(0, 4096, (20, 30), dtype=np.uint16)
    save_dicom(tmp_path / "low.dcm", pixels, BitsStored=12, HighBit=11)
    save_dicom(tmp_path / "high.dcm", pixels << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(
        read_image(tmp_path / "low.dcm"), read_image(tmp_path / "high.dcm")
    )
