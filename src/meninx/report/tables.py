"""The tables of a run, each made from the files by one function."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from meninx.report.language import Words
from meninx.report.run_files import Interval, ScoreRow
from meninx.report.run_folder import RunFolder
from meninx.report.table import Column, CountAndShare, Estimate, Share, Table, Term, Value


def make_tables(run: RunFolder, words: Words) -> dict[str, Table]:
    """Make every table of the report, by name."""
    tables = [
        make_cohort_table(run, words),
        make_backbones_table(run, words),
        make_plan_table(run, words),
        make_scores_table(run, words),
        make_choice_table(run, words),
        make_confusion_table(run, words),
        make_classes_table(run, words),
    ]
    return {table.name: table for table in tables}


def make_cohort_table(run: RunFolder, words: Words) -> Table:
    """Count images and patients of each class."""
    images = Counter(row["label"] for row in run.cohort)
    patients: dict[str, set[str]] = defaultdict(set)
    for row in run.cohort:
        patients[row["label"]].add(row["patient"])
    total = len(run.cohort)
    rows: list[list[Value]] = [
        [label, images[label], len(patients[label]), Share(images[label] / total)]
        for label in [*run.classes, *sorted(images.keys() - set(run.classes))]
    ]
    everyone = {row["patient"] for row in run.cohort}
    rows.append([words("cohort.total"), total, len(everyone), Share(1.0)])
    return Table(
        name="cohort",
        caption=words("cohort.caption"),
        note=words("cohort.note", images=total, patients=len(everyone)),
        columns=[
            Column("class", words("column.class"), align="left"),
            Column("images", words("column.images")),
            Column("patients", words("column.patients")),
            Column("share", words("column.share")),
        ],
        rows=rows,
        breaks=frozenset({len(rows) - 1}),
    )


def make_backbones_table(run: RunFolder, words: Words) -> Table:
    """Rank the backbones as the matrix did, before any training."""
    return Table(
        name="backbones",
        caption=words("backbones.caption"),
        note=words("backbones.note", images=run.matrix["images"]),
        columns=[
            Column("backbone", words("column.backbone"), align="left"),
            Column("logme", words("column.logme"), decimals=3),
            Column("probe", words("column.probe")),
            Column("milliseconds", words("column.milliseconds"), decimals=1),
        ],
        rows=[
            [row["name"], row["logme"], row["probe"], row["milliseconds"]]
            for row in run.matrix["backbones"]
        ],
    )


def make_plan_table(run: RunFolder, words: Words) -> Table:
    """List what the study set out to do."""
    cells = sorted(run.plan["cells"], key=lambda cell: cell["role"] == "baseline")
    return Table(
        name="plan",
        caption=words("plan.caption"),
        note=words("plan.note", cells=len(cells)),
        columns=[
            Column("cell", words("column.cell"), align="left"),
            Column("strategy", words("column.trains"), align="left"),
            Column("cut", words("column.cut"), align="left"),
            Column("role", "", is_only_data=True),
            Column("trained_parameters", words("column.trained_parameters")),
            Column("folds", "", is_only_data=True),
            Column("repeats", words("column.repeats")),
            Column("reason", words("column.reason"), align="sentence"),
        ],
        rows=[
            [
                cell["cell"],
                _term(cell["strategy"], words),
                cell["cut"] or "",
                cell["role"],
                cell["trained_parameters"],
                cell["folds"],
                cell["repeats"],
                cell["reason"],
            ]
            for cell in cells
        ],
        breaks=_first_baseline([cell["role"] for cell in cells]),
    )


def make_scores_table(run: RunFolder, words: Words) -> Table:
    """Score every cell: candidates from the best down, then baselines."""
    return Table(
        name="scores",
        caption=words("scores.caption"),
        note=words("scores.note", **_sizes(run)),
        columns=[
            Column("cell", words("column.cell"), align="left"),
            Column("strategy", words("column.trains"), align="left"),
            Column("cut", "", is_only_data=True),
            Column("backbone", "", is_only_data=True),
            Column("role", "", is_only_data=True),
            Column("balanced_accuracy", words("column.balanced_accuracy")),
            Column("macro_f1", words("column.macro_f1")),
            Column("auc", words("column.auc")),
            Column("log_loss", words("column.log_loss")),
            Column("seconds", words("column.seconds"), decimals=1),
        ],
        rows=[
            [
                row["cell"],
                _term(row["strategy"], words),
                row["cut"],
                row["backbone"],
                row["role"],
                balanced_accuracy(row),
                row["macro_f1"],
                row["auc"],
                row["log_loss"],
                row["seconds"],
            ]
            for row in run.scores
        ],
        breaks=_first_baseline([row["role"] for row in run.scores]),
        emphasised=frozenset(
            number for number, row in enumerate(run.scores) if row["cell"] == run.summary["chosen"]
        ),
    )


def make_choice_table(run: RunFolder, words: Words) -> Table:
    """Tell how firmly the chosen cell was chosen, and by how much it beats the others."""
    selection = run.evaluation["selection"]
    differences = {
        comparison["against"]: Estimate(
            comparison["difference"], comparison["low"], comparison["high"]
        )
        for comparison in run.evaluation.get("comparisons", [])
        if comparison["cell"] == run.summary["chosen"]
    }
    rows = [row for row in run.scores if row["cell"] in selection or row["cell"] in differences]
    return Table(
        name="choice",
        caption=words("choice.caption"),
        note=words("choice.note", chosen=run.summary["chosen"], **_sizes(run)),
        columns=[
            Column("cell", words("column.cell"), align="left"),
            Column("picked", words("column.picked")),
            Column("difference", words("column.difference")),
        ],
        rows=[
            [
                row["cell"],
                Share(selection[row["cell"]]) if row["cell"] in selection else None,
                differences.get(row["cell"]),
            ]
            for row in rows
        ],
        breaks=_first_baseline([row["role"] for row in rows]),
        emphasised=frozenset(
            number for number, row in enumerate(rows) if row["cell"] == run.summary["chosen"]
        ),
    )


def make_confusion_table(run: RunFolder, words: Words) -> Table:
    """Cross the true classes with the predicted ones."""
    rows: list[list[Value]] = []
    for label, counts in zip(run.classes, run.evaluation["chosen"]["confusion"], strict=True):
        total = sum(counts)
        rows.append(
            [label, *(CountAndShare(count, count / total if total else None) for count in counts)]
        )
    return Table(
        name="confusion",
        caption=words("confusion.caption"),
        note=words("confusion.note", **_sizes_of_chosen(run)),
        columns=[
            Column("true_class", words("column.true_class"), align="left"),
            *(
                Column(f"predicted_{label}", words("column.predicted_as", label=label))
                for label in run.classes
            ),
        ],
        rows=rows,
    )


def make_classes_table(run: RunFolder, words: Words) -> Table:
    """Score each class against all others."""
    return Table(
        name="classes",
        caption=words("classes.caption"),
        note=words("classes.note", **_sizes_of_chosen(run)),
        columns=[
            Column("class", words("column.class"), align="left"),
            Column("images", words("column.images")),
            Column("patients", words("column.patients")),
            Column("sensitivity", words("column.sensitivity")),
            Column("specificity", words("column.specificity")),
            Column("auc", words("column.class_auc")),
        ],
        rows=[
            [
                label,
                scores["images"],
                scores["patients"],
                _estimate(scores["sensitivity"]),
                _estimate(scores["specificity"]),
                _estimate(scores["auc"]),
            ]
            for label, scores in run.evaluation["chosen"]["classes"].items()
        ],
    )


def balanced_accuracy(row: ScoreRow) -> Estimate:
    """Give the balanced accuracy of a cell with its interval."""
    return Estimate(
        row["balanced_accuracy"], row["balanced_accuracy_low"], row["balanced_accuracy_high"]
    )


def _term(strategy: str | None, words: Words) -> Term:
    return Term(strategy or "", words.name("trains", strategy))


def _estimate(interval: Interval) -> Estimate:
    return Estimate(interval["value"], interval["low"], interval["high"])


def _sizes(run: RunFolder) -> dict[str, int]:
    """Give the sizes that every note says."""
    summary = run.summary
    return {
        "images": summary["images"],
        "patients": summary["patients"],
        "folds": summary["folds"],
        "repeats": summary["repeats"],
    }


def _sizes_of_chosen(run: RunFolder) -> dict[str, int]:
    """Give the sizes behind the chosen cell, which may have fewer repeats than others."""
    return {**_sizes(run), "repeats": run.chosen_repeats}


def _first_baseline(roles: Sequence[str]) -> frozenset[int]:
    """Find the row where baselines begin, if candidates stand before it."""
    number = next((number for number, role in enumerate(roles) if role == "baseline"), 0)
    return frozenset({number} - {0})
