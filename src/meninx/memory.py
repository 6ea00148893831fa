"""Memory: how a study keeps what its processes hold small; elsewhere than on Linux it does not.

Workers are forked, so they share what the study's process has loaded until one of them writes to
it; what each holds beside that is what a step of training takes.
"""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's mallopt: its names for the two limits, and a gibibyte, more than a step ever takes.
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 1 << 30
# Looking for garbage among all that was ever imported takes a third of a second.
YOUNG = 1


def keep_memory_between_steps() -> None:
    """Let what a step of training frees serve the next one.

    The C library gives large blocks back to the system at once, which then hands them out again
    page by page, cleared: that took up to a third of a step.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            library = ctypes.CDLL(None)
            for setting in (MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD):
                library.mallopt(setting, LARGEST_KEPT)


def give_memory_back() -> None:
    """Return freed memory to the system: the C library would keep as much as was ever used."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def shared_memory() -> Iterator[None]:
    """Let workers that are forked inside share as much of this process's memory as can be.

    A collection of garbage writes into every object that it looks at, and what a forked process
    writes to it no longer shares; so what is there now is not looked at in the workers.
    """
    gc.collect(YOUNG)
    give_memory_back()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
