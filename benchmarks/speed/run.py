"""Every competitor on every draw, one after the other, each in processes of its own."""

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.draws import COUNTS, make_draw
from benchmarks.speed.processes import Watched, run_watched
from benchmarks.speed.records import Record, append_record, describe_origin, has_record
from benchmarks.speed.study import measure_study
from sklearn.metrics import balanced_accuracy_score, log_loss

COMPETITORS = {
    "fastai": "(a) fastai, `vision_learner`, `fine_tune(10)`",
    "pytorch": "(b) plain PyTorch, head, then last stage",
    "full_fine_tuning": "(c) plain PyTorch, full fine-tuning",
    "meninx_frozen": "Meninx, frozen",
    "meninx_partial": "Meninx, partial, last stage",
    "meninx_full": "Meninx, full",
    "meninx_study": "Meninx, the default study",
}


def run(manifest: Path, draws: int, only: Sequence[str] | None, out: Path, is_trial: bool) -> None:
    """Measure what is not in the file of records yet.

    Raises
    ------
    SystemExit
        A competitor is not known, or fails.
    """
    names = list(only or COMPETITORS)
    if unknown := set(names) - set(COMPETITORS):
        raise SystemExit(f"no such competitor: {', '.join(unknown)}; {', '.join(COMPETITORS)}")
    if "fastai" in names and find_spec("fastai") is None:
        names.remove("fastai")
        print("fastai is left out: it is not installed (pip install -e .[bench])")
    for number in range(draws):
        # Another one is first in each draw, so that drift of the machine is spread.
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            key = {"kind": "draw", "draw": number, "what": name, "is_trial": is_trial}
            if not has_record(out, **key):
                # Before the measurement, which makes the machine busy.
                origin = describe_origin()
                work = out.parent / "work" / f"draw{number}" / name
                record = {**key, **origin, **measure(manifest, number, name, is_trial, work)}
                append_record(out, record)
                shutil.rmtree(work)
                print(f"draw {number}  {name:16}  {record['seconds']:7.1f} s", flush=True)


def measure(manifest: Path, number: int, name: str, is_trial: bool, work: Path) -> Record:
    """Time one competitor on one draw, and score it on images of other patients."""
    draw = make_draw(manifest, number, is_trial)
    task = {
        "competitor": name,
        "draw": number,
        "manifest": str(manifest.resolve()),
        "is_trial": is_trial,
    }
    shutil.rmtree(work, ignore_errors=True)
    if name == "meninx_study":
        draw.train.copy_to(work / "images")
        timed = measure_study(work / "images", number, work, is_trial)
    else:
        watched, answer = run_part({**task, "part": "time"}, work)
        timed = {"seconds": answer["seconds"], "peak_bytes": watched.peak_bytes}
    _, tested = run_part({**task, "part": "test"}, work)
    # The study's own headline is of 53 images; here all are tested on the same other ones.
    return {**timed, **score(draw.test.targets, np.array(tested["probabilities"]))}


def run_part(task: dict[str, object], work: Path) -> tuple[Watched, dict[str, Any]]:
    """Run one part of a task in a process of its own and read its answer."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{task['part']}.json"
    file.write_text(json.dumps(task))
    # The cache is cold in the timed part and private to this competitor and draw.
    environment = {"MENINX_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    watched = run_watched(
        [sys.executable, "-m", "benchmarks.speed.compete", str(file)], environment
    )
    return watched, json.loads(file.with_suffix(".answer").read_text())


def score(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Score probabilities ``(n, k)``."""
    # In single precision a softmax sums to one only nearly.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return {
        "balanced_accuracy": float(balanced_accuracy_score(targets, probabilities.argmax(axis=1))),
        "log_loss": float(log_loss(targets, probabilities, labels=range(len(COUNTS)))),
    }
