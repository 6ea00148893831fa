"""The study: from images to a score that can be defended and a model that can be used."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from meninx.bundle import Bundle
from meninx.cohort import Cohort, Finding, Severity, audit
from meninx.errors import CohortError, StudyError
from meninx.evaluate import (
    Aggregation,
    Estimate,
    LearningCurve,
    Nested,
    Splits,
    calibrate,
    leave_one_patient_out,
    split_by_patient,
)
from meninx.finetune import Preset, Strategy, find_device
from meninx.language import Message
from meninx.matrix import SizeSimilarityMatrix, Thresholds
from meninx.ood import OODDetector
from meninx.results import RunFolder, convert
from meninx.results.schema import AuditFile, AuditFinding, Headline, MatrixFile, Summary
from meninx.study.clock import Clock
from meninx.study.examples import write_examples
from meninx.study.fold_networks import FoldNetworks
from meninx.study.further import run_learning_curve, run_nested
from meninx.study.plan import Plan
from meninx.study.progress import StudyProgress
from meninx.study.results import Results
from meninx.study.runner import Runner
from meninx.study.tasks import Task, fit_on_all
from meninx.study.workers import Workers, one_thread

# One network at several depths: averaging depths takes more off the loss than averaging networks
# at one depth, and costs less.
DEFAULT_BACKBONES = ("tf_efficientnet_lite0",)
# How often the folds are gone through, all candidates alike: of one that is looked at less often
# the noise would win too often.
REPEATS = {Preset.FAST: 1, Preset.DEFAULT: 2, Preset.THOROUGH: 5}
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
        How often each candidate goes through the folds, by default as the preset says; once where
        the manifest gives them.
    preset
        How much time training may take.
    device
        Where networks are computed: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    time_limit
        Seconds that the whole study may take; None for as many as its plan needs. It is kept by
        the clock, so that another day, or another machine, may have room for other models.
    seed
        Of everything random.
    thresholds
        Where the matrix divides.
    leaves_one_patient_out
        Whether each patient is a fold of its own, in place of the folds.
    nested
        Whether the headline is also found by nested cross-validation, at the cost of another
        five repeats of every candidate.
    measures_learning_curve
        Whether the learning curve is that of the chosen model; it is else that of the first
        frozen one, which costs little.
    prevalence
        Class to its share where the model would be used; by default the cohort's own.
    aggregation
        How a patient's images make one answer.
    strict
        Whether a picture that is said to be of two patients stops the study.
    """

    cohort: Cohort
    backbones: tuple[str, ...] = DEFAULT_BACKBONES
    strategies: tuple[Strategy, ...] = ()
    folds: int = 5
    repeats: int | None = None
    preset: Preset = Preset.DEFAULT
    device: str = "auto"
    time_limit: float | None = None
    seed: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)
    leaves_one_patient_out: bool = False
    nested: bool = False
    measures_learning_curve: bool = False
    prevalence: Mapping[str, float] | None = None
    aggregation: Aggregation = Aggregation.MEAN
    strict: bool = False

    def run(
        self, out: Path, workers: int | None = None, fresh: bool = False, language: str = "en"
    ) -> Path:
        """Run the study, or go on with one that was interrupted.

        Parameters
        ----------
        out
            The run folder.
        workers
            How many processes; changes how long it takes and nothing else.
        fresh
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
        folder.begin(self._describe(), fresh)
        with StudyProgress().shown() as progress:
            self._run(folder, Workers(workers, self.device), progress, started)
            progress.begin("report")
            # Imported when all is trained: it brings the libraries for figures and pages along.
            from meninx.report import render

            return render(out, language)

    def _run(
        self, folder: RunFolder, workers: Workers, progress: StudyProgress, started: float
    ) -> None:
        """Run everything but the report."""
        progress.begin("audit")
        findings = audit(self.cohort, self.strict)
        _refuse_errors(findings)
        self._refuse_unknown_classes()
        folder.write_cohort(self.cohort.table())
        folder.write(AuditFile(tuple(map(_hide_files, findings))))

        progress.begin("matrix")
        matrix = SizeSimilarityMatrix.measure(
            self.cohort, self.backbones, self.seed, self.thresholds
        )
        folder.write(convert(MatrixFile, matrix.as_dict()))

        progress.begin("plan")
        splits = self._split()
        plan, clock = self._plan(matrix, splits, workers, started)
        progress.expect(plan.predicted_seconds or 0.0, clock.elapsed)
        folder.write(plan.describe())

        runner = Runner(self.cohort, splits, folder, self.seed, workers, clock, progress)
        plan, models = runner.run(plan)
        folder.write(plan.describe())

        results = Results.score(models, self.seed, self.prevalence, self.aggregation)
        folder.write_scores(results.make_rows())
        with one_thread():
            ood = OODDetector.fit(self.cohort.images, self.cohort.groups)
        curve = self._run_learning_curve(results, splits, workers, progress)
        nested = self._run_nested(results, splits, workers, progress)
        folder.write(results.make_evaluation(matrix, curve, nested, ood))

        progress.begin("heatmaps")
        chosen, networks = results.chosen, FoldNetworks(folder.fold_networks)
        is_cropped = self.cohort.is_cropped
        tasks = [
            Task(chosen.model, split, self.seed, is_cropped, self.device, networks)
            for split in splits.first_repeat
        ]
        write_examples(folder, self.cohort, chosen.predictions, tasks, workers)
        networks.remove()

        progress.begin("bundle")
        self._write_bundle(folder, results, ood, workers)
        folder.write(self._summarise(results, splits, time.perf_counter() - started))

    def plan(self, workers: int | None = None) -> Plan:
        """Measure the matrix and one short fit of each model, and plan, without running more."""
        started = time.perf_counter()
        matrix = SizeSimilarityMatrix.measure(
            self.cohort, self.backbones[:1], self.seed, self.thresholds
        )
        plan, _ = self._plan(matrix, self._split(), Workers(workers, self.device), started)
        return plan

    def _plan(
        self,
        matrix: SizeSimilarityMatrix,
        splits: Splits,
        workers: Workers,
        started: float,
    ) -> tuple[Plan, Clock]:
        """Turn the advice into models, each with the seconds that it will roughly take."""
        plan = Plan.make(
            matrix.advice,
            self.backbones,
            self.strategies,
            folds=splits.folds,
            repeats=splits.repeats,
            recipe=self.preset.recipe,
        )
        clock = Clock.measure(plan, self.cohort, workers, self.time_limit, started)
        return clock.price(plan), clock

    def _split(self) -> Splits:
        cohort = self.cohort
        if self.leaves_one_patient_out:
            return leave_one_patient_out(cohort.labels, cohort.groups)
        return split_by_patient(
            cohort.labels,
            cohort.groups,
            self.folds,
            self.repeats or REPEATS[self.preset],
            self.seed,
            cohort.folds,
        )

    def _refuse_unknown_classes(self) -> None:
        """Stop where the prevalences are not of the cohort's classes, before anything is run."""
        if self.prevalence is not None and set(self.prevalence) != set(self.cohort.classes):
            raise StudyError(
                f"prevalences are given for {', '.join(self.prevalence)}, but the classes are "
                f"{', '.join(self.cohort.classes)}"
            )

    def _run_learning_curve(
        self,
        results: Results,
        splits: Splits,
        workers: Workers,
        progress: StudyProgress,
    ) -> tuple[str, LearningCurve] | None:
        """Run the learning curve of the chosen model, or of the cheapest where none was asked for.

        A frozen base costs next to nothing to fit again; how its score grows is a first answer
        to how many patients are needed.
        """
        frozen = [
            name
            for name, result in results.models.items()
            if result.model.strategy == Strategy.FROZEN
        ]
        if self.measures_learning_curve:
            name = results.selection.chosen
        elif frozen:
            name = frozen[0]
        else:
            return None
        progress.begin("curve")
        curve = run_learning_curve(self.cohort, splits, results.models[name], self.seed, workers)
        return (name, curve) if curve else None

    def _run_nested(
        self,
        results: Results,
        splits: Splits,
        workers: Workers,
        progress: StudyProgress,
    ) -> Nested | None:
        if not self.nested:
            return None
        progress.begin("nested")
        return run_nested(self.cohort, splits, results.models, self.seed, workers)

    def _write_bundle(
        self,
        folder: RunFolder,
        results: Results,
        ood: OODDetector,
        workers: Workers,
    ) -> None:
        """Train the chosen model on all patients and write it as a bundle."""
        chosen = results.chosen
        Bundle.save(
            folder.path / "bundle",
            fit_on_all(chosen.model, self.cohort, self.seed, workers),
            self.cohort.classes,
            calibrate(chosen.predictions),
            facts={
                "synthetic": self.cohort.synthetic,
                "is_cropped": self.cohort.is_cropped,
                "cohort": {
                    "images": len(self.cohort.samples),
                    "patients": len(np.unique(self.cohort.groups)),
                    "classes": self.cohort.counts(),
                    "sha256": self.cohort.fingerprint,
                },
                "scores": asdict(_describe_accuracy(results.selection.headline)),
                "versions": _list_versions(),
            },
            ood=ood,
        )

    def _describe(self) -> dict[str, Any]:
        """Describe what the study is, for ``study.toml``: no path and no name of a patient."""
        return {
            "cohort": self.cohort.fingerprint,
            "pseudonyms_key": self.cohort.key_identity,
            "framed": self.cohort.is_cropped,
            "backbones": list(self.backbones),
            "strategies": [str(strategy) for strategy in self.strategies],
            "folds": self.folds,
            "repeats": self.repeats or REPEATS[self.preset],
            "preset": str(self.preset),
            "device": find_device(self.device).type,
            "time_limit": self.time_limit or "none",
            "seed": self.seed,
            "thresholds": vars(self.thresholds),
            "leave_one_patient_out": self.leaves_one_patient_out,
            "nested": self.nested,
            "learning_curve": self.measures_learning_curve,
            "prevalence": dict(self.prevalence or {}),
            "aggregation": str(self.aggregation),
            "versions": _list_versions(),
            **_describe_allowed_copies(self.cohort),
        }

    def _summarise(self, results: Results, splits: Splits, seconds: float) -> Summary:
        selection, used = results.selection, splits.folds
        notes = () if used == self.folds else (Message("folds", asked=self.folds, used=used),)
        return Summary(
            chosen=selection.chosen,
            headline=_describe_accuracy(selection.headline),
            naive=_describe_accuracy(selection.naive),
            images=len(self.cohort.samples),
            patients=len(np.unique(self.cohort.groups)),
            seconds=round(seconds, 1),
            seed=self.seed,
            versions=_list_versions(),
            synthetic=self.cohort.synthetic,
            patients_known=self.cohort.patients_known,
            classes=self.cohort.counts(),
            folds=used,
            repeats=splits.repeats,
            notes=tuple(note.text for note in notes),
            messages=notes,
        )


def _refuse_errors(findings: Sequence[Finding]) -> None:
    """Stop where the audit found what would make every score false."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        # All of a kind are named at once, so that one file can answer them all.
        files = [", ".join(one.files) for one in errors if one.kind == errors[0].kind]
        raise CohortError(f"{errors[0].advice}. Files: {'; '.join(files)}")


def _describe_allowed_copies(cohort: Cohort) -> dict[str, Any]:
    """Describe the pairs that are said to be no copies, where there are any: by their pixels."""
    if not cohort.allowed_copies:
        return {}
    pixels = [
        sorted(cohort.samples[row].fingerprint for row in pair) for pair in cohort.allowed_copies
    ]
    checksum = sha256(repr(sorted(pixels)).encode()).hexdigest()
    return {"allowed_copies": {"pairs": len(pixels), "sha256": checksum}}


def _hide_files(finding: Finding) -> AuditFinding:
    """Name a finding's images by pseudonym, since a file name may hold a patient's name."""
    return convert(AuditFinding, finding, files=finding.samples, advice=finding.advice)


def _describe_accuracy(estimate: Estimate) -> Headline:
    return convert(Headline, estimate, balanced_accuracy=estimate.value)


def _list_versions() -> dict[str, str]:
    return {name: version(name) for name in TESTED_WITH}
