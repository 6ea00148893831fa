"""The one table of docs/benchmarks.md, from the records."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from benchmarks.speed.draws import COUNTS
from benchmarks.speed.records import Record, read_records
from benchmarks.speed.run import COMPETITORS

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = (
    "what",
    "on",
    "runs",
    "seconds: median (range)",
    "peak memory, GB",
    "balanced accuracy",
    "log loss, nats",
    "commit",
)


def lay_out_table(records_file: Path) -> str:
    """Lay out all records that are no trials, with a line that says on what they were measured.

    Raises
    ------
    SystemExit
        There are none, or they come from several machines or versions of software.
    """
    records = [one for one in read_records(records_file) if not one["is_trial"]]
    if not records:
        raise SystemExit("nothing was measured yet; see python -m benchmarks.speed --help")
    origin = _describe_origin(records)
    rows = [COLUMNS, ["---"] * len(COLUMNS), *_list_draws(records), *_list_studies(records)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", origin])


def put_into_page(table: str, page: Path) -> None:
    """Put the table between the page's two markers."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no place for the table: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _describe_origin(records: Sequence[Record]) -> str:
    """Say on what everything was measured: times of two machines cannot be compared."""
    machines = {record["machine"] for record in records}
    software = sorted({pair for record in records for pair in record["software"].items()})
    names = [name for name, _ in software]
    if len(machines) > 1 or len(names) > len(set(names)):
        raise SystemExit(
            "the records are of several machines or versions of software: "
            f"{'; '.join(sorted(machines))}; {', '.join(map(' '.join, software))}"
        )
    days = sorted({record["date"][:10] for record in records})
    loads = [record["load"] for record in records]
    return (
        f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))} on {machines.pop()}; "
        f"{', '.join(map(' '.join, software))}; load before a measurement {min(loads):.1f} to "
        f"{max(loads):.1f}."
    )


def _list_draws(records: Sequence[Record]) -> Iterator[Sequence[str]]:
    """List competitors by the draws that each of them has finished, so that means compare."""
    own = {
        name: [one for one in records if one["kind"] == "draw" and one["what"] == name]
        for name in COMPETITORS
    }
    done = [{one["draw"] for one in found} for found in own.values() if found]
    shared = set.intersection(*done) if done else set()
    for name, title in COMPETITORS.items():
        if runs := [one for one in own[name] if one["draw"] in shared]:
            yield _make_row(title, f"draws of {sum(COUNTS.values())} images", runs)


def _list_studies(records: Sequence[Record]) -> Iterator[Sequence[str]]:
    """List whole studies by what they were called and what they were of."""
    studies: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["kind"] == "study":
            studies.setdefault((record["on"], record["what"]), []).append(record)
    for (data, label), runs in sorted(studies.items()):
        yield _make_row(f"Meninx, the default study, {label}", data, runs)


def _make_row(title: str, data: str, runs: Sequence[Record]) -> Sequence[str]:
    """Make a row; times vary from run to run, and of memory the most counts."""
    table = pd.DataFrame(runs)
    seconds = table["seconds"]
    return (
        title,
        data,
        str(len(runs)),
        f"{seconds.median():.1f} ({seconds.min():.1f} to {seconds.max():.1f})",
        f"{table['peak_bytes'].max() / 1e9:.2f}",
        f"{table['balanced_accuracy'].mean():.3f}",
        f"{table['log_loss'].mean():.3f}",
        ", ".join(sorted({one["commit"] for one in runs})),
    )
