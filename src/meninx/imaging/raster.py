"""PNG and JPEG, and the TIFF pages that Pillow decodes."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from meninx.errors import ImageError
from meninx.imaging.frame_source import FrameSource, flatten_alpha, refuse_oversized

# Pillow knows many more formats, each a way in for a hostile file.
PICTURE_FORMATS = [str(kind.format) for kind in (PngImageFile, JpegImageFile, TiffImageFile)]


def open_raster(path: Path) -> FrameSource:
    """Open a PNG or JPEG: one image, turned upright as its EXIF tag says.

    Grey PNG keeps its 16 bits. Pillow reduces 16-bit colour to 8 bits a channel.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            refuse_oversized(image.width * image.height)
    except Image.DecompressionBombError:
        raise ImageError("it has far more pixels than an image should; crop it") from None
    return FrameSource(1, lambda _: decode_raster(path, 0))


def decode_raster(path: Path, page: int) -> np.ndarray:
    """Decode one page with Pillow, upright, as grey of 8, 16 or 32 bits or as 8-bit colour."""
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
