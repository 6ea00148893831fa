"""The pages: what stands where is in the templates; here everything they show is gathered."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined

from meninx.language.words import Words
from meninx.report.checklists import Status, count_status
from meninx.report.model_card import CardSection
from meninx.report.sentences import (
    tell_advice,
    tell_affected,
    tell_answer,
    tell_calibration,
    tell_chance,
    tell_growth,
    tell_limits,
    tell_localisation,
    tell_methods,
    tell_nested,
    tell_ood,
    tell_patient_level,
    tell_prediction_sets,
    tell_sanity,
    tell_whether_advice_held,
)
from meninx.report.table import Table
from meninx.results import RunFolder
from meninx.results.schema import Example


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
    card: list[CardSection],
    checklists: Mapping[str, Table],
) -> str:
    """Fill the templates of the report.

    Parameters
    ----------
    run
        What to report.
    words
        The words of a language.
    tables, figures
        By name; figures as SVG. Those that the run does without are not among them.
    card
        The model card.
    checklists
        The filled-in checklists, by name.

    Returns
    -------
    str
        HTML that loads no other file.
    """
    pairs = [make_pair(run, example, words) for example in run.examples]
    return keep_percent_signs(
        _make_environment()
        .get_template("report.html.j2")
        .render(
            words=words,
            run=run,
            summary=run.summary,
            matrix=run.matrix,
            tables=tables,
            figures={name: as_data("image/svg+xml", svg) for name, svg in figures.items()},
            figure_numbers=count(1),
            table_numbers=count(1),
            told=tell_all(run, words),
            findings=[
                (finding, tell_affected(finding, run.summary.images, words))
                for finding in run.findings
            ],
            pairs={
                "right": [pair for pair in pairs if pair.example.right],
                "wrong": [pair for pair in pairs if not pair.example.right],
            },
            card=card,
            checklists={
                name: {status.value: count_status(checklist, status) for status in Status}
                for name, checklist in checklists.items()
            },
        )
    )


def tell_all(run: RunFolder, words: Words) -> dict[str, list[str]]:
    """Tell the sentences of every section; none where the run has nothing to tell."""
    return {
        "answer": tell_answer(run, words),
        "chance": tell_chance(run, words),
        "nested": tell_nested(run, words),
        "advice": [tell_advice(run, words)],
        "advice_held": tell_whether_advice_held(run, words),
        "patient_level": tell_patient_level(run, words),
        "calibration": tell_calibration(run, words),
        "prediction_sets": tell_prediction_sets(run, words),
        "ood": tell_ood(run, words),
        "growth": tell_growth(run, words),
        "sanity": tell_sanity(run, words),
        "localisation": tell_localisation(run, words),
        "methods": tell_methods(run, words),
        "limits": tell_limits(run, words),
    }


def make_checklist_page(run: RunFolder, words: Words, checklist: Table) -> str:
    """Fill the template of a checklist that can be handed in by itself."""
    return keep_percent_signs(
        _make_environment()
        .get_template("checklist.html.j2")
        .render(
            words=words,
            summary=run.summary,
            checklist=checklist,
            table_numbers=count(1),
            counts={status.value: count_status(checklist, status) for status in Status},
        )
    )


def keep_percent_signs(page: str) -> str:
    """Keep each percent sign in the line of its number."""
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def as_data(kind: str, content: bytes) -> str:
    """Put a picture into the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def make_pair(run: RunFolder, example: Example, words: Words) -> Pair:
    """Load the two pictures of an example and scale its probabilities to whole percent."""
    return Pair(
        example=example,
        image=as_data("image/png", run.read_picture(example.image)),
        heatmap=as_data("image/png", run.read_picture(example.heatmap)),
        bars=[
            (label, words.percent(share), round(100 * share))
            for label, share in example.probabilities.items()
        ],
    )


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("meninx.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["next_number"] = next
    return environment
