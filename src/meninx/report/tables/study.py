"""Tables of what the study was made of: the cohort, the networks, the plan and its cost."""

from collections import Counter, defaultdict

from meninx.language.words import Words
from meninx.report.table import (
    Column,
    Duration,
    Share,
    Table,
    Term,
    Value,
    find_first_baseline,
    name_trained,
)
from meninx.results import RunFolder


def make_cohort_table(run: RunFolder, words: Words) -> Table:
    """Count images and patients of each class."""
    images = Counter(row.label for row in run.cohort)
    patients: dict[str, set[str]] = defaultdict(set)
    for row in run.cohort:
        patients[row.label].add(row.patient)
    total = len(run.cohort)
    rows: list[list[Value]] = [
        [label, images[label], len(patients[label]), Share(images[label] / total)]
        for label in [*run.classes, *sorted(images.keys() - set(run.classes))]
    ]
    everyone = {row.patient for row in run.cohort}
    is_several = sum(map(len, patients.values())) > len(everyone)
    rows.append([words("cohort.total"), total, len(everyone), Share(1.0)])
    return Table(
        name="cohort",
        caption=words("cohort.caption"),
        note=words(
            "cohort.note_several" if is_several else "cohort.note",
            images=total,
            patients=len(everyone),
        ),
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
        note=words("backbones.note", images=run.matrix.images),
        columns=[
            Column("backbone", words("column.backbone"), align="left"),
            Column("logme", words("column.logme"), decimals=3),
            Column("probe", words("column.probe")),
            Column("milliseconds", words("column.milliseconds"), decimals=1),
        ],
        rows=[[row.name, row.logme, row.probe, row.milliseconds] for row in run.matrix.backbones],
    )


def make_plan_table(run: RunFolder, words: Words) -> Table:
    """List what the study set out to do."""
    models = sorted(run.plan.models, key=lambda model: model.role == "baseline")
    return Table(
        name="plan",
        caption=words("plan.caption"),
        note=words("plan.note", models=len(models)),
        columns=[
            Column("model", words("column.model"), align="left"),
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
                model.model,
                name_trained(model.strategy, words),
                model.cut or "",
                model.role,
                model.trained_parameters,
                run.plan.folds,
                model.repeats,
                words.tell(model.message),
            ]
            for model in models
        ],
        breaks=find_first_baseline([model.role for model in models]),
    )


def make_cost_table(run: RunFolder, words: Words) -> Table | None:
    """Set the seconds that the plan predicted beside those it took, model by model and in all."""
    predicted = {model.model: model.predicted_seconds for model in run.plan.models}
    if all(seconds is None for seconds in predicted.values()):
        return None
    rows: list[list[Value]] = [
        [row.model, Duration(predicted.get(row.model)), Duration(row.seconds)] for row in run.scores
    ]
    breaks = find_first_baseline([row.role for row in run.scores])
    if (in_all := run.plan.predicted_seconds) is not None:
        breaks |= {len(rows)}
        study = Term("study", words("cost.study"))
        rows.append([study, Duration(in_all), Duration(run.summary.seconds)])
    return Table(
        name="cost",
        caption=words("cost.caption"),
        note=words("cost.note"),
        columns=[
            Column("model", words("column.model"), align="left"),
            Column("predicted_seconds", words("column.predicted_seconds")),
            Column("seconds", words("column.seconds")),
        ],
        rows=rows,
        breaks=breaks,
    )


def make_left_out_table(run: RunFolder, words: Words) -> Table | None:
    """List the models that the time limit left no room for."""
    left_out = run.plan.left_out
    if not left_out:
        return None
    return Table(
        name="left_out",
        caption=words("left_out.caption"),
        note=words("left_out.note"),
        columns=[
            Column("model", words("column.model"), align="left"),
            Column("predicted_seconds", words("column.predicted_seconds")),
            Column("reason", words("column.reason"), align="sentence"),
        ],
        rows=[
            [
                model.model,
                Duration(model.predicted_seconds),
                words.tell(model.message),
            ]
            for model in left_out
        ],
    )
