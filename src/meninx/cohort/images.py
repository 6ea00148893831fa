"""From a file to pixels: find out what it is, decode it, scale its intensities.

In: a PNG, JPEG, TIFF, DICOM, NIfTI or NumPy file. Out: a float32 array in [0, 1].
The formats themselves are in `pictures`, `dicom` and `volumes`.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meninx.cohort.dicom import open_dicom
from meninx.cohort.frames import Frames
from meninx.cohort.pictures import open_picture, open_tiff
from meninx.cohort.sample import Sample
from meninx.cohort.volumes import open_nifti, open_numpy
from meninx.errors import ImageError

# Percentiles that become 0 and 1, so that a few very bright pixels (vessels, contrast
# agent, burnt-in text) do not decide how dark the rest looks.
DARKEST, BRIGHTEST = 0.5, 99.5


def read_image(source: Path | str | Sample, frame: int | None = None) -> np.ndarray:
    """Read one image, with its intensities scaled by its own percentiles.

    The 0.5th percentile becomes 0, the 99.5th becomes 1 and the rest is clipped; the
    channels of a colour image are scaled together. Shape and aspect ratio stay as they are.

    Parameters
    ----------
    source
        A file, or a sample of a cohort.
    frame
        Which slice, frame or page, from 0. Default: the sample's own, or the middle one.

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
    if isinstance(source, Sample):
        frame = source.frame if frame is None else frame
        source = source.path
    path = Path(source)
    frames = open_frames(path)
    if frame is None:
        (frame,) = choose_frames(frames.count, 1)
    return scale_intensity(decode_frame(path, frames, frame))


def open_frames(path: Path) -> Frames:
    """Open a file by what it contains, whatever it is called.

    Raises
    ------
    ImageError
        It cannot be opened as an image; the message begins with its path.
    """
    try:
        opener = _find_opener(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders quote header values: patients' names
            return opener(path)
    except Exception as problem:  # decoders raise whatever their parser happened to meet
        raise ImageError(f"{path}: {_describe(problem)}") from problem


def decode_frame(path: Path, frames: Frames, frame: int) -> np.ndarray:
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
        raise ImageError(f"{path}: it has no frame {frame}; frames are 0 to {frames.count - 1}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _check_pixels(frames.decode(frame))
    except Exception as problem:
        raise ImageError(f"{path}: {_describe(problem)}") from problem


def choose_frames(count: int, slices: int) -> list[int]:
    """Choose `slices` of `count` frames, evenly spaced in the central half.

    Of one slice it is the middle one. The outer quarters of a head volume show neck, skull
    or air. Fewer are given when the central half does not hold as many.
    """
    fractions = 0.25 + 0.5 * (np.arange(slices) + 0.5) / slices
    return [int(frame) for frame in np.unique((count * fractions).astype(int))]


def scale_intensity(pixels: np.ndarray) -> np.ndarray:
    """Map the 0.5th and 99.5th percentile of an image to 0 and 1, and clip (float32)."""
    values = pixels.astype(np.float64)  # float32 would blur the steps of a narrow range
    low, high = np.percentile(values, (DARKEST, BRIGHTEST))
    if low == high:  # something small on an even ground
        low, high = values.min(), values.max()
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def fingerprint_pixels(pixels: np.ndarray) -> str:
    """SHA-256 of an image's shape and float32 values: the same however it was stored."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels, dtype="<f4").tobytes())
    return digest.hexdigest()


def _find_opener(path: Path) -> Callable[[Path], Frames]:
    with path.open("rb") as file:
        start = file.read(352)
    if not start:
        raise ImageError("the file is empty")
    if start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return open_picture
    # Before TIFF: a DICOM file may carry a TIFF header in its preamble, to be read as either.
    if start[128:132] == b"DICM" or start[:2] in (b"\x02\0", b"\x08\0"):
        return open_dicom
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return open_tiff
    if start.startswith(b"\x93NUMPY"):
        return open_numpy
    is_nifti = start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")
    if is_nifti or start.startswith(b"\x1f\x8b"):
        return open_nifti
    raise ImageError("it is not a PNG, JPEG, TIFF, DICOM, NIfTI or NumPy file")


def _check_pixels(pixels: np.ndarray) -> np.ndarray:
    """Give an image as float32, grey if its channels are equal; refuse what shows nothing."""
    if pixels.dtype.kind not in "buif":
        raise ImageError(f"its values are {pixels.dtype}, not real numbers")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ImageError(f"its shape is {pixels.shape}, not (h, w) or (h, w, 3)")
    if pixels.size == 0:
        raise ImageError("it has no pixels")
    values = pixels.astype(np.float32)
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if not np.isfinite(values).all():
        raise ImageError("it has NaN or infinite values; replace them, for example by 0")
    if values.min() == values.max():
        raise ImageError("every pixel has the same value, so there is nothing to classify")
    return np.ascontiguousarray(values)


def _describe(problem: Exception) -> str:
    """Say in one sentence why a file could not be read."""
    if isinstance(problem, ImageError):
        return str(problem)
    if isinstance(problem, FileNotFoundError):
        return "there is no such file"
    if isinstance(problem, IsADirectoryError):
        return "it is a folder, not an image"
    if isinstance(problem, PermissionError):
        return "you may not read it"
    reason = " ".join(str(problem).split()) or type(problem).__name__
    return f"it is damaged or of a kind that cannot be read ({reason[:160]})"
