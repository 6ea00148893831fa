"""The memory of the default study on the draws, without what the competitors and the test take.

It hardly depends on the machine, as times do, so it can be measured again after a change on
another one.
"""

import tempfile
from pathlib import Path

from benchmarks.speed.machine import describe_machine, describe_moment
from benchmarks.speed.records import append_record, has_record
from benchmarks.speed.run import describe_memory, make_task, run_part


def measure_memory_again(manifest: Path, draws: int, out: Path, is_trial: bool) -> None:
    """Run the study on each draw that this commit was not measured on yet."""
    machine = describe_machine()
    for number in range(draws):
        about = {"kind": "memory", "draw": number, "is_trial": is_trial, **describe_moment()}
        if has_record(out, kind="memory", draw=number, is_trial=is_trial, commit=about["commit"]):
            continue
        task = make_task(manifest, number, "meninx_study", is_trial)
        with tempfile.TemporaryDirectory(prefix="meninx-memory-") as folder:
            watched, answer = run_part({**task, "part": "time"}, Path(folder))
        record = {
            **about,
            "machine": machine,
            "seconds": answer["seconds"],
            **describe_memory(watched),
        }
        append_record(out, record)
        held = (watched.peak_bytes - watched.own_bytes) / 1e9
        print(f"draw {number}  {answer['seconds']:7.1f} s  {held:.2f} GB", flush=True)
