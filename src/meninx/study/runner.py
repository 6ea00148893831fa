"""The runner: every model of a plan is trained and asked about the patients left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from meninx.cohort import Cohort
from meninx.evaluate import Predictions, Split, Splits
from meninx.finetune import ActivationStore, Recipe, Strategy, compute_histograms
from meninx.language import Message
from meninx.results import RunFolder
from meninx.results.schema import HistoryRow
from meninx.study.clock import Clock
from meninx.study.fold_networks import FoldNetworks
from meninx.study.plan import LeftOut, Model, Plan, Role
from meninx.study.progress import StudyProgress
from meninx.study.results import ModelResult
from meninx.study.tasks import Task, TaskResult, fill_activations, run_task
from meninx.study.workers import Workers


@dataclass(frozen=True, eq=False)
class Runner:
    """How the models of a study are run: on whom, by whom, and where the results go.

    Attributes
    ----------
    cohort
        The images.
    splits
        Of the patients.
    folder
        Gets each model's out-of-fold predictions, whole or not at all.
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
    splits: Splits
    folder: RunFolder
    seed: int
    workers: Workers
    clock: Clock
    progress: StudyProgress

    def run(self, plan: Plan) -> tuple[Plan, dict[str, ModelResult]]:
        """Run every model of a plan whose result is not in the folder yet.

        Returns
        -------
        Plan
            What was run, and what there was no time for.
        dict
            Model name to its result, in the order of the plan.
        """
        earlier = {model.name: self._read(model) for model in plan.models}
        missing = [
            model for model in plan.models if earlier[model.name] is None and not model.members
        ]
        self._fill(missing)
        results = {name: result for name, result in earlier.items() if result is not None}
        results |= self._run_missing(missing)
        results |= self._make_repeats_equal(results)
        plan = _keep_what_was_run(plan, results, self.clock)
        for model in plan.models:
            if model.members and model.name not in results:
                results[model.name] = self._average(model, results)
        return plan, {model.name: results[model.name] for model in plan.models}

    def _make_repeats_equal(self, results: Mapping[str, ModelResult]) -> dict[str, ModelResult]:
        """Give candidates the repeats that all of them have, where a time limit cut some short."""
        candidates = [one for one in results.values() if one.model.role is Role.CANDIDATE]
        least = min((one.model.repeats for one in candidates), default=0)
        shortened = {}
        for result in candidates:
            if result.model.repeats > least and (
                stored := self.folder.read_model(result.model.name)
            ):
                table, _ = stored
                table = table[table["repeat"] < least].reset_index(drop=True)
                model = replace(result.model, repeats=least)
                self.folder.write_model(model.describe(), table, result.seconds)
                shortened[model.name] = ModelResult(model, self._order(table), result.seconds)
        return shortened

    def _fill(self, models: Sequence[Model]) -> None:
        """Compute the activations that models read, each image once a backbone."""
        self.progress.begin("features")
        ActivationStore().trim()
        needed: dict[tuple[str, Recipe], list[str]] = {}
        for model in models:
            if model.recipe and model.cuts:
                needed.setdefault((model.backbone, model.recipe), []).extend(model.cuts)
        work = [
            (*key, tuple(cuts), image, self.workers.device)
            for key, cuts in needed.items()
            for image in self.cohort.images
        ]
        share = self.clock.predict_features(models) / self.workers.count / max(len(work), 1)
        for _ in self.workers.run(fill_activations, work):
            self.progress.advance(share)

    def _run_missing(self, models: Sequence[Model]) -> dict[str, ModelResult]:
        """Run models, and write each when its last task is done."""
        self.progress.begin("fits")
        histograms = compute_histograms(self.cohort.images)
        handed_out: list[Task] = []
        results: dict[str, ModelResult] = {}
        done: dict[str, list[tuple[Split, TaskResult]]] = {}

        def hand_out() -> Iterator[tuple[Task, np.ndarray, np.ndarray]]:
            for task in self._list_tasks(models):
                handed_out.append(task)
                inputs = self.cohort.images if task.model.backbone else histograms
                yield task, inputs, self.cohort.labels

        for number, result in enumerate(self.workers.run(run_task, hand_out())):
            model, split = handed_out[number].model, handed_out[number].split
            done.setdefault(model.name, []).append((split, result))
            self.progress.advance(self.clock.predict_fit(model) / self.workers.count)
            self.clock.note(model, result.seconds)
            if len(done[model.name]) == self.splits.folds * model.repeats:
                results[model.name] = self._write(model, done.pop(model.name))
        # Those that a time limit gave fewer repeats than were planned.
        for model in models:
            if model.name in done:
                results[model.name] = self._write(model, done.pop(model.name))
        return results

    def _list_tasks(self, models: Sequence[Model]) -> Iterator[Task]:
        """List the tasks of models as they are begun.

        Without a time limit model by model, so that each can be written when it is done. With one
        repeat by repeat, the most informative model first, and none that would not fit.
        """
        if self.clock.limit is None:
            # The longest first: no worker is left alone with one at the end.
            for model in sorted(models, key=self.clock.predict_fit, reverse=True):
                yield from self._make_tasks(model, range(model.repeats))
            return
        begun: list[Model] = []
        for model in sorted(models, key=_rank):
            is_needed = not model.backbone or not any(one.backbone for one in begun)
            if is_needed or self.clock.fits([model]):
                begun.append(model)
                yield from self._make_tasks(model, [0])
        for repeat in range(1, max((model.repeats for model in begun), default=1)):
            again = [model for model in begun if repeat < model.repeats]
            if not self.clock.fits(again):
                return
            for model in again:
                yield from self._make_tasks(model, [repeat])

    def _make_tasks(self, model: Model, repeats: Sequence[int] | range) -> Iterator[Task]:
        for split in self.splits.of_repeats(repeats):
            # The examples are those of a candidate's first repeat.
            is_asked_for = model.role is Role.CANDIDATE and split.repeat == 0
            kept = FoldNetworks(self.folder.fold_networks) if is_asked_for else None
            yield Task(model, split, self.seed, self.cohort.is_cropped, self.workers.device, kept)

    def _write(self, model: Model, done: Sequence[tuple[Split, TaskResult]]) -> ModelResult:
        """Write the out-of-fold predictions of a model, whole repeats of them."""
        repeats = 1 + max(split.repeat for split, _ in done)
        model = replace(model, repeats=repeats)
        table = self._tabulate(done)
        seconds = sum(result.seconds for _, result in done)
        self.folder.write_model(model.describe(), table, seconds, _list_epochs(done))
        return ModelResult(model, self._order(table), seconds)

    def _read(self, model: Model) -> ModelResult | None:
        if (earlier := self.folder.read_model(model.name)) is None:
            return None
        table, record = earlier
        return ModelResult(
            replace(model, repeats=record.repeats), self._order(table), record.seconds
        )

    def _average(self, model: Model, results: Mapping[str, ModelResult]) -> ModelResult:
        """Average the out-of-fold probabilities of an ensemble's members, which have been run."""
        tables = [self.folder.read_model(member.name) for member in model.members]
        whole = [table for table, _ in filter(None, tables)]
        average = whole[0].copy()
        columns = [f"p_{label}" for label in self.cohort.classes]
        average[columns] = np.mean([table[columns].to_numpy() for table in whole], axis=0)
        seconds = sum(results[member.name].seconds for member in model.members)
        self.folder.write_model(model.describe(), average, seconds)
        return ModelResult(model, self._order(average), seconds)

    def _tabulate(self, done: Sequence[tuple[Split, TaskResult]]) -> pd.DataFrame:
        """Lay out the probabilities of a model's test sides as rows of ``oof.parquet``."""
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
        """Read a model's table into the cohort's order, with its groups in place of pseudonyms.

        Pseudonyms depend on the user's key; what is drawn by chance must not.
        """
        predictions = Predictions.from_table(table, self.cohort.sample_names)
        return replace(
            predictions,
            patients=self.cohort.groups,
            patients_known=self.cohort.patients_known,
        )


def _list_epochs(done: Sequence[tuple[Split, TaskResult]]) -> list[HistoryRow]:
    """List how the loss fell: one row an epoch of each fit."""
    return [
        HistoryRow(split.repeat, split.fold, **vars(epoch))
        for split, result in done
        for epoch in result.history
    ]


def _keep_what_was_run(plan: Plan, results: Mapping[str, ModelResult], clock: Clock) -> Plan:
    """Take out of a plan what there was no time for, and make the candidates' repeats equal."""
    if clock.limit is None:
        return plan
    reason = Message("left_out", seconds=clock.limit)
    kept, left_out = [], []
    for model in plan.models:
        members = tuple(one for one in model.members if one.name in results)
        if model.name in results:
            kept.append(replace(model, repeats=results[model.name].model.repeats))
        elif len(members) > 1:
            parameters = sum(member.trained_parameters for member in members)
            repeats = results[members[0].name].model.repeats
            kept.append(
                replace(model, members=members, repeats=repeats, trained_parameters=parameters)
            )
        else:
            left_out.append(LeftOut(model.name, reason, model.predicted_seconds or 0.0))
    return replace(plan, models=tuple(kept), left_out=tuple(left_out))


def _rank(model: Model) -> int:
    """Say how early a model is wanted, lowest first; equals stay in the plan's order."""
    order = (
        not model.backbone,
        model.is_first and model.strategy == Strategy.FROZEN,
        model.is_first and model.is_advised,
        model.strategy == Strategy.FROZEN or model.is_advised,
        model.strategy != Strategy.SCRATCH,
    )
    return order.index(True) if True in order else len(order)
