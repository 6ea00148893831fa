"""Output: tables for people, JSON for other programs."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

# Names of files and classes are shown as they are, whatever they look like.
console = Console(markup=False, emoji=False)
BAD_INPUT = 2  # what a command exits with
NARROWEST = 12  # characters of a column whose head is as long


def make_table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    """Make a table of some columns of rows, which hold what each column's name stands for."""
    table = Table(title=title)
    for column in columns:
        # A long path is broken rather than the names of the columns beside it.
        longest = max((len(word) for word in column.split()), default=0)
        table.add_column(column, min_width=min(longest, NARROWEST), overflow="fold")
    for row in rows:
        table.add_row(*(make_printable(str(row[column])) for column in columns))
    return table


def show(content: object, tables: list[Table], as_json: bool) -> None:
    """Print JSON, or the tables that say the same to people."""
    if as_json:
        print_json(content)
        return
    for table in tables:
        console.print(table)


def print_json(content: object) -> None:
    """Print JSON for other programs."""
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def say(sentence: str) -> None:
    """Say something beside the output."""
    typer.echo(sentence, err=True)


def complain(error: Exception | str) -> None:
    """Say beside the output what is wrong, in one line."""
    say(f"meninx: {make_printable(' '.join(str(error).split()))}")


def make_printable(text: str) -> str:
    """Replace what a terminal would obey; a file's name may hold it."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
