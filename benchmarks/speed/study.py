"""One whole study by the command line, as a process, from a cold cache.

Nothing of meninx is imported here, so that any commit's can be measured: whichever stands on
PYTHONPATH.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
from benchmarks.speed.processes import run_watched
from benchmarks.speed.records import Record, append_record, describe_origin

# A trial only has to show that everything runs.
TRIAL = ["--backbones", "tf_efficientnet_lite0", "--strategies", "frozen", "--repeats", "1"]


def record_study(data: Path, label: str, seed: int, out: Path, is_trial: bool) -> None:
    """Measure a study and append its record."""
    origin = describe_origin()
    with tempfile.TemporaryDirectory(prefix="meninx-study-") as work:
        measured = measure_study(data, seed, Path(work), is_trial)
    about = {"kind": "study", "what": label, "on": data.resolve().stem, "seed": seed}
    append_record(out, {**about, "is_trial": is_trial, **origin, **measured})
    print(f"{label}, {about['on']}: {json.dumps(measured)}")


def measure_study(data: Path, seed: int, work: Path, is_trial: bool) -> Record:
    """Run a study into ``work/run`` and say what it took and how good the chosen model is."""
    run = work / "run"
    command = [sys.executable, "-m", "meninx", "study", str(data), "-o", str(run)]
    command += ["--seed", str(seed), *(TRIAL if is_trial else [])]
    environment = {"MENINX_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    watched = run_watched(command, environment)
    # Some hundred megabytes that nobody needs any more.
    shutil.rmtree(work / "cache", ignore_errors=True)
    return {"seconds": watched.seconds, "peak_bytes": watched.peak_bytes, **read_scores(run)}


def read_scores(run: Path) -> Record:
    """Read the headline of a run folder and the log loss of the model that it chose."""
    summary = json.loads((run / "summary.json").read_text())
    scores = pd.read_csv(run / "scores.csv")
    # Earlier commits called the column cell.
    names = scores["model" if "model" in scores else "cell"]
    (log_loss,) = scores.loc[names == summary["chosen"], "log_loss"]
    return {
        "chosen": summary["chosen"],
        "balanced_accuracy": summary["headline"]["balanced_accuracy"],
        "log_loss": float(log_loss),
    }
