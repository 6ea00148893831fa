"""Whether the learning curve foretells what more phantom patients bring.

``python -m benchmarks.phantom_curve`` runs a study on phantoms of 53 patients, whose learning
curve forecasts the score at twice and four times as many, and compares the forecasts with studies
of phantoms that have as many. It writes docs/phantom_curve.md.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from meninx.cohort import Cohort, phantom
from meninx.finetune import Strategy
from meninx.study import Study

PAGE = Path(__file__).resolve().parents[1] / "docs" / "phantom_curve.md"
BACKBONE = "tf_efficientnet_lite0"
COUNTS = {"lm": 16, "leukemia": 22, "normal": 15}
FORECASTING_SEEDS = range(6)
# Other patients than those that the forecasts are made from.
TRUTH_SEEDS = range(100, 103)


def run_study(folder: Path, seed: int, factor: int) -> Path:
    """Run a frozen study on a phantom with `factor` times the usual patients."""
    counts = {label: factor * count for label, count in COUNTS.items()}
    manifest = phantom(folder / "phantom", seed=seed, counts=counts)
    run = folder / "run"
    Study(Cohort.open(manifest), (BACKBONE,), (Strategy.FROZEN,), repeats=1, seed=seed).run(run)
    return run


def measure_truth(factor: int) -> float:
    """Measure the mean score of cohorts of that size, out of fold."""
    scores = []
    for seed in TRUTH_SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            table = pd.read_csv(run_study(Path(folder), seed, factor) / "scores.csv")
            (score,) = table.loc[table["strategy"] == "frozen", "balanced_accuracy"]
            scores.append(score)
    return float(np.mean(scores))


def forecast(seed: int) -> dict[float, Mapping[str, float]]:
    """Forecast from one phantom of the usual size: factor → value, low, high."""
    with tempfile.TemporaryDirectory() as folder:
        content = json.loads((run_study(Path(folder), seed, 1) / "evaluation.json").read_text())
    return {
        one["factor"]: one["balanced_accuracy"] for one in content["learning_curve"]["forecast"]
    }


def main() -> None:
    """Measure and write the page."""
    truth = {factor: measure_truth(factor) for factor in (2, 4)}
    lines = [
        "# The learning curve on the phantom",
        "",
        "Written by `python -m benchmarks.phantom_curve`. Forecasts of balanced accuracy from one",
        f"phantom of 53 patients each ({BACKBONE}, frozen, 5 folds once), against the mean of",
        f"{len(TRUTH_SEEDS)} phantoms that have as many patients (106 and 212, other seeds).",
        "",
        "| seed | at 2×: forecast (95 % interval) | truth | at 4×: forecast | truth |",
        "| --- | --- | --- | --- | --- |",
    ]
    held = []
    for seed in FORECASTING_SEEDS:
        cells = [str(seed)]
        for factor, expected in forecast(seed).items():
            low, high = expected["low"], expected["high"]
            held.append(low <= truth[round(factor)] <= high)
            cells += [f"{expected['value']:.2f} ({low:.2f} to {high:.2f})"]
            cells += [f"{truth[round(factor)]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", f"The interval held the truth in {sum(held)} of {len(held)} forecasts.", ""]
    PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
