"""From a file to pixels: find out what it is, decode it, scale its intensities.

In: a PNG, JPEG, TIFF, DICOM, NIfTI, MGH, NumPy or MATLAB file. Out: a float32 array in [0, 1].
The formats themselves are in `pictures`, `tiff`, `dicom`, `volumes` and `matlab`.
"""

import errno
import gzip
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.dicom import open_dicom
from meninx.imaging.frame_source import FrameSource
from meninx.imaging.head_crop import Head, crop_to_head, cut_out, scale_between
from meninx.imaging.matlab import open_matlab, read_tumour_mask
from meninx.imaging.raster import PNG, open_raster
from meninx.imaging.silence_loggers import silence_loggers
from meninx.imaging.slices import Axis, choose_frames
from meninx.imaging.tiff import open_tiff
from meninx.imaging.volumes import open_numpy, open_volume
from meninx.language import Message

# DICOM without its preamble begins with an element of group 2 or 8, of either byte order.
BARE_DICOM_STARTS = {
    bytes(start)
    for group in (2, 8)
    for element in (0, 1, 2, 3, 5, 6, 8, 0x10, 0x12, 0x16, 0x18)
    for start in ((group, 0, element, 0), (0, group, 0, element))
}
SIGNATURES = {
    PNG: open_raster,
    b"\xff\xd8\xff": open_raster,
    b"GIF87a": open_raster,
    b"GIF89a": open_raster,
    b"BM": open_raster,
    b"II*\0": open_tiff,
    b"MM\0*": open_tiff,
    b"II+\0": open_tiff,
    b"MM\0+": open_tiff,
    b"\x93NUMPY": open_numpy,
    b"MATLAB 7.3": open_matlab,
    b"\x89HDF\r\n\x1a\n": open_matlab,
}
SMALLEST_SIDE = 8  # pixels: what is smaller is a line of a volume, not an image
# How decoders say that a file ends too early.
CUT_SHORT = ("truncated", "less than expected", "end-of-stream", "unexpected end", "not enough")
# What went wrong outside the file's content; all else is told as damage.
OBSTACLES = {
    errno.ENOENT: Message("reason_missing"),
    errno.EISDIR: Message("reason_folder"),
    errno.EACCES: Message("reason_forbidden"),
    errno.EPERM: Message("reason_forbidden"),
    errno.ELOOP: Message("reason_loop"),
    errno.ENAMETOOLONG: Message("reason_long_name"),
    errno.ENOMEM: Message("reason_memory"),
    errno.EIO: Message("reason_disk"),
}


def read_image(path: Path | str, frame: int | None = None, axis: Axis = Axis.AXIAL) -> np.ndarray:
    """Read one image, with its intensities scaled by its own percentiles.

    The 0.5th percentile becomes 0, the 99.5th becomes 1 and the rest is clipped; the
    channels of a colour image are scaled together. Shape and aspect ratio stay as they are.

    Parameters
    ----------
    path
        The file.
    frame
        Which slice, frame or page, from 0. Default: the middle one.
    axis
        Across which a NIfTI or FreeSurfer volume is sliced.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1], (h, w) for grey or (h, w, 3) for colour. A colour file whose
        three channels are equal is grey.

    Raises
    ------
    ImageError
        The file is missing, damaged, of no known format, too large, or every pixel has the
        same value.
    """
    return scale_intensity(_decode(Path(path), frame, axis))


def read_head(
    path: Path | str,
    frame: int | None = None,
    axis: Axis = Axis.AXIAL,
    known: Head | None = None,
) -> np.ndarray:
    """Read the head in an image, cropped, on black, scaled by its own percentiles.

    See :func:`read_image` for parameters and errors, and :func:`meninx.imaging.crop_to_head` for
    what is given. `known` is where the head was found before: to look for it takes most of the
    time of reading an image.
    """
    stored = _decode(Path(path), frame, axis)
    # Not where another file has taken its place since.
    if known is not None and known.shape == stored.shape[:2]:
        return cut_out(stored, known)
    return crop_to_head(stored)


def _decode(path: Path, frame: int | None, axis: Axis) -> np.ndarray:
    # One silence for both steps: to begin and to end it takes half a millisecond.
    with silence_loggers():
        frames = open_frames(path, axis)
        if frame is None:
            (frame,) = choose_frames(frames.count, 1)
        return decode_frame(path, frames, frame)


def open_frames(path: Path, axis: Axis = Axis.AXIAL) -> FrameSource:
    """Open a file by what it contains, whatever it is called; slice a volume across an axis.

    Raises
    ------
    ImageError
        It cannot be opened as an image; the message begins with its path.
    """
    try:
        opener = _find_opener(path, axis)
        with silence_loggers():
            return opener(path)
    except Exception as problem:  # decoders raise whatever their parser happened to meet
        raise ImageError(_describe(problem), path) from problem


def read_mask(path: Path, frame: int | None = None, axis: Axis = Axis.AXIAL) -> np.ndarray:
    """Read where a lesion is, (h, w) bool: where the mask, or its slice `frame`, is above 0.

    Raises
    ------
    ImageError
        The mask cannot be read.
    """
    try:
        if _find_opener(path, axis) is open_matlab:
            return read_tumour_mask(path)
        frames = open_frames(path, axis)
        with silence_loggers():
            pixels = frames.decode(frame or 0 if frames.count > 1 else 0)
        return pixels.reshape(*pixels.shape[:2], -1).max(axis=2) > 0
    except ImageError:
        raise
    except Exception as problem:
        raise ImageError(_describe(problem), path) from problem


def decode_frame(path: Path, frames: FrameSource, frame: int) -> np.ndarray:
    """Decode one image and see that it can be classified.

    Returns
    -------
    numpy.ndarray
        float32 values as stored, (h, w) or (h, w, 3).

    Raises
    ------
    ImageError
        There is no such frame, it is damaged, or it shows nothing.
    """
    if not 0 <= frame < frames.count:
        raise ImageError(f"it has no frame {frame}; frames are 0 to {frames.count - 1}", path)
    try:
        with silence_loggers():
            return _check_pixels(frames.decode(frame))
    except Exception as problem:
        raise ImageError(_describe(problem), path) from problem


def scale_intensity(pixels: np.ndarray) -> np.ndarray:
    """Map the 0.5th and 99.5th percentile of an image to 0 and 1, and clip (float32)."""
    return scale_between(pixels, pixels)


def fingerprint_pixels(pixels: np.ndarray) -> str:
    """SHA-256 of an image's shape and float32 values: the same however it was stored."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels, dtype="<f4").tobytes())
    return digest.hexdigest()


def _find_opener(path: Path, axis: Axis) -> Callable[[Path], FrameSource]:
    if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe waits for ever
        raise ImageError(Message("reason_device"))
    with path.open("rb") as file:
        start = file.read(352)
    if not start:
        raise ImageError(Message("reason_empty"))
    # Before TIFF: a DICOM file may carry a TIFF header in its preamble, to be read as either.
    if start[128:132] == b"DICM" or start[:4] in BARE_DICOM_STARTS:
        return open_dicom
    for signature, opener in SIGNATURES.items():
        if start.startswith(signature):
            return opener
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return open_raster
    if start.startswith(b"\x1f\x8b"):
        with gzip.open(path) as unpacked:
            if not _is_volume(unpacked.read(352), path):
                raise ImageError("it is compressed by gzip and no volume; unpack it first")
        return partial(open_volume, axis=axis)
    if _is_volume(start, path):
        return partial(open_volume, axis=axis)
    raise ImageError(Message("reason_not_readable"))


def _is_volume(start: bytes, path: Path) -> bool:
    """Tell by its first bytes, unpacked, whether a file is NIfTI; by its name too, if FreeSurfer's.

    The latter's first bytes are a version, which is always 1.
    """
    if path.suffix.lower() in (".mgh", ".mgz"):
        return start.startswith(b"\0\0\0\1")
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def _check_pixels(pixels: np.ndarray) -> np.ndarray:
    """Give an image as float32, grey if its channels are equal; refuse what shows nothing."""
    if pixels.dtype.kind not in "buif":
        raise ImageError(f"its values are {pixels.dtype}, not real numbers")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ImageError(Message("reason_shape", shape=str(pixels.shape)))
    if pixels.size == 0:
        raise ImageError(Message("reason_no_pixels"))
    values = pixels.astype(np.float32)
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if not np.isfinite(values).all():
        raise ImageError(Message("reason_infinite"))
    if values.min() == values.max():
        raise ImageError(Message("reason_flat"))
    if min(values.shape[:2]) < SMALLEST_SIDE:
        raise ImageError(
            f"it is {values.shape[0]} × {values.shape[1]} pixels, and an image has at least "
            f"{SMALLEST_SIDE} on a side; is it sliced across the right axis?"
        )
    return np.ascontiguousarray(values)


def _describe(problem: Exception) -> Message:
    """Say why a file could not be read.

    What a decoder says is not repeated: it may quote the header, which holds the patient.
    """
    if isinstance(problem, ImageError):
        return problem.reason
    if isinstance(problem, OSError) and problem.errno in OBSTACLES:
        return OBSTACLES[problem.errno]
    if isinstance(problem, MemoryError):
        return OBSTACLES[errno.ENOMEM]
    if isinstance(problem, EOFError) or any(word in str(problem).lower() for word in CUT_SHORT):
        return Message("reason_cut_short")
    return Message("reason_damaged", cause=type(problem).__name__)
