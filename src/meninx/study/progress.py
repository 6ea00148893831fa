"""Progress: how far a study is, for whoever waits for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# Never more than this before the report is written.
ALMOST = 0.99

STAGES = {
    "audit": "looking the images over (audit)",
    "matrix": "placing them on the Size-Similarity Matrix",
    "plan": "planning: one short fit of each model",
    "features": "features of the frozen layers",
    "fits": "training and testing, patients apart",
    "nested": "nested cross-validation",
    "curve": "learning curve",
    "heatmaps": "heatmaps and their checks",
    "bundle": "training the chosen model on all patients",
    "report": "writing the report",
}


class StudyProgress:
    """One line a stage and one bar for all, on the standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[end]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar: TaskID = self._progress.add_task("study", total=None, end="")
        self._done = 0.0
        self._total: float | None = None

    @contextmanager
    def shown(self) -> Iterator[Self]:
        """Show it while the study runs; an error leaves the lines where they are."""
        with self._progress:
            yield self

    def begin(self, stage: str) -> None:
        """Say which stage begins."""
        self._progress.console.print(f"{STAGES[stage]} …", highlight=False)
        self._progress.update(self._bar, description=stage)

    def expect(self, seconds: float, passed: float) -> None:
        """Say what the whole study will take, and what of it has passed."""
        self._total, self._done = max(seconds, passed, 1.0), passed
        self._show()

    def advance(self, seconds: float) -> None:
        """Say that work of so many predicted seconds is done."""
        self._done += seconds
        self._show()

    def _show(self) -> None:
        if self._total is None:
            return
        task = self._progress.tasks[0]
        share = min(self._done / self._total, ALMOST)
        elapsed = task.elapsed or 0.0
        end = ""
        if share > 0.02:
            left = elapsed / share - elapsed
            end = f"done about {datetime.now() + timedelta(seconds=left):%H:%M}"
        self._progress.update(self._bar, total=1.0, completed=share, end=end)
