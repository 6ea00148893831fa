"""Two studies of the same images, side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from meninx.errors import StudyError
from meninx.evaluate import Predictions, compare
from meninx.results import RunFolder


def compare_runs(run: Path, other: Path) -> dict[str, Any]:
    """Compare the chosen models of two runs, patient by patient.

    Returns
    -------
    dict
        ``chosen`` and ``other_chosen``, and ``difference`` in balanced accuracy (the first minus
        the second) with ``low`` and ``high``. Each model is the best of its run, so the
        difference does not say which procedure is better; the headlines do.

    Raises
    ------
    StudyError
        A run is not finished, they are of other images or patients, or their pseudonyms were
        made with different keys.
    """
    one_name, table, samples, key = _read_chosen(run)
    other_name, other_table, other_samples, other_key = _read_chosen(other)
    if key != other_key:
        raise StudyError(
            f"{run} and {other} were written with different keys of pseudonyms, so that their "
            "images cannot be matched; run one of them again with the other's (MENINX_KEY)"
        )
    if sorted(samples) != sorted(other_samples):
        raise StudyError(f"{run} and {other} are studies of other images")
    one = Predictions.from_table(table, samples)
    second = Predictions.from_table(other_table, samples)
    if one.patients.tolist() != second.patients.tolist():
        raise StudyError(f"{run} and {other} are studies of other patients")
    # Patients are drawn by chance: in the order of their images, which no key decides.
    numbers = pd.factorize(one.patients)[0]
    difference = compare(
        replace(one, patients=numbers), replace(second, patients=numbers)
    ).difference
    return {
        "chosen": one_name,
        "other_chosen": other_name,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "images": len(samples),
    }


def _read_chosen(run: Path) -> tuple[str, pd.DataFrame, list[str], str | None]:
    """Read the name and predictions of a run's chosen model, its samples in order, and its key."""
    folder = RunFolder(run)
    chosen = folder.summary.chosen
    result = folder.read_model(chosen)
    if result is None:
        raise StudyError(f"{run} lacks the result of its chosen model {chosen}")
    samples = [row.sample for row in folder.cohort]
    return chosen, result[0], samples, folder.read_settings().get("pseudonyms_key")
