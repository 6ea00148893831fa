"""The page: what stands where is in the templates; here are the sentences that need deciding."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from meninx.report.language import Words
from meninx.report.run_files import AuditFinding, Example
from meninx.report.run_folder import RunFolder
from meninx.report.table import Table

SHOWN_SAMPLES = 8  # pseudonyms named with one finding; the rest are counted


@dataclass(frozen=True)
class Pair:
    """An example as the page shows it: two pictures and the probabilities of the classes."""

    example: Example
    image: str
    heatmap: str
    bars: list[tuple[str, str, int]]


def make_page(
    run: RunFolder,
    words: Words,
    tables: Mapping[str, Table],
    figures: Mapping[str, bytes],
) -> str:
    """Fill the templates.

    Parameters
    ----------
    run
        What to report.
    words
        The words of a language.
    tables, figures
        By name; figures as SVG.

    Returns
    -------
    str
        HTML that refers to no other file.
    """
    environment = Environment(
        loader=PackageLoader("meninx.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs = [make_pair(run, example, words) for example in run.examples]
    return environment.get_template("report.html.j2").render(
        words=words,
        run=run,
        summary=run.summary,
        matrix=run.matrix,
        tables=tables,
        figures={name: as_data("image/svg+xml", svg) for name, svg in figures.items()},
        answer=tell_answer(run, words),
        advice=tell_advice(run, words),
        advice_held=tell_whether_advice_held(run, words),
        findings=[(finding, tell_affected(finding, words)) for finding in run.findings],
        pairs={
            "right": [pair for pair in pairs if pair.example["right"]],
            "wrong": [pair for pair in pairs if not pair.example["right"]],
        },
        methods=tell_methods(run, words),
        limits=tell_limits(run, words),
    )


def as_data(kind: str, content: bytes) -> str:
    """Put a picture into the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def tell_answer(run: RunFolder, words: Words) -> list[str]:
    """Say in sentences how well the chosen model does, against what, and what it is."""
    summary, chosen = run.summary, run.chosen
    headline, chance = summary["headline"], 1 / len(summary["classes"])
    low = headline["low"]
    is_above_chance = low is not None and low > chance
    sentences = [
        words(
            "answer.headline",
            value=words.number(headline["balanced_accuracy"]),
            interval=words.between(headline["low"], headline["high"]),
        ),
        words(
            "answer.measure_meaning",
            classes=len(summary["classes"]),
            chance=words.number(chance),
        ),
        words("answer.above_chance" if is_above_chance else "answer.not_above_chance"),
    ]
    strategy = words.name("strategy", chosen["strategy"])
    if chosen["backbone"]:
        sentences.append(words("answer.model", backbone=chosen["backbone"], strategy=strategy))
    else:
        sentences.append(words("answer.model_plain", cell=chosen["cell"], strategy=strategy))
    if chosen["cut"] and chosen["strategy"] == "partial":
        sentences.append(words("answer.cut", cut=chosen["cut"]))
    return sentences


def tell_advice(run: RunFolder, words: Words) -> str:
    """Say what the matrix advised."""
    advice = run.matrix["advice"]
    values = {
        "quadrant": run.matrix["quadrant"],
        "strategy": words.name("strategy", advice["strategy"]),
    }
    if advice["cut"] and advice["strategy"] == "partial":
        return words("matrix.advice_cut", cut=advice["cut"], **values)
    return words("matrix.advice", **values)


def tell_whether_advice_held(run: RunFolder, words: Words) -> list[str]:
    """Compare what the matrix advised with the best cell; nothing where it was not run."""
    advice = run.evaluation.get("advice")
    if not advice:
        return []
    sizes = {"images": run.summary["images"], "patients": run.summary["patients"]}
    note = words("advice.note", candidates=run.candidates, **sizes)
    if advice["cell"] == advice["best"]:
        return [words("advice.was_best", cell=advice["cell"]), note]
    high = advice["high"]
    is_told_apart = high is not None and high < 0
    return [
        words(
            "advice.difference",
            cell=advice["cell"],
            best=advice["best"],
            difference=words.number(advice["difference"], 3),
            interval=words.between(advice["low"], advice["high"]),
        ),
        words("advice.did_not_hold" if is_told_apart else "advice.held"),
        note,
    ]


def tell_affected(finding: AuditFinding, words: Words) -> str:
    """Name the samples of a finding, or the first of them; nothing where it concerns none."""
    samples = finding["files"]
    if not samples:
        return ""
    shown = ", ".join(samples[:SHOWN_SAMPLES])
    if len(samples) <= SHOWN_SAMPLES:
        return words("notes.affected", count=len(samples), samples=shown)
    return words(
        "notes.affected_more",
        count=len(samples),
        samples=shown,
        more=len(samples) - SHOWN_SAMPLES,
    )


def tell_methods(run: RunFolder, words: Words) -> list[str]:
    """Say how the scores came about."""
    summary = run.summary
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return [
        words("methods.splits", folds=summary["folds"], repeats=summary["repeats"]),
        words("methods.out_of_fold"),
        words("methods.intervals"),
        words("methods.choice", candidates=run.candidates),
        words("methods.similarity"),
        words(
            "methods.machine",
            seed=summary["seed"],
            seconds=words.number(summary["seconds"], 0),
            versions=versions,
        ),
    ]


def tell_limits(run: RunFolder, words: Words) -> list[str]:
    """Say aloud what so few patients can and cannot show."""
    summary, headline = run.summary, run.summary["headline"]
    sentences = []
    if headline["low"] is not None and headline["high"] is not None:
        sentences.append(
            words(
                "limits.width",
                width=words.number(headline["high"] - headline["low"]),
                interval=words.between(headline["low"], headline["high"]),
                patients=summary["patients"],
            )
        )
    classes = run.evaluation["chosen"]["classes"]
    label, smallest = min(classes.items(), key=lambda item: item[1]["patients"])
    sentences.append(
        words(
            "limits.smallest",
            label=label,
            patients=smallest["patients"],
            images=smallest["images"],
            step=words.number(1 / smallest["images"]),
        )
    )
    if not summary["patients_known"]:
        sentences.append(words("limits.unknown"))
    return [*sentences, words("limits.generality"), words("limits.purpose")]


def make_pair(run: RunFolder, example: Example, words: Words) -> Pair:
    """Load the two pictures of an example and scale its probabilities to whole percent."""
    return Pair(
        example=example,
        image=as_data("image/png", run.read_picture(example["image"])),
        heatmap=as_data("image/png", run.read_picture(example["heatmap"])),
        bars=[
            (label, words.percent(share), round(100 * share))
            for label, share in example["probabilities"].items()
        ],
    )
