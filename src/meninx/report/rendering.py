"""From a run folder to its report: read, draw, tabulate, write."""

import logging
from pathlib import Path

from matplotlib.figure import Figure

from meninx.files import write_whole
from meninx.language.words import Words
from meninx.report.checklists import make_checklists
from meninx.report.figures import (
    FORMATS,
    draw_confusion,
    draw_learning_curve,
    draw_matrix,
    draw_reliability,
    draw_roc,
    draw_scores,
    draw_similarity_profile,
    draw_training,
    render_figure,
)
from meninx.report.model_card import make_model_card, write_markdown
from meninx.report.page import make_checklist_page, make_page
from meninx.report.tables import make_tables
from meninx.results import RunFolder

PAGE = "report.html"

logger = logging.getLogger(__name__)


def render(run: Path, language: str = "en") -> Path:
    """Write the report of a finished run into its folder.

    Writes `report.html`, a single file without scripts that loads nothing; the same figures
    and tables for a thesis in `figures/` (SVG, PDF, PNG at 300 dpi) and `tables/` (CSV, LaTeX);
    the checklists CLAIM 2024 and TRIPOD+AI, filled in as far as the software knows, as HTML and
    CSV; and `model-card.md`. The same run gives the same bytes.

    Parameters
    ----------
    run
        The run folder of a finished study.
    language
        `en` or `id`.

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
    contents = make_contents(folder, words)
    for name, content in contents.items():
        write_whole(folder.path / name, content)
    path = folder.path / PAGE
    logger.info("wrote %s", path)
    return path


def make_contents(run: RunFolder, words: Words) -> dict[str, bytes]:
    """Make everything that a report consists of, by path in the run folder; the page last."""
    tables = make_tables(run, words)
    figures = {
        name: {kind: render_figure(figure, kind) for kind in FORMATS}
        for name, figure in draw_figures(run, words).items()
    }
    checklists = make_checklists(run, words)
    card = make_model_card(run, words)
    drawings = {name: kinds["svg"] for name, kinds in figures.items()}
    page = make_page(run, words, tables, drawings, card, checklists)
    return {
        **{
            f"figures/{name}.{kind}": content
            for name, kinds in figures.items()
            for kind, content in kinds.items()
        },
        **{f"tables/{name}.csv": table.to_csv().encode() for name, table in tables.items()},
        **{f"tables/{name}.tex": table.to_latex(words).encode() for name, table in tables.items()},
        **{f"{table.name}.csv": table.to_csv().encode() for table in checklists.values()},
        **{
            f"{table.name}.html": make_checklist_page(run, words, table).encode()
            for table in checklists.values()
        },
        "model-card.md": write_markdown(card, words).encode(),
        PAGE: page.encode(),
    }


def draw_figures(run: RunFolder, words: Words) -> dict[str, Figure]:
    """Draw every figure of the report, by file name."""
    chosen = run.evaluation.chosen
    figures = {
        "matrix": draw_matrix(run.matrix, words),
        "similarity_profile": draw_similarity_profile(run.matrix.similarity, words),
        "scores": draw_scores(run.scores, run.summary, words),
        "confusion": draw_confusion(chosen.confusion, run.classes, words),
        "roc": draw_roc(chosen.roc, chosen.classes, words),
    }
    if run.evaluation.calibration:
        figures["reliability"] = draw_reliability(run.evaluation.calibration, words)
    if histories := run.histories:
        figures["training"] = draw_training(histories, words)
    if curve := run.evaluation.learning_curve:
        figures["learning_curve"] = draw_learning_curve(curve, len(run.classes), words)
    return figures
