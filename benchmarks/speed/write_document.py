"""docs/benchmarks.md from the records."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.speed.markdown import lay_out_rows, show_range
from benchmarks.speed.origin import describe_machines, name_machines
from benchmarks.speed.pairing import PairedDifference, compare_paired, fit_line
from benchmarks.speed.predictions import collect_predictions, list_by_commit, list_latest
from benchmarks.speed.promises import GIGABYTE, RUN, list_memory_promises, list_promises
from benchmarks.speed.records import Record, read_records

TITLES = {
    "fastai": "(a) fastai",
    "pytorch": "(b) plain PyTorch",
    "full_fine_tuning": "(c) full fine-tuning",
    "pooled_features": "(d) features + logistic regression",
    "meninx_frozen": "Meninx, frozen cell",
    "meninx_partial": "Meninx, partial cell of the last stage",
    "meninx_full": "Meninx, full cell",
    "meninx_study": "**Meninx, the default study**",
}
OTHERS = ("fastai", "pytorch", "full_fine_tuning", "pooled_features")


def write_document(records_file: Path, texts: Path, out: Path) -> None:
    """Write the page.

    Parameters
    ----------
    records_file
        What was measured.
    texts
        Folder of ``benchmarks.md.template`` and of the hand-kept ``accuracy_notes.md``.
    out
        The page.

    Raises
    ------
    SystemExit
        There is nothing to show, or figures that cannot be compared.
    """
    records = name_machines(
        [
            _leave_out_waiting(record)
            for record in read_records(records_file)
            if not record["is_trial"]
        ]
    )
    draws = complete_draws(records)
    scaling = _select(records, "scale")
    predictions = collect_predictions(records)
    page = (texts / "benchmarks.md.template").read_text(encoding="utf-8")
    filled = page.format(
        machines=describe_machines(records),
        tested=draws["tested"].max(),
        draws=draws["draw"].nunique(),
        competitors="\n".join(list_competitors(draws)),
        promises="\n".join(list_promises(draws)),
        memory="\n".join(list_memory_promises(draws, scaling)),
        differences="\n".join(list_differences(draws)),
        chosen=count_chosen(draws),
        latest="\n".join(list_latest(predictions)),
        by_commit="\n".join(list_by_commit(predictions)),
        scaling="\n".join(list_scaling(scaling)),
        fits="\n".join(list_fits(scaling)),
        limits="\n".join(list_limits(_select(records, "limit"))),
        accuracy_notes=(texts / "accuracy_notes.md").read_text(encoding="utf-8").strip(),
    )
    out.write_text(filled, encoding="utf-8")


def _select(records: Sequence[Record], kind: str) -> list[Record]:
    return [record for record in records if record["kind"] == kind]


def _leave_out_waiting(record: Record) -> Record:
    """Take the process that only waits for the study's command off its memory."""
    is_study = (record["kind"], record.get("competitor")) == ("draw", "meninx_study")
    waiting = record.get("peak_own_bytes", 0) if is_study else 0
    return {**record, "peak_bytes": record["peak_bytes"] - waiting} if waiting else record


def complete_draws(records: Sequence[Record]) -> pd.DataFrame:
    """Lay out the draws that every competitor has finished: one row a draw, machine, competitor.

    Raises
    ------
    SystemExit
        There is none, or a draw that was begun on several machines or at several commits is not
        whole, at one commit, on each: what is divided or subtracted has to be of one run.
    """
    timed, scored = (pd.DataFrame(_select(records, kind)) for kind in ("draw", "score"))
    if timed.empty or scored.empty:
        raise SystemExit(
            "no draw was measured yet; first `python -m benchmarks.speed run`, then `score`"
        )
    scores = scored[[*RUN, "commit", "competitor", "balanced_accuracy", "log_loss", "tested"]]
    table = timed.merge(scores, on=[*RUN, "commit", "competitor"])
    counts = table.groupby(RUN)["competitor"].nunique()
    whole = counts.index[counts == len(TITLES)]
    commits = pd.concat([timed, scored]).groupby(RUN)["commit"].nunique()
    machines = commits.groupby("draw").transform("size")
    is_mixed = (commits > 1) | (machines > 1) & ~commits.index.isin(whole)
    for number, letter in commits.index[is_mixed]:
        raise SystemExit(
            f"draw {number} is of several machines or commits, and not whole at one commit on "
            f"{letter}, so that it cannot be compared; remove its records there and measure again"
        )
    if whole.empty:
        raise SystemExit("no draw is complete yet; go on with `python -m benchmarks.speed run`")
    return table[pd.MultiIndex.from_frame(table[RUN]).isin(whole)]


def _pivot(draws: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay out a figure with a row a draw, the mean of its machines, and a column a competitor."""
    return draws.pivot_table(index="draw", columns="competitor", values=column)


def list_competitors(draws: pd.DataFrame) -> Iterator[str]:
    """Lay out the table of competitors."""
    machines = sorted(draws["on"].unique())
    columns = [
        "competitor",
        *(f"five-fold seconds on {letter}: median (range)" for letter in machines),
        "peak memory, GB (of it pages of files)",
        "balanced accuracy",
        "log loss",
        "out-of-fold balanced accuracy",
    ]
    accuracy, loss, out_of_fold = (
        _pivot(draws, column).mean()
        for column in ("balanced_accuracy", "log_loss", "out_of_fold_balanced_accuracy")
    )
    rows = []
    for name, title in TITLES.items():
        own = draws[draws["competitor"] == name]
        rows.append(
            [
                title,
                *(show_range(own[own["on"] == letter]["seconds"], 1) for letter in machines),
                _show_memory(own),
                f"{100 * accuracy[name]:.1f}",
                f"{loss[name]:.3f}",
                f"{100 * out_of_fold[name]:.1f}",
            ]
        )
    return lay_out_rows(columns, rows)


def _show_memory(own: pd.DataFrame) -> str:
    """Show the peak of memory over draws, and its part that is pages of files where noted."""
    most = own.loc[own["peak_bytes"].idxmax()]
    files = most.get("peak_file_bytes", np.nan)
    part = "" if np.isnan(files) else f" ({files / GIGABYTE:.2f})"
    return f"{most['peak_bytes'] / GIGABYTE:.2f}{part}"


def list_differences(draws: pd.DataFrame) -> Iterator[str]:
    """Lay out the table of the study's chosen model against each competitor."""
    accuracy, loss = (
        {competitor: figures.to_numpy() for competitor, figures in _pivot(draws, name).items()}
        for name in ("balanced_accuracy", "log_loss")
    )
    rows = []
    for name in OTHERS:
        gain = compare_paired(100 * accuracy["meninx_study"], 100 * accuracy[name])
        cost = compare_paired(loss["meninx_study"], loss[name])
        rows.append(
            [
                TITLES[name],
                _show_difference(gain, 1),
                _show_difference(cost, 3),
                f"accuracy {judge(gain, 1)}; log loss {judge(cost, -1)}",
            ]
        )
    return lay_out_rows(["against", "balanced accuracy, points", "log loss", "verdict"], rows)


def _show_difference(difference: PairedDifference, digits: int) -> str:
    low, high = (f"{bound:+.{digits}f}" for bound in (difference.low, difference.high))
    return f"{difference.mean:+.{digits}f} ({low} to {high})"


def judge(difference: PairedDifference, better: int) -> str:
    """Say what a difference shows.

    Parameters
    ----------
    difference
        Study minus competitor.
    better
        The sign that is good: 1 or -1.
    """
    if difference.mean == 0:
        return "equal"
    word = "better" if difference.mean * better > 0 else "**worse**"
    times = difference.larger if difference.mean > 0 else difference.smaller
    doubt = "" if difference.sign else ", interval includes zero"
    return f"{word} on average ({times} of {difference.draws} draws{doubt})"


def count_chosen(draws: pd.DataFrame) -> str:
    """Say which cells the studies chose."""
    studies = draws[draws["competitor"] == "meninx_study"]
    counts = pd.Series([facts["chosen"] for facts in studies["facts"]]).value_counts()
    parts = [f"{name} in {count}" for name, count in counts.items()]
    return f"{', '.join(parts)} of {len(studies)} studies"


def _group_by_cell(scaling: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Group by machine and cell, smaller numbers of images first."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(scaling, key=lambda one: (one["on"], one["cell"], one["images"])):
        cells.setdefault((record["on"], record["cell"]), []).append(record)
    return cells


def list_scaling(scaling: Sequence[Record]) -> Iterator[str]:
    """Lay out time and memory of each size."""
    rows = [
        [
            letter,
            cell,
            f"{record['images']:,}",
            f"{record['seconds']:.1f}",
            f"{record['seconds'] / record['images']:.3f}",
            f"{record['peak_bytes'] / GIGABYTE:.2f}",
        ]
        for (letter, cell), records in _group_by_cell(scaling).items()
        for record in records
    ]
    return lay_out_rows(
        ["on", "cell", "images", "seconds", "seconds an image", "peak memory, GB"], rows
    )


def list_fits(scaling: Sequence[Record]) -> Iterator[str]:
    """Say for each cell how its time grows."""
    for (letter, cell), records in _group_by_cell(scaling).items():
        if len(records) > 1:
            fit = fit_line(
                np.array([record["images"] for record in records]),
                np.array([record["seconds"] for record in records]),
            )
            yield (
                f"- {cell} on {letter}: {fit.fixed:.1f} s + {1000 * fit.each:.0f} ms an image; "
                f"measurements are within {100 * fit.largest_deviation:.0f} % of this line; "
                "between the two largest sizes time grows with the power "
                f"{fit.exponent:.2f} of the images"
            )


def list_limits(limits: Sequence[Record]) -> Iterator[str]:
    """Lay out the rate of the engine at each cut and of each large operator."""
    rows = []
    for limit in limits:
        best = {kind: max(rates.values()) for kind, rates in limit["best"].items()}
        rates = {
            **{
                f"engine, training from {cut}": measured["macs_per_second"]
                for cut, measured in limit["engine"].items()
            },
            **{
                f"{operator}, {kind}": rate
                for kind, operators in limit["best"].items()
                for operator, rate in operators.items()
            },
        }
        rows += [
            [
                limit["on"],
                what,
                f"{rate / 1e9:.1f}",
                *(f"{100 * rate / best[kind]:.0f} %" for kind in ("bfloat16", "float32")),
            ]
            for what, rate in rates.items()
        ]
    return lay_out_rows(
        [
            "on",
            "what",
            "10⁹ multiply-accumulates a second",
            "of the best bfloat16",
            "of the best float32",
        ],
        rows,
    )
