"""Running a command in a process of its own, and watching its time and memory (Linux only)."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.2
# The kernel walks through all pages at each look: it must not take more than so much of the time.
LARGEST_PART_OF_TIME = 1 / 40


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes
    ----------
    seconds
        From its start to its end.
    peak_bytes
        The most memory that it and all its descendants held at one look. Memory that processes
        share is counted once (proportional set size).
    """

    seconds: float
    peak_bytes: int


def run_watched(command: Sequence[str], environment: Mapping[str, str]) -> Watched:
    """Run a command to its end.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        Variables added to those of this process.

    Raises
    ------
    SystemExit
        It failed; its last words are shown.
    """
    with tempfile.TemporaryFile("w+") as words:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=words, stderr=words, env={**os.environ, **environment}
        )
        peak = 0
        while process.poll() is None:
            # Of the processor, not of the clock: on a busy machine looks would be too rare.
            looked = time.process_time()
            peak = max(peak, measure_memory(process.pid))
            cost = time.process_time() - looked
            try:
                process.wait(max(SECONDS_BETWEEN_LOOKS, cost / LARGEST_PART_OF_TIME))
            except subprocess.TimeoutExpired:
                continue
        seconds = time.perf_counter() - started
        if process.returncode:
            words.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{words.read()[-3000:]}")
    return Watched(seconds, peak)


def measure_memory(process: int) -> int:
    """Sum the memory of a process and its descendants, bytes."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in brackets may hold anything; the parent is the second word behind it.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
    family, total = [process], 0
    while family:
        member = family.pop()
        family += children.get(member, [])
        total += _measure_one(member)
    return total


def _measure_one(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0
    kibibytes = {name: int(value.split()[0]) for name, value in (one.split(":") for one in lines)}
    return kibibytes["Pss"] * 1024
