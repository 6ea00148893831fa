"""Balanced accuracy of every model with its interval, and the headline that pays for the choice."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    wrap,
)
from meninx.report.tables import balanced_accuracy
from meninx.results.evaluation import Interval
from meninx.results.schema import ScoreRow, Summary

NAME_WIDTH = 40  # characters of a model's name in one line


@house_style()
def draw_scores(scores: Sequence[ScoreRow], summary: Summary, words: Words) -> Figure:
    """Draw a dot and an interval a model, the headline above them and chance as a line.

    Parameters
    ----------
    scores
        Rows in the order of the report: candidates from the best down, then baselines.
    summary
        The summary of the run, for the headline and the number of classes.
    words
        The words of a language.
    """
    headline = summary.headline
    lines = max(wrap(row.model, NAME_WIDTH).count("\n") + 1 for row in scores)
    figure, axes = new_figure(height=1.35 + (0.15 + 0.11 * lines) * len(scores))
    _draw_chance(axes, 1 / len(summary.classes), words)
    positions, names = [0.0], [words("scores.headline_row")]
    result = Interval(headline.balanced_accuracy, headline.low, headline.high)
    _draw_row(axes, 0.0, result, words, marker="D", color=VERMILION, face=VERMILION)
    group = "headline"
    for row in scores:
        gap = 1.0 if row.role == group else 1.5
        if row.role != group:
            axes.axhline(positions[-1] + gap / 2, color=PALE, linewidth=0.7, zorder=0)
        group = row.role
        positions.append(positions[-1] + gap)
        if group == "baseline":
            look = {"marker": "s", "color": GREY, "face": "white"}
        else:
            look = {"marker": "o", "color": BLUE, "face": BLUE}
        _draw_row(axes, positions[-1], balanced_accuracy(row), words, **look)
        name = wrap(row.model, NAME_WIDTH)
        is_chosen = row.model == summary.chosen
        names.append(words("scores.chosen_row", model=name) if is_chosen else name)
    axes.set_yticks(positions, names)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(positions[-1] + 0.6, -0.6)
    _dress_axes(axes, words)
    axes.set_xlabel(words("scores.axis", images=summary.images, patients=summary.patients))
    return figure


def _draw_chance(axes: Axes, chance: float, words: Words) -> None:
    axes.axvline(chance, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    axes.text(
        chance,
        1.0,
        words("scores.chance", chance=words.number(chance)),
        fontsize=7.5,
        transform=axes.get_xaxis_transform(),
        color=GREY,
        ha="center",
        va="bottom",
    )


def _dress_axes(axes: Axes, words: Words) -> None:
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(number_formatter(words, 1))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_row(
    axes: Axes, position: float, score: Interval, words: Words, marker: str, color: str, face: str
) -> None:
    if score.value is not None:
        low = score.value if score.low is None else score.low
        high = score.value if score.high is None else score.high
        axes.plot(
            [low, high], [position] * 2, color=color, linewidth=1.6, zorder=2, solid_capstyle="butt"
        )
        axes.plot(
            score.value,
            position,
            marker,
            markersize=6,
            color=face,
            markeredgecolor=INK if marker == "D" else color,
            zorder=3,
            clip_on=False,
        )
    axes.annotate(
        words.estimate(*score),
        (1, position),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        fontweight="bold" if marker == "D" else "normal",
        annotation_clip=False,
    )
