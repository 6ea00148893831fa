"""How every figure looks: one typeface, the Okabe-Ito colours, nothing that needs colour alone.

Figures are made with `Figure` objects, never pyplot, so that drawing changes no global state
and needs no screen.
"""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from meninx.language.words import Words

# Okabe & Ito (2008), "Color universal design": told apart by colour-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
INK, GREY, PALE, TINT = "#1A1A1A", "#6B6B6B", "#D9D9D9", "#EEF3F7"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES: tuple[object, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

WIDTH = 6.3  # inches: the text width of an A4 page with 2.5 cm margins
FORMATS = ("svg", "pdf", "png")

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x"
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.dpi": 300,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "meninx",
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
}
_METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw or save in the style of the report; also serves as a decorator."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def frame_unit_square(axes: Axes, diagonal: str, words: Words) -> None:
    """Lay out axes that both go from 0 to 1, with a dotted diagonal.

    Parameters
    ----------
    axes
        Empty: the diagonal is then the first in the legend.
    diagonal
        What it means, for the legend.
    words
        The words of a language, for its numbers.
    """
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (1, 3)), label=diagonal)
    axes.set_aspect("equal")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(number_formatter(words, 1))
    axes.grid(color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)


@house_style()
def render_figure(figure: Figure, kind: str) -> bytes:
    """Render a figure as SVG, PDF or PNG (300 dpi), with the same bytes every time.

    Parameters
    ----------
    figure
        A figure of this package.
    kind
        One of :data:`FORMATS`.
    """
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=_METADATA[kind])
    return content.getvalue()


def number_formatter(words: Words, decimals: int) -> FuncFormatter:
    """Format ticks as the language writes numbers."""
    return FuncFormatter(lambda value, _: words.number(value, decimals))


def plain_formatter(words: Words) -> FuncFormatter:
    """Format ticks of a logarithmic axis without powers: 0.05, 1,000."""

    def write(value: float, _: object) -> str:
        decimals = 0 if value >= 1 else 1
        while decimals < 4 and round(value, decimals) != round(value, 6):
            decimals += 1
        return words.number(value, decimals)

    return FuncFormatter(write)


def wrap(name: str, width: int) -> str:
    """Break a long name into lines."""
    return "\n".join(textwrap.wrap(name, width)) or name


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move sorted positions apart until neighbours keep a gap, shifting each as little as needed.

    Clusters of crowded positions are laid out evenly around their mean.
    """
    clusters: list[tuple[float, int]] = []  # sum of positions, how many
    for position in positions:
        clusters.append((position, 1))
        while len(clusters) > 1 and _overlap(clusters[-2], clusters[-1], gap):
            (left, n), (right, m) = clusters[-2:]
            clusters[-2:] = [(left + right, n + m)]
    return [
        total / count + (number - (count - 1) / 2) * gap
        for total, count in clusters
        for number in range(count)
    ]


def _overlap(left: tuple[float, int], right: tuple[float, int], gap: float) -> bool:
    distance = right[0] / right[1] - left[0] / left[1]
    return distance < gap * (left[1] + right[1]) / 2
