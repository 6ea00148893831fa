"""How training went: the loss of each trained model, epoch by epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from meninx.language.words import Words
from meninx.report.figures.style import (
    DASHES,
    PALE,
    SERIES,
    house_style,
    new_figure,
    number_formatter,
)
from meninx.results.schema import HistoryRow


@house_style()
def draw_training(histories: Mapping[str, Sequence[HistoryRow]], words: Words) -> Figure:
    """Draw the mean loss of each model's fits against the epoch, and the range over its fits.

    Parameters
    ----------
    histories
        Model name to the rows of its `history.csv`.
    words
        The words of a language.
    """
    figure, axes = new_figure(height=3.0)
    for index, (model, rows) in enumerate(histories.items()):
        epochs = sorted({row.epoch for row in rows})
        losses = [[row.loss for row in rows if row.epoch == one] for one in epochs]
        color = SERIES[index % len(SERIES)]
        axes.plot(
            epochs,
            [np.mean(one) for one in losses],
            color=color,
            linestyle=DASHES[index % len(DASHES)],
            label=model,
        )
        low, high = [min(one) for one in losses], [max(one) for one in losses]
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(number_formatter(words, 0))
    axes.yaxis.set_major_formatter(number_formatter(words, 1))
    axes.grid(axis="y", color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(words("curves.epoch_axis"))
    axes.set_ylabel(words("curves.loss_axis"))
    axes.legend(loc="upper right", fontsize=7.5)
    return figure
