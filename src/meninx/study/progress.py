"""Progress: how far the training of a study is, shown to whoever waits for it."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from meninx.study.plan import Cell
from meninx.study.tasks import Task, TaskResult


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


def follow_tasks(
    progress: Progress, title: str, tasks: Sequence[Task], results: Iterable[TaskResult]
) -> Iterator[tuple[Task, TaskResult]]:
    """Give each task with its result, as they come, while a bar shows how far they are."""
    bar = progress.add_task(title, total=sum(predict_task(task.cell) for task in tasks))
    for task, result in zip(tasks, results, strict=True):
        progress.advance(bar, predict_task(task.cell))
        yield task, result


def predict_task(cell: Cell) -> float:
    """Give the seconds predicted of one of a cell's tasks; without a prediction, 1 s a cell."""
    seconds = 1.0 if cell.predicted_seconds is None else cell.predicted_seconds
    return seconds / cell.repeats
