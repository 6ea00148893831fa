"""What processes hold is small, where the system can be told."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from meninx import memory
from meninx.memory import give_libraries_back

MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told")


def read_resident(name):
    """How much of what is mapped from a file is in memory, in bytes."""
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if line.rstrip().endswith(name):
                return next(int(one.split()[1]) for one in lines if one.startswith("Rss:")) * 1024
    raise AssertionError(f"{name} is not mapped")


def map_whole(file):
    file.write_bytes(bytes(8 * MIB))
    subprocess.run(["sync", str(file)], check=True)
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
    assert sum(mapped[::4096]) == 0
    return mapped


def test_pages_of_a_library_that_was_only_read_once_go_back_to_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "LIBRARIES_IN_USE", 8 * MIB)
    library, other = (map_whole(tmp_path / name) for name in ("library.so.1", "other.bin"))
    assert read_resident("library.so.1") == read_resident("other.bin") == 8 * MIB
    give_libraries_back()
    assert read_resident("library.so.1") < MIB
    assert read_resident("other.bin") == 8 * MIB
    assert sum(library[::4096]) == 0, "what is used again is read again"
    library.close()
    other.close()


def test_pages_of_libraries_stay_where_they_are_few(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "LIBRARIES_IN_USE", 1 << 40)
    library = map_whole(tmp_path / "library.so.1")
    give_libraries_back()
    assert read_resident("library.so.1") == 8 * MIB
    library.close()


@pytest.mark.parametrize(
    ("context", "is_returned"), [("large_blocks_apart", True), ("nullcontext", False)]
)
def test_large_blocks_leave_no_gaps_between_what_lives_longer(context, is_returned):
    script = f"""
from contextlib import nullcontext
from meninx.memory import large_blocks_apart
with {context}():
    del (once := [bytearray(20 << 20)])[0]
    kept = [(bytearray(4 << 20), bytearray(2000)) for _ in range(50)]
    kept = [small for large, small in kept]
    status = open("/proc/self/status").read()
print(int(status.split("RssAnon:")[1].split()[0]) // 1024)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (int(found.stdout) < 100) == is_returned


@pytest.mark.parametrize(("seconds", "is_returned"), [(0.6, True), (0.0, False)])
def test_what_a_worker_freed_goes_back_after_work_that_took_a_while(seconds, is_returned):
    script = f"""
import time
from meninx.memory import keep_memory_between_steps
from meninx.study.workers import run_in_workers
def work(count, size):
    time.sleep({seconds})
    return len([bytearray(size) for _ in range(count)])
def read_resident():
    status = open("/proc/self/status").read()
    return int(status.split("RssAnon:")[1].split()[0]) // 1024
keep_memory_between_steps()
before = read_resident()
assert list(run_in_workers(work, [(100, 1 << 20)], 1)) == [100]
print(read_resident() - before)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (int(found.stdout) < 50) == is_returned


def test_the_command_line_does_without_the_compiler_for_graphics_cards():
    """An optimiser's first step imports it wherever it is installed."""
    script = """
from meninx.memory import do_without_compiler
do_without_compiler()
import torch
weight = torch.nn.Parameter(torch.ones(2))
weight.sum().backward()
torch.optim.AdamW([weight]).step()
print("libtriton" in open("/proc/self/maps").read())
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False"]
