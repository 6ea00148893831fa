"""The study: from images to a score that can be defended and a model that can be used."""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from meninx.bundle import Bundle
from meninx.cohort import Cohort, Finding, Severity, audit
from meninx.errors import CohortError
from meninx.evaluate import Estimate, Predictions, Split, calibrate, split_by_patient
from meninx.finetune import Strategy, compute_histograms
from meninx.matrix import Borders, SizeSimilarityMatrix
from meninx.report import render
from meninx.study.examples import write_examples
from meninx.study.plan import USUAL_REPEATS, Cell, Plan
from meninx.study.run_folder import RunFolder
from meninx.study.tasks import Task, fill_activations, make_classifier, one_thread, run_tasks
from meninx.study.verdict import CellResult, Verdict

DEFAULT_BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
TESTED_WITH = ("meninx", "torch", "timm", "scikit-learn", "numpy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """A question asked of a cohort: which model and strategy, and how good it really is.

    Attributes
    ----------
    cohort
        The labelled images.
    backbones
        Names of those to try; the first one is also the one trained from scratch.
    strategies
        Run just these, in place of what the matrix advises.
    folds
        Of the patient-grouped cross-validation.
    repeats
        Of every cell; by default as many as the plan finds usual for it, at most 5.
    seed
        Of everything random.
    borders
        Where the matrix divides.
    """

    cohort: Cohort
    backbones: tuple[str, ...] = DEFAULT_BACKBONES
    strategies: tuple[Strategy, ...] = ()
    folds: int = 5
    repeats: int | None = None
    seed: int = 0
    borders: Borders = field(default_factory=Borders)

    def run(
        self, out: Path, workers: int | None = None, is_fresh: bool = False, language: str = "en"
    ) -> Path:
        """Run the study, or go on with one that was interrupted.

        Parameters
        ----------
        out
            The run folder.
        workers
            How many processes; changes how long it takes and nothing else.
        is_fresh
            Throw away what an earlier study left in the folder.
        language
            Of the report: ``en`` or ``id``.

        Returns
        -------
        Path
            The report.

        Raises
        ------
        CohortError
            The audit found something that makes every score false.
        StudyError
            The folder holds another study.
        """
        started = time.perf_counter()
        folder = RunFolder(out)
        folder.begin(self._describe(), is_fresh)

        findings = audit(self.cohort)
        _refuse_errors(findings)
        folder.write_csv("cohort.csv", self.cohort.table())
        folder.write_json("audit.json", _describe_findings(findings))

        matrix = SizeSimilarityMatrix.measure(self.cohort, self.backbones, self.seed, self.borders)
        folder.write_json("matrix.json", matrix.as_dict())

        splits = self._split()
        folds = len({split.fold for split in splits})
        repeats = len({split.repeat for split in splits})
        plan = Plan.make(matrix.advice, self.backbones, self.strategies, folds, self._repeats)
        folder.write_json("plan.json", plan.as_dict())

        results = self._run_cells(plan, splits, folder, workers)

        verdict = Verdict.reach(results, self.seed)
        folder.write_csv("scores.csv", verdict.scores_table())
        folder.write_json("evaluation.json", verdict.as_dict(matrix, self.seed))

        chosen = verdict.chosen
        tasks = [Task(chosen.cell, split, self.seed) for split in splits if split.repeat == 0]
        write_examples(folder, self.cohort, chosen.predictions, tasks, workers)

        self._write_bundle(folder, verdict)

        seconds = time.perf_counter() - started
        folder.write_json(
            "summary.json", self._summarise(verdict, findings, folds, repeats, seconds)
        )
        return render(out, language)

    def plan(self) -> Plan:
        """Measure the matrix and plan, without running anything."""
        matrix = SizeSimilarityMatrix.measure(
            self.cohort, self.backbones[:1], self.seed, self.borders
        )
        splits = self._split()
        return Plan.make(
            matrix.advice,
            self.backbones,
            self.strategies,
            len({split.fold for split in splits}),
            self._repeats,
        )

    @property
    def _repeats(self) -> int | None:
        """How often to go through the folds: once where the manifest gives them."""
        return self.repeats if self.cohort.folds is None else 1

    def _split(self) -> tuple[Split, ...]:
        cohort = self.cohort
        return split_by_patient(
            cohort.labels,
            cohort.groups,
            self.folds,
            self._repeats or USUAL_REPEATS,
            self.seed,
            cohort.folds,
        )

    def _run_cells(
        self, plan: Plan, splits: Sequence[Split], folder: RunFolder, workers: int | None
    ) -> dict[str, CellResult]:
        """Run every cell whose result is not in the folder yet."""
        results = {}
        missing = []
        for cell in plan.cells:
            if (earlier := folder.read_cell(cell.name)) is None:
                missing.append(cell)
            else:
                table, record = earlier
                results[cell.name] = CellResult(cell, self._order(table), record["seconds"])
        with _show_progress() as progress:
            bar = progress.add_task("activations", total=1)
            for done in fill_activations(missing, self.cohort.images, workers):
                progress.update(bar, completed=done)
            for cell, table, seconds in self._run_tasks(missing, splits, workers, progress):
                folder.write_cell(cell.name, table, {**cell.as_dict(), "seconds": seconds})
                results[cell.name] = CellResult(cell, self._order(table), seconds)
        return {cell.name: results[cell.name] for cell in plan.cells}

    def _run_tasks(
        self,
        cells: Sequence[Cell],
        splits: Sequence[Split],
        workers: int | None,
        progress: Progress,
    ) -> Iterator[tuple[Cell, pd.DataFrame, float]]:
        """Run the tasks of all cells together; give each cell when its last one is done."""
        tasks = [
            Task(cell, split, self.seed)
            for cell in cells
            for split in splits
            if split.repeat < cell.repeats
        ]
        histograms = compute_histograms(self.cohort.images)
        inputs = [self.cohort.images if task.cell.backbone else histograms for task in tasks]
        bar = progress.add_task("cells", total=sum(_guess_effort(task.cell) for task in tasks))
        rows: list[pd.DataFrame] = []
        seconds = 0.0
        outcomes = run_tasks(tasks, inputs, self.cohort.labels, workers)
        for index, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
            rows.append(self._tabulate(task.split, outcome.probabilities))
            seconds += outcome.seconds
            progress.advance(bar, _guess_effort(task.cell))
            if index + 1 == len(tasks) or tasks[index + 1].cell is not task.cell:
                yield task.cell, pd.concat(rows, ignore_index=True), seconds
                rows, seconds = [], 0.0

    def _tabulate(self, split: Split, probabilities: np.ndarray) -> pd.DataFrame:
        """Lay out a test side's probabilities ``(m, k)`` as rows of ``oof.parquet``."""
        cohort = self.cohort
        table = pd.DataFrame(
            {
                "sample": cohort.sample_names[split.test],
                "patient": cohort.groups[split.test],
                "fold": split.fold,
                "repeat": split.repeat,
                "label": np.asarray(cohort.classes)[cohort.labels[split.test]],
            }
        )
        columns = [f"p_{label}" for label in cohort.classes]
        return table.join(pd.DataFrame(probabilities, columns=columns))

    def _order(self, table: pd.DataFrame) -> Predictions:
        """Read a cell's table into the cohort's order."""
        return Predictions.from_table(table, self.cohort.sample_names)

    def _write_bundle(self, folder: RunFolder, verdict: Verdict) -> None:
        """Train the chosen cell on all patients and write it as a bundle."""
        chosen = verdict.chosen
        with one_thread():
            classifier = make_classifier(chosen.cell, self.seed)
            classifier.fit(self.cohort.images, self.cohort.labels)
        headline = verdict.selection.headline
        Bundle.save(
            folder.path / "bundle",
            classifier,
            self.cohort.classes,
            calibrate(chosen.predictions),
            facts={
                "synthetic": self.cohort.synthetic,
                "cohort": {
                    "images": len(self.cohort.samples),
                    "patients": len(np.unique(self.cohort.groups)),
                    "classes": self.cohort.counts(),
                    "sha256": self._fingerprint_cohort(),
                },
                "scores": _describe_accuracy(headline),
                "versions": _list_versions(),
            },
        )

    def _describe(self) -> dict[str, Any]:
        """Describe what the study is, for ``study.toml``: no path and no name of a patient."""
        return {
            "cohort": self._fingerprint_cohort(),
            "backbones": list(self.backbones),
            "strategies": [str(strategy) for strategy in self.strategies],
            "folds": self.folds,
            "repeats": self.repeats or "usual",
            "seed": self.seed,
            "borders": vars(self.borders),
            "versions": _list_versions(),
        }

    def _fingerprint_cohort(self) -> str:
        """Give one checksum of all pixels, labels, patients and folds."""
        table = self.cohort.table().to_csv(index=False)
        return hashlib.sha256(table.encode()).hexdigest()

    def _summarise(
        self,
        verdict: Verdict,
        findings: Sequence[Finding],
        folds: int,
        repeats: int,
        seconds: float,
    ) -> dict[str, Any]:
        selection = verdict.selection
        return {
            "chosen": selection.chosen,
            "headline": _describe_accuracy(selection.headline),
            "naive": _describe_accuracy(selection.naive),
            "images": len(self.cohort.samples),
            "patients": len(np.unique(self.cohort.groups)),
            "seconds": round(seconds, 1),
            "seed": self.seed,
            "versions": _list_versions(),
            "synthetic": self.cohort.synthetic,
            "patients_known": self.cohort.patients_known,
            "classes": self.cohort.counts(),
            "folds": folds,
            "repeats": repeats,
            "notes": [] if folds == self.folds else [_explain_folds(self.folds, folds)],
        }


def _refuse_errors(findings: Sequence[Finding]) -> None:
    """Stop where the audit found what would make every score false."""
    for finding in findings:
        if finding.severity is Severity.ERROR:
            raise CohortError(f"{finding.advice} Files: {', '.join(finding.files)}")


def _describe_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Describe findings for ``audit.json``: by pseudonym, since a file name may hold a name."""
    return {
        "findings": [{**finding.as_dict(), "files": list(finding.samples)} for finding in findings]
    }


def _describe_accuracy(estimate: Estimate) -> dict[str, float]:
    return {
        "balanced_accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }


def _explain_folds(asked: int, used: int) -> str:
    return (
        f"{asked} folds were asked for and {used} were used: each fold needs a patient of every "
        "class, or the manifest gives the folds."
    )


def _list_versions() -> dict[str, str]:
    return {name: version(name) for name in TESTED_WITH}


def _guess_effort(cell: Cell) -> float:
    """Guess a task's effort, for the time left only; fitting a frozen head is 1."""
    if not cell.backbone:
        return 0.1
    return 1 + cell.trained_parameters / 2.5e5


def _show_progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
