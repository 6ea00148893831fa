"""Ctrl-C: a command that is stopped says so, and how it goes on."""

from collections.abc import Sequence

INTERRUPTED = 130  # as a shell tells it: 128 and the number of the signal


def say_stopped(arguments: Sequence[str]) -> str:
    """Say that the command with these arguments was stopped, and how it goes on."""
    if arguments[:1] != ["study"]:
        return "Stopped."
    if "--fresh" in arguments:
        return "Stopped. The same command without --fresh goes on from here."
    return "Stopped. The same command goes on from here."
