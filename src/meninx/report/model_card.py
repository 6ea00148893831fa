"""The model card: what the model is, is for, can do and cannot.

After Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import re
from dataclasses import dataclass

from meninx.language.words import Words
from meninx.report.facts import gather_facts
from meninx.results import RunFolder

# Characters that Markdown reads as marks; "<" and "&" also begin HTML.
_MARKS = re.compile(r"([\\`*_{}\[\]<>&#|~$^])")


@dataclass(frozen=True)
class CardSection:
    """A heading and the sentences below it."""

    title: str
    sentences: list[str]


def make_model_card(run: RunFolder, words: Words) -> list[CardSection]:
    """Tell the model card, section by section; a section without facts is left out."""
    facts = gather_facts(run, words)
    contents = [
        (words("card.model"), ("model", "initialisation", "software")),
        (words("card.intended_use"), ("intended_use", "users", "output")),
        (words("card.not_for"), ("not_for",)),
        (words("card.data"), ("goal", "counts", "preprocessing", "audit", "demographics")),
        (words("card.training"), ("training", "views", "imbalance", "splits", "selection")),
        (
            words("card.scores"),
            ("performance", "diagnostic", "patient_level", "baselines"),
        ),
        (words("card.trust"), ("calibration", "prediction_sets", "explainability")),
        (words("card.ood"), ("ood",)),
        (words("card.limits"), ("limits", "poor_input", "fairness", "external")),
        (words("card.availability"), ("availability", "deidentification")),
    ]
    sections = [
        CardSection(title, [facts[name] for name in names if facts[name]])
        for title, names in contents
    ]
    return [section for section in sections if section.sentences]


def write_markdown(card: list[CardSection], words: Words) -> str:
    """Write the card as Markdown."""
    parts = [f"# {words('card.title')}", f"**{words('page.notice')}**"]
    for section in card:
        parts.append(f"## {escape_markdown(section.title)}")
        parts.append("\n".join(f"- {escape_markdown(text)}" for text in section.sentences))
    return "\n\n".join(parts) + "\n"


def escape_markdown(text: str) -> str:
    r"""Make text safe for Markdown, sign by sign.

    Examples
    --------
    >>> print(escape_markdown("a_b <script>"))
    a\_b \<script\>
    """
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
