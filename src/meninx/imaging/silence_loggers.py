"""Keep libraries from saying what they read.

Their warnings and logs quote headers, and headers hold the patient.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

TALKATIVE = ("pydicom", "nibabel.global", "tifffile", "PIL")


class _Silence:
    """Silence of the libraries, from the first that asks for it until nobody needs it any more.

    Warnings and loggers belong to the whole process, and images are read by several threads: if
    each of them put back what it had found, one would end the silence of another, and the last
    would leave it for good.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._askers = 0
        self._undo = ExitStack()

    def ask(self) -> None:
        with self._lock:
            if self._askers == 0:
                self._undo = _silence()
            self._askers += 1

    def release(self) -> None:
        with self._lock:
            self._askers -= 1
            if self._askers == 0:
                self._undo.close()


def _silence() -> ExitStack:
    """Silence the libraries; closing what is given undoes it."""
    undo = ExitStack()
    undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return undo


_the_silence = _Silence()


@contextmanager
def silence_loggers() -> Iterator[None]:
    """Silence the warnings and logs of the libraries that read images, in whatever thread."""
    _the_silence.ask()
    try:
        yield
    finally:
        _the_silence.release()
