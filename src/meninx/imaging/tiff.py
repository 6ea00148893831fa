"""TIFF and BigTIFF, of one page or many."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.decoding import decode_page_apart
from meninx.imaging.frame_source import (
    MAXIMUM_FRAMES,
    FrameSource,
    flatten_alpha,
    invert,
    refuse_oversized,
)


def open_tiff(path: Path) -> FrameSource:
    """Open a TIFF; the pages of a stack are its frames."""
    import tifffile

    _refuse_endless_chain(path)
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
        pixels = decode_page_apart(path, pages[frame]) if images is None else images[frame]
        if is_white_zero:
            return invert(pixels)
        if images is not None and colormap is not None:
            return np.moveaxis(colormap[:, pixels], 0, -1)
        return flatten_alpha(pixels)

    return FrameSource(len(pages) if images is None else len(images), decode)


def _refuse_endless_chain(path: Path) -> None:
    """Raise ImageError when the chain of a file's pages does not come to an end.

    Each page says where the next one is; tifffile follows a chain that goes round for ever.
    """
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        for place in _follow_chain(file, size):
            if place in seen:
                raise ImageError("it is damaged: its pages lead back to an earlier one")
            seen.add(place)
            if len(seen) > MAXIMUM_FRAMES:
                raise ImageError(f"it has more than {MAXIMUM_FRAMES:,} pages; split it")


def _follow_chain(file: BinaryIO, size: int) -> Iterator[int]:
    """Give where each page's directory is, in a file of so many bytes.

    A directory is the number of its entries, the entries, and where the next one is.
    """
    start = file.read(16)
    order = "<" if start.startswith(b"II") else ">"
    is_big = start[2:4] in (b"+\0", b"\0+")
    count, entry, offset = ("Q", 20, "Q") if is_big else ("H", 12, "I")

    def read(place: int, kind: str) -> int:
        width = struct.calcsize(kind)
        if place + width > size:
            raise ImageError("it is damaged: it ends before its last page does")
        file.seek(place)
        return int(struct.unpack(order + kind, file.read(width))[0])

    place = read(8 if is_big else 4, offset)
    while place:
        yield place
        entries = read(place, count)
        place = read(place + struct.calcsize(count) + entries * entry, offset)


def _stack_images(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Arrange a TIFF series with tifffile's `axes` as (n, h, w) or (n, h, w, samples)."""
    inner = "YXS" if "S" in axes else "YX"
    if not set(inner) <= set(axes):
        raise ImageError("its pages are not two-dimensional images")
    order = [axes.index(axis) for axis in axes if axis not in inner]
    order += [axes.index(axis) for axis in inner]
    arranged = pixels.transpose(order)
    return arranged.reshape(-1, *arranged.shape[-len(inner) :])
