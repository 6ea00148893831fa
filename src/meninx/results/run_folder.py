"""The run folder: everything that a study finds, each file whole or absent, and read back checked.

A study begins one and writes it; a study that goes on, a comparison and a report read it.
"""

import hashlib
import io
import math
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from meninx.errors import StudyError
from meninx.files import write_whole
from meninx.results.evaluation import Evaluation
from meninx.results.schema import (
    AuditFile,
    AuditFinding,
    BundleFile,
    CohortRow,
    Example,
    Explanations,
    HistoryRow,
    MatrixFile,
    ModelFile,
    PlanFile,
    PlannedModel,
    ScoreRow,
    Summary,
)
from meninx.results.typed_files import read_bytes, read_csv, read_json, to_csv, to_json

if TYPE_CHECKING:
    import pandas as pd

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The files that hold one dataclass each.
JSON_FILES: dict[type, str] = {
    Summary: "summary.json",
    MatrixFile: "matrix.json",
    PlanFile: "plan.json",
    Evaluation: "evaluation.json",
    AuditFile: "audit.json",
    Explanations: "explanations.json",
}


class RunFolder:
    """A folder that a study writes to, model by model, and that others read.

    A file is read when it is first asked for, and a :class:`meninx.errors.StudyError` says in one
    sentence what is wrong with it: it is missing, cannot be read, or lacks a field.

    Parameters
    ----------
    path
        Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # Of a study that writes it

    def begin(self, study: Mapping[str, Any], fresh: bool) -> None:
        """Open the folder for a study.

        Parameters
        ----------
        study
            What the study is: settings, seed, versions, checksum of the cohort. Written to
            ``study.toml``. A folder that holds the same study is gone on with.
        fresh
            Whether to throw away what an earlier study left.

        Raises
        ------
        StudyError
            The folder holds another study, or something that is no study at all.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            if not (self.path / "study.toml").is_file():
                raise StudyError(
                    f"{self.path} is not empty and holds no study; name another folder with -o"
                )
            if fresh:
                shutil.rmtree(self.path)
            else:
                self._refuse_another_study(study)
        write_whole(self.path / "study.toml", tomli_w.dumps(study).encode())

    def _refuse_another_study(self, study: Mapping[str, Any]) -> None:
        earlier = self.read_settings()
        differing = sorted(
            key for key in earlier.keys() | study.keys() if earlier.get(key) != study.get(key)
        )
        if differing == ["pseudonyms_key"]:
            raise StudyError(
                f"{self.path} was written with another key of pseudonyms; name that key's file in "
                "MENINX_KEY, add --fresh to replace it, or name another folder with -o"
            )
        if differing:
            raise StudyError(
                f"{self.path} holds another study (its {', '.join(differing)} differ); "
                "add --fresh to replace it, or name another folder with -o"
            )

    def write(
        self, content: Summary | MatrixFile | PlanFile | Evaluation | AuditFile | Explanations
    ) -> None:
        """Write the file that a dataclass is the content of."""
        write_whole(self.path / JSON_FILES[type(content)], to_json(content))

    def write_cohort(self, table: "pd.DataFrame") -> None:
        """Write ``cohort.csv``."""
        write_whole(self.path / "cohort.csv", table.to_csv(index=False).encode())

    def write_scores(self, rows: Sequence[ScoreRow]) -> None:
        """Write ``scores.csv``."""
        write_whole(self.path / "scores.csv", to_csv(rows, ScoreRow))

    def write_examples(self, examples: Sequence[Example], pictures: Mapping[str, bytes]) -> None:
        """Write ``examples.json`` and the pictures that it names, by path in the run."""
        for name, content in pictures.items():
            write_whole(self.path / name, content)
        content = to_json(tuple(examples), tuple[Example, ...])
        write_whole(self.path / "examples.json", content)

    def write_model(
        self,
        model: PlannedModel,
        predictions: "pd.DataFrame",
        seconds: float,
        history: Sequence[HistoryRow] = (),
    ) -> None:
        """Write a model's result. Its ``model.json`` comes last: with it the result is whole.

        Parameters
        ----------
        model
            What was run.
        predictions
            Out of fold, as :meth:`meninx.evaluate.Predictions.from_table` reads them.
        seconds
            That it took.
        history
            How the loss fell; nothing is written where there is none.
        """
        folder = self.path / "models" / model.model
        # An earlier result must not vouch for these predictions if writing stops half-way.
        (folder / "model.json").unlink(missing_ok=True)
        if history:
            write_whole(folder / "history.csv", to_csv(history, HistoryRow))
        content = predictions.to_parquet(index=False)
        write_whole(folder / "oof.parquet", content)
        checksum = hashlib.sha256(content).hexdigest()
        record = ModelFile(**vars(model), seconds=seconds, sha256=checksum)
        write_whole(folder / "model.json", to_json(record))

    @property
    def fold_networks(self) -> Path:
        """Where what cross-validation trained lies until the study removes it."""
        return self.path / "fold_networks"

    # Its files

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Read the folder of a finished study, all that a report needs of it.

        Raises
        ------
        StudyError
            A file is missing, cannot be read or lacks a field, or two files do not agree.
        """
        if not path.is_dir():
            raise StudyError(f"{path} is not a run folder; make one with `meninx study`")
        run = cls(path)
        _ = (run.summary, run.matrix, run.plan, run.scores, run.evaluation, run.cohort)
        _ = (run.findings, run.examples, run.explanations, run.bundle)
        run._check_that_files_agree()
        return run

    def read_settings(self) -> dict[str, Any]:
        """Read ``study.toml``: what the study is."""
        path = self.path / "study.toml"
        try:
            return tomllib.loads(read_bytes(path).decode())
        except ValueError as error:
            raise StudyError(f"{path} is not TOML ({error}); add --fresh to replace it") from error

    @cached_property
    def summary(self) -> Summary:
        """What came out, in one page."""
        return read_json(self.path / "summary.json", Summary)

    @cached_property
    def matrix(self) -> MatrixFile:
        """The Size-Similarity Matrix of the cohort."""
        return read_json(self.path / "matrix.json", MatrixFile)

    @cached_property
    def plan(self) -> PlanFile:
        """What the study set out to do."""
        return read_json(self.path / "plan.json", PlanFile)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Every score with its interval."""
        return read_json(self.path / "evaluation.json", Evaluation)

    @cached_property
    def scores(self) -> list[ScoreRow]:
        """Rows of ``scores.csv``: candidates by falling balanced accuracy, then baselines."""

        def rank(row: ScoreRow) -> tuple[bool, float, str]:
            score = -math.inf if row.balanced_accuracy is None else row.balanced_accuracy
            return row.role == "baseline", -score, row.model

        return sorted(read_csv(self.path / "scores.csv", ScoreRow), key=rank)

    @cached_property
    def cohort(self) -> tuple[CohortRow, ...]:
        """Rows of ``cohort.csv``."""
        return read_csv(self.path / "cohort.csv", CohortRow)

    @cached_property
    def findings(self) -> tuple[AuditFinding, ...]:
        """What the audit found."""
        return read_json(self.path / "audit.json", AuditFile).findings

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """Images with heatmaps; empty when the run has none."""
        path = self.path / "examples.json"
        return read_json(path, tuple[Example, ...]) if path.exists() else ()

    @cached_property
    def explanations(self) -> Explanations | None:
        """Whether the heatmaps were tested, and how; `None` when the run does not say."""
        path = self.path / "explanations.json"
        return read_json(path, Explanations) if path.exists() else None

    @cached_property
    def bundle(self) -> BundleFile | None:
        """The model trained on all patients; `None` when the run has none."""
        path = self.path / "bundle" / "bundle.json"
        return read_json(path, BundleFile) if path.exists() else None

    @cached_property
    def histories(self) -> dict[str, tuple[HistoryRow, ...]]:
        """How training went, of each model that gradient descent trained, candidates first."""
        files = {row.model: self.path / "models" / row.model / "history.csv" for row in self.scores}
        return {model: read_csv(file, HistoryRow) for model, file in files.items() if file.exists()}

    def read_model(self, model: str) -> "tuple[pd.DataFrame, ModelFile] | None":
        """Read the out-of-fold predictions of a model and its record.

        Returns
        -------
        tuple or None
            None where the model was not run to its end.

        Raises
        ------
        StudyError
            A file is damaged, or of another model or run.
        """
        import pandas as pd

        folder = self.path / "models" / model
        if not (folder / "model.json").exists():
            return None
        cure = f"delete the folder {folder}, and `meninx study` trains this model again"
        record = read_json(folder / "model.json", ModelFile, cure)
        if record.model != model:
            raise StudyError(f"{folder / 'model.json'} is of another model; {cure}")
        path = folder / "oof.parquet"
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise StudyError(f"{path} is damaged, or of another model; {cure}")
        return pd.read_parquet(io.BytesIO(content)), record

    def read_picture(self, relative: str) -> bytes:
        """Read a PNG of the run.

        Raises
        ------
        StudyError
            It is missing, is no PNG, or lies outside the run folder.
        """
        picture = (self.path / relative).resolve()
        if not picture.is_relative_to(self.path.resolve()):
            raise StudyError(f"{self.path / 'examples.json'} names a picture outside the run")
        content = read_bytes(picture)
        if not content.startswith(PNG_SIGNATURE):
            raise StudyError(f"{picture} is not a PNG picture; run the study again")
        return content

    def _check_that_files_agree(self) -> None:
        chosen = self.evaluation.chosen
        if self.summary.chosen not in {row.model for row in self.scores}:
            raise StudyError(
                f"{self.path}: summary.json chose {self.summary.chosen!r}, "
                "which scores.csv does not have; run the study again"
            )
        for label in chosen.roc.keys() - chosen.classes.keys():
            raise StudyError(
                f"{self.path / 'evaluation.json'} has a curve of {label!r}, which is no class of "
                "the chosen model; run the study again"
            )
        if [len(row) for row in chosen.confusion] != [len(chosen.classes)] * len(chosen.classes):
            raise StudyError(
                f"{self.path / 'evaluation.json'}: the confusion matrix does not have a row "
                f"and a column for each of {len(chosen.classes)} classes; run the study again"
            )

    # What several readers ask of it

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the confusion matrix."""
        return list(self.evaluation.chosen.classes)

    @property
    def chosen(self) -> ScoreRow:
        """The row of ``scores.csv`` of the chosen model."""
        return next(row for row in self.scores if row.model == self.summary.chosen)

    @property
    def chosen_repeats(self) -> int:
        """How many times the folds were gone through with the chosen model."""
        return self.evaluation.models[self.summary.chosen].repeats

    @property
    def candidates(self) -> int:
        """How many models competed."""
        return sum(row.role == "candidate" for row in self.scores)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that every note says."""
        names = ("images", "patients", "folds", "repeats")
        return {name: getattr(self.summary, name) for name in names}

    @property
    def sizes_of_chosen(self) -> dict[str, int]:
        """The sizes behind the chosen model, which may have fewer repeats than others."""
        return {**self.sizes, "repeats": self.chosen_repeats}

    @property
    def has_probabilities(self) -> bool:
        """Whether comparisons of models come with p-values."""
        return any(row.p_value is not None for row in self.evaluation.comparisons)

    @property
    def has_failed_heatmaps(self) -> bool:
        """Whether the heatmaps were tested and do not show what the network learned."""
        sanity = self.explanations.sanity if self.explanations else None
        return sanity is not None and not sanity.passed

    @property
    def chosen_plan(self) -> PlannedModel | None:
        """The chosen model as it was planned."""
        chosen = (model for model in self.plan.models if model.model == self.summary.chosen)
        return next(chosen, None)

    @property
    def members(self) -> list[PlannedModel]:
        """The models whose probabilities the chosen one averages; none where it is one network."""
        names = self.chosen_plan.members if self.chosen_plan else ()
        return [model for model in self.plan.models if model.model in names]
