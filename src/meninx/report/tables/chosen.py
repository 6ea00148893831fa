"""Tables of the chosen model: every measure, class by class, by image and by patient."""

from itertools import chain

from meninx.language.words import Words
from meninx.report.table import (
    Column,
    CountAndShare,
    Share,
    Table,
    Term,
    Value,
    count_decimals,
)
from meninx.results import RunFolder
from meninx.results.evaluation import PatientClassScores


def make_measures_table(run: RunFolder, words: Words) -> Table:
    """Give every measure of the chosen model, by patient beside by image where both exist."""
    by_image = run.evaluation.models[run.summary.chosen].scores
    patient_level = run.evaluation.patient_level
    by_patient = patient_level.scores if patient_level else {}
    return Table(
        name="measures",
        caption=words("measures.caption"),
        note=words("measures.note", **run.sizes_of_chosen),
        columns=[
            Column("measure", words("column.measure"), align="left"),
            Column("by_image", words("column.by_image")),
            *([Column("by_patient", words("column.by_patient"))] if by_patient else []),
            Column("better", words("column.better"), align="left"),
        ],
        rows=[
            [
                Term(measure, words.name("measure", measure)),
                score,
                *([by_patient.get(measure)] if by_patient else []),
                words.name("better", measure),
            ]
            for measure, score in by_image.items()
        ],
    )


def make_confusion_table(run: RunFolder, words: Words) -> Table:
    """Cross the true classes with the predicted ones."""
    confusion = run.evaluation.chosen.confusion
    decimals = count_decimals(chain.from_iterable(confusion))
    rows: list[list[Value]] = []
    for label, counts in zip(run.classes, confusion, strict=True):
        total = sum(counts)
        rows.append(
            [label, *(CountAndShare(count, count / total if total else None) for count in counts)]
        )
    return Table(
        name="confusion",
        caption=words("confusion.caption"),
        note=words("confusion.note", **run.sizes_of_chosen),
        columns=[
            Column("true_class", words("column.true_class"), align="left"),
            *(
                Column(f"predicted_{label}", words("column.predicted_as", label=label), decimals)
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
        note=words("classes.note", **run.sizes_of_chosen),
        columns=[
            Column("class", words("column.class"), align="left"),
            Column("images", words("column.images")),
            *_make_score_columns(words),
        ],
        rows=[
            [label, scores.images, *_describe_scores(scores)]
            for label, scores in run.evaluation.chosen.classes.items()
        ],
    )


def make_predictive_values_table(run: RunFolder, words: Words) -> Table | None:
    """Tell what the answer "this class" and the answer "not this class" are worth."""
    values = {
        label: scores.predictive_values
        for label, scores in run.evaluation.chosen.classes.items()
        if scores.predictive_values
    }
    if not values:
        return None
    is_of_cohort = all(value.is_cohort_prevalence for value in values.values())
    return Table(
        name="predictive_values",
        caption=words("predictive_values.caption"),
        note=words(
            "predictive_values.note_cohort" if is_of_cohort else "predictive_values.note_stated",
            **run.sizes_of_chosen,
        ),
        columns=[
            Column("class", words("column.class"), align="left"),
            Column("prevalence", words("column.prevalence")),
            Column("ppv", words("column.ppv")),
            Column("npv", words("column.npv")),
        ],
        rows=[
            [label, Share(value.prevalence), value.ppv, value.npv]
            for label, value in values.items()
        ],
    )


def make_patient_classes_table(run: RunFolder, words: Words) -> Table | None:
    """Score each class against all others where patients are classified."""
    level = run.evaluation.patient_level
    if level is None:
        return None
    return Table(
        name="patient_classes",
        caption=words("patient_classes.caption"),
        note=words("patient_classes.note", patients=level.patients),
        columns=[
            Column("class", words("column.class"), align="left"),
            *_make_score_columns(words),
            Column("ppv", words("column.ppv")),
            Column("npv", words("column.npv")),
        ],
        rows=[
            [label, *_describe_scores(scores), *_describe_predictive_values(scores)]
            for label, scores in level.classes.items()
        ],
    )


def _make_score_columns(words: Words) -> list[Column]:
    """Make the columns that tables of classes share; :func:`_describe_scores` fills them."""
    return [
        Column("patients", words("column.patients")),
        Column("sensitivity", words("column.sensitivity")),
        Column("specificity", words("column.specificity")),
        Column("auc", words("column.class_auc")),
    ]


def _describe_scores(scores: PatientClassScores) -> list[Value]:
    return [scores.patients, scores.sensitivity, scores.specificity, scores.auc]


def _describe_predictive_values(scores: PatientClassScores) -> list[Value]:
    values = scores.predictive_values
    return [values.ppv, values.npv] if values else [None, None]
