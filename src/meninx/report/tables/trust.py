"""Tables of what can be trusted: probabilities, prediction sets, forecasts, heatmaps."""

from meninx.language.words import Words
from meninx.report.table import Column, CountAndShare, Table, Term, Value
from meninx.results import RunFolder
from meninx.results.evaluation import Interval


def make_calibration_table(run: RunFolder, words: Words) -> Table | None:
    """Set the calibration before and after the temperature beside that of a perfect model."""
    calibration = run.evaluation.calibration
    if calibration is None:
        return None
    before, after = calibration.before, calibration.after
    return Table(
        name="calibration",
        caption=words("calibration.caption"),
        note=words("calibration.note", bins=len(before.bins), **run.sizes_of_chosen),
        columns=[
            Column("measure", words("column.measure"), align="left"),
            Column("before", words("column.before")),
            Column("after", words("column.after")),
        ],
        rows=[
            [Term("calibration_error", words("calibration.error")), before.error, after.error],
            [
                Term("error_if_perfect", words("calibration.error_if_perfect")),
                Interval(before.error_if_perfect, None, None),
                Interval(after.error_if_perfect, None, None),
            ],
            [Term("log_loss", words("column.log_loss")), before.log_loss, after.log_loss],
        ],
    )


def make_prediction_sets_table(run: RunFolder, words: Words) -> Table | None:
    """Tell, class by class, how often the set holds the truth and how often it cannot tell."""
    sets = run.evaluation.prediction_sets
    if sets is None:
        return None
    rows: list[list[Value]] = [
        [
            label,
            of_class.images,
            of_class.coverage,
            of_class.mean_size,
            _count(of_class.cannot_tell, of_class.images),
        ]
        for label, of_class in sets.by_class.items()
    ]
    cannot_tell = CountAndShare(sets.cannot_tell, sets.share_cannot_tell)
    rows.append([words("cohort.total"), sets.images, sets.coverage, sets.mean_size, cannot_tell])
    return Table(
        name="prediction_sets",
        caption=words("prediction_sets.caption", level=words.percent(sets.level)),
        note=words("prediction_sets.note", **run.sizes_of_chosen),
        columns=[
            Column("class", words("column.class"), align="left"),
            Column("images", words("column.images")),
            Column("coverage", words("column.coverage")),
            Column("mean_size", words("column.mean_size")),
            Column("cannot_tell", words("column.cannot_tell"), decimals=0),
        ],
        rows=rows,
        breaks=frozenset({len(rows) - 1}),
    )


def make_forecast_table(run: RunFolder, words: Words) -> Table | None:
    """Tell what more patients may be expected to bring."""
    curve = run.evaluation.learning_curve
    if curve is None:
        return None
    fit = curve.fit
    return Table(
        name="forecast",
        caption=words("forecast.caption"),
        note=words(
            "forecast.note",
            model=curve.model,
            asymptote=words.number(fit.asymptote, 3),
            scale=words.number(fit.scale),
            exponent=words.number(fit.exponent),
        ),
        columns=[
            Column("factor", words("column.factor"), decimals=0),
            Column("patients", words("column.patients")),
            Column("balanced_accuracy", words("column.expected_balanced_accuracy")),
            Column("interval_width", words("column.interval_width")),
        ],
        rows=[
            [
                row.factor,
                row.patients,
                row.balanced_accuracy,
                row.interval_width,
            ]
            for row in curve.forecast
        ],
    )


def make_sanity_table(run: RunFolder, words: Words) -> Table | None:
    """Tell how alike the heatmaps stay while the network is randomised from its end."""
    sanity = run.explanations.sanity if run.explanations else None
    if sanity is None or not sanity.steps:
        return None
    return Table(
        name="sanity",
        caption=words("sanity.caption"),
        note=words("sanity.note", images=sanity.images),
        columns=[
            Column("randomised", words("column.randomised"), align="left"),
            Column("similarity", words("column.similarity")),
        ],
        rows=[list(step) for step in sanity.steps.items()],
    )


def make_localisation_table(run: RunFolder, words: Words) -> Table | None:
    """Set what of the heatmaps lies on the lesions beside what a blind one would get."""
    found = run.explanations.localisation if run.explanations else None
    if found is None:
        return None
    rows: list[tuple[str, str, Interval]] = [
        ("mass", words("localisation.mass"), found.mass),
        ("chance", words("localisation.chance"), found.chance),
        ("difference", words("localisation.difference"), found.difference),
        ("gain", words("localisation.gain"), found.gain),
        ("pointing", words("localisation.pointing"), found.pointing),
    ]
    return Table(
        name="localisation",
        caption=words("localisation.caption"),
        note=words("localisation.note", images=found.images, patients=found.patients),
        columns=[
            Column("measure", words("column.measure"), align="left"),
            Column("value", words("column.value")),
        ],
        rows=[[Term(key, shown), interval] for key, shown, interval in rows],
    )


def _count(number: int, of: int) -> CountAndShare:
    return CountAndShare(number, number / of if of else None)
