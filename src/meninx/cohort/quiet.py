"""Keep libraries from saying what they read.

Their warnings and logs quote headers, and headers hold the patient.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("pydicom", "nibabel.global", "tifffile", "PIL")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the warnings and logs of the libraries that read images."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
