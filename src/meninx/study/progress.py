"""Progress: how far the training of a study is, shown to whoever waits for it."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from meninx.study.plan import Cell


def show_progress() -> Progress:
    """Make bars on the standard error, with the time that has passed and is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def predict_task(cell: Cell) -> float:
    """Give the seconds predicted of one of a cell's tasks; without a prediction, 1 s a cell."""
    seconds = 1.0 if cell.predicted_seconds is None else cell.predicted_seconds
    return seconds / cell.repeats
