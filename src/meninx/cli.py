"""The command line: it reads arguments, calls a stage and shows what it gives.

No logic lives here. Stages are imported inside the commands, because torch takes seconds to
import and `meninx --help` must not wait for it.
"""

import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table
from typer.exceptions import TyperException

from meninx.errors import MeninxError

app = typer.Typer(
    help="Honest transfer learning for small sets of brain MRI. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

Data = Annotated[
    Path,
    typer.Argument(
        help="A folder with one sub-folder a class, or a manifest (.csv).", metavar="DATA"
    ),
]
PatientPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression that finds the patient in a file name."),
]
Slices = Annotated[int, typer.Option(help="How many slices to take of each volume.", min=1)]
Backbones = Annotated[
    str | None, typer.Option(help="Names, separated by commas; by default the packaged three.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
SizeBorder = Annotated[
    float, typer.Option(min=1, help="Images a class from which a cohort counts as large.")
]
SimilarityBorder = Annotated[
    float, typer.Option(min=0, help="Nats from ImageNet from which images count as different.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]


class Language(StrEnum):
    """A language that a report can be written in."""

    EN = "en"
    ID = "id"


@app.command()
def study(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder.", metavar="RUN")],
    backbones: Backbones = None,
    strategies: Annotated[
        str | None,
        typer.Option(help="Of frozen, partial, full, scratch; by default what the matrix advises."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2)] = 5,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Of every cell; by default 5, fewer for those that take long."),
    ] = None,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; changes the time, never the result.")
    ] = None,
    size_border: SizeBorder = 1000,
    similarity_border: SimilarityBorder = 0.063,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, run nothing.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away an earlier study in RUN.")
    ] = False,
    language: Annotated[Language, typer.Option(help="Of the report.")] = Language.EN,
    as_json: AsJson = False,
) -> None:
    """Find the best model that DATA allows, and how good it really is."""
    from meninx.cohort import Cohort
    from meninx.matrix import Borders
    from meninx.study import DEFAULT_BACKBONES, Study

    cohort = Cohort.open(data, patient_pattern, slices)
    if not cohort.patients_known:
        _say("Nothing says who the patients are: each image is taken for a patient of its own.")
    question = Study(
        cohort,
        backbones=_split_names(backbones) or DEFAULT_BACKBONES,
        strategies=_read_strategies(strategies),
        folds=folds,
        repeats=repeats,
        seed=seed,
        borders=Borders(size_border, similarity_border),
    )
    if dry_run:
        plan = question.plan().as_dict()
        columns = ("cell", "role", "folds", "repeats", "trained_parameters", "reason")
        _show(plan, [_make_table("The plan", columns, plan["cells"])], as_json)
        return
    report_file = question.run(out, workers, fresh, language.value)
    summary = json.loads((out / "summary.json").read_bytes())
    if as_json:
        _print_json(summary)
        return
    headline = summary["headline"]
    console.print(
        f"Chosen: {summary['chosen']}\n"
        f"Balanced accuracy of the whole procedure: {headline['balanced_accuracy']:.3f} "
        f"(95 % interval {headline['low']:.3f} to {headline['high']:.3f}; "
        f"{summary['images']} images, {summary['patients']} patients)",
        highlight=False,
    )
    console.print(f"Report: {report_file}", highlight=False, soft_wrap=True)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to make.", metavar="OUT")],
    seed: Seed = 0,
    images_per_patient: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Write a synthetic cohort of 53 patients: 16 lm, 22 leukemia, 15 normal."""
    from meninx.cohort import phantom as write_phantom

    manifest = write_phantom(out, seed=seed, images_per_patient=images_per_patient)
    console.print(f"Synthetic cohort: {manifest}", highlight=False, soft_wrap=True)


@app.command()
def cohort(
    data: Data,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    as_json: AsJson = False,
) -> None:
    """Show which images DATA has, and the pseudonym that reports call each by."""
    from meninx.cohort import Cohort

    opened = Cohort.open(data, patient_pattern, slices)
    table = opened.table().drop(columns="fingerprint")
    table["image"] = [str(sample.path) for sample in opened.samples]
    rows = json.loads(table.to_json(orient="records"))
    _show(rows, [_make_table("Images", tuple(rows[0]), rows)], as_json)


@app.command()
def audit(
    data: Data,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    as_json: AsJson = False,
) -> None:
    """Look for what would make a score false, before anything is trained."""
    from meninx.cohort import Cohort
    from meninx.cohort import audit as audit_cohort

    found = audit_cohort(Cohort.open(data, patient_pattern, slices))
    findings = [finding.as_dict() for finding in found]
    rows = [{**finding.as_dict(), "files": ", ".join(finding.files)} for finding in found]
    table = _make_table("Findings", ("severity", "kind", "advice", "files"), rows)
    _show({"findings": findings}, [table], as_json)


@app.command()
def matrix(
    data: Data,
    backbones: Backbones = None,
    figures: Annotated[
        Path, typer.Option("--figures", "-o", help="A folder for the figure (SVG and PNG).")
    ] = Path("matrix"),
    size_border: SizeBorder = 1000,
    similarity_border: SimilarityBorder = 0.063,
    seed: Seed = 0,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    as_json: AsJson = False,
) -> None:
    """Place DATA on the Size-Similarity Matrix and say what follows."""
    from meninx.cohort import Cohort
    from meninx.files import write_whole
    from meninx.matrix import Borders, SizeSimilarityMatrix
    from meninx.report import MatrixFile, Words, draw_matrix, render_figure
    from meninx.study import DEFAULT_BACKBONES

    opened = Cohort.open(data, patient_pattern, slices)
    names = _split_names(backbones) or DEFAULT_BACKBONES
    measured = SizeSimilarityMatrix.measure(
        opened, names, seed, Borders(size_border, similarity_border)
    )
    content = measured.as_dict()
    rows = [{"what": what, "value": value} for what, value in measured.describe()]
    facts = _make_table("Size-Similarity Matrix", ("what", "value"), rows)
    _show(content, [facts, _make_fit_table(content["backbones"])], as_json)
    if as_json:
        return
    figure = draw_matrix(cast(MatrixFile, content), Words.load("en"))
    for kind in ("svg", "png"):
        file = write_whole(figures / f"matrix.{kind}", render_figure(figure, kind))
        console.print(f"Figure: {file}", highlight=False, soft_wrap=True)


@app.command()
def backbones(
    data: Annotated[Path | None, typer.Argument(help="Rank them on these images.")] = None,
    names: Annotated[
        str | None, typer.Option("--backbones", help="Which to rank, separated by commas.")
    ] = None,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
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
        _show(rows, [_make_table("Backbones", tuple(rows[0]), rows)], as_json)
        return
    from meninx.cohort import Cohort
    from meninx.matrix import SizeSimilarityMatrix

    within_reach = tuple(entry.name for entry in entries if entry.weights)
    opened = Cohort.open(data, patient_pattern, slices)
    measured = SizeSimilarityMatrix.measure(opened, _split_names(names) or within_reach).as_dict()
    _show(measured["backbones"], [_make_fit_table(measured["backbones"])], as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", metavar="RUN")],
    language: Annotated[Language, typer.Option()] = Language.EN,
) -> None:
    """Write the report of a finished study again."""
    from meninx.report import render

    console.print(f"Report: {render(run, language.value)}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    other: Annotated[Path, typer.Argument(metavar="RUN")],
    as_json: AsJson = False,
) -> None:
    """Compare the chosen cells of two studies of the same images."""
    from meninx.study import compare_runs

    result = compare_runs(run, other)
    rows = [{"what": key, "value": value} for key, value in result.items()]
    _show(result, [_make_table("Comparison", ("what", "value"), rows)], as_json)


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.", metavar="BUNDLE")],
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE…")],
    heatmaps: Annotated[
        Path | None, typer.Option(help="A folder for pictures with heatmaps.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images with a trained bundle."""
    from meninx.bundle import Bundle

    opened = Bundle.open(bundle)
    answers = opened.describe(images, heatmaps)
    rows = [
        {
            "image": answer["image"],
            **{name: f"{p:.3f}" for name, p in answer["probabilities"].items()},
            "set": ", ".join(answer["prediction_set"]) or "cannot tell",
        }
        for answer in answers
    ]
    title = "Synthetic demonstration" if opened.card.synthetic else "Predictions"
    _show(answers, [_make_table(title, tuple(rows[0]), rows)], as_json)
    _say(opened.card.notice)


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


def _split_names(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _read_strategies(names: str | None) -> tuple[Any, ...]:
    from meninx.finetune import Strategy

    known = [strategy.value for strategy in Strategy]
    for name in _split_names(names):
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no strategy; choose from {', '.join(known)}")
    return tuple(Strategy(name) for name in _split_names(names))


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
    table = _make_table("Backbones, best LogME first", tuple(rows[0]), rows)
    table.caption = (
        "LogME: nats an image; H: H-score; probe, k-NN: balanced accuracy on frozen features; "
        "KL: nats from ImageNet by its own statistics; ms: an image; 10⁶: parameters"
    )
    return table


def _make_table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title)
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    return table


def _show(content: object, tables: list[Table], as_json: bool) -> None:
    """Print JSON, or the tables that say the same to people."""
    if as_json:
        _print_json(content)
        return
    for table in tables:
        console.print(table)


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _say(sentence: str) -> None:
    """Say something beside the output."""
    typer.echo(sentence, err=True)


def main() -> None:
    """Run the command line; errors of the user's world end in one line and exit code 2."""
    logging.basicConfig(level=os.environ.get("MENINX_LOG", "WARNING"), format="%(message)s")
    try:
        app(standalone_mode=False)
    except MeninxError as error:
        _fail(" ".join(str(error).split()))
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except TyperException as error:
        _fail(error.format_message())


def _fail(sentence: str) -> None:
    _say(f"meninx: {sentence}")
    sys.exit(2)
