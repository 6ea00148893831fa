"""Read a finished run folder: the only thing a report is made of."""

import math
from dataclasses import dataclass
from pathlib import Path

from meninx.errors import StudyError
from meninx.report.evaluation_file import EvaluationFile
from meninx.report.explanations_file import ExplanationsFile
from meninx.report.run_files import (
    AuditFile,
    AuditFinding,
    BundleFile,
    CohortRow,
    Example,
    HistoryRow,
    MatrixFile,
    PlanFile,
    PlannedModel,
    ScoreRow,
    Summary,
)
from meninx.report.shape import read_bytes, read_csv, read_json, read_json_if_there

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class RunFolder:
    """Everything a report needs from a run.

    Attributes
    ----------
    path
        The folder it was read from.
    summary, matrix, plan, evaluation
        The files of the same names.
    scores
        Rows of `scores.csv`: candidates by falling balanced accuracy, then baselines.
    cohort
        Rows of `cohort.csv`.
    findings
        What the audit found.
    examples
        Images with heatmaps; empty when the run has none.
    explanations
        Whether the heatmaps were tested, and how; `None` when the run does not say.
    bundle
        The model trained on all patients; `None` when the run has none.
    """

    path: Path
    summary: Summary
    matrix: MatrixFile
    plan: PlanFile
    evaluation: EvaluationFile
    scores: list[ScoreRow]
    cohort: list[CohortRow]
    findings: list[AuditFinding]
    examples: list[Example]
    explanations: ExplanationsFile | None
    bundle: BundleFile | None

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Read a run folder.

        Raises
        ------
        StudyError
            If a file is missing, cannot be read, or lacks a field.
        """
        if not path.is_dir():
            raise StudyError(f"{path} is not a run folder; make one with `meninx study`")
        run = cls(
            path=path,
            summary=read_json(path / "summary.json", Summary),
            matrix=read_json(path / "matrix.json", MatrixFile),
            plan=read_json(path / "plan.json", PlanFile),
            evaluation=read_json(path / "evaluation.json", EvaluationFile),
            scores=_sort_scores(read_csv(path / "scores.csv", ScoreRow)),
            cohort=read_csv(path / "cohort.csv", CohortRow),
            findings=read_json(path / "audit.json", AuditFile)["findings"],
            examples=read_json_if_there(path / "examples.json", list[Example]) or [],
            explanations=read_json_if_there(path / "explanations.json", ExplanationsFile),
            bundle=read_json_if_there(path / "bundle" / "bundle.json", BundleFile),
        )
        run._check_that_files_agree()
        return run

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the confusion matrix."""
        return list(self.evaluation["chosen"]["classes"])

    @property
    def chosen(self) -> ScoreRow:
        """The row of `scores.csv` of the chosen model."""
        return next(row for row in self.scores if row["model"] == self.summary["chosen"])

    @property
    def chosen_repeats(self) -> int:
        """How many times the folds were gone through with the chosen model."""
        return self.evaluation["models"][self.summary["chosen"]]["repeats"]

    @property
    def candidates(self) -> int:
        """How many models competed."""
        return sum(row["role"] == "candidate" for row in self.scores)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that every note says."""
        summary = self.summary
        return {
            "images": summary["images"],
            "patients": summary["patients"],
            "folds": summary["folds"],
            "repeats": summary["repeats"],
        }

    @property
    def sizes_of_chosen(self) -> dict[str, int]:
        """The sizes behind the chosen model, which may have fewer repeats than others."""
        return {**self.sizes, "repeats": self.chosen_repeats}

    @property
    def has_probabilities(self) -> bool:
        """Whether comparisons of models come with p-values."""
        return any("p_value" in row for row in self.evaluation.get("comparisons", []))

    @property
    def has_failed_heatmaps(self) -> bool:
        """Whether the heatmaps were tested and do not show what the network learned."""
        sanity = self.explanations["sanity"] if self.explanations else None
        return sanity is not None and not sanity["passed"]

    @property
    def histories(self) -> dict[str, list[HistoryRow]]:
        """How training went, of each model that gradient descent trained, candidates first."""
        files = {row["model"]: self.path / "models" / row["model"] / "history.csv"
                 for row in self.scores}  # fmt: skip
        return {model: read_csv(file, HistoryRow) for model, file in files.items() if file.exists()}

    @property
    def chosen_plan(self) -> PlannedModel | None:
        """The chosen model as it was planned."""
        return next(
            (model for model in self.plan["models"] if model["model"] == self.summary["chosen"]),
            None,
        )

    @property
    def members(self) -> list[PlannedModel]:
        """The models whose probabilities the chosen one averages; none where it is one network."""
        names = self.chosen_plan.get("members", []) if self.chosen_plan else []
        return [model for model in self.plan["models"] if model["model"] in names]

    def read_picture(self, relative: str) -> bytes:
        """Read a PNG of the run.

        Raises
        ------
        StudyError
            If it is missing, is no PNG, or lies outside the run folder.
        """
        picture = (self.path / relative).resolve()
        if not picture.is_relative_to(self.path.resolve()):
            raise StudyError(f"{self.path / 'examples.json'} names a picture outside the run")
        content = read_bytes(picture)
        if not content.startswith(PNG_SIGNATURE):
            raise StudyError(f"{picture} is not a PNG picture; run the study again")
        return content

    def _check_that_files_agree(self) -> None:
        chosen = self.evaluation["chosen"]
        if self.summary["chosen"] not in {row["model"] for row in self.scores}:
            raise StudyError(
                f"{self.path}: summary.json chose {self.summary['chosen']!r}, "
                "which scores.csv does not have; run the study again"
            )
        for label in chosen["roc"].keys() - chosen["classes"].keys():
            raise StudyError(
                f"{self.path / 'evaluation.json'} has a curve of {label!r}, which is no class of "
                "the chosen model; run the study again"
            )
        rows = chosen["confusion"]
        if [len(row) for row in rows] != [len(chosen["classes"])] * len(chosen["classes"]):
            raise StudyError(
                f"{self.path / 'evaluation.json'}: the confusion matrix does not have a row "
                f"and a column for each of {len(chosen['classes'])} classes; run the study again"
            )


def _sort_scores(rows: list[ScoreRow]) -> list[ScoreRow]:
    """Put candidates first, and the better before the worse."""
    worst = -math.inf
    return sorted(
        rows,
        key=lambda row: (
            row["role"] == "baseline",
            -(worst if row["balanced_accuracy"] is None else row["balanced_accuracy"]),
            row["model"],
        ),
    )
