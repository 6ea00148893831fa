"""Every competitor on every draw: timed one after the other, each in a process of its own."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.compete import COMPETITORS, make_draw
from benchmarks.speed.draws import COUNTS
from benchmarks.speed.processes import Watched, run_watched
from benchmarks.speed.records import measure_once
from sklearn.metrics import balanced_accuracy_score, log_loss


def order_competitors(draw: int) -> list[str]:
    """Order the competitors, another one first in each draw, so that drift is spread."""
    names = list(COMPETITORS)
    first = draw % len(names)
    return names[first:] + names[:first]


def run(manifest: Path, draws: int, out: Path, is_trial: bool) -> None:
    """Time what is not in the file of records yet."""
    for number in range(draws):
        for name in order_competitors(number):
            _run_one(manifest, number, name, "draw", out, is_trial)


def run_studies(manifest: Path, draws: int, out: Path, is_trial: bool) -> None:
    """Run the default study alone, for what it foretells and then takes."""
    for number in range(draws):
        _run_one(manifest, number, "meninx_study", "study", out, is_trial)
        # No test follows that would need what it left.
        shutil.rmtree(find_work(out, "study", number, "meninx_study"), ignore_errors=True)


def _run_one(manifest: Path, number: int, name: str, kind: str, out: Path, is_trial: bool) -> None:
    """Time a competitor on a draw, where there is no record of that kind yet."""
    key = {"kind": kind, "draw": number, "competitor": name, "is_trial": is_trial}
    work = find_work(out, kind, number, name)
    record = measure_once(out, key, lambda: measure(manifest, number, name, is_trial, work))
    if record:
        print(f"draw {number}  {name:16}  {record['seconds']:7.1f} s", flush=True)


def find_work(out: Path, kind: str, number: int, name: str) -> Path:
    """Give the folder in which a competitor works on a draw, beside the file of records."""
    return out.parent / "work" / f"{kind}{number}" / name


def measure(manifest: Path, number: int, name: str, is_trial: bool, work: Path) -> dict[str, Any]:
    """Time one competitor on one draw; what it leaves for its test stays in `work`."""
    draw = make_draw(manifest, number, is_trial)
    task = make_task(manifest, number, name, is_trial)
    shutil.rmtree(work, ignore_errors=True)
    watched, timed = run_part({**task, "part": "time"}, work)
    # Some hundred megabytes that the test can do without.
    shutil.rmtree(work / "cache", ignore_errors=True)
    out_of_fold = np.array(timed.pop("probabilities"), dtype=float)
    predicted = ~np.isnan(out_of_fold).any(axis=1)
    scores = score(draw.train.targets[predicted], out_of_fold[predicted])
    return {
        **timed,
        "process_seconds": watched.seconds,
        **describe_memory(watched),
        **{f"out_of_fold_{measured}": value for measured, value in scores.items()},
    }


def make_task(manifest: Path, number: int, name: str, is_trial: bool) -> dict[str, object]:
    """Say which competitor is run on which draw."""
    return {
        "competitor": name,
        "draw": number,
        "manifest": str(manifest.resolve()),
        "is_trial": is_trial,
    }


def describe_memory(watched: Watched) -> dict[str, int]:
    """Give the memory of a part as it is kept in a record."""
    return {
        "peak_bytes": watched.peak_bytes,
        "peak_file_bytes": watched.file_bytes,
        "peak_own_bytes": watched.own_bytes,
    }


def run_part(
    task: dict[str, object], work: Path, variables: Mapping[str, str] | None = None
) -> tuple[Watched, dict[str, Any]]:
    """Run one part of a task in a process of its own and read its answer.

    Parameters
    ----------
    task
        Of :func:`make_task`, with its part.
    work
        The folder it may write to.
    variables
        Of the environment, beside those that every competitor gets.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{task['part']}.json"
    file.write_text(json.dumps(task))
    # The cache is cold in the timed part and private to this competitor and draw.
    environment = {"MENINX_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.speed.compete", str(file)]
    watched = run_watched(command, {**environment, **(variables or {})})
    return watched, json.loads(file.with_suffix(".answer").read_text())


def score(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Score probabilities ``(n, k)``."""
    # In single precision a softmax sums to one only nearly.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return {
        "balanced_accuracy": float(balanced_accuracy_score(targets, probabilities.argmax(axis=1))),
        "log_loss": float(log_loss(targets, probabilities, labels=range(len(COUNTS)))),
    }
