"""The score of every competitor: fitted on a whole draw, it predicts images of other patients.

Nothing is timed here, so as many run at once as there are cores, on one thread each.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from benchmarks.speed.compete import make_draw
from benchmarks.speed.machine import describe_machine, describe_moment
from benchmarks.speed.records import Record, append_record, has_record, read_records
from benchmarks.speed.run import find_work, make_task, run_part, score

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def score_all(manifest: Path, out: Path, is_trial: bool) -> None:
    """Score whoever was timed and has no score yet; the study with the bundle that it left."""
    machine = describe_machine()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = [
            pool.submit(score_one, manifest, out, number, name, is_trial)
            for number, name in list_unscored(out, is_trial)
        ]
        for finished in as_completed(scores):
            record = {**finished.result(), "machine": machine}
            append_record(out, record)
            # Only now: whoever is stopped before this still has what is to be scored.
            shutil.rmtree(find_work(out, "draw", record["draw"], record["competitor"]))
            print(
                f"draw {record['draw']}  {record['competitor']:16}"
                f"  balanced accuracy {record['balanced_accuracy']:.3f}",
                flush=True,
            )


def list_unscored(out: Path, is_trial: bool) -> list[tuple[int, str]]:
    """List draws and competitors that were timed and have no score on record."""
    timed = [
        (record["draw"], record["competitor"])
        for record in read_records(out)
        if record["kind"] == "draw" and record["is_trial"] == is_trial
    ]
    return [
        (number, name)
        for number, name in timed
        if not has_record(out, kind="score", draw=number, competitor=name, is_trial=is_trial)
    ]


def score_one(manifest: Path, out: Path, number: int, name: str, is_trial: bool) -> Record:
    """Score one competitor on one draw."""
    about = {"kind": "score", "draw": number, "competitor": name, "is_trial": is_trial}
    about |= describe_moment()
    draw = make_draw(manifest, number, is_trial)
    task = {**make_task(manifest, number, name, is_trial), "part": "test"}
    _, tested = run_part(task, find_work(out, "draw", number, name), ONE_THREAD)
    probabilities = np.array(tested["probabilities"])
    return {**about, **score(draw.test.targets, probabilities), "tested": len(draw.test)}
