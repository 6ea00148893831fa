"""Last stage: a finished run folder as a page, figures and tables.

In: the files of a run folder, nothing else; no stage is imported and nothing is computed that
changes a score. Out: `report.html` (one file that loads nothing), `figures/` (SVG, PDF, PNG),
`tables/` (CSV, LaTeX), `checklist-claim` and `checklist-tripod` (HTML, CSV) and
`model-card.md`, the same bytes every time.

:func:`draw_matrix` with :class:`Words` also draws the Size-Similarity Matrix of a cohort that
no study was made of, and :func:`render_figure` turns it into a file.
"""

from meninx.language.words import Words
from meninx.report.figures import draw_matrix, render_figure
from meninx.report.rendering import render

__all__ = ["Words", "draw_matrix", "render", "render_figure"]
