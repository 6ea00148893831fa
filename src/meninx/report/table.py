"""One table in three forms: CSV with raw numbers, LaTeX for a thesis, text cells for the page."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from meninx.language.words import MISSING, Words
from meninx.report.latex import SIGN_DEFINITION, escape_latex, has_foreign_signs
from meninx.results.evaluation import Interval

_LATEX_ALIGNMENT = {
    "left": "l",
    "right": "r",
    "sentence": r">{\raggedright\arraybackslash}p{0.3\linewidth}",
}
# A spreadsheet runs a text cell that begins with one of these as a formula.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


class Probability(NamedTuple):
    """A p-value."""

    value: float | None


class Share(NamedTuple):
    """A share in [0, 1], shown as percent."""

    value: float | None


class Duration(NamedTuple):
    """Seconds, shown as whole ones: a fit does not take the same tenths twice."""

    seconds: float | None


class CountAndShare(NamedTuple):
    """A count with the share of its row."""

    number: float
    share: float | None


class Term(NamedTuple):
    """A word of the program, and what the reader sees in its place."""

    key: str
    shown: str


Value = str | Term | int | float | Interval | Probability | Share | Duration | CountAndShare | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    key
        The name in the CSV file, the same in every language.
    title
        The head in the report.
    decimals
        How many digits a number is shown with.
    align
        Names stand on the left, numbers on the right, sentences break into lines.
    is_only_data
        Whether only the CSV file has the column, to keep the page readable.
    """

    key: str
    title: str
    decimals: int = 2
    align: Literal["left", "right", "sentence"] = "right"
    is_only_data: bool = False


@dataclass(frozen=True)
class Table:
    """A table before it is written in any form.

    Attributes
    ----------
    name
        The file name without suffix, and the LaTeX label.
    caption, note
        What it shows; what its numbers mean, with n.
    columns
        One a column.
    rows
        One value a column.
    breaks
        Numbers of the rows that begin a new group.
    emphasised
        Numbers of the rows that stand out.
    """

    name: str
    caption: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    breaks: frozenset[int] = frozenset()
    emphasised: frozenset[int] = frozenset()

    @property
    def printed_columns(self) -> list[Column]:
        """The columns that a reader sees."""
        return [column for column in self.columns if not column.is_only_data]

    def to_text(self, words: Words) -> list[list[str]]:
        """Give every printed cell as the reader sees it."""
        return [
            [
                _show(value, column, words)
                for value, column in zip(row, self.columns, strict=True)
                if not column.is_only_data
            ]
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """Write raw numbers under language-independent names, intervals in columns of their own."""
        kinds = [
            next((type(row[position]) for row in self.rows if row[position] is not None), str)
            for position in range(len(self.columns))
        ]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            key
            for column, kind in zip(self.columns, kinds, strict=True)
            for key in _csv_keys(column.key, kind)
        )
        for row in self.rows:
            writer.writerow(
                field
                for value, kind in zip(row, kinds, strict=True)
                for field in _csv_fields(value, kind)
            )
        return text.getvalue()

    def to_latex(self, words: Words) -> str:
        """Write a `table` environment for the `booktabs` package."""
        alignment = "".join(_LATEX_ALIGNMENT[column.align] for column in self.printed_columns)
        lines = []
        for number, row in enumerate(self.to_text(words)):
            if number in self.breaks:
                lines.append(r"\midrule")
            cells = [escape_latex(cell) for cell in row]
            if number in self.emphasised:
                cells = [rf"\textbf{{{cell}}}" for cell in cells]
            lines.append(" & ".join(cells) + r" \\")
        head = " & ".join(escape_latex(column.title) for column in self.printed_columns)
        caption, note = escape_latex(self.caption), escape_latex(self.note)
        is_foreign = has_foreign_signs(" ".join([head, *lines, caption, note]))
        return "\n".join(
            [
                r"% \usepackage{array,booktabs}",
                *([SIGN_DEFINITION] if is_foreign else []),
                r"\begin{table}[htbp]",
                r"\centering",
                r"\small",
                rf"\caption{{{caption}}}",
                rf"\label{{tab:meninx-{self.name}}}",
                rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
                r"\toprule",
                head + r" \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                "",
                r"\smallskip",
                rf"\parbox{{\linewidth}}{{\footnotesize {note}}}",
                r"\end{table}",
                "",
            ]
        )


def count_decimals(counts: Iterable[float]) -> int:
    """Tell how many decimals counts need: none where all are whole, as with one repeat."""
    return 0 if all(float(count).is_integer() for count in counts) else 1


def name_trained(strategy: str | None, words: Words) -> Term:
    """Name what a strategy trains."""
    return Term(strategy or "", words.name("trains", strategy))


def find_first_baseline(roles: Sequence[str]) -> frozenset[int]:
    """Find the row where baselines begin, if candidates stand before it."""
    number = next((number for number, role in enumerate(roles) if role == "baseline"), 0)
    return frozenset({number} - {0})


def _show(value: Value, column: Column, words: Words) -> str:
    if isinstance(value, Interval):
        return words.estimate(value.value, value.low, value.high, column.decimals)
    if isinstance(value, Share):
        return words.percent(value.value)
    if isinstance(value, Probability):
        return words.probability(value.value)
    if isinstance(value, Duration):
        return words.seconds(value.seconds)
    if isinstance(value, CountAndShare):
        return f"{words.number(value.number, column.decimals)} ({words.percent(value.share)})"
    if isinstance(value, Term):
        return value.shown
    if isinstance(value, str):
        return value or MISSING
    if isinstance(value, int):
        return words.number(value, 0)
    return words.number(value, column.decimals)


def _csv_keys(key: str, kind: type) -> list[str]:
    if kind is Interval:
        return [key, f"{key}_low", f"{key}_high"]
    if kind is CountAndShare:
        return [key, f"{key}_share"]
    return [key]


def _csv_fields(value: Value, kind: type) -> list[str]:
    if value is None:
        return [""] * len(_csv_keys("", kind))
    if isinstance(value, Term):
        return [value.key]
    parts = value if isinstance(value, tuple | Interval) else (value,)
    return ["" if part is None else _csv_field(part) for part in parts]


def _csv_field(part: str | float) -> str:
    if isinstance(part, str):
        return f"'{part}" if part.startswith(_FORMULA_SIGNS) else part
    return f"{part:.10g}"
