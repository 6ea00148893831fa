"""The runner: every cell of a plan is trained and asked about the patients left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from meninx.cohort import Cohort
from meninx.evaluate import Predictions, Split
from meninx.finetune import ActivationStore, Recipe, Strategy, compute_histograms
from meninx.study.clock import Clock
from meninx.study.plan import Cell, LeftOut, Plan, Role
from meninx.study.progress import StudyProgress
from meninx.study.run_folder import RunFolder
from meninx.study.tasks import Task, TaskResult, fill_activations, run_task
from meninx.study.verdict import CellResult
from meninx.study.workers import Workers


@dataclass(frozen=True, eq=False)
class Runner:
    """How the cells of a study are run: on whom, by whom, and where the results go.

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
        Who does it.
    clock
        Says what there is time for.
    progress
        Is told how far it is.
    """

    cohort: Cohort
    splits: Sequence[Split]
    folder: RunFolder
    seed: int
    workers: Workers
    clock: Clock
    progress: StudyProgress

    def run(self, plan: Plan) -> tuple[Plan, dict[str, CellResult]]:
        """Run every cell of a plan whose result is not in the folder yet.

        Returns
        -------
        Plan
            What was run, and what there was no time for.
        dict
            Cell name to its result, in the order of the plan.
        """
        earlier = {cell.name: self._read(cell) for cell in plan.cells}
        missing = [cell for cell in plan.cells if earlier[cell.name] is None and not cell.members]
        self._fill(missing)
        results = {name: result for name, result in earlier.items() if result is not None}
        results |= self._run_missing(missing)
        results |= self._make_repeats_equal(results)
        plan = _keep_what_was_run(plan, results, self.clock)
        for cell in plan.cells:
            if cell.members and cell.name not in results:
                results[cell.name] = self._average(cell, results)
        return plan, {cell.name: results[cell.name] for cell in plan.cells}

    def _make_repeats_equal(self, results: Mapping[str, CellResult]) -> dict[str, CellResult]:
        """Give candidates the repeats that all of them have, where a time limit cut some short."""
        candidates = [one for one in results.values() if one.cell.role is Role.CANDIDATE]
        least = min((one.cell.repeats for one in candidates), default=0)
        shortened = {}
        for result in candidates:
            if result.cell.repeats > least and (stored := self.folder.read_cell(result.cell.name)):
                table, _ = stored
                table = table[table["repeat"] < least].reset_index(drop=True)
                cell = replace(result.cell, repeats=least)
                record = {**cell.as_dict(), "seconds": result.seconds}
                self.folder.write_cell(cell.name, table, record)
                shortened[cell.name] = CellResult(cell, self._order(table), result.seconds)
        return shortened

    def _fill(self, cells: Sequence[Cell]) -> None:
        """Compute the activations that cells read, each image once a backbone."""
        self.progress.begin("features")
        ActivationStore().trim()
        needed: dict[tuple[str, Recipe], list[str]] = {}
        for cell in cells:
            if cell.recipe and cell.cuts:
                needed.setdefault((cell.backbone, cell.recipe), []).extend(cell.cuts)
        work = [
            (*key, tuple(cuts), image, self.workers.device)
            for key, cuts in needed.items()
            for image in self.cohort.images
        ]
        share = self.clock.predict_features(cells) / self.workers.count / max(len(work), 1)
        for _ in self.workers.run(fill_activations, work):
            self.progress.advance(share)

    def _run_missing(self, cells: Sequence[Cell]) -> dict[str, CellResult]:
        """Run cells, and write each when its last task is done."""
        self.progress.begin("fits")
        histograms = compute_histograms(self.cohort.images)
        handed_out: list[Task] = []
        results: dict[str, CellResult] = {}
        done: dict[str, list[tuple[Split, TaskResult]]] = {}

        def hand_out() -> Iterator[tuple[Task, np.ndarray, np.ndarray]]:
            for task in self._list_tasks(cells):
                handed_out.append(task)
                inputs = self.cohort.images if task.cell.backbone else histograms
                yield task, inputs, self.cohort.labels

        for number, result in enumerate(self.workers.run(run_task, hand_out())):
            cell, split = handed_out[number].cell, handed_out[number].split
            done.setdefault(cell.name, []).append((split, result))
            self.progress.advance(self.clock.predict_fit(cell) / self.workers.count)
            self.clock.note(cell, result.seconds)
            if len(done[cell.name]) == sum(one.repeat < cell.repeats for one in self.splits):
                results[cell.name] = self._write(cell, done.pop(cell.name))
        # Those that a time limit gave fewer repeats than were planned.
        for cell in cells:
            if cell.name in done:
                results[cell.name] = self._write(cell, done.pop(cell.name))
        return results

    def _list_tasks(self, cells: Sequence[Cell]) -> Iterator[Task]:
        """List the tasks of cells as they are begun.

        Without a time limit cell by cell, so that each can be written when it is done. With one
        repeat by repeat, the most informative cell first, and none that would not fit.
        """
        if self.clock.limit is None:
            # The longest first: no worker is left alone with one at the end.
            for cell in sorted(cells, key=self.clock.predict_fit, reverse=True):
                yield from self._make_tasks(cell, range(cell.repeats))
            return
        begun: list[Cell] = []
        for cell in sorted(cells, key=_rank):
            is_needed = not cell.backbone or not any(one.backbone for one in begun)
            if is_needed or self.clock.fits([cell]):
                begun.append(cell)
                yield from self._make_tasks(cell, [0])
        for repeat in range(1, max((cell.repeats for cell in begun), default=1)):
            again = [cell for cell in begun if repeat < cell.repeats]
            if not self.clock.fits(again):
                return
            for cell in again:
                yield from self._make_tasks(cell, [repeat])

    def _make_tasks(self, cell: Cell, repeats: Sequence[int] | range) -> Iterator[Task]:
        for split in self.splits:
            if split.repeat in repeats:
                # The examples are those of a candidate's first repeat.
                is_asked_for = cell.role is Role.CANDIDATE and split.repeat == 0
                models = self.folder.models if is_asked_for else None
                yield Task(
                    cell, split, self.seed, self.cohort.is_framed, self.workers.device, models
                )

    def _write(self, cell: Cell, done: Sequence[tuple[Split, TaskResult]]) -> CellResult:
        """Write the out-of-fold predictions of a cell, whole repeats of them."""
        repeats = 1 + max(split.repeat for split, _ in done)
        cell = replace(cell, repeats=repeats)
        table = self._tabulate(done)
        seconds = sum(result.seconds for _, result in done)
        history = _tabulate_history(done)
        if len(history):
            self.folder.write_csv(f"cells/{cell.name}/history.csv", history)
        self.folder.write_cell(cell.name, table, {**cell.as_dict(), "seconds": seconds})
        return CellResult(cell, self._order(table), seconds)

    def _read(self, cell: Cell) -> CellResult | None:
        if (earlier := self.folder.read_cell(cell.name)) is None:
            return None
        table, record = earlier
        return CellResult(
            replace(cell, repeats=record["repeats"]), self._order(table), record["seconds"]
        )

    def _average(self, cell: Cell, results: Mapping[str, CellResult]) -> CellResult:
        """Average the out-of-fold probabilities of an ensemble's members, which have been run."""
        tables = [self.folder.read_cell(member.name) for member in cell.members]
        whole = [table for table, _ in filter(None, tables)]
        average = whole[0].copy()
        columns = [f"p_{label}" for label in self.cohort.classes]
        average[columns] = np.mean([table[columns].to_numpy() for table in whole], axis=0)
        seconds = sum(results[member.name].seconds for member in cell.members)
        self.folder.write_cell(cell.name, average, {**cell.as_dict(), "seconds": seconds})
        return CellResult(cell, self._order(average), seconds)

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


def _tabulate_history(done: Sequence[tuple[Split, TaskResult]]) -> pd.DataFrame:
    """Lay out how the loss fell: one row an epoch of each fit."""
    return pd.DataFrame(
        {"repeat": split.repeat, "fold": split.fold, **vars(epoch)}
        for split, result in done
        for epoch in result.history
    )


def _keep_what_was_run(plan: Plan, results: Mapping[str, CellResult], clock: Clock) -> Plan:
    """Take out of a plan what there was no time for, and make the candidates' repeats equal."""
    if clock.limit is None:
        return plan
    reason = explain_left_out(clock.limit)
    kept, left_out = [], []
    for cell in plan.cells:
        members = tuple(one for one in cell.members if one.name in results)
        if cell.name in results:
            kept.append(replace(cell, repeats=results[cell.name].cell.repeats))
        elif len(members) > 1:
            parameters = sum(member.trained_parameters for member in members)
            repeats = results[members[0].name].cell.repeats
            kept.append(
                replace(cell, members=members, repeats=repeats, trained_parameters=parameters)
            )
        else:
            left_out.append(LeftOut(cell.name, reason, cell.predicted_seconds or 0.0))
    return replace(plan, cells=tuple(kept), left_out=tuple(left_out))


def explain_left_out(limit: float) -> str:
    """Say why a cell was not run."""
    return f"It does not fit into {limit:.0f} s."


def _rank(cell: Cell) -> int:
    """Say how early a cell is wanted, lowest first; equals stay in the plan's order."""
    order = (
        not cell.backbone,
        cell.is_first and cell.strategy == Strategy.FROZEN,
        cell.is_first and cell.is_advised,
        cell.strategy == Strategy.FROZEN or cell.is_advised,
        cell.strategy != Strategy.SCRATCH,
    )
    return order.index(True) if True in order else len(order)
