"""docs/benchmarks.md from the records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.speed.pairing import PairedDifference, compare_paired, fit_line
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
GIGABYTE = 1e9


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
    Promise("partial cell faster than (b)'s last stage", 8, "last_stage", "meninx_partial"),
    Promise("full cell faster than (c)", 1.5, "full_fine_tuning", "meninx_full"),
    Promise("whole study in no more time than (c)", 1, "full_fine_tuning", "meninx_study"),
)
# Per cent of the seconds that were predicted.
FURTHEST_OFF = 30
MOST_GIGABYTES_SMALL, MOST_GIGABYTES_LARGE = 1.5, 3.0
LARGE = 3000


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
    records = [
        _leave_out_waiting(record)
        for record in read_records(records_file)
        if not record["is_trial"]
    ]
    draws = complete_draws(records)
    page = (texts / "benchmarks.md.template").read_text(encoding="utf-8")
    scaling = _select(records, "scale")
    filled = page.format(
        machine=describe_origin([one for one in records if one["kind"] != "memory"]),
        tested=draws["tested"].max(),
        draws=draws["draw"].nunique(),
        competitors="\n".join(list_competitors(draws)),
        promises="\n".join([*list_promises(draws), *list_memory_promises(draws, scaling)]),
        memory="\n".join(list_memory_again(_select(records, "memory"))),
        differences="\n".join(list_differences(draws)),
        chosen=count_chosen(draws),
        predictions="\n".join(list_predictions(draws)),
        scaling="\n".join(list_scaling(scaling)),
        fits="\n".join(list_fits(scaling)),
        limits="\n".join(list_limits(_select(records, "limit"))),
        accuracy_notes=(texts / "accuracy_notes.md").read_text(encoding="utf-8").strip(),
    )
    out.write_text(filled, encoding="utf-8")


def _select(records: Sequence[Record], kind: str) -> list[Record]:
    return [record for record in records if record["kind"] == kind]


def _leave_out_waiting(record: Record) -> Record:
    """Take the process that only waits for the study's command off its memory, where noted."""
    timed = (record["kind"], record.get("competitor"))
    is_study = record["kind"] == "memory" or timed == ("draw", "meninx_study")
    waiting = record.get("peak_own_bytes", 0) if is_study else 0
    return {**record, "peak_bytes": record["peak_bytes"] - waiting} if waiting else record


def complete_draws(records: Sequence[Record]) -> pd.DataFrame:
    """Lay out the draws that every competitor has finished, one row a draw and competitor."""
    timed, scored = (pd.DataFrame(_select(records, kind)) for kind in ("draw", "score"))
    if timed.empty or scored.empty:
        raise SystemExit(
            "no draw was measured yet; first `python -m benchmarks.speed run`, then `score`"
        )
    scores = scored[["draw", "competitor", "balanced_accuracy", "log_loss", "tested"]]
    table = timed.merge(scores, on=["draw", "competitor"])
    counts = table.groupby("draw")["competitor"].nunique()
    whole = counts.index[counts == len(TITLES)]
    if whole.empty:
        raise SystemExit("no draw is complete yet; go on with `python -m benchmarks.speed run`")
    return table[table["draw"].isin(whole)]


def describe_origin(records: Sequence[Record]) -> str:
    """Say on what, when and with which software everything was measured; it must be one machine."""
    machines = {str(record["machine"]["processor"]) for record in records}
    versions = {str(record["machine"]["versions"]) for record in records}
    if len(machines) > 1 or len(versions) > 1:
        raise SystemExit(
            "the records come from several machines or versions and cannot be compared: "
            f"{'; '.join(sorted(machines | versions))}"
        )
    machine = records[0]["machine"]
    dates = sorted(record["date"][:10] for record in records)
    commits = sorted({record["commit"] for record in records})
    loads = [record["load"] for record in records]
    software = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return "\n".join(
        [
            f"- {machine['processor']}, {machine['cores']} cores, "
            f"{machine['gibibytes']} GiB of memory",
            f"- capabilities: {', '.join(machine['capabilities'])}",
            f"- {machine['system']}; {software}",
            f"- measured from {dates[0]} to {dates[-1]}, commit {', '.join(commits)}; load of the "
            f"machine over the minute before a measurement {min(loads):.1f} to {max(loads):.1f} "
            "(what ran before counts in it)",
        ]
    )


def _pivot(draws: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay out a figure with a row a draw and a column a competitor."""
    return draws.pivot_table(index="draw", columns="competitor", values=column)


def _show_range(values: pd.Series, digits: int) -> str:
    """Show median and range."""
    return f"{values.median():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def list_competitors(draws: pd.DataFrame) -> Iterator[str]:
    """Give a row of the table of competitors for each."""
    for name, title in TITLES.items():
        own = draws[draws["competitor"] == name]
        yield (
            f"| {title} | {_show_range(own['seconds'], 1)} "
            f"| {_show_memory(own)} "
            f"| {100 * own['balanced_accuracy'].mean():.1f} | {own['log_loss'].mean():.3f} "
            f"| {100 * own['out_of_fold_balanced_accuracy'].mean():.1f} "
            f"| {', '.join(own['commit'].str[:8].unique())} |"
        )


def _show_memory(own: pd.DataFrame) -> str:
    """Show the peak of memory over draws, and its part that is pages of files where noted."""
    most = own.loc[own["peak_bytes"].idxmax()]
    files = most.get("peak_file_bytes", np.nan)
    part = "" if np.isnan(files) else f" ({files / GIGABYTE:.2f})"
    return f"{most['peak_bytes'] / GIGABYTE:.2f}{part}"


def list_promises(draws: pd.DataFrame) -> Iterator[str]:
    """Give a row for each promised ratio of times."""
    seconds = _pivot(draws, "seconds")
    plain = draws[draws["competitor"] == "pytorch"].set_index("draw")
    seconds["last_stage"] = [phases["last_stage"] for phases in plain["phases"]]
    for promise in PROMISES:
        ratios = seconds[promise.slow] / seconds[promise.fast]
        kept = int((ratios >= promise.wanted).sum())
        verdict = "yes" if ratios.median() >= promise.wanted else "**no**"
        yield (
            f"| {promise.text} | ≥ {promise.wanted:g} × | {_show_range(ratios, 1)} × "
            f"| {verdict}; in {kept} of {len(ratios)} draws |"
        )


def list_memory_promises(draws: pd.DataFrame, scaling: Sequence[Record]) -> Iterator[str]:
    """Give a row for each promised peak of memory."""
    ours = draws[draws["competitor"].str.startswith("meninx")]["peak_bytes"].max()
    large = [record["peak_bytes"] for record in scaling if record["images"] == LARGE]
    rows = [("peak memory at 53 images, the most of ours", MOST_GIGABYTES_SMALL, [ours])]
    rows += [("peak memory at 3,000 images", MOST_GIGABYTES_LARGE, large)]
    for text, wanted, peaks in rows:
        most = max(peaks, default=np.nan) / GIGABYTE
        verdict = "yes" if most < wanted else "**no**"
        measured, verdict = (f"{most:.2f} GB", verdict) if peaks else ("not measured", "–")
        yield f"| {text} | < {wanted} GB | {measured} | {verdict} |"


def list_memory_again(records: Sequence[Record]) -> Iterator[str]:
    """Say what the study's memory was when it was measured again, at the last such commit."""
    if not records:
        return
    last = [one for one in records if one["commit"] == records[-1]["commit"]]
    held = max(one["peak_bytes"] for one in last) / GIGABYTE
    verdict = "less" if held < MOST_GIGABYTES_SMALL else "**not less**"
    yield (
        f"The study's memory was measured again on {last[0]['date'][:10]}, commit "
        f"{last[0]['commit'][:8]}, on {last[0]['machine']['processor']}, "
        f"{last[0]['machine']['cores']} cores: at most **{held:.2f} GB** over {len(last)} of "
        f"the draws, {verdict} than {MOST_GIGABYTES_SMALL} GB; the benchmark's own process, "
        "which waits for the command, is not in it. What else is in the table is of the "
        "machine and the commits named there."
    )


def list_differences(draws: pd.DataFrame) -> Iterator[str]:
    """Give a row for the study's chosen model against each competitor."""
    accuracy, loss = (
        {competitor: figures.to_numpy() for competitor, figures in _pivot(draws, name).items()}
        for name in ("balanced_accuracy", "log_loss")
    )
    for name in OTHERS:
        gain = compare_paired(100 * accuracy["meninx_study"], 100 * accuracy[name])
        cost = compare_paired(loss["meninx_study"], loss[name])
        yield (
            f"| {TITLES[name]} | {_show_difference(gain, 1)} | {_show_difference(cost, 3)} "
            f"| accuracy {judge(gain, 1)}; log loss {judge(cost, -1)} |"
        )


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
    return ", ".join(f"{name} in {count}" for name, count in counts.items())


def list_predictions(draws: pd.DataFrame) -> Iterator[str]:
    """Give a row for each cell of the study, its predicted seconds beside those it took."""
    studies = draws[draws["competitor"] == "meninx_study"]
    seconds = [facts["seconds"] for facts in studies["facts"] if "seconds" in facts]
    for cell in dict.fromkeys(name for one in seconds for name in one):
        pairs = [one[cell] for one in seconds if cell in one]
        table = pd.DataFrame(pairs, columns=["predicted", "taken"])
        off = 100 * (table["taken"] / table["predicted"] - 1)
        held = int((off.abs() <= FURTHEST_OFF).sum())
        yield (
            f"| {cell} | {_show_range(table['predicted'], 2)} | {_show_range(table['taken'], 2)} "
            f"| {off.median():+.0f} % ({off.min():+.0f} to {off.max():+.0f}) "
            f"| in {held} of {len(pairs)} draws |"
        )


def _group_by_cell(scaling: Sequence[Record]) -> dict[str, list[Record]]:
    cells: dict[str, list[Record]] = {}
    for record in sorted(scaling, key=lambda record: (record["cell"], record["images"])):
        cells.setdefault(record["cell"], []).append(record)
    return cells


def list_scaling(scaling: Sequence[Record]) -> Iterator[str]:
    """Give a row for each size."""
    for cell, records in _group_by_cell(scaling).items():
        for record in records:
            yield (
                f"| {cell} | {record['images']:,} | {record['seconds']:.1f} "
                f"| {record['seconds'] / record['images']:.3f} "
                f"| {record['peak_bytes'] / GIGABYTE:.2f} |"
            )


def list_fits(scaling: Sequence[Record]) -> Iterator[str]:
    """Say for each cell how its time grows."""
    for cell, records in _group_by_cell(scaling).items():
        if len(records) > 1:
            fit = fit_line(
                np.array([record["images"] for record in records]),
                np.array([record["seconds"] for record in records]),
            )
            yield (
                f"- {cell}: {fit.fixed:.1f} s + {1000 * fit.each:.0f} ms an image; measurements "
                f"are within {100 * fit.largest_deviation:.0f} % of this line; between the two "
                f"largest sizes time grows with the power {fit.exponent:.2f} of the images"
            )


def list_limits(limits: Sequence[Record]) -> Iterator[str]:
    """Give a row for the engine at each cut and for each large operator."""
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
        for what, rate in rates.items():
            yield (
                f"| {what} | {rate / 1e9:.1f} | {100 * rate / best['bfloat16']:.0f} % "
                f"| {100 * rate / best['float32']:.0f} % |"
            )
