"""Commands on backbones: place images on the Size-Similarity Matrix, rank pretrained CNNs."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from meninx.cli.application import app
from meninx.cli.arguments import (
    AsJson,
    Backbones,
    CohortOptions,
    Data,
    Seed,
    SimilarityBorder,
    SizeBorder,
    split_names,
    takes_cohort_options,
)
from meninx.cli.output import console, make_table, show


@app.command()
@takes_cohort_options
def matrix(
    reading: CohortOptions,
    data: Data,
    backbones: Backbones = None,
    figures: Annotated[
        Path, typer.Option("--figures", "-o", help="A folder for the figure (SVG and PNG).")
    ] = Path("matrix"),
    size_border: SizeBorder = 1000,
    similarity_border: SimilarityBorder = 0.063,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Place DATA on the Size-Similarity Matrix and say what follows."""
    from meninx.files import write_whole
    from meninx.matrix import SizeSimilarityMatrix, Thresholds
    from meninx.report import MatrixFile, Words, draw_matrix, render_figure
    from meninx.study import DEFAULT_BACKBONES

    opened = reading.open(data)
    names = split_names(backbones) or DEFAULT_BACKBONES
    measured = SizeSimilarityMatrix.measure(
        opened, names, seed, Thresholds(size_border, similarity_border)
    )
    content = measured.as_dict()
    rows = [{"what": what, "value": value} for what, value in measured.describe()]
    facts = make_table("Size-Similarity Matrix", ("what", "value"), rows)
    show(content, [facts, _make_fit_table(content["backbones"])], as_json)
    if as_json:
        return
    figure = draw_matrix(cast(MatrixFile, content), Words.load("en"))
    for kind in ("svg", "png"):
        file = write_whole(figures / f"matrix.{kind}", render_figure(figure, kind))
        console.print(f"Figure: {file}", highlight=False, soft_wrap=True)


@app.command()
@takes_cohort_options
def backbones(
    reading: CohortOptions,
    data: Annotated[Path | None, typer.Argument(help="Rank them on these images.")] = None,
    names: Annotated[
        str | None, typer.Option("--backbones", help="Which to rank, separated by commas.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the pretrained CNNs that are within reach, or rank them on DATA."""
    from meninx.backbones import catalogue

    entries = catalogue()
    if data is None:
        rows = [
            {
                "name": entry.name,
                "input_size": entry.input_size,
                "parameters": entry.parameters,
                "weights": entry.weights.value if entry.weights else "not on this machine",
            }
            for entry in entries
        ]
        show(rows, [make_table("Backbones", tuple(rows[0]), rows)], as_json)
        return
    from meninx.matrix import SizeSimilarityMatrix

    within_reach = tuple(entry.name for entry in entries if entry.weights)
    opened = reading.open(data)
    measured = SizeSimilarityMatrix.measure(opened, split_names(names) or within_reach).as_dict()
    show(measured["backbones"], [_make_fit_table(measured["backbones"])], as_json)


def _make_fit_table(fits: list[dict[str, Any]]) -> Table:
    rows = [
        {
            "backbone": fit["name"],
            "LogME": f"{fit['logme']:.3f}",
            "H": f"{fit['h_score']:.2f}",
            "probe": f"{fit['probe']:.2f}",
            "k-NN": f"{fit['neighbours']:.2f}",
            "KL": "–" if fit["kl"] is None else f"{fit['kl']:.3f}",
            "ms": f"{fit['milliseconds']:.0f}",
            "10⁶": f"{fit['parameters'] / 1e6:.1f}",
            "MB": f"{fit['megabytes']:.0f}",
        }
        for fit in fits
    ]
    table = make_table("Backbones, best LogME first", tuple(rows[0]), rows)
    table.caption = (
        "LogME: nats an image; H: H-score; probe, k-NN: balanced accuracy on frozen features; "
        "KL: nats from ImageNet by its own statistics; ms: an image; 10⁶: parameters"
    )
    return table
