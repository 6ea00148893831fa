"""Workers: the processes that a study hands its independent pieces of work to."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from meninx.errors import StudyError
from meninx.finetune import find_device

Result = TypeVar("Result")

# Seconds between two looks whether the study's process is still there.
WATCH = 2.0


@dataclass(frozen=True)
class Workers:
    """Processes that each compute on one thread: how many changes the time and nothing else.

    Attributes
    ----------
    jobs
        How many; None for one a processor core, or a single one where a graphics card computes.
    device
        As in :class:`meninx.finetune.FineTunedClassifier`.
    """

    jobs: int | None = None
    device: str = "auto"

    @property
    def count(self) -> int:
        """How many processes there are."""
        if self.jobs is not None:
            return self.jobs
        return cpu_count() if find_device(self.device).type == "cpu" else 1

    def run(
        self, function: Callable[..., Result], work: Iterable[tuple[object, ...]]
    ) -> Iterator[Result]:
        """Call a function on each piece of work, and give the results in its order.

        Parameters
        ----------
        function
            What to call.
        work
            The arguments of each call. They are taken one after the other as workers become
            free, so that whoever makes them may decide late.

        Raises
        ------
        StudyError
            A worker was ended from outside, as the system does when memory runs out.
        """
        if self.count == 1:
            for arguments in work:
                with one_thread():
                    yield function(*arguments)
            return
        _trim_memory()
        parallel = Parallel(
            self.count, batch_size=1, pre_dispatch=self.count, return_as="generator"
        )
        calls = (delayed(_call)(os.getpid(), function, arguments) for arguments in work)
        try:
            with parallel_config("loky", inner_max_num_threads=1):
                with _interrupts_ignored():
                    results = parallel(calls)
                yield from results
        except TerminatedWorkerError as error:
            raise StudyError(
                "a worker process was ended from outside, as the system does when memory runs "
                "out; the same command goes on from here, with --jobs 1 in less memory"
            ) from error


def _call(parent: int, function: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    _become_worker(parent)
    result = function(*arguments)
    _trim_memory()
    return result


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start processes inside that do not hear Ctrl-C: it is the study that ends them then.

    Each would else show a traceback of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@cache
def _become_worker(parent: int) -> None:
    """Compute on one thread, and end when the study's process does, however that was ended."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def _trim_memory() -> None:
    """Give freed memory back: the C library would keep as much as the largest step took."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums are then added in one order, however many workers there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
