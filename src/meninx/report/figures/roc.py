"""How well each class is told from all others, over every threshold."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from meninx.language.words import Words
from meninx.report.figures.style import (
    DASHES,
    SERIES,
    frame_unit_square,
    house_style,
    new_figure,
    wrap,
)
from meninx.results.evaluation import ClassScores, Curve


@house_style()
def draw_roc(
    curves: Mapping[str, Curve], classes: Mapping[str, ClassScores], words: Words
) -> Figure:
    """Draw one curve a class, told apart by colour and by dashes.

    Parameters
    ----------
    curves
        Class to curve.
    classes
        Class to scores, for the area under its curve and n.
    words
        The words of a language.
    """
    figure, axes = new_figure(height=3.9)
    frame_unit_square(axes, words("roc.chance"), words)
    images = sum(scores.images for scores in classes.values())
    for number, (label, curve) in enumerate(curves.items()):
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            color=SERIES[number % len(SERIES)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.7,
            clip_on=False,
            label=_tell_curve(label, classes[label], images, words),
        )
    axes.set_xlabel(words("roc.false_positive_axis"))
    axes.set_ylabel(words("roc.true_positive_axis"))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[1:] + handles[:1],
        labels[1:] + labels[:1],
        loc="upper left",
        bbox_to_anchor=(1.03, 1.0),
        labelspacing=1.1,
        handlelength=2.6,
    )
    return figure


def _tell_curve(label: str, scores: ClassScores, images: int, words: Words) -> str:
    auc = scores.auc
    return words(
        "roc.class",
        label=wrap(label, 26),
        auc=words.estimate(*auc),
        images=scores.images,
        total=images,
    )
