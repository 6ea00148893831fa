"""Workers: processes that a study hands its independent pieces of work to."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from meninx.memory import give_memory_back, keep_memory_between_steps, shared_memory

Result = TypeVar("Result")

# Freed memory goes back to the system after calls that took so long. After each image of 0.1 s
# it took another 0.01 s, since the next one's memory came back page by page.
SECONDS_WORTH_IT = 0.5


def run_in_workers(
    function: Callable[..., Result], work: Sequence[tuple[object, ...]], workers: int | None
) -> Iterator[Result]:
    """Call a function on worker processes, each call on one thread.

    Parameters
    ----------
    function
        What to call.
    work
        The arguments of each call.
    workers
        How many processes; by default one a processor core.

    Yields
    ------
    object
        The results, in the order of the work.
    """
    count = min(count_processes(workers), len(work))
    if count <= 1:
        yield from (_call_here(function, arguments) for arguments in work)
        return
    context = multiprocessing.get_context(_choose_start())
    with (
        shared_memory(),
        ProcessPoolExecutor(count, context, initializer=_stay_on_one_thread) as pool,
    ):
        yield from pool.map(_call, [function] * len(work), work)


def count_processes(workers: int | None) -> int:
    """Count the processes that share work: by default one a processor core."""
    return workers or os.cpu_count() or 1


def _choose_start() -> str:
    """Choose how a worker comes to be.

    A forked worker has all that is imported and loaded already, and shares the memory of it.
    Where the system cannot fork a process with threads safely, or CUDA is there, which cannot be
    used in a forked process, a new one is started.
    """
    return "fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"


def _stay_on_one_thread() -> None:
    """Bring a new worker to one thread for good.

    A forked process has none of its parent's other threads; work that is divided among them, as
    the copying of a large tensor is, would wait for them for ever.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)
    keep_memory_between_steps()


def _call_here(function: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    with one_thread():
        return _call(function, arguments)


def _call(function: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    """Call a function; its worker may next train another network, or wait for the others."""
    started = time.perf_counter()
    result = function(*arguments)
    if time.perf_counter() - started > SECONDS_WORTH_IT:
        give_memory_back()
    return result


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums are then added in one order, and workers do not fight."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
