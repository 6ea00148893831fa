"""How sure the model was, against how often it was right."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meninx.report.evaluation_file import Calibration, ReliabilityBin
from meninx.report.figures.style import (
    BLUE,
    INK,
    VERMILION,
    frame_unit_square,
    house_style,
    new_figure,
)
from meninx.report.language import Words

LARGEST_DOT = 110.0  # points squared, for the bin with most images


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
    reliability = calibration["reliability"]
    _draw_bins(axes, reliability["before"], "o", "--", VERMILION, words("reliability.before"))
    _draw_bins(axes, reliability["after"], "s", "-", BLUE, words("reliability.after"))
    axes.set_xlabel(words("reliability.confidence_axis"))
    axes.set_ylabel(words("reliability.accuracy_axis"))
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=1.1)
    for handle in legend.legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([30])
    return figure


def _draw_bins(
    axes: Axes, bins: Sequence[ReliabilityBin], marker: str, line: str, color: str, label: str
) -> None:
    most = max((one["images"] for one in bins), default=1)
    confidences = [one["confidence"] for one in bins]
    accuracies = [one["accuracy"] for one in bins]
    axes.plot(confidences, accuracies, color=color, linewidth=1.0, linestyle=line, zorder=2)
    axes.scatter(
        confidences,
        accuracies,
        s=[LARGEST_DOT * one["images"] / max(most, 1) for one in bins],
        marker=marker,
        color=color,
        edgecolors=INK,
        linewidths=0.6,
        alpha=0.85,
        zorder=3,
        clip_on=False,
        label=label,
    )
