"""Which class was taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from meninx.language.words import MISSING, Words
from meninx.report.figures.style import BLUE, INK, house_style, new_figure, wrap
from meninx.report.table import count_decimals

# White to blue: the darker, the more, in grey print too.
_SHADES = LinearSegmentedColormap.from_list("share", ["#FFFFFF", "#9CC3DE", BLUE, "#003E63"])
_SHADE_OF_WHITE_TEXT = 0.5


@house_style()
def draw_confusion(
    confusion: Sequence[Sequence[float]], classes: Sequence[str], words: Words
) -> Figure:
    """Draw counts with the share of their row, shaded by that share.

    Parameters
    ----------
    confusion
        Images of each true class (row) put in each predicted class (column), as the mean
        over repeats; shape (classes, classes).
    classes
        Names of the classes.
    words
        The words of a language.
    """
    counts = np.asarray(confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = 1.0 if len(classes) <= 4 else 0.8
    figure, axes = new_figure(
        height=side * len(classes) + 1.0, width=min(side * len(classes) + 2.6, 9.0)
    )
    shading = axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=1)
    _write_cells(axes, counts, shares, words)
    _name_classes(axes, classes, totals[:, 0], words)
    bar = figure.colorbar(
        shading, ax=axes, shrink=0.85, aspect=25, format=lambda share, _: words.percent(share)
    )
    bar.set_label(words("confusion.share_axis"))
    bar.outline.set_linewidth(0.5)
    return figure


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, words: Words) -> None:
    decimals = count_decimals(counts.flat)
    for (row, column), count in np.ndenumerate(counts):
        share = float(shares[row, column])
        color = "white" if share > _SHADE_OF_WHITE_TEXT else INK
        axes.text(
            column,
            row - 0.09,
            words.number(count, decimals),
            ha="center",
            va="center",
            color=color,
            fontsize=10,
            fontweight="bold" if row == column else "normal",
        )
        axes.text(
            column,
            row + 0.19,
            words.percent(share) if share >= 0 else MISSING,
            ha="center",
            va="center",
            color=color,
            fontsize=8,
        )


def _name_classes(axes: Axes, classes: Sequence[str], totals: np.ndarray, words: Words) -> None:
    names = [wrap(name, 14) for name in classes]
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(
        range(len(classes)),
        [
            f"{name}\n{words('confusion.row_total', images=words.number(total, 0))}"
            for name, total in zip(names, totals, strict=True)
        ],
    )
    axes.set_xlabel(words("confusion.predicted_axis"))
    axes.set_ylabel(words("confusion.true_axis"))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
