"""The figures of a report, one function each, drawn from the files of a run.

In: parts of a run folder and the words of a language. Out: matplotlib figures, which
:func:`render_figure` renders as SVG, PDF and PNG with the same bytes every time.
"""

from meninx.report.figures.confusion import draw_confusion
from meninx.report.figures.learning_curve import draw_learning_curve
from meninx.report.figures.matrix import draw_matrix
from meninx.report.figures.reliability import draw_reliability
from meninx.report.figures.roc import draw_roc
from meninx.report.figures.scores import draw_scores
from meninx.report.figures.similarity_profile import draw_similarity_profile
from meninx.report.figures.style import FORMATS, render_figure
from meninx.report.figures.training import draw_training

__all__ = [
    "FORMATS",
    "draw_confusion",
    "draw_learning_curve",
    "draw_matrix",
    "draw_reliability",
    "draw_roc",
    "draw_scores",
    "draw_similarity_profile",
    "draw_training",
    "render_figure",
]
