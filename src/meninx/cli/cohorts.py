"""Commands on images: make a synthetic cohort, list one, write a manifest, audit one."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from meninx.cli.application import app
from meninx.cli.arguments import (
    AsJson,
    CohortOptions,
    Data,
    Seed,
    split_names,
    takes_cohort_options,
)
from meninx.cli.output import console, make_table, say, show
from meninx.errors import CohortError

SHOWN_FILES = 4  # in a table


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to make.", metavar="OUT")],
    seed: Seed = 0,
    images_per_patient: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Write a synthetic cohort of 53 patients: 16 lm, 22 leukemia, 15 normal."""
    from meninx.phantom import phantom as write_phantom

    manifest = write_phantom(out, seed=seed, images_per_patient=images_per_patient)
    console.print(f"Synthetic cohort: {manifest}", highlight=False, soft_wrap=True)


@app.command()
@takes_cohort_options
def cohort(
    reading: CohortOptions,
    data: Data,
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
        wanted = series, kinds, reading.slices, reading.choose
        _write_manifest(data, labels, out, key or out.with_suffix(".key"), wanted, reading.skip_bad)
        return
    if out is not None:
        raise typer.BadParameter("-o goes with --labels (a DICOM folder) or --cemri")
    opened = reading.open(data)
    named = cast(list[dict[str, Any]], opened.table().to_dict(orient="records"))
    rows = [
        {**row, "image": str(sample.path)}
        for row, sample in zip(named, opened.samples, strict=True)
    ]
    show(rows, [make_table("Images", tuple(rows[0]), rows)], as_json)


def _write_manifest(
    data: Path,
    labels: Path | None,
    out: Path,
    key: Path,
    wanted: tuple[str | None, str, int | None, str],
    skip_bad: bool,
) -> None:
    from meninx.cohort import Wanted, write_cemri_manifest, write_dicom_manifest
    from meninx.imaging import SeriesKind, SliceChoice

    if labels is None:
        written = write_cemri_manifest(data, out, key, skip_bad)
    else:
        pattern, kinds, slices, choose = wanted
        for name in split_names(kinds):
            if name not in list(SeriesKind):
                raise typer.BadParameter(f"{name!r} is not {', '.join(SeriesKind)}")
        chosen_kinds = {SeriesKind(name) for name in split_names(kinds)}
        rule = Wanted(pattern, chosen_kinds, slices, SliceChoice(choose))
        written = write_dicom_manifest(data, labels, out, key, rule, skip_bad)
    for reason, count in written.left_out.items():
        say(f"Left out: {count} {reason}.")
    if not data.absolute().is_relative_to(out.absolute().parent):
        say("The images lie outside the manifest's folder: open it with --allow-outside.")
    console.print(
        f"Manifest: {written.path} ({written.images} images, {written.patients} patients; "
        f"key: {key})",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
@takes_cohort_options
def audit(
    reading: CohortOptions,
    data: Data,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a picture that is said to be of two patients."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what would make a score false, before anything is trained."""
    from meninx.cohort import audit as audit_cohort

    # Images that cannot be read are findings here, not a reason to stop.
    opened = reading.open(data, skip_bad=True)
    found = audit_cohort(opened, strict)
    findings = [finding.as_dict() for finding in found]
    rows = [{**finding.as_dict(), "files": _name_some(finding.files, data)} for finding in found]
    table = make_table("Findings", ("severity", "kind", "advice", "files"), rows)
    show({"findings": findings}, [table], as_json)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if strict and errors:
        raise CohortError(f"the audit found {len(errors)} errors; the first: {errors[0]['advice']}")


def _name_some(files: tuple[str, ...], data: Path) -> str:
    """Name a few files of many, from the folder that was given; `--json` names them all."""
    folder = f"{data if data.is_dir() else data.parent}/"
    named = ", ".join(file.removeprefix(folder) for file in files[:SHOWN_FILES])
    return named if len(files) <= SHOWN_FILES else f"{named} and {len(files) - SHOWN_FILES} more"
