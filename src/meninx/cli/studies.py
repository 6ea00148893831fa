"""Commands on studies: run one, write its report again, compare two."""

from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meninx.cli.application import app
from meninx.cli.arguments import (
    AsJson,
    Backbones,
    CohortOptions,
    Data,
    Language,
    Seed,
    SimilarityBorder,
    SizeBorder,
    split_names,
    takes_cohort_options,
)
from meninx.cli.output import console, make_table, print_json, say, show

if TYPE_CHECKING:
    from meninx.study import Plan


@app.command()
@takes_cohort_options
def study(
    reading: CohortOptions,
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
        typer.Option(min=1, help="How often each candidate goes through the folds; as the preset."),
    ] = None,
    preset: Annotated[
        Literal["fast", "default", "thorough"], typer.Option(help="How much time it may take.")
    ] = "default",
    time_limit: Annotated[
        str | None,
        typer.Option(help="For the whole study, such as 90s, 5m or 1h: what fits is run."),
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="Score the choice by nested cross-validation too.")
    ] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Of the chosen model, not of a frozen one.")
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
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "--workers", min=1, help="Processes; changes the time, never the result."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    size_border: SizeBorder = 1000,
    similarity_border: SimilarityBorder = 0.063,
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
    # Before the libraries are imported, which takes seconds.
    say("reading the images …")
    from meninx.cli.parsing import read_duration, read_prevalence
    from meninx.evaluate import Aggregation
    from meninx.finetune import Preset
    from meninx.matrix import Thresholds
    from meninx.results import RunFolder
    from meninx.study import DEFAULT_BACKBONES, Study

    cohort = reading.open(data)
    if not cohort.patients_known:
        say("Nothing says who the patients are: each image is taken for a patient of its own.")
    question = Study(
        cohort,
        backbones=split_names(backbones) or DEFAULT_BACKBONES,
        strategies=_read_strategies(strategies),
        folds=folds,
        repeats=repeats,
        preset=Preset(preset),
        device=device,
        time_limit=read_duration(time_limit) if time_limit else None,
        seed=seed,
        thresholds=Thresholds(size_border, similarity_border),
        leaves_one_patient_out=leave_one_patient_out,
        nested=nested,
        measures_learning_curve=learning_curve,
        prevalence=read_prevalence(prevalence) if prevalence else None,
        aggregation=Aggregation(aggregation),
        strict=strict,
    )
    if dry_run:
        _show_plan(question.plan(jobs), as_json)
        return
    report_file = question.run(out, jobs, fresh, language.value)
    summary = RunFolder(out).summary
    if as_json:
        print_json(asdict(summary))
        return
    score, low, high = (nan if end is None else end for end in vars(summary.headline).values())
    console.print(
        f"Chosen: {summary.chosen}\n"
        f"Balanced accuracy of the whole procedure: {score:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}; "
        f"{summary.images} images, {summary.patients} patients)",
        highlight=False,
    )
    console.print(f"Report: {report_file}", highlight=False, soft_wrap=True)


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
    """Compare the chosen models of two studies of the same images."""
    from meninx.study import compare_runs

    result = compare_runs(run, other)
    rows = [{"what": key, "value": value} for key, value in result.items()]
    show(result, [make_table("Comparison", ("what", "value"), rows)], as_json)


def _show_plan(plan: "Plan", as_json: bool) -> None:
    from meninx.cli.parsing import write_duration
    from meninx.study import LEAST, MOST

    columns = ("model", "role", "folds", "repeats", "takes", "reason")
    content = plan.describe()
    models = [
        {
            **vars(model),
            "folds": plan.folds,
            "takes": write_duration(model.predicted_seconds or 0.0),
        }
        for model in content.models
    ]
    show(asdict(content), [make_table("The plan", columns, models)], as_json)
    if plan.predicted_seconds is not None and not as_json:
        low, high = (write_duration(end * plan.predicted_seconds) for end in (LEAST, MOST))
        console.print(
            f"The whole study takes some {low} to {high} on this machine, by one short fit of each "
            "model. A model's time is that of one process; an ensemble's is that of its members, "
            "which are trained once.",
            highlight=False,
        )


def _read_strategies(names: str | None) -> tuple[Any, ...]:
    from meninx.finetune import Strategy

    known = [strategy.value for strategy in Strategy]
    for name in split_names(names):
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no strategy; choose from {', '.join(known)}")
    return tuple(Strategy(name) for name in split_names(names))
