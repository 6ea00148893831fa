"""Commands on a trained bundle: predict, explain, serve, export."""

import os
from pathlib import Path
from typing import Annotated

import typer

from meninx.cli.application import app
from meninx.cli.arguments import AsJson
from meninx.cli.output import BAD_INPUT, complain, console, make_table, say, show
from meninx.errors import ImageError


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.", metavar="BUNDLE")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE…")],
    heatmaps: Annotated[
        Path | None, typer.Option(help="A folder for pictures with heatmaps.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images with a trained bundle; those that cannot be read are named at the end."""
    from meninx.bundle import Bundle

    opened = Bundle.open(bundle)
    answers, bad = [], []
    for image in images:
        try:
            answers += opened.describe([image], heatmaps)
        except ImageError as error:
            bad.append(error)
    rows = [
        {
            "image": answer["image"],
            **{name: f"{p:.3f}" for name, p in answer["probabilities"].items()},
            "set": ", ".join(answer["prediction_set"]) or "cannot tell",
            "unlike the training images": _say_whether(answer["out_of_distribution"]),
        }
        for answer in answers
    ]
    title = "Synthetic demonstration" if opened.card.synthetic else "Predictions"
    show(answers, [make_table(title, tuple(rows[0]), rows)] if rows else [], as_json)
    say(opened.card.notice)
    for why in bad:
        complain(why)
    if bad:
        raise typer.Exit(BAD_INPUT)


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.", metavar="BUNDLE")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE…")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for the pictures.")] = Path(
        "heatmaps"
    ),
    as_json: AsJson = False,
) -> None:
    """Draw where in each image the bundle found its answer."""
    predict(bundle, images, out, as_json)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.", metavar="BUNDLE")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Serve a bundle as a web page and REST; with MENINX_TOKEN set, clients must send it."""
    from meninx.bundle import Bundle
    from meninx.serve import serve as run_server

    run_server(Bundle.open(bundle), host, port, os.environ.get("MENINX_TOKEN"))


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.", metavar="BUNDLE")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file.")] = Path("model.onnx"),
) -> None:
    """Write a bundle as one ONNX file that gives the same answers, checked."""
    from meninx.bundle import Bundle
    from meninx.bundle.export import export_onnx

    file = export_onnx(Bundle.open(bundle), out)
    console.print(f"ONNX file: {file}", highlight=False, soft_wrap=True)


def _say_whether(fact: bool | None) -> str:
    return "not known" if fact is None else "YES" if fact else "no"
