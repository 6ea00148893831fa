"""The seconds that default studies foretold of their cells, beside those that these took."""

from collections.abc import Iterator, Sequence

import pandas as pd
from benchmarks.speed.markdown import lay_out_rows, show_range
from benchmarks.speed.meninx_study import WHOLE
from benchmarks.speed.records import Record

# Per cent of the seconds that were taken.
FURTHEST_OFF = 30
# What takes less is predicted as just that.
SHORTEST_SECONDS = 1.0


def collect_predictions(records: Sequence[Record]) -> pd.DataFrame:
    """Lay out what was foretold, a row a study and cell, machines and commits in their order.

    Studies that nothing was foretold in, in seconds, are left out.
    """
    rows = [
        {
            "on": record["on"],
            "commit": "-".join(part[:7] for part in record["commit"].split("-")),
            "date": record["date"],
            "study": number,
            "cell": cell,
            "predicted": predicted,
            "taken": taken,
        }
        for number, record in enumerate(records)
        if record.get("competitor") == "meninx_study"
        for cell, (predicted, taken) in record.get("facts", {}).get("seconds", {}).items()
    ]
    columns = ["on", "commit", "date", "study", "cell", "predicted", "taken"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["on", "date"], kind="stable")
    table["off"] = 100 * (table["predicted"] / table["taken"] - 1)
    table["is_short"] = (table[["predicted", "taken"]] < SHORTEST_SECONDS).all(axis=1)
    table["is_held"] = (table["off"].abs() <= FURTHEST_OFF) | table["is_short"]
    # Of each machine, the commit of its last study.
    table["is_latest"] = table["commit"] == table.groupby("on")["commit"].transform("last")
    return table


def list_latest(table: pd.DataFrame) -> Iterator[str]:
    """Lay out what the last commit on each machine foretold of each cell."""
    latest = table[table["is_latest"]]
    rows = [
        [
            f"{letter}, {commit}",
            str(cell),
            show_range(own["predicted"], 2),
            show_range(own["taken"], 2),
            _show_off(own["off"]),
            f"in {own['is_held'].sum()} of {len(own)} studies",
        ]
        for (letter, commit, cell), own in latest.groupby(["on", "commit", "cell"], sort=False)
    ]
    columns = ["on", "cell", "predicted, s", "taken, s", "off by", "as was said"]
    return lay_out_rows(columns, rows)


def list_by_commit(table: pd.DataFrame) -> Iterator[str]:
    """Lay out how often each commit foretold the cells of more than a second as was wanted."""
    rows = []
    for (letter, commit), own in table.groupby(["on", "commit"], sort=False):
        whole = own[own["cell"] == WHOLE]["off"]
        cells = own[(own["cell"] != WHOLE) & ~own["is_short"]]
        rows.append(
            [
                f"{letter}, {commit}",
                str(own["study"].nunique()),
                f"{cells['is_held'].sum()} of {len(cells)}",
                _show_off(cells["off"]),
                "not noted" if whole.empty else _show_off(whole),
            ]
        )
    within = f"cells within {FURTHEST_OFF} %"
    columns = ["on", "studies", within, "cells off by", "whole study off by"]
    return lay_out_rows(columns, rows)


def _show_off(off: pd.Series) -> str:
    """Show how far off some predictions were: median and range."""
    return f"{off.median():+.0f} % ({off.min():+.0f} to {off.max():+.0f})"
