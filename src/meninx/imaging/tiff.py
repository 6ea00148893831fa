"""TIFF and BigTIFF, of one page or many."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

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

# How an image is brought upright, by the TIFF tag Orientation.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}
ALPHA = (1, 2)  # values of ExtraSamples that mean transparency


def open_tiff(path: Path) -> FrameSource:
    """Open a TIFF; the pages of a stack are its frames."""
    import tifffile

    _refuse_endless_chain(path)
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        refuse_oversized(series.size)
        pages: list[int] = []
        photometric, colormap = series.keyframe.photometric, series.keyframe.colormap
        turn = TURNS.get(_read_orientation(series.keyframe), np.asarray)
        has_alpha = any(int(kind) in ALPHA for kind in series.keyframe.extrasamples)
        is_white_zero = photometric == tifffile.PHOTOMETRIC.MINISWHITE
        try:
            # Inks of print are left to Pillow, which knows how they mix.
            is_print = photometric == tifffile.PHOTOMETRIC.SEPARATED
            images = None if is_print else _stack_images(series.asarray(), series.axes)
        except ValueError as problem:
            # tifffile leaves LZW, JPEG and others to a large extra package; Pillow has them.
            if "imagecodecs" not in str(problem):
                raise
            # Of the kinds where white is zero, Pillow inverts all but 16 bits.
            is_white_zero = is_white_zero and series.dtype.itemsize == 2
            images = None
        if images is None:
            pages = [int(page.index) for page in series.pages if page is not None]

    def decode(frame: int) -> np.ndarray:
        pixels = decode_page_apart(path, pages[frame]) if images is None else turn(images[frame])
        if is_white_zero:
            return invert(pixels)
        if images is not None and colormap is not None:
            return np.moveaxis(colormap[:, pixels], 0, -1)
        if images is not None and pixels.ndim == 3 and not has_alpha:
            # Samples beyond colour that are no transparency say nothing of how it looks.
            return pixels[..., : 1 if pixels.shape[2] < 3 else 3].squeeze()
        return flatten_alpha(pixels)

    return FrameSource(len(pages) if images is None else len(images), decode)


def _read_orientation(page: Any) -> int:  # noqa: ANN401 (a page or a frame of tifffile)
    tag = page.tags.get("Orientation") if hasattr(page, "tags") else None
    return int(tag.value) if tag is not None else 1


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
