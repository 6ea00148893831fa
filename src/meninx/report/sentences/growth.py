"""What more patients would bring, and what scores by patient are."""

from meninx.language.words import Words
from meninx.results import RunFolder


def tell_growth(run: RunFolder, words: Words) -> list[str]:
    """Say what a study with more patients may expect."""
    curve = run.evaluation.learning_curve
    if curve is None:
        return []
    forecasts = [
        words(
            "learning_curve.expected",
            factor=words.number(row.factor, 0),
            patients=words.number(row.patients, 0),
            score=words.estimate(*row.balanced_accuracy),
            width=words.number(row.interval_width),
        )
        for row in curve.forecast
    ]
    return [
        words("learning_curve.meaning", model=curve.model),
        *forecasts,
        words("learning_curve.caution"),
    ]


def tell_patient_level(run: RunFolder, words: Words) -> list[str]:
    """Say how images of a patient were put together; nothing where each has one image."""
    level = run.evaluation.patient_level
    several = run.evaluation.patients_of_several_labels
    sizes = {"count": several, "patients": run.summary.patients}
    if level is None:
        return [words("patient_level.none", **sizes)] if several else []
    return [
        words(
            "patient_level.how",
            patients=level.patients,
            aggregation=words.name("aggregation", level.aggregation),
        ),
        *([words("patient_level.left_out", **sizes)] if several else []),
    ]
