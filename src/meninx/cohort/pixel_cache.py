"""Pixels of samples that were read before, so that a study decodes each image once.

Every stage asks for the same pixels: the matrix, features, histograms, heatmaps. What does not
fit is read again.
"""

from collections import OrderedDict
from threading import Lock

import numpy as np

MOST_BYTES = 256 * 2**20  # some hundred slices as they are shown, a thousand small pictures


class PixelCache:
    """The pixels that were asked for last, up to a number of bytes.

    Parameters
    ----------
    most_bytes
        How much is kept; an image larger than this is not.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()  # images are read by several threads

    def get(self, fingerprint: str) -> np.ndarray | None:
        """Give the pixels of a fingerprint, not to be written to, or None."""
        with self._lock:
            pixels = self._kept.get(fingerprint)
            if pixels is not None:
                self._kept.move_to_end(fingerprint)
            return pixels

    def put(self, fingerprint: str, pixels: np.ndarray) -> None:
        """Keep pixels, and let go of those that were asked for longest ago."""
        if pixels.nbytes > self._most_bytes:
            return
        pixels.flags.writeable = False
        with self._lock:
            if fingerprint not in self._kept:
                self._bytes += pixels.nbytes
            self._kept[fingerprint] = pixels
            while self._bytes > self._most_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes
