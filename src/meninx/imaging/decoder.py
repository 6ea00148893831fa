"""The process that decodes compressed pixels: it answers what standard input asks for.

It is run as ``python -m meninx.imaging.decoder`` by :mod:`meninx.imaging.decoding`.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meninx.errors import ImageError
from meninx.imaging.decoding import FAILED
from meninx.imaging.dicom import fill_missing
from meninx.imaging.raster import decode_raster

# Decoders in the order they are tried: those that refuse damage most cleanly come first. pydicom's
# own for run lengths is not among them: it makes an image of what the others find damaged.
DECODERS = ("pylibjpeg", "pyjpegls", "pillow", "gdcm")


def decode_dicom(path: Path, frame: int) -> np.ndarray:
    """Decode one frame of a DICOM file with the first decoder that can.

    Raises
    ------
    ImageError
        None can.
    """
    from pydicom import dcmread
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import JPEGExtended12Bit

    dataset = dcmread(path, force=True)
    fill_missing(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        return _decode_12_bit_jpeg(path, frame, int(dataset.Rows), int(dataset.Columns))
    available = get_decoder(syntax).available_plugins
    ways: list[Callable[[], np.ndarray]] = [
        lambda name=name: pixel_array(dataset, index=frame, decoding_plugin=name)  # type: ignore[misc]
        for name in DECODERS
        if name in available
    ]
    for decode in ways:
        try:
            return decode()
        except BaseException:  # Rust's panic is no Exception; the next may do
            continue
    raise ImageError(FAILED)


def _decode_12_bit_jpeg(path: Path, frame: int, rows: int, columns: int) -> np.ndarray:
    """Decode lossy JPEG of 12 bits, which of the free libraries only GDCM's own reader can."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ImageError(FAILED)
    content = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, dtype="<u2").reshape(-1, rows, columns)[frame]


def main() -> None:
    """Decode what standard input asks for until it ends."""
    decoders = {"dicom": decode_dicom, "tiff": decode_raster}
    warnings.simplefilter("ignore")
    # C libraries may print to standard output as well; the answers get a channel of their own.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            content = b""
            try:
                decode = decoders[request["kind"]]
                pixels = np.ascontiguousarray(decode(Path(request["path"]), request["frame"]))
                content = pixels.tobytes()
                answer = {
                    "shape": pixels.shape,
                    "dtype": pixels.dtype.str,
                    "bytes": len(content),
                }
            except Exception as problem:
                answer = {"error": type(problem).__name__}
            header = json.dumps(answer).encode()
            answers.write(len(header).to_bytes(4, "big") + header + content)
            answers.flush()


if __name__ == "__main__":
    main()
