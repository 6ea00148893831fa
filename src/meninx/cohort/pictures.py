"""PNG, JPEG and TIFF."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from meninx.cohort.frames import Frames, flatten_alpha, invert, refuse_oversized
from meninx.errors import ImageError

# Pillow knows many more formats, each a way in for a hostile file.
PICTURE_FORMATS = [str(kind.format) for kind in (PngImageFile, JpegImageFile, TiffImageFile)]


def open_picture(path: Path) -> Frames:
    """Open a PNG or JPEG: one image, turned upright as its EXIF tag says.

    Grey PNG keeps its 16 bits. Pillow reduces 16-bit colour to 8 bits a channel.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            refuse_oversized(image.width * image.height)
    except Image.DecompressionBombError:
        raise ImageError("it has far more pixels than an image should; crop it") from None
    return Frames(1, lambda _: _decode_picture(path, 0))


def _decode_picture(path: Path, page: int) -> np.ndarray:
    with Image.open(path, formats=PICTURE_FORMATS) as image:
        image.seek(page)
        upright = ImageOps.exif_transpose(image)
        # In a 16-bit picture one grey value may be declared transparent; it is left as it is.
        is_keyed = "transparency" in upright.info and upright.mode in ("1", "L", "P", "RGB")
        if is_keyed or upright.mode in ("LA", "PA", "RGBA"):
            return flatten_alpha(np.asarray(upright.convert("RGBA")))
        if upright.mode == "1":
            return np.asarray(upright.convert("L"))
        if upright.mode[0] in "LIF" and upright.mode not in ("LAB", "La"):
            return np.asarray(upright)  # grey of 8, 16 or 32 bits
        return np.asarray(upright.convert("RGB"))


def open_tiff(path: Path) -> Frames:
    """Open a TIFF; the pages of a stack are its frames."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        refuse_oversized(series.size)
        pages: list[int] = []
        photometric, colormap = series.keyframe.photometric, series.keyframe.colormap
        is_white_zero = photometric == tifffile.PHOTOMETRIC.MINISWHITE
        try:
            images = _stack_images(series.asarray(), series.axes)
        except ValueError as problem:
            # tifffile leaves LZW, JPEG and others to a large extra package; Pillow has them.
            if "imagecodecs" not in str(problem):
                raise
            # Of the kinds where white is zero, Pillow inverts all but 16 bits.
            is_white_zero = is_white_zero and series.dtype.itemsize == 2
            images = None
            pages = [int(page.index) for page in series.pages if page is not None]

    def decode(frame: int) -> np.ndarray:
        pixels = _decode_picture(path, pages[frame]) if images is None else images[frame]
        if is_white_zero:
            return invert(pixels)
        if images is not None and colormap is not None:
            return np.moveaxis(colormap[:, pixels], 0, -1)
        return flatten_alpha(pixels)

    return Frames(len(pages) if images is None else len(images), decode)


def _stack_images(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Arrange a TIFF series with tifffile's `axes` as (n, h, w) or (n, h, w, samples)."""
    inner = "YXS" if "S" in axes else "YX"
    if not set(inner) <= set(axes):
        raise ImageError("its pages are not two-dimensional images")
    order = [axes.index(axis) for axis in axes if axis not in inner]
    order += [axes.index(axis) for axis in inner]
    arranged = pixels.transpose(order)
    return arranged.reshape(-1, *arranged.shape[-len(inner) :])
