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
    file_bytes
        How much of that was pages of files, program libraries above all: the system can take
        those back whenever it needs memory, since it can read them again.
    own_bytes
        How much of it the command's first process held, without its descendants.
    """

    seconds: float
    peak_bytes: int
    file_bytes: int
    own_bytes: int


@dataclass(frozen=True, order=True)
class Memory:
    """What processes hold at one look, in bytes: all, pages of files, the first one's own.

    Of several, the first is the one that started the others.
    """

    whole: int = 0
    files: int = 0
    own: int = 0

    def __add__(self, other: "Memory") -> "Memory":
        """Take a process's descendants along."""
        return Memory(self.whole + other.whole, self.files + other.files, self.own)


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
        peak = Memory()
        while process.poll() is None:
            looked = time.perf_counter()
            peak = max(peak, measure_memory(process.pid))
            cost = time.perf_counter() - looked
            try:
                process.wait(max(SECONDS_BETWEEN_LOOKS, cost / LARGEST_PART_OF_TIME))
            except subprocess.TimeoutExpired:
                continue
        seconds = time.perf_counter() - started
        if process.returncode:
            words.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{words.read()[-3000:]}")
    return Watched(seconds, peak.whole, peak.files, peak.own)


def measure_memory(process: int) -> Memory:
    """Sum the memory of a process and its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in brackets may hold anything; the parent is the second word behind it.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
    descendants, total = list(children.get(process, [])), _measure_one(process)
    while descendants:
        member = descendants.pop()
        descendants += children.get(member, [])
        total += _measure_one(member)
    return total


def _measure_one(process: int) -> Memory:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return Memory()
    kibibytes = {name: int(value.split()[0]) for name, value in (one.split(":") for one in lines)}
    whole = kibibytes["Pss"] * 1024
    return Memory(whole, kibibytes["Pss_File"] * 1024, whole)
