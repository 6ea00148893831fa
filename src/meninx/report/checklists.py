"""The reporting checklists of the field, filled in as far as the software knows.

CLAIM 2024: Tejani et al. 2024, "Checklist for Artificial Intelligence in Medical Imaging
(CLAIM): 2024 Update", Radiology: Artificial Intelligence 6(4):e240300; 44 items.
TRIPOD+AI: Collins et al. 2024, "TRIPOD+AI statement", BMJ 385:e078378; 27 items in 52 parts.
Numbers are as published; requirements are told in our own short words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meninx.language.words import Words
from meninx.report.facts import gather_facts
from meninx.report.table import Column, Table, Term, Value
from meninx.results import RunFolder


class Status(StrEnum):
    """How far the software could fill an item in."""

    FILLED = "filled"
    PARTLY = "partly"
    AUTHOR = "author"


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes
    ----------
    number
        As published.
    topic
        Key of its topic in the catalogue.
    facts
        Names of the facts that answer it; none where only the author can.
    is_whole
        Whether these facts answer all of it.
    applies
        TRIPOD+AI only: to development (D), evaluation (E) or both.
    """

    number: str
    topic: str
    facts: tuple[str, ...] = ()
    is_whole: bool = False
    applies: str = ""


CLAIM: Sequence[Item] = (
    Item("1", "title", ("technology",)),
    Item("2", "abstract", ("goal", "headline")),
    Item("3", "introduction", ("intended_use",)),
    Item("4", "introduction", ("goal",)),
    Item("5", "design"),
    Item("6", "design", ("goal",), is_whole=True),
    Item("7", "data", ("counts",)),
    Item("8", "data", ("audit",)),
    Item("9", "data", ("preprocessing",)),
    Item("10", "data", ("audit",)),
    Item("11", "data", ("deidentification",)),
    Item("12", "data", ("missing",)),
    Item("13", "data"),
    Item("14", "reference_standard"),
    Item("15", "reference_standard"),
    Item("16", "reference_standard"),
    Item("17", "reference_standard", ("test_labels",)),
    Item("18", "reference_standard"),
    Item("19", "partitions", ("splits",), is_whole=True),
    Item("20", "partitions", ("disjoint",), is_whole=True),
    Item("21", "testing_data", ("sample_size",)),
    Item("22", "model", ("model", "output"), is_whole=True),
    Item("23", "model", ("software",), is_whole=True),
    Item("24", "model", ("initialisation",), is_whole=True),
    Item("25", "training", ("training", "views", "imbalance"), is_whole=True),
    Item("26", "training", ("selection",), is_whole=True),
    Item("27", "training", ("ensembling",), is_whole=True),
    Item("28", "evaluation", ("metrics",), is_whole=True),
    Item("29", "evaluation", ("uncertainty",), is_whole=True),
    Item("30", "evaluation", ("robustness", "ood")),
    Item("31", "evaluation", ("explainability",), is_whole=True),
    Item("32", "evaluation", ("internal",), is_whole=True),
    Item("33", "evaluation", ("external",)),
    Item("34", "evaluation"),
    Item("35", "results_data", ("counts", "audit")),
    Item("36", "results_data", ("demographics",)),
    Item("37", "performance", ("performance", "baselines"), is_whole=True),
    Item("38", "performance", ("diagnostic", "calibration", "prediction_sets"), is_whole=True),
    Item("39", "performance", ("failures",)),
    Item("40", "discussion", ("limits",)),
    Item("41", "discussion", ("intended_use", "not_for")),
    Item("42", "other", ("protocol",)),
    Item("43", "other", ("availability",)),
    Item("44", "other"),
)

TRIPOD: Sequence[Item] = (
    Item("1", "title", ("goal",), applies="D;E"),
    Item("2", "abstract", ("goal", "headline"), applies="D;E"),
    Item("3a", "background", applies="D;E"),
    Item("3b", "background", ("intended_use",), applies="D;E"),
    Item("3c", "background", applies="D;E"),
    Item("4", "objectives", ("goal",), applies="D;E"),
    Item("5a", "data", ("counts",), applies="D;E"),
    Item("5b", "data", applies="D;E"),
    Item("6a", "participants", applies="D;E"),
    Item("6b", "participants", applies="D;E"),
    Item("6c", "participants", applies="D;E"),
    Item("7", "preparation", ("preprocessing", "audit"), applies="D;E"),
    Item("8a", "outcome", ("goal",), applies="D;E"),
    Item("8b", "outcome", applies="D;E"),
    Item("8c", "outcome", applies="D;E"),
    Item("9a", "predictors", ("predictors",), is_whole=True, applies="D"),
    Item("9b", "predictors", ("predictors",), applies="D;E"),
    Item("9c", "predictors", applies="D;E"),
    Item("10", "sample_size", ("sample_size",), applies="D;E"),
    Item("11", "missing_data", ("missing",), applies="D;E"),
    Item("12a", "methods", ("splits", "disjoint"), is_whole=True, applies="D"),
    Item("12b", "methods", ("preprocessing",), is_whole=True, applies="D"),
    Item("12c", "methods", ("model", "training", "selection"), is_whole=True, applies="D"),
    Item("12d", "methods", ("heterogeneity",), applies="D;E"),
    Item("12e", "methods", ("metrics", "uncertainty"), is_whole=True, applies="D;E"),
    Item("12f", "methods", ("updating",), is_whole=True, applies="E"),
    Item("12g", "methods", ("internal",), is_whole=True, applies="E"),
    Item("13", "imbalance", ("imbalance",), is_whole=True, applies="D;E"),
    Item("14", "fairness", ("fairness",), applies="D;E"),
    Item("15", "output", ("output", "prediction_sets"), is_whole=True, applies="D"),
    Item("16", "training_evaluation", ("same_source",), is_whole=True, applies="D;E"),
    Item("17", "ethics", applies="D;E"),
    Item("18a", "open_science", applies="D;E"),
    Item("18b", "open_science", applies="D;E"),
    Item("18c", "open_science", ("protocol",), applies="D;E"),
    Item("18d", "open_science", applies="D;E"),
    Item("18e", "open_science", applies="D;E"),
    Item("18f", "open_science", ("availability",), applies="D;E"),
    Item("19", "public_involvement", applies="D;E"),
    Item("20a", "results_participants", ("counts", "audit"), applies="D;E"),
    Item("20b", "results_participants", ("counts", "demographics"), applies="D;E"),
    Item("20c", "results_participants", ("same_source",), applies="E"),
    Item("21", "results_development", ("counts", "splits"), is_whole=True, applies="D;E"),
    Item("22", "results_specification", ("availability",), applies="D"),
    Item(
        "23a",
        "results_performance",
        ("performance", "diagnostic", "patient_level", "calibration"),
        applies="D;E",
    ),
    Item("23b", "results_performance", ("heterogeneity",), applies="D;E"),
    Item("24", "results_updating", ("updating",), is_whole=True, applies="E"),
    Item("25", "interpretation", applies="D;E"),
    Item("26", "limitations", ("limits",), applies="D;E"),
    Item("27a", "usability", ("poor_input", "ood"), applies="D"),
    Item("27b", "usability", ("users",), applies="D"),
    Item("27c", "usability", ("growth",), applies="D;E"),
)


def make_checklists(run: RunFolder, words: Words) -> dict[str, Table]:
    """Fill both checklists in, by name."""
    facts = gather_facts(run, words)
    return {
        "claim": Table(
            name="checklist-claim",
            caption=words("checklist.claim_title"),
            note=words("checklist.claim_source"),
            columns=_make_columns(words),
            rows=[_fill(item, words.name("claim", item.number), facts, words) for item in CLAIM],
            breaks=_find_topics(CLAIM),
        ),
        "tripod": Table(
            name="checklist-tripod",
            caption=words("checklist.tripod_title"),
            note=words("checklist.tripod_source"),
            columns=_make_columns(words),
            rows=[_fill(item, words.name("tripod", item.number), facts, words) for item in TRIPOD],
            breaks=_find_topics(TRIPOD),
        ),
    }


def count_status(checklist: Table, status: Status) -> int:
    """Count the items that are filled in so far."""
    position = [column.key for column in checklist.columns].index("status")
    return sum(
        isinstance(value, Term) and value.key == status
        for value in (row[position] for row in checklist.rows)
    )


def _make_columns(words: Words) -> list[Column]:
    return [
        Column("item", words("column.item"), align="left"),
        Column("topic", words("column.topic"), align="left"),
        Column("requirement", words("column.requirement"), align="sentence"),
        Column("applies", "", is_only_data=True),
        Column("status", words("column.status"), align="left"),
        Column("filled_in", words("column.filled_in"), align="sentence"),
        Column("where", words("column.where"), align="left"),
    ]


def _fill(item: Item, requirement: str, facts: Mapping[str, str], words: Words) -> list[Value]:
    known = [facts[name] for name in item.facts if facts[name]]
    if not known:
        status = Status.AUTHOR
    elif item.is_whole and len(known) == len(item.facts):
        status = Status.FILLED
    else:
        status = Status.PARTLY
    return [
        item.number,
        Term(item.topic, words.name("topic", item.topic)),
        requirement,
        item.applies,
        Term(status, words.name("status", status)),
        " ".join(known),
        Term("", ""),
    ]


def _find_topics(items: Sequence[Item]) -> frozenset[int]:
    """Find the rows where a topic begins, but for the first."""
    return frozenset(
        number for number in range(1, len(items)) if items[number].topic != items[number - 1].topic
    )
