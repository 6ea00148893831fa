"""Tables that compare the models of a study."""

from meninx.language.words import Words
from meninx.report.table import (
    Column,
    Duration,
    Probability,
    Share,
    Table,
    Value,
    find_first_baseline,
    name_trained,
)
from meninx.results import RunFolder
from meninx.results.evaluation import Comparison, Interval
from meninx.results.schema import ScoreRow


def make_scores_table(run: RunFolder, words: Words) -> Table:
    """Score every model: candidates from the best down, then baselines."""
    return Table(
        name="scores",
        caption=words("scores.caption"),
        note=words("scores.note", **run.sizes),
        columns=[
            Column("model", words("column.model"), align="left"),
            Column("strategy", words("column.trains"), align="left"),
            Column("cut", "", is_only_data=True),
            Column("backbone", "", is_only_data=True),
            Column("role", "", is_only_data=True),
            Column("balanced_accuracy", words("column.balanced_accuracy")),
            Column("macro_f1", words("column.macro_f1")),
            Column("auc", words("column.auc")),
            Column("log_loss", words("column.log_loss")),
            Column("brier", "", is_only_data=True),
            Column("calibration_error", "", is_only_data=True),
            Column("seconds", words("column.seconds")),
        ],
        rows=[
            [
                row.model,
                name_trained(row.strategy, words),
                row.cut,
                row.backbone,
                row.role,
                balanced_accuracy(row),
                row.macro_f1,
                row.auc,
                row.log_loss,
                _find_score(run, row, "brier"),
                _find_score(run, row, "calibration_error"),
                Duration(row.seconds),
            ]
            for row in run.scores
        ],
        breaks=find_first_baseline([row.role for row in run.scores]),
        emphasised=frozenset(
            number for number, row in enumerate(run.scores) if row.model == run.summary.chosen
        ),
    )


def make_choice_table(run: RunFolder, words: Words) -> Table:
    """Tell how firmly the chosen model was chosen, and by how much it beats the others."""
    selection = run.evaluation.selection
    comparisons = {
        comparison.against: comparison
        for comparison in run.evaluation.comparisons
        if comparison.model == run.summary.chosen
    }
    rows = [row for row in run.scores if row.model in selection or row.model in comparisons]
    return Table(
        name="choice",
        caption=words("choice.caption"),
        note=words("choice.note", chosen=run.summary.chosen, **run.sizes),
        columns=[
            Column("model", words("column.model"), align="left"),
            Column("picked", words("column.picked")),
            Column("difference", words("column.difference")),
            Column("p_value", words("column.p_value")),
            Column("p_adjusted", words("column.p_adjusted")),
        ],
        rows=[
            [
                row.model,
                Share(selection[row.model]) if row.model in selection else None,
                *_describe_comparison(comparisons.get(row.model)),
            ]
            for row in rows
        ],
        breaks=find_first_baseline([row.role for row in rows]),
        emphasised=frozenset(
            number for number, row in enumerate(rows) if row.model == run.summary.chosen
        ),
    )


def balanced_accuracy(row: ScoreRow) -> Interval:
    """Give the balanced accuracy of a model with its interval."""
    return Interval(row.balanced_accuracy, row.balanced_accuracy_low, row.balanced_accuracy_high)


def _find_score(run: RunFolder, row: ScoreRow, metric: str) -> Interval | None:
    """Find a score that `scores.csv` does not hold in `evaluation.json`."""
    model = run.evaluation.models.get(row.model)
    return model.scores.get(metric) if model else None


def _describe_comparison(comparison: Comparison | None) -> list[Value]:
    if comparison is None:
        return [None, None, None]
    return [
        comparison.difference,
        Probability(comparison.p_value),
        Probability(comparison.p_adjusted),
    ]
