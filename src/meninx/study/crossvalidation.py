"""Cross-validation: every cell of a plan is trained and asked about the patients left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from rich.progress import Progress

from meninx.cohort import Cohort
from meninx.evaluate import Predictions, Split
from meninx.finetune import compute_histograms
from meninx.study.fold_models import FoldModels
from meninx.study.plan import Cell, Plan, Role
from meninx.study.progress import follow_tasks, predict_task, show_progress
from meninx.study.run_folder import RunFolder
from meninx.study.tasks import Task, TaskResult, list_fills, run_tasks
from meninx.study.verdict import CellResult


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """How the cells of a study are run: on whom, and where the results go.

    Attributes
    ----------
    cohort
        The images.
    splits
        Of the patients.
    folder
        Gets each cell's out-of-fold predictions, whole or not at all.
    seed
        Of the study.
    workers
        How many processes; changes how long it takes and nothing else.
    """

    cohort: Cohort
    splits: Sequence[Split]
    folder: RunFolder
    seed: int
    workers: int | None

    def run(self, plan: Plan) -> dict[str, CellResult]:
        """Run every cell of a plan whose result is not in the folder yet.

        Returns
        -------
        dict
            Cell name to its result, in the order of the plan.
        """
        folder = self.folder
        results = {}
        missing = []
        for cell in plan.cells:
            if (earlier := folder.read_cell(cell.name)) is None:
                missing.append(cell)
            else:
                table, record = earlier
                results[cell.name] = CellResult(cell, self._order(table), record["seconds"])
        with show_progress() as progress:
            finished = []
            for cell, table, seconds in self._run_tasks(missing, progress):
                folder.write_cell(cell.name, table, {**cell.as_dict(), "seconds": seconds})
                finished.append((cell, table, seconds))
        # Not while the workers are busy: the time would be taken from theirs.
        for cell, table, seconds in finished:
            results[cell.name] = CellResult(cell, self._order(table), seconds)
        for cell in missing:
            if cell.members:
                table, seconds = self._average(cell, results)
                folder.write_cell(cell.name, table, {**cell.as_dict(), "seconds": seconds})
                results[cell.name] = CellResult(cell, self._order(table), seconds)
        return {cell.name: results[cell.name] for cell in plan.cells}

    def _run_tasks(
        self, cells: Sequence[Cell], progress: Progress
    ) -> Iterator[tuple[Cell, pd.DataFrame, float]]:
        """Run the tasks of all cells together; give each cell when its last one is done."""
        tasks = [
            Task(cell, split, self.seed, self._choose_keeper(cell, split))
            # The longest first: no worker is left alone with one at the end, and the first work
            # of a new worker, which takes some 0.1 s more, is not the shortest.
            for cell in sorted(cells, key=predict_task, reverse=True)
            for split in self.splits
            if not cell.members and split.repeat < cell.repeats
        ]
        histograms = compute_histograms(self.cohort.images)
        inputs = [self.cohort.images if task.cell.backbone else histograms for task in tasks]
        done: list[tuple[Split, TaskResult]] = []
        bar = progress.add_task("activations", total=1)
        outcomes = run_tasks(
            tasks,
            inputs,
            self.cohort.labels,
            self.workers,
            list_fills(cells, self.cohort.images),
            lambda done: progress.update(bar, completed=done),
        )
        followed = follow_tasks(progress, "cells", tasks, outcomes)
        for index, (task, outcome) in enumerate(followed):
            done.append((task.split, outcome))
            if index + 1 == len(tasks) or tasks[index + 1].cell is not task.cell:
                yield task.cell, self._tabulate(done), sum(one.seconds for _, one in done)
                done = []

    def _choose_keeper(self, cell: Cell, split: Split) -> FoldModels | None:
        """Say where a model is kept: the examples are those of a candidate's first repeat."""
        is_asked_for = cell.role is Role.CANDIDATE and split.repeat == 0
        return self.folder.models if is_asked_for else None

    def _average(self, cell: Cell, results: Mapping[str, CellResult]) -> tuple[pd.DataFrame, float]:
        """Average the out-of-fold probabilities of an ensemble's members, which have been run."""
        tables = [self.folder.read_cell(member.name) for member in cell.members]
        whole = [table for table, _ in filter(None, tables)]
        average = whole[0].copy()
        columns = [f"p_{label}" for label in self.cohort.classes]
        average[columns] = np.mean([table[columns].to_numpy() for table in whole], axis=0)
        return average, sum(results[member.name].seconds for member in cell.members)

    def _tabulate(self, done: Sequence[tuple[Split, TaskResult]]) -> pd.DataFrame:
        """Lay out the probabilities of a cell's test sides as rows of ``oof.parquet``."""
        cohort = self.cohort
        tests = [split.test for split, _ in done]
        rows, counts = np.concatenate(tests), [len(test) for test in tests]
        probabilities = np.concatenate([result.probabilities for _, result in done])
        return pd.DataFrame(
            {
                "sample": cohort.sample_names[rows],
                "patient": cohort.group_names[rows],
                "fold": np.repeat([split.fold for split, _ in done], counts),
                "repeat": np.repeat([split.repeat for split, _ in done], counts),
                "label": np.asarray(cohort.classes)[cohort.labels[rows]],
            }
            | dict(zip((f"p_{label}" for label in cohort.classes), probabilities.T, strict=True))
        )

    def _order(self, table: pd.DataFrame) -> Predictions:
        """Read a cell's table into the cohort's order, with its groups in place of pseudonyms.

        Pseudonyms depend on the user's key; what is drawn by chance must not.
        """
        predictions = Predictions.from_table(table, self.cohort.sample_names)
        return replace(
            predictions,
            patients=self.cohort.groups,
            patients_known=self.cohort.patients_known,
        )
