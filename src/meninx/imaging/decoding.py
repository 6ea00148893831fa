"""Compressed pixels of DICOM and TIFF are decoded in a process of their own.

Decoders are C, C++ and Rust; of a damaged stream some end the whole process (GDCM aborts,
found by benchmarks/reliability.py fuzz), print to the terminal (libtiff) or never come back. Here
they can only end their own process: the file is refused and the next one gets a new process.

This is the side that asks; :mod:`meninx.imaging.decoder` is the one that decodes.
"""

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from meninx.errors import ImageError
from meninx.language import Message

LONGEST_SECONDS = 30.0  # for one frame
FAILED = Message("reason_compressed")


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
            [sys.executable, "-m", "meninx.imaging.decoder"],
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
