"""How sure the model was, against how often it was right."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meninx.language.words import Words
from meninx.report.figures.style import (
    BLUE,
    INK,
    VERMILION,
    frame_unit_square,
    house_style,
    new_figure,
)
from meninx.results.evaluation import Calibration, ReliabilityBin

LARGEST_DOT = 110.0  # points squared, for the bin with most images
RING = {"marker": "o", "facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.4}
SQUARE = {"marker": "s", "facecolors": BLUE, "edgecolors": INK, "linewidths": 0.6}


@house_style()
def draw_reliability(calibration: Calibration, words: Words) -> Figure:
    """Draw a dot for each bin before and after the temperature; its area grows with its images.

    Parameters
    ----------
    calibration
        The part of the same name of `evaluation.json`.
    words
        The words of a language.
    """
    figure, axes = new_figure(height=3.7)
    frame_unit_square(axes, words("reliability.perfect"), words)
    before, after = calibration.before.bins, calibration.after.bins
    axes.plot(*_place(after), color=BLUE, linewidth=1.0, zorder=2)
    axes.plot(*_place(before), "--", color=VERMILION, linewidth=1.0, zorder=2)
    _mark_bins(axes, after, SQUARE, words("reliability.after"))
    # Rings over squares: where the temperature changed nothing, both are seen.
    _mark_bins(axes, before, RING, words("reliability.before"))
    axes.set_xlabel(words("reliability.confidence_axis"))
    axes.set_ylabel(words("reliability.accuracy_axis"))
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=1.1, reverse=True
    )
    for handle in legend.legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([30])
    return figure


def _place(bins: Sequence[ReliabilityBin]) -> tuple[list[float], list[float]]:
    """Give where the bins lie, across and upwards."""
    return [one.confidence for one in bins], [one.accuracy for one in bins]


def _mark_bins(
    axes: Axes, bins: Sequence[ReliabilityBin], mark: Mapping[str, Any], label: str
) -> None:
    most = max((one.images for one in bins), default=1)
    sizes = [LARGEST_DOT * one.images / max(most, 1) for one in bins]
    axes.scatter(*_place(bins), s=sizes, zorder=3, clip_on=False, label=label, **mark)
