"""Two studies of the same images, side by side."""

import json
from pathlib import Path
from typing import Any

from meninx.errors import StudyError
from meninx.evaluate import Predictions, compare
from meninx.study.run_folder import RunFolder


def compare_runs(run: Path, other: Path) -> dict[str, Any]:
    """Compare the chosen cells of two runs, patient by patient.

    Returns
    -------
    dict
        ``chosen`` and ``other_chosen``, and ``difference`` in balanced accuracy (the first minus
        the second) with ``low`` and ``high``. Each cell is the best of its run, so the
        difference does not say which procedure is better; the headlines do.

    Raises
    ------
    StudyError
        A run is not finished, or they are of other images or patients.
    """
    one_name, one, samples = _read_chosen(run)
    other_name, second, other_samples = _read_chosen(other)
    if samples != other_samples or one.patients.tolist() != second.patients.tolist():
        raise StudyError(f"{run} and {other} are studies of other images or patients")
    difference = compare(one, second).difference
    return {
        "chosen": one_name,
        "other_chosen": other_name,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "images": len(samples),
    }


def _read_chosen(run: Path) -> tuple[str, Predictions, list[str]]:
    try:
        chosen = json.loads((run / "summary.json").read_bytes())["chosen"]
    except FileNotFoundError as error:
        raise StudyError(f"{run} holds no finished study; run `meninx study` first") from error
    result = RunFolder(run).read_cell(chosen)
    if result is None:
        raise StudyError(f"{run} lacks the result of its chosen cell {chosen}")
    samples = sorted(result[0]["sample"].unique())
    return chosen, Predictions.from_table(result[0], samples), samples
