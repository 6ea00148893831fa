"""Which rule finds the better cell? Default studies on draws whose test images everybody has.

A study's cells are cross-validated as always; then every candidate is trained on the whole draw and
predicts 400 images of other patients. What a rule would have chosen is looked up afterwards, so
that rules can be compared without training again. Probabilities are those before calibration.

    python -m benchmarks.choice run --draws 5 --seeds 2 --work /tmp/choice
    python -m benchmarks.choice table

The first command is resumable: each study is one line of benchmarks/choice.jsonl.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.speed.draws import COUNTS, draw_images
from benchmarks.speed.meninx_cells import open_cohort
from benchmarks.speed.records import Record, measure_once, read_records
from benchmarks.speed.run import score

from meninx.cohort import Cohort, Image, as_head
from meninx.finetune import FineTunedClassifier
from meninx.study.plan import ENSEMBLE
from meninx.study.workers import run_in_workers

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "choice.jsonl"
MANIFEST = ROOT.parent / "shared" / "data" / "cemri" / "manifest.csv"
CLASSES = sorted(COUNTS)


def run(draws: int, seeds: int, work: Path) -> None:
    """Run the studies that have no record yet, one seed of all draws first."""
    for seed in range(seeds):
        for number in range(draws):
            key = {"draw": number, "seed": seed}
            measure_once(RECORDS, key, partial(run_study, number, seed, work))


def run_study(number: int, seed: int, work: Path) -> dict[str, Any]:
    """Run one study on a draw and score its candidates out of fold and on the test images."""
    draw = draw_images(MANIFEST, number)
    images, folder = work / f"draw{number}", work / f"draw{number}-seed{seed}"
    cohort = open_cohort(draw.train.copy_to(images))
    command = [sys.executable, "-m", "meninx", "study", str(images), "-o", str(folder)]
    subprocess.run([*command, "--seed", str(seed)], check=True)
    cells = {
        cell["cell"]: cell
        for cell in json.loads((folder / "plan.json").read_text())["cells"]
        if cell["role"] == "candidate"
    }
    # The shallowest cut first: the deeper ones start from its stored activations.
    trained = sorted(
        (name for name, cell in cells.items() if not cell["members"]),
        key=lambda name: cells[name]["cut"] or "whole",
    )
    others = [as_head(path) for path in draw.test.paths]
    tasks = [(cells[name], seed, cohort, others) for name in trained]
    tested = dict(zip(trained, run_in_workers(predict_test, tasks, None), strict=True))
    for name, cell in cells.items():
        if cell["members"]:
            tested[name] = np.mean([tested[member] for member in cell["members"]], axis=0)
    return {
        "chosen": json.loads((folder / "summary.json").read_text())["chosen"],
        "cells": {
            name: {
                "out_of_fold": score_out_of_fold(folder / "cells" / name / "oof.parquet"),
                "tested": score(draw.test.targets, tested[name]),
            }
            for name in cells
        },
    }


def predict_test(
    cell: dict[str, Any], seed: int, cohort: Cohort, tested: Sequence[Image]
) -> np.ndarray:
    """Train a cell on the whole draw and give the test images' probabilities ``(m, k)``."""
    classifier = FineTunedClassifier(
        cell["backbone"], cell["strategy"], cell["cut"], random_state=seed, **cell["settings"]
    )
    return classifier.fit(cohort.images, cohort.labels).predict_proba(tested)


def score_out_of_fold(file: Path) -> dict[str, float]:
    """Score a cell's repeats one by one, and give the mean of their scores."""
    table = pd.read_parquet(file)
    scores = [
        score(
            np.searchsorted(CLASSES, own["label"].to_numpy(str)),
            own[[f"p_{label}" for label in CLASSES]].to_numpy(),
        )
        for _, own in table.groupby("repeat")
    ]
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def choose_as_the_study(record: Record) -> str:
    """Choose what the study chose."""
    return str(record["chosen"])


def choose_least_loss(record: Record) -> str:
    """Choose the least log loss out of fold."""
    cells = record["cells"]
    return min(cells, key=lambda name: cells[name]["out_of_fold"]["log_loss"])


def choose_ensemble(_: Record) -> str:
    """Choose the ensemble, whatever was measured."""
    return ENSEMBLE


RULES: dict[str, Callable[[Record], str]] = {
    "the study's: balanced accuracy": choose_as_the_study,
    "log loss": choose_least_loss,
    "always the ensemble": choose_ensemble,
}


def list_rules(records: list[Record]) -> Iterator[str]:
    """Lay out how good the cells are that each rule chooses, means over the studies."""
    yield "| chosen by | studies | balanced accuracy | log loss | ensemble chosen |"
    yield "| --- | --- | --- | --- | --- |"
    for title, rule in RULES.items():
        names = [rule(record) for record in records]
        tested = pd.DataFrame(
            [record["cells"][name]["tested"] for record, name in zip(records, names, strict=True)]
        )
        yield (
            f"| {title} | {len(records)} | {tested['balanced_accuracy'].mean():.3f} "
            f"| {tested['log_loss'].mean():.3f} "
            f"| {names.count(ENSEMBLE)} |"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("/tmp/choice"))
    arguments = parser.parse_args()
    if arguments.action == "run":
        run(arguments.draws, arguments.seeds, arguments.work)
    else:
        print("\n".join(list_rules(read_records(RECORDS))))


if __name__ == "__main__":
    main()
