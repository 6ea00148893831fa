"""Memory: how the processes of Meninx are kept small; elsewhere than on Linux they are not.

Workers are forked, so they share what the study's process has loaded until one of them writes to
it; what each holds beside that is what a step of training takes.
"""

import contextlib
import ctypes
import gc
import mmap
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Of glibc's mallopt: its names for the two limits, and a gibibyte, more than a step ever takes.
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 1 << 30
# The maps of a network's layers are larger, and what is kept of an image is smaller.
LARGE_BLOCK = 1 << 20
# Where glibc's limits come to rest by themselves, as larger and larger blocks are freed.
AS_GLIBC_SETTLES = {MALLOPT_TRIM_THRESHOLD: 1 << 26, MALLOPT_MMAP_THRESHOLD: 1 << 25}
# Of the kernel's madvise (Linux 5.4 and later): these pages can go.
PAGE_OUT = 21
# Bytes of program libraries that are not worth giving back: what a study goes on to use are some
# 20 to 100 MiB, and to read them again takes each worker a tenth of a second.
LIBRARIES_IN_USE = 1 << 27
# A line of /proc/self/maps of a program library, but for what can be written to.
OF_A_LIBRARY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-.. .*\.so[.0-9]*$")
# Looking for garbage among all that was ever imported takes a third of a second.
YOUNG = 1


def do_without_compiler() -> None:
    """Keep torch from importing its compiler for graphics cards, before torch is imported.

    It does so wherever triton is installed, with the first optimiser. Meninx compiles nothing,
    and it is 75 MiB and half a second.
    """
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # the import system's "no"


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Let large blocks of memory go back to the system as soon as they are freed inside.

    The C library would keep them, and put what lives longer in between: looking at 53 images
    with three networks left up to half a gibibyte of gaps.
    """
    _set_allocator({MALLOPT_MMAP_THRESHOLD: LARGE_BLOCK})
    try:
        yield
    finally:
        _set_allocator(AS_GLIBC_SETTLES)


def keep_memory_between_steps() -> None:
    """Let what a step of training frees serve the next one.

    The C library gives large blocks back to the system at once, which then hands them out again
    page by page, cleared: that took up to a third of a step.
    """
    _set_allocator({MALLOPT_TRIM_THRESHOLD: LARGEST_KEPT, MALLOPT_MMAP_THRESHOLD: LARGEST_KEPT})


def _set_allocator(limits: Mapping[int, int]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            library = ctypes.CDLL(None)
            for setting, size in limits.items():
                library.mallopt(setting, size)


def give_memory_back() -> None:
    """Return freed memory to the system: the C library would keep as much as was ever used."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


def give_libraries_back() -> None:
    """Let the system take back the pages of program libraries that this process has read.

    Most were read once, when a library was loaded: 270 of 291 MiB, many of torch's libraries for
    graphics cards. What is used again is read again, so few are left alone. Pages that other
    processes use stay.
    """
    if sys.platform == "linux" and _measure_file_pages() > LIBRARIES_IN_USE:
        advise = ctypes.CDLL(None).madvise
        # Names of files need not be text.
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            if found := OF_A_LIBRARY.match(line):
                start, end = (int(one, 16) for one in found.groups())
                # The kernel may decline; then they stay.
                advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), PAGE_OUT)


def _measure_file_pages() -> int:
    """Measure how much of what this process holds are pages of files, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[2])
    return pages * mmap.PAGESIZE


@contextmanager
def shared_memory() -> Iterator[None]:
    """Let workers that are forked inside share as much of this process's memory as can be.

    A collection of garbage writes into every object that it looks at, and what a forked process
    writes to it no longer shares; so what is there now is not looked at in the workers.
    """
    gc.collect(YOUNG)
    give_memory_back()
    give_libraries_back()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
