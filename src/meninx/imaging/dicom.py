"""DICOM: single images and multi-frame objects, shown as their makers meant them."""

import zlib
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.codestreams import measure_codestream
from meninx.imaging.decoding import decode_apart
from meninx.imaging.frame_source import (
    MAXIMUM_FRAMES,
    MAXIMUM_PIXELS,
    FrameSource,
    flatten_alpha,
    invert,
    refuse_oversized,
)
from meninx.imaging.geometry import square_pixels, turn_upright
from meninx.language import Message

if TYPE_CHECKING:
    from pydicom import Dataset

# The elements that hold an image, the usual one first.
PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# What the standard asks for and old or careless writers leave out, and what is then meant.
USUAL = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
# Where multi-frame objects keep per frame what single images keep at the top.
RESCALE: tuple[str, tuple[str, ...]] = (
    "PixelValueTransformationSequence",
    ("RescaleSlope", "RescaleIntercept"),
)
WINDOW: tuple[str, tuple[str, ...]] = (
    "FrameVOILUTSequence",
    ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
)
MAXIMUM_BYTES = 16 * MAXIMUM_PIXELS


def open_dicom(path: Path) -> FrameSource:
    """Open a DICOM file, in any transfer syntax that pydicom, openjpeg, gdcm and CharLS decode.

    Grey values go through the modality transform (rescale or table), then the first window or
    VOI table; a window that would leave nothing to see is passed over. Padding becomes black,
    and MONOCHROME1, where 0 is white, is inverted. Palettes are applied and YBR becomes RGB.
    Slices are turned upright and given square pixels as their orientation and spacing say.
    Elements that are missing have their usual value. Only pixels and their description are
    looked at.
    """
    from pydicom import dcmread

    refuse_inflated(path)
    dataset = dcmread(path, force=True)  # force: old files lack the preamble
    _refuse_without_image(dataset)
    fill_missing(dataset)
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    if count > MAXIMUM_FRAMES:
        raise ImageError(f"it promises {count:,} frames, more than the {MAXIMUM_FRAMES:,} allowed")
    refuse_oversized(int(dataset.Rows) * int(dataset.Columns))
    return FrameSource(count, lambda frame: _lay_out(_show(dataset, path, frame), dataset, frame))


def refuse_inflated(path: Path) -> None:
    """Raise ImageError when the deflated part of a DICOM file unpacks to far too much."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    with path.open("rb") as file:
        file.seek(132 + 12 + int(meta.get("FileMetaInformationGroupLength") or 0))
        unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := unpacker.unconsumed_tail or file.read(1 << 16):
            size += len(unpacker.decompress(chunk, 1 << 22))
            if size > MAXIMUM_BYTES:
                raise ImageError("it unpacks to far more than an image should")
            if unpacker.eof:
                return


def _refuse_without_image(dataset: "Dataset") -> None:
    if not any(element in dataset for element in PIXEL_ELEMENTS):
        raise ImageError(Message("reason_no_image"))
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(Message("reason_no_size"))
    if not (dataset.Rows and dataset.Columns):
        raise ImageError(Message("reason_no_pixels"))


def fill_missing(dataset: "Dataset") -> None:
    """Give what is missing its usual value, and the transfer syntax the one it was read by."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    is_implicit, is_little_endian = dataset.original_encoding
    native = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else native
    for keyword, value in USUAL.items():
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, value)
    if dataset.SamplesPerPixel > 1 and dataset.get("PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0
    if "PixelData" in dataset:
        if not dataset.get("BitsAllocated"):
            dataset.BitsAllocated = dataset.get("BitsStored", 16) // 9 * 8 + 8
        if not dataset.get("BitsStored"):
            dataset.BitsStored = dataset.BitsAllocated


def _show(dataset: "Dataset", path: Path, frame: int) -> np.ndarray:
    """Decode one frame and take it through every transform that its file describes."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    pixels = _decode(dataset, path, frame)
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        return flatten_alpha(apply_color_lut(pixels, dataset))
    if pixels.ndim == 3:
        return pixels
    display = _describe_display(dataset, frame)
    values = _apply_window(apply_modality_lut(pixels, display), display)
    shown = invert(values) if photometric == "MONOCHROME1" else values
    return _blacken(shown, _find_padding(pixels, dataset))


def _decode(dataset: "Dataset", path: Path, frame: int) -> np.ndarray:
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        above = int(dataset.get("HighBit") or 0) + 1 - int(dataset.get("BitsStored") or 64)
        if above <= 0:
            return pixel_array(dataset, index=frame)
        # The values lie higher in their words than usual: all of the bits below are read, too.
        described = copy(dataset)
        described.BitsStored = int(dataset.BitsStored) + above
        return pixel_array(described, index=frame) >> above
    _refuse_bomb(dataset, frame)
    return decode_apart(path, frame)


def _refuse_bomb(dataset: "Dataset", frame: int) -> None:
    """Raise ImageError when the compressed stream promises another size than its tags."""
    from pydicom.encaps import get_frame

    size = measure_codestream(
        get_frame(
            dataset.PixelData,
            frame,
            number_of_frames=max(1, int(dataset.get("NumberOfFrames") or 1)),
        )
    )
    if size is None:  # run-length encoding, which says no size and cannot outgrow its tags
        return
    refuse_oversized(size[0] * size[1])
    if size != (dataset.Rows, dataset.Columns):
        raise ImageError(
            f"its tags say {dataset.Rows} × {dataset.Columns} pixels, its compressed data "
            f"{size[0]} × {size[1]}"
        )


def _describe_display(dataset: "Dataset", frame: int) -> "Dataset":
    """Gather what turns one frame's stored values into shown ones, wherever the file says it."""
    from pydicom import Dataset

    display = Dataset()
    display.file_meta = dataset.file_meta
    keywords = ("PhotometricInterpretation", "BitsStored", "PixelRepresentation")
    for keyword in (*keywords, "ModalityLUTSequence", *RESCALE[1], *WINDOW[1]):
        if dataset.get(keyword) not in (None, ""):
            display[keyword] = dataset[keyword]
    for sequence, moved in (RESCALE, WINDOW):
        macro = find_macro(dataset, sequence, frame)
        for keyword in moved:
            if macro is not None and macro.get(keyword) not in (None, ""):
                display[keyword] = macro[keyword]
    if "RescaleSlope" in display or "RescaleIntercept" in display:
        display.RescaleSlope = display.get("RescaleSlope", 1)
        display.RescaleIntercept = display.get("RescaleIntercept", 0)
    return display


def _lay_out(shown: np.ndarray, dataset: "Dataset", frame: int) -> np.ndarray:
    """Give square pixels and the usual orientation to a frame that says it has others."""
    spacing = _read_numbers(
        find_value(dataset, "PixelMeasuresSequence", "PixelSpacing", frame)
        or dataset.get("ImagerPixelSpacing")
        or dataset.get("PixelAspectRatio")
    )
    if len(spacing) == 2:
        shown = square_pixels(shown, height=spacing[0], width=spacing[1])
    orientation = find_value(dataset, "PlaneOrientationSequence", "ImageOrientationPatient", frame)
    return turn_upright(shown, _read_numbers(orientation))


def _read_numbers(value: object) -> tuple[float, ...]:
    """Read a DICOM value of several numbers; one that is none gives none."""
    try:
        return tuple(float(number) for number in value or ())  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return ()


def find_value(dataset: "Dataset", sequence: str, keyword: str, frame: int) -> object:
    """Give what a multi-frame object says of a frame, or else what the file says of all."""
    macro = find_macro(dataset, sequence, frame)
    value = None if macro is None else macro.get(keyword)
    return dataset.get(keyword) if value is None else value


def find_macro(dataset: "Dataset", sequence: str, frame: int) -> "Dataset | None":
    """Give a frame's own description of one aspect, or the one that all frames share."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        if group.get(sequence):
            return group[sequence].value[0]
    return None


def _apply_window(values: np.ndarray, display: "Dataset") -> np.ndarray:
    """Show values through the first VOI table or window, unless nothing would be left to see."""
    from pydicom.pixels import apply_voi_lut

    is_windowed = "WindowCenter" in display and "WindowWidth" in display
    if not is_windowed and "VOILUTSequence" not in display:
        return values
    if "VOILUTSequence" in display:
        values = np.rint(values).astype(np.int64) if values.dtype.kind == "f" else values
    else:
        display.setdefault("BitsStored", 16)  # float pixels have none; it only sets the range
    for keyword in RESCALE[1]:  # pydicom would turn the window over where the slope is negative
        display.pop(keyword, None)
    try:
        shown = apply_voi_lut(values, display, index=0)
    except (ValueError, NotImplementedError, IndexError, TypeError, AttributeError):
        return values  # a window of no width, or of a kind the standard does not know
    return shown if shown.min() < shown.max() else values


def _find_padding(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray | None:
    """Mark the stored values that stand for "no measurement" around the image."""
    keywords = ("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue", "PixelPaddingValue")
    found = [dataset[keyword].value for keyword in keywords if dataset.get(keyword) is not None]
    if not found or not isinstance(found[0], int | float):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else found[0]
    return (pixels >= min(found[0], other)) & (pixels <= max(found[0], other))


def _blacken(shown: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    if padding is None or padding.all() or not padding.any():
        return shown
    return np.where(padding, shown[~padding].min(), shown)
