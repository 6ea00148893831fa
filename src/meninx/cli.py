"""The command line: it reads arguments, calls a stage and shows what it gives.

No logic lives here. Stages are imported inside the commands, because torch takes seconds to
import and `meninx --help` must not wait for it.
"""

import io
import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.table import Table
from typer.exceptions import TyperException

from meninx.errors import CohortError, MeninxError

if TYPE_CHECKING:
    from meninx.cohort import Cohort

app = typer.Typer(
    help="Honest transfer learning for small sets of brain MRI. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# Names of files and classes are shown as they are, whatever they look like.
console = Console(markup=False, emoji=False)
SHOWN_FILES = 4  # in a table
NARROWEST = 12  # characters of a column whose head is as long

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
Choose = Annotated[
    Literal["even", "middle", "brain"],
    typer.Option(
        help="Which slices: evenly spaced in the central half, around the middle, or evenly "
        "spaced where the head is large."
    ),
]
AcrossAxis = Annotated[
    Literal["axial", "coronal", "sagittal"],
    typer.Option("--axis", help="Across which NIfTI volumes are sliced."),
]
AllowOutside = Annotated[
    bool,
    typer.Option("--allow-outside", help="Accept a manifest's images outside its folder."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, and record it.")
]
WholeImage = Annotated[
    bool,
    typer.Option(
        "--whole-image", help="Keep all of each image; by default the head is cropped out."
    ),
]
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
        int, typer.Option(min=1, help="How often each candidate goes through the folds.")
    ] = 5,
    time_limit: Annotated[
        str | None,
        typer.Option(help="For the whole study, such as 90s, 5m or 1h: what fits is run."),
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="Score the choice by nested cross-validation too.")
    ] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Of the chosen cell, not of a frozen one.")
    ] = False,
    leave_one_patient_out: Annotated[
        bool, typer.Option("--leave-one-patient-out", help="As many folds as patients, once.")
    ] = False,
    prevalence: Annotated[
        str | None,
        typer.Option(help="Shares where it would be used, such as lm=0.1,leukemia=0.4,normal=0.5."),
    ] = None,
    aggregation: Annotated[
        Literal["mean", "max", "top_k"],
        typer.Option(help="How a patient's images make one answer."),
    ] = "mean",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a picture that is said to be of two patients."),
    ] = False,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; changes the time, never the result.")
    ] = None,
    size_border: SizeBorder = 1000,
    similarity_border: SimilarityBorder = 0.063,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    choose: Choose = "even",
    axis: AcrossAxis = "axial",
    allow_outside: AllowOutside = False,
    skip_bad: SkipBad = False,
    whole_image: WholeImage = False,
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
    from meninx.evaluate import Aggregation
    from meninx.matrix import Borders
    from meninx.study import DEFAULT_BACKBONES, Study, read_duration, read_prevalence

    cohort = _open_cohort(
        data, patient_pattern, slices, choose, axis, allow_outside, skip_bad, whole_image
    )
    if not cohort.patients_known:
        _say("Nothing says who the patients are: each image is taken for a patient of its own.")
    question = Study(
        cohort,
        backbones=_split_names(backbones) or DEFAULT_BACKBONES,
        strategies=_read_strategies(strategies),
        folds=folds,
        repeats=repeats,
        time_limit=read_duration(time_limit) if time_limit else None,
        seed=seed,
        borders=Borders(size_border, similarity_border),
        leaves_one_patient_out=leave_one_patient_out,
        is_nested=nested,
        measures_learning_curve=learning_curve,
        prevalence=read_prevalence(prevalence) if prevalence else None,
        aggregation=Aggregation(aggregation),
        is_strict=strict,
    )
    if dry_run:
        plan = question.plan(workers).as_dict()
        columns = ("cell", "role", "folds", "repeats", "predicted_seconds", "reason")
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
    slices: Annotated[
        int | None, typer.Option(help="How many slices of each volume or series.", min=1)
    ] = None,
    choose: Choose = "even",
    axis: AcrossAxis = "axial",
    allow_outside: AllowOutside = False,
    skip_bad: SkipBad = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The manifest to write.", metavar="CSV")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="For DICOM: label, and patient, series or folder.", metavar="CSV"),
    ] = None,
    cemri: Annotated[
        bool, typer.Option("--cemri", help="DATA is the CE-MRI set (.mat files).")
    ] = False,
    series: Annotated[
        str | None, typer.Option(help="Regular expression for series, such as T1.*POST.")
    ] = None,
    kinds: Annotated[
        str, typer.Option(help="Of series: original, derived, localiser, separated by commas.")
    ] = "original",
    key: Annotated[
        Path | None,
        typer.Option(help="Key of the pseudonyms; made if not there, by default beside -o."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which images DATA has, or write a manifest of a DICOM folder or the CE-MRI set."""
    if labels or cemri:
        if out is None:
            raise typer.BadParameter("name the manifest to write with -o")
        wanted = series, kinds, slices, choose
        _write_manifest(data, labels, out, key or out.with_suffix(".key"), wanted, skip_bad)
        return
    if out is not None:
        raise typer.BadParameter("-o goes with --labels (a DICOM folder) or --cemri")
    opened = _open_cohort(data, patient_pattern, slices or 1, choose, axis, allow_outside, skip_bad)
    named = cast(list[dict[str, Any]], opened.table().to_dict(orient="records"))
    rows = [
        {**row, "image": str(sample.path)}
        for row, sample in zip(named, opened.samples, strict=True)
    ]
    _show(rows, [_make_table("Images", tuple(rows[0]), rows)], as_json)


def _write_manifest(
    data: Path,
    labels: Path | None,
    out: Path,
    key: Path,
    wanted: tuple[str | None, str, int | None, str],
    skip_bad: bool,
) -> None:
    from meninx.cohort import (
        SeriesKind,
        SliceChoice,
        Wanted,
        write_cemri_manifest,
        write_dicom_manifest,
    )

    if labels is None:
        written = write_cemri_manifest(data, out, key, skip_bad)
    else:
        pattern, kinds, slices, choose = wanted
        for name in _split_names(kinds):
            if name not in list(SeriesKind):
                raise typer.BadParameter(f"{name!r} is not {', '.join(SeriesKind)}")
        chosen_kinds = {SeriesKind(name) for name in _split_names(kinds)}
        rule = Wanted(pattern, chosen_kinds, slices, SliceChoice(choose))
        written = write_dicom_manifest(data, labels, out, key, rule, skip_bad)
    for reason, count in written.left_out.items():
        _say(f"Left out: {count} {reason}.")
    if not data.absolute().is_relative_to(out.absolute().parent):
        _say("The images lie outside the manifest's folder: open it with --allow-outside.")
    console.print(
        f"Manifest: {written.path} ({written.images} images, {written.patients} patients; "
        f"key: {key})",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def audit(
    data: Data,
    patient_pattern: PatientPattern = None,
    slices: Slices = 1,
    choose: Choose = "even",
    axis: AcrossAxis = "axial",
    allow_outside: AllowOutside = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a picture that is said to be of two patients."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what would make a score false, before anything is trained."""
    from meninx.cohort import audit as audit_cohort

    # Images that cannot be read are findings here, not a reason to stop.
    opened = _open_cohort(data, patient_pattern, slices, choose, axis, allow_outside, True)
    found = audit_cohort(opened, strict)
    findings = [finding.as_dict() for finding in found]
    rows = [{**finding.as_dict(), "files": _name_some(finding.files, data)} for finding in found]
    table = _make_table("Findings", ("severity", "kind", "advice", "files"), rows)
    _show({"findings": findings}, [table], as_json)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if strict and errors:
        raise CohortError(f"the audit found {len(errors)} errors; the first: {errors[0]['advice']}")


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
    choose: Choose = "even",
    axis: AcrossAxis = "axial",
    allow_outside: AllowOutside = False,
    skip_bad: SkipBad = False,
    whole_image: WholeImage = False,
    as_json: AsJson = False,
) -> None:
    """Place DATA on the Size-Similarity Matrix and say what follows."""
    from meninx.files import write_whole
    from meninx.matrix import Borders, SizeSimilarityMatrix
    from meninx.report import MatrixFile, Words, draw_matrix, render_figure
    from meninx.study import DEFAULT_BACKBONES

    opened = _open_cohort(
        data, patient_pattern, slices, choose, axis, allow_outside, skip_bad, whole_image
    )
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
    choose: Choose = "even",
    axis: AcrossAxis = "axial",
    allow_outside: AllowOutside = False,
    skip_bad: SkipBad = False,
    whole_image: WholeImage = False,
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
    from meninx.matrix import SizeSimilarityMatrix

    within_reach = tuple(entry.name for entry in entries if entry.weights)
    opened = _open_cohort(
        data, patient_pattern, slices, choose, axis, allow_outside, skip_bad, whole_image
    )
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
            "unlike the training images": _say_whether(answer["out_of_distribution"]),
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


def _open_cohort(
    data: Path,
    patient_pattern: str | None,
    slices: int,
    choose: str,
    axis: str,
    allow_outside: bool,
    skip_bad: bool,
    whole_image: bool = False,
) -> "Cohort":
    from meninx.cohort import Axis, Cohort, SampleRule, SliceChoice

    rule = SampleRule(slices, SliceChoice(choose), Axis(axis), whole_image)
    return Cohort.open(data, patient_pattern, rule, allow_outside=allow_outside, skip_bad=skip_bad)


def _name_some(files: tuple[str, ...], data: Path) -> str:
    """Name a few files of many, from the folder that was given; `--json` names them all."""
    folder = f"{data if data.is_dir() else data.parent}/"
    named = ", ".join(file.removeprefix(folder) for file in files[:SHOWN_FILES])
    return named if len(files) <= SHOWN_FILES else f"{named} and {len(files) - SHOWN_FILES} more"


def _say_whether(fact: bool | None) -> str:
    return "not known" if fact is None else "YES" if fact else "no"


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
    for column in columns:
        # A long path is broken rather than the names of the columns beside it.
        longest = max((len(word) for word in column.split()), default=0)
        table.add_column(column, min_width=min(longest, NARROWEST), overflow="fold")
    for row in rows:
        table.add_row(*(_make_printable(str(row[column])) for column in columns))
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
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text in any encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
    _say(f"meninx: {_make_printable(sentence)}")
    sys.exit(2)


def _make_printable(text: str) -> str:
    """Replace what a terminal would obey; a file's name may hold it."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
