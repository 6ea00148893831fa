"""Ours: the whole default study, as the command line runs it, from a cold cache.

Its own clock is the whole command, with the start of Python and all that it writes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.speed.competitor import Competitor, CrossValidation, Stopwatch
from benchmarks.speed.draws import COUNTS, Draw

# A trial only has to show that everything runs.
TRIAL = ["--backbones", "tf_efficientnet_lite0", "--strategies", "frozen", "--repeats", "1"]

# Beside the cells' names.
WHOLE = "the whole study, by the clock"


def cross_validate(draw: Draw, work: Path) -> CrossValidation:
    """Run the study and read what it wrote."""
    watch = Stopwatch()
    run = work / "run"
    command = [sys.executable, "-m", "meninx", "study", str(draw.train.paths[0].parents[1])]
    command += ["-o", str(run), "--seed", str(draw.number)]
    with watch.time("command"):
        subprocess.run([*command, *(TRIAL if draw.is_trial else [])], check=True)
    summary = json.loads((run / "summary.json").read_text())
    table = pd.read_parquet(run / "cells" / summary["chosen"] / "oof.parquet")
    facts = {
        "seconds": _read_seconds(run, summary["seconds"]),
        "chosen": summary["chosen"],
        "headline": summary["headline"],
        "naive": summary["naive"],
        "own_seconds": summary["seconds"],
    }
    return CrossValidation(_order(table, draw, run), watch.seconds, facts)


def _read_seconds(run: Path, whole: float) -> dict[str, tuple[float, float]]:
    """Read what each cell with a network was predicted to take, and took; the whole study, too.

    Of an ensemble, what its members take together.
    """
    plan = json.loads((run / "plan.json").read_text())
    taken = pd.read_csv(run / "scores.csv").set_index("cell")["seconds"]
    cells = {
        cell["cell"]: (cell["predicted_seconds"], float(taken[cell["cell"]]))
        for cell in plan["cells"]
        if cell["backbone"]
    }
    return {**cells, WHOLE: (plan["predicted_seconds"], whole)}


def _order(table: pd.DataFrame, draw: Draw, run: Path) -> np.ndarray:
    """Average the chosen cell's repeats; ``(n, k)`` in the draw's order, which is the cohort's."""
    columns = [f"p_{label}" for label in sorted(COUNTS)]
    mean = table.groupby("sample")[columns].mean()
    samples = pd.read_csv(run / "cohort.csv")["sample"]
    if len(samples) != len(draw.train):
        raise SystemExit("the study did not use the images of the draw")
    return mean.loc[samples].to_numpy()


def predict_test(draw: Draw, work: Path) -> np.ndarray:
    """Predict the test images with the bundle, which was trained on the whole draw."""
    # Imported here: the process that times the study is to be small.
    from meninx.bundle import Bundle

    bundle = Bundle.open(work / "run" / "bundle")
    classes = sorted(COUNTS)
    return np.array(
        [
            [prediction.probabilities[label] for label in classes]
            for prediction in bundle.predict(list(draw.test.paths))
        ]
    )


COMPETITOR = Competitor(cross_validate, predict_test)
