"""Compressed pixels of DICOM and TIFF are decoded in a process of their own.

Decoders are C, C++ and Rust; of a damaged stream some end the whole process (GDCM aborts,
found by benchmarks/reliability.py fuzz), print to the terminal (libtiff) or never come back. Here
they can only end their own process: the file is refused and the next one gets a new process.

The same file is both sides: imported, the one that asks; run as a module, the one that decodes.
"""

import json
import os
import select
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meninx.errors import ImageError

# Decoders in the order they are tried: those that refuse damage most cleanly come first. pydicom's
# own for run lengths is not among them: it makes an image of what the others find damaged.
DECODERS = ("pylibjpeg", "pyjpegls", "pillow", "gdcm")
LONGEST_SECONDS = 30.0  # for one frame
FAILED = "its compressed pixels are damaged, or no decoder reads them"


def decode_apart(path: Path, frame: int) -> np.ndarray:
    """Decode one frame of a compressed DICOM file in another process.

    Returns
    -------
    numpy.ndarray
        Stored values, (h, w), or (h, w, 3) in RGB.

    Raises
    ------
    ImageError
        No decoder reads it, or the process ended or took more than half a minute over it.
    """
    return _ask("dicom", path, frame)


def decode_page_apart(path: Path, page: int) -> np.ndarray:
    """Decode one page of a compressed TIFF in another process; see :func:`decode_apart`."""
    return _ask("tiff", path, page)


def _ask(kind: str, path: Path, frame: int) -> np.ndarray:
    with _lock:
        global _process
        if _process is None or _process.owner != os.getpid() or _process.has_ended():
            _process = _DecoderProcess()
        return _process.decode(kind, path, frame)


class _DecoderProcess:
    """A process that decodes what it is asked for, one frame at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()  # a fork must not share the pipes
        self._child = subprocess.Popen(
            [sys.executable, "-m", "meninx.cohort.decoding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def has_ended(self) -> bool:
        return self._child.poll() is not None

    def decode(self, kind: str, path: Path, frame: int) -> np.ndarray:
        request = json.dumps({"kind": kind, "path": str(path.absolute()), "frame": frame})
        try:
            assert self._child.stdin is not None
            self._child.stdin.write(request.encode() + b"\n")
            answer = json.loads(self._read(int.from_bytes(self._read(4), "big")))
            if "shape" not in answer:
                raise ImageError(FAILED)
            content = self._read(answer["bytes"])
        except (OSError, EOFError):
            self._child.kill()
            self._child.wait()
            raise ImageError(FAILED) from None
        return np.frombuffer(content, dtype=answer["dtype"]).reshape(answer["shape"])

    def _read(self, size: int) -> bytes:
        """Read exactly so many bytes; raise EOFError when they do not come."""
        assert self._child.stdout is not None
        parts = bytearray()
        while len(parts) < size:
            ready, _, _ = select.select([self._child.stdout], [], [], LONGEST_SECONDS)
            part = self._child.stdout.read(size - len(parts)) if ready else b""
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


_lock = threading.Lock()
_process: _DecoderProcess | None = None


def decode_here(path: Path, frame: int) -> np.ndarray:
    """Decode one frame of a DICOM file with the first decoder that can.

    Raises
    ------
    ImageError
        None can.
    """
    from pydicom import dcmread
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import JPEGExtended12Bit

    from meninx.cohort.dicom import fill_missing

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
    from meninx.cohort.pictures import decode_picture

    decoders = {"dicom": decode_here, "tiff": decode_picture}
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
