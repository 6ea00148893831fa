"""From a run folder to its report: read, draw, tabulate, write."""

import logging
from pathlib import Path

from matplotlib.figure import Figure

from meninx.files import write_whole
from meninx.report.figures import (
    FORMATS,
    draw_confusion,
    draw_matrix,
    draw_roc,
    draw_scores,
    draw_similarity_profile,
    render_figure,
)
from meninx.report.language import Words
from meninx.report.page import make_page
from meninx.report.run_folder import RunFolder
from meninx.report.tables import make_tables

logger = logging.getLogger(__name__)


def render(run: Path, language: str = "en") -> Path:
    """Write the report of a finished run into its folder.

    Writes `report.html`, a single file without scripts that loads nothing, and the same
    figures and tables for a thesis in `figures/` (SVG, PDF, PNG at 300 dpi) and `tables/`
    (CSV, LaTeX). The same run gives the same bytes.

    Parameters
    ----------
    run
        The run folder of a finished study.
    language
        `en` or `id`. Sentences that stand in the run's files stay in English.

    Returns
    -------
    Path
        The page, `run/report.html`.

    Raises
    ------
    StudyError
        If a file of the run is missing or cannot be read, or the language is unknown.
    OutputError
        If the report cannot be written.
    """
    words = Words.load(language)
    folder = RunFolder.read(Path(run))
    tables = make_tables(folder, words)
    pictures = {
        name: {kind: render_figure(figure, kind) for kind in FORMATS}
        for name, figure in draw_figures(folder, words).items()
    }
    for name, kinds in pictures.items():
        for kind, content in kinds.items():
            write_whole(folder.path / "figures" / f"{name}.{kind}", content)
    for name, table in tables.items():
        write_whole(folder.path / "tables" / f"{name}.csv", table.to_csv().encode())
        write_whole(folder.path / "tables" / f"{name}.tex", table.to_latex(words).encode())
    page = make_page(folder, words, tables, {name: pictures[name]["svg"] for name in pictures})
    path = folder.path / "report.html"
    write_whole(path, page.encode())
    logger.info("wrote %s", path)
    return path


def draw_figures(run: RunFolder, words: Words) -> dict[str, Figure]:
    """Draw every figure of the report, by file name."""
    chosen = run.evaluation["chosen"]
    return {
        "matrix": draw_matrix(run.matrix, words),
        "similarity_profile": draw_similarity_profile(run.matrix["similarity"], words),
        "scores": draw_scores(run.scores, run.summary, words),
        "confusion": draw_confusion(chosen["confusion"], run.classes, words),
        "roc": draw_roc(chosen["roc"], chosen["classes"], words),
    }
