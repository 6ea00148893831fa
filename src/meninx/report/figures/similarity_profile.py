"""The distance from ImageNet in each layer of a backbone, from the input to the output."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from meninx.language.words import Words
from meninx.report.figures.style import (
    BLUE,
    GREY,
    INK,
    TINT,
    VERMILION,
    house_style,
    new_figure,
    plain_formatter,
    wrap,
)
from meninx.results.schema import Similarity

SMALLEST = 1e-4  # nats; nearer than this is drawn as this, since zero has no logarithm


@house_style()
def draw_similarity_profile(similarity: Similarity, words: Words) -> Figure:
    """Draw a dot a layer and a bar for the mean of each stage.

    Parameters
    ----------
    similarity
        The part of the same name of `matrix.json`.
    words
        The words of a language.
    """
    figure, axes = new_figure(height=2.9)
    axes.set_yscale("log")
    stages = [
        (stage, np.maximum([layer.kl for layer in layers], SMALLEST))
        for stage, layers in groupby(similarity.layers, key=lambda layer: layer.stage)
    ]
    _draw_stages(axes, [kl for _, kl in stages], words)
    _draw_means(axes, similarity, words)
    axes.set_xlim(0, max(len(stages), 1))
    axes.set_xticks(np.arange(len(stages)) + 0.5, [wrap(stage, 10) for stage, _ in stages])
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(plain_formatter(words))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(words("profile.depth_axis", layers=len(similarity.layers)))
    axes.set_ylabel(words("profile.distance_axis"))
    figure.legend(loc="outside upper left", ncols=2, fontsize=7.5)
    return figure


def _draw_stages(axes: Axes, stages: Sequence[np.ndarray], words: Words) -> None:
    """Draw stages equally wide, or the stem with its one layer could not be named."""
    for number, kl in enumerate(stages):
        if number % 2 == 0:
            axes.axvspan(number, number + 1, color=TINT, linewidth=0, zorder=0)
        depths = number + 0.06 + 0.88 * (np.arange(len(kl)) + 0.5) / len(kl)
        axes.plot(
            depths,
            kl,
            "o",
            color=BLUE,
            markersize=3.4,
            zorder=3,
            label=words("profile.layer") if number == 0 else None,
        )
        axes.plot(
            [number + 0.06, number + 0.94],
            [kl.mean()] * 2,
            color=INK,
            linewidth=2.2,
            zorder=2,
            solid_capstyle="butt",
            label=words("profile.stage_mean") if number == 0 else None,
        )


def _draw_means(axes: Axes, similarity: Similarity, words: Words) -> None:
    axes.axhline(
        similarity.kl,
        color=VERMILION,
        linewidth=1.1,
        zorder=1,
        label=words(
            "profile.mean",
            kl=words.estimate(similarity.kl, similarity.low, similarity.high, 3),
        ),
    )
    axes.axhline(
        similarity.threshold,
        color=GREY,
        linewidth=0.9,
        linestyle="--",
        zorder=1,
        label=words("profile.threshold", threshold=words.number(similarity.threshold)),
    )
