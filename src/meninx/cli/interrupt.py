"""Ctrl-C: a command that is stopped ends at once, leaves no process behind, and says so."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # as a shell tells it: 128 and the number of the signal


@contextmanager
def stopping_workers() -> Iterator[None]:
    """Let Ctrl-C end worker processes too, before it ends what waits for them.

    Python alone would let them finish their tasks first, which takes as long as training does.
    Who started the command may have it ignore Ctrl-C, as `nohup` does: then it goes on doing so.
    """
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def say_stopped(arguments: Sequence[str]) -> str:
    """Say that the command with these arguments was stopped, and how it goes on."""
    if arguments[:1] != ["study"]:
        return "Stopped."
    if "--fresh" in arguments:
        return "Stopped. The same command without --fresh goes on from here."
    return "Stopped. The same command goes on from here."


def _stop(number: int, frame: FrameType | None) -> None:
    if multiprocessing.parent_process() is not None:
        # A forked worker, which has nothing to tidy up and nobody to tell.
        os._exit(INTERRUPTED)
    for worker in multiprocessing.active_children():
        worker.terminate()
    raise KeyboardInterrupt
