"""PNG, JPEG, BMP, GIF and WebP, and the TIFF pages that Pillow decodes."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from meninx.errors import ImageError
from meninx.imaging.frame_source import (
    MAXIMUM_FRAMES,
    FrameSource,
    flatten_alpha,
    refuse_oversized,
)

# Pillow knows many more formats, each a way in for a hostile file.
KINDS = (PngImageFile, JpegImageFile, TiffImageFile, BmpImageFile, GifImageFile, WebPImageFile)
PICTURE_FORMATS = [str(kind.format) for kind in KINDS]
ANIMATED = ("GIF", "WEBP")
PNG = b"\x89PNG\r\n\x1a\n"


def open_raster(path: Path) -> FrameSource:
    """Open a picture, turned upright as its EXIF tag says; an animation has several frames.

    Grey PNG keeps its 16 bits. Pillow would cut colour of 16 bits down to 8, so it is refused.
    """
    _refuse_deep_colour(path)
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            refuse_oversized(image.width * image.height)
            count = int(getattr(image, "n_frames", 1)) if image.format in ANIMATED else 1
            if count > MAXIMUM_FRAMES:
                raise ImageError(f"it has more than {MAXIMUM_FRAMES:,} frames; split it")
    except Image.DecompressionBombError:
        raise ImageError("it has far more pixels than an image should; crop it") from None
    return FrameSource(count, lambda frame: decode_raster(path, frame))


def _refuse_deep_colour(path: Path) -> None:
    """Refuse PNG of 16 bits a channel with colour or transparency, of which 8 would be lost."""
    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(PNG) and start[24:25] == b"\x10" and start[25:26] in b"\2\4\6":
        raise ImageError(
            "it is a PNG of 16 bits a channel in colour or with transparency, of which only 8 "
            "could be read; save it as grey PNG of 16 bits, or as TIFF"
        )


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
