"""The Size-Similarity Matrix: how many images there are, and how unlike ImageNet they look."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import blended_transform_factory

from meninx.language.words import Words
from meninx.report.figures.style import (
    GREY,
    INK,
    TINT,
    VERMILION,
    house_style,
    new_figure,
    plain_formatter,
    spread,
)
from meninx.results.schema import MatrixFile, Reference

QUADRANTS = {"Q2": (0, 1), "Q1": (1, 1), "Q4": (0, 0), "Q3": (1, 0)}  # (different, large)


@house_style()
def draw_matrix(matrix: MatrixFile, words: Words) -> Figure:
    """Draw where a cohort stands in the Size-Similarity Matrix (Marcelino 2018).

    Size grows upwards and distance from ImageNet to the right, both on a logarithmic axis:
    Q2 is at the top left, Q1 at the top right, Q4 and Q3 below them.

    Parameters
    ----------
    matrix
        As in `matrix.json` and `meninx matrix --json`.
    words
        The words of a language.
    """
    similarity, size, references = matrix.similarity, matrix.size, _references(matrix)
    figure, axes = new_figure(height=4.6)
    axes.spines[:].set_visible(True)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(
        *_limits(
            [similarity.low, similarity.high, *(reference.kl for reference in references)],
            similarity.threshold,
            factor=14,
        )
    )
    axes.set_ylim(*_limits([size.per_class], size.threshold, factor=250))
    for quadrant in QUADRANTS:
        _draw_quadrant(axes, quadrant, matrix, words)
    _draw_thresholds(axes, matrix, words)
    _draw_cohort(axes, matrix, words)
    _draw_references(axes, references, words)
    axes.set_xlabel(words("matrix.distance_axis"))
    axes.set_ylabel(words("matrix.size_axis"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(plain_formatter(words))
        axis.set_minor_formatter(NullFormatter())
    return figure


def _references(matrix: MatrixFile) -> list[Reference]:
    """Give the references that a logarithmic axis can show, the nearest to ImageNet first."""
    references = [reference for reference in matrix.references if reference.kl > 0]
    return sorted(references, key=lambda reference: reference.kl)


def _limits(values: Sequence[float], border: float, factor: float) -> tuple[float, float]:
    """Give limits that hold the values and a border in their middle, on a logarithmic axis."""
    reach = max(abs(math.log(value / border)) for value in values if value > 0)
    spread_of_axis = max(math.log(factor), 1.2 * reach)
    return border / math.exp(spread_of_axis), border * math.exp(spread_of_axis)


def _draw_quadrant(axes: Axes, quadrant: str, matrix: MatrixFile, words: Words) -> None:
    column, row = QUADRANTS[quadrant]
    is_ours = quadrant == matrix.quadrant
    top = row / 2 + 0.465
    if is_ours:
        axes.fill_between(
            [column / 2, (column + 1) / 2],
            row / 2,
            (row + 1) / 2,
            transform=axes.transAxes,
            color=TINT,
            linewidth=0,
            zorder=0,
        )
        _, height = _place(axes, matrix)
        if height % 0.5 > 0.25:  # the words stand in the half that the cohort leaves free
            top = row / 2 + 0.195
    color = INK if is_ours else GREY
    axes.text(
        column / 2 + 0.025,
        top,
        words.name("quadrant", quadrant),
        transform=axes.transAxes,
        va="top",
        color=color,
        fontweight="bold" if is_ours else "normal",
    )
    axes.text(
        column / 2 + 0.025,
        top - 0.055,
        words.name("quadrant_strategy", quadrant),
        transform=axes.transAxes,
        va="top",
        color=color,
        linespacing=1.35,
    )


def _place(axes: Axes, matrix: MatrixFile) -> tuple[float, float]:
    """Give where the cohort stands as shares of the axes, from the left and from below."""
    point = (matrix.similarity.kl, matrix.size.per_class)
    across, up = axes.transAxes.inverted().transform(axes.transData.transform(point))
    return float(across), float(up)


def _draw_thresholds(axes: Axes, matrix: MatrixFile, words: Words) -> None:
    similarity, size = matrix.similarity.threshold, matrix.size.threshold
    axes.axvline(similarity, color=GREY, linewidth=0.8, zorder=1)
    axes.axhline(size, color=GREY, linewidth=0.8, zorder=1)
    # Each label keeps to the side of its line where the cohort is not.
    is_left_free = matrix.quadrant == "Q1"
    axes.text(
        0.005 if is_left_free else 0.995,
        size * 1.06,
        words("matrix.threshold", threshold=words.number(size, 0)),
        transform=blended_transform_factory(axes.transAxes, axes.transData),
        ha="left" if is_left_free else "right",
        va="bottom",
        fontsize=7,
        color=GREY,
    )
    is_left_free = matrix.quadrant in ("Q1", "Q3")
    axes.text(
        similarity / 1.03 if is_left_free else similarity * 1.03,
        0.012,
        words("matrix.threshold", threshold=words.number(similarity)),
        transform=blended_transform_factory(axes.transData, axes.transAxes),
        ha="right" if is_left_free else "left",
        va="bottom",
        fontsize=7,
        color=GREY,
    )


def _draw_cohort(axes: Axes, matrix: MatrixFile, words: Words) -> None:
    similarity, per_class = matrix.similarity, matrix.size.per_class
    kl, low, high = similarity.kl, similarity.low, similarity.high
    axes.errorbar(
        kl,
        per_class,
        xerr=[[max(kl - low, 0)], [max(high - kl, 0)]],
        fmt="D",
        markersize=7,
        color=VERMILION,
        markeredgecolor=INK,
        markeredgewidth=0.8,
        ecolor=INK,
        elinewidth=1.2,
        capsize=3,
        zorder=4,
    )
    text = words(
        "matrix.cohort",
        images=matrix.images,
        patients=matrix.patients,
        per_class=words.number(per_class, 1),
        kl=words.estimate(kl, low, high, 3),
    )
    across, up = _place(axes, matrix)
    is_right_of_it = across % 0.5 < 0.3  # where the quadrant has more room
    alignment = "bottom" if up % 0.5 < 0.1 else "top" if up % 0.5 > 0.4 else "center"
    axes.annotate(
        text,
        (high if is_right_of_it else low, per_class),
        xytext=(9 if is_right_of_it else -9, 0),
        textcoords="offset points",
        ha="left" if is_right_of_it else "right",
        va=alignment,
        fontsize=7.5,
        linespacing=1.35,
        zorder=4,
    )


def _draw_references(axes: Axes, references: Sequence[Reference], words: Words) -> None:
    """Name known sets of images above the frame, at their distance from ImageNet."""
    if not references:
        return
    low, high = axes.get_xlim()
    across = [math.log(reference.kl / low) / math.log(high / low) for reference in references]
    for reference, x, label_x in zip(references, across, spread(across, 0.045), strict=True):
        axes.plot(
            [x, x, label_x],
            [0.985, 1.0, 1.035],
            color=GREY,
            linewidth=0.7,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(
            label_x,
            1.045,
            words.name("reference", reference.name),
            rotation=32,
            rotation_mode="anchor",
            transform=axes.transAxes,
            fontsize=7,
            color=GREY,
        )
