"""What more patients would bring: measured scores, the fitted power law and its forecast."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from meninx.language.words import Words
from meninx.report.figures.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    VERMILION,
    house_style,
    new_figure,
    number_formatter,
)
from meninx.results.evaluation import CurvePoint, Forecast, Interval, LearningCurve


@house_style()
def draw_learning_curve(curve: LearningCurve, classes: int, words: Words) -> Figure:
    """Draw balanced accuracy against training patients, on a logarithmic axis.

    Parameters
    ----------
    curve
        The part of the same name of `evaluation.json`.
    classes
        How many classes there are, for the line of guessing.
    words
        The words of a language.
    """
    figure, axes = new_figure(height=3.4)
    axes.set_xscale("log")
    _draw_fit(axes, curve.curve, words)
    for point in curve.points:
        _draw_point(axes, point.patients, point.balanced_accuracy, "o", BLUE)
    for row, size in zip(curve.forecast, _find_forecast_sizes(curve), strict=True):
        _draw_point(axes, size, row.balanced_accuracy, "D", VERMILION)
        _name_forecast(axes, row, size, words)
    axes.plot([], [], "o", color=BLUE, label=words("learning_curve.measured"))
    axes.plot(
        [], [], "D", color=VERMILION, markeredgecolor=INK, label=words("learning_curve.forecast")
    )
    axes.axhline(
        1 / classes,
        color=GREY,
        linewidth=0.9,
        linestyle="--",
        label=words("scores.chance", chance=words.number(1 / classes)),
    )
    _dress_axes(axes, curve, words)
    return figure


def _find_forecast_sizes(curve: LearningCurve) -> list[float]:
    """Place the forecasts on the axis of training patients; the file counts whole cohorts."""
    largest = max((point.patients for point in curve.points), default=1.0)
    return [largest * row.factor for row in curve.forecast]


def _draw_fit(axes: Axes, curve: Sequence[CurvePoint], words: Words) -> None:
    """Draw the fitted curve and the band of its uncertainty, as far as both are known."""
    patients = [point.patients for point in curve]
    # What is not known becomes NaN, which is not drawn.
    scores = np.array([[*point.balanced_accuracy] for point in curve], dtype=float)
    value, low, high = scores.reshape(-1, 3).T
    axes.plot(patients, value, color=INK, label=words("learning_curve.fit"))
    axes.fill_between(
        patients,
        low,
        high,
        color=PALE,
        alpha=0.7,
        linewidth=0,
        label=words("learning_curve.band"),
    )


def _draw_point(axes: Axes, patients: float, score: Interval, marker: str, color: str) -> None:
    if score.value is None:
        return
    if score.low is not None and score.high is not None:
        axes.plot([patients] * 2, [score.low, score.high], color=color, linewidth=1.2)
    edge = INK if marker == "D" else color
    axes.plot(patients, score.value, marker, color=color, markeredgecolor=edge, zorder=3)


def _name_forecast(axes: Axes, row: Forecast, size: float, words: Words) -> None:
    score = row.balanced_accuracy
    if score.value is None:
        return
    axes.annotate(
        words(
            "learning_curve.forecast_label",
            factor=words.number(row.factor, 0),
            value=words.number(score.value),
        ),
        (size, score.value if score.low is None else score.low),
        xytext=(0, -6),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=7.5,
    )


def _dress_axes(axes: Axes, curve: LearningCurve, words: Words) -> None:
    sizes = [point.patients for point in curve.points] + _find_forecast_sizes(curve)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(number_formatter(words, 0))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(number_formatter(words, 1))
    axes.grid(axis="y", color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(words("learning_curve.patients_axis"))
    axes.set_ylabel(words("learning_curve.score_axis"))
    axes.legend(loc="lower right", fontsize=7.5)
