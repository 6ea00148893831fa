"""How figures are laid out in Markdown."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd


def lay_out_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out a table, line by line."""
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"


def show_range(values: pd.Series, digits: int) -> str:
    """Show median and range."""
    return f"{values.median():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"
