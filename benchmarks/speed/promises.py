"""What was promised of time and memory, and whether it was kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from benchmarks.speed.markdown import lay_out_rows, show_range
from benchmarks.speed.records import Record

GIGABYTE = 1e9
# What tells a run from another: draw and machine.
RUN = ["draw", "on"]


@dataclass(frozen=True)
class Promise:
    """A ratio of times that was promised.

    Attributes
    ----------
    text
        In words.
    wanted
        At least this.
    slow, fast
        The column of seconds that is divided, and that by which.
    """

    text: str
    wanted: float
    slow: str
    fast: str


PROMISES = (
    Promise("frozen cell faster than (a)", 20, "fastai", "meninx_frozen"),
    Promise("frozen cell faster than (b)", 20, "pytorch", "meninx_frozen"),
    Promise("partial cell faster than (b)'s last stage", 8, "last_stage", "partial_training"),
    Promise(
        "the same, with opening the folder and loading the network",
        8,
        "last_stage",
        "meninx_partial",
    ),
    Promise("full cell faster than (c)", 1.5, "full_fine_tuning", "meninx_full"),
    Promise("whole study in no more time than (c)", 1, "full_fine_tuning", "meninx_study"),
)
MOST_GIGABYTES_SMALL, MOST_GIGABYTES_LARGE = 1.5, 3.0
LARGE = 3000


def list_promises(draws: pd.DataFrame) -> Iterator[str]:
    """Lay out the table of promised ratios of times."""
    seconds = draws.pivot(index=RUN, columns="competitor", values="seconds")
    seconds["last_stage"] = _sum_phases(draws, "pytorch", ["last_stage"])
    # Up to eab7cc6 activations came before the cells; now they are computed among the fits.
    seconds["partial_training"] = _sum_phases(draws, "meninx_partial", ["activations", "cells"])
    rows = [
        [promise.text, f"≥ {promise.wanted:g} ×", letter, *_judge_promise(promise, own)]
        for promise in PROMISES
        for letter, own in seconds.groupby("on")
    ]
    return lay_out_rows(["promise", "wanted", "on", "measured", "held"], rows)


def _sum_phases(draws: pd.DataFrame, competitor: str, names: Sequence[str]) -> pd.Series:
    """Add the seconds of some phases of a competitor in each run, of those that it has."""
    phases = draws[draws["competitor"] == competitor].set_index(RUN)["phases"]
    return phases.map(lambda seconds: sum(seconds.get(name, 0.0) for name in names))


def _judge_promise(promise: Promise, seconds: pd.DataFrame) -> list[str]:
    """Show the ratios of the draws of one machine, and whether the promise holds there."""
    ratios = seconds[promise.slow] / seconds[promise.fast]
    kept = int((ratios >= promise.wanted).sum())
    verdict = "yes" if ratios.median() >= promise.wanted else "**no**"
    return [f"{show_range(ratios, 1)} ×", f"{verdict}; in {kept} of {len(ratios)} draws"]


def list_memory_promises(draws: pd.DataFrame, scaling: Sequence[Record]) -> Iterator[str]:
    """Lay out the table of promised peaks of memory."""
    ours = draws[draws["competitor"].str.startswith("meninx")]["peak_bytes"].max()
    large = [record["peak_bytes"] for record in scaling if record["images"] == LARGE]
    promises = [("peak memory at 53 images, the most of ours", MOST_GIGABYTES_SMALL, [ours])]
    promises += [("peak memory at 3,000 images", MOST_GIGABYTES_LARGE, large)]
    rows = []
    for text, wanted, peaks in promises:
        most = max(peaks, default=np.nan) / GIGABYTE
        verdict = "yes" if most < wanted else "**no**"
        measured, verdict = (f"{most:.2f} GB", verdict) if peaks else ("not measured", "–")
        rows.append([text, f"< {wanted} GB", measured, verdict])
    return lay_out_rows(["promise", "wanted", "measured", "held"], rows)
