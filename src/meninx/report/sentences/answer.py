"""The answer: how good the chosen model is, against what, and what it is."""

from meninx.report.language import Words
from meninx.report.run_folder import RunFolder


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


def tell_chance(run: RunFolder, words: Words) -> list[str]:
    """Say how often shuffled labels would do as well; nothing where that was not tried."""
    chance = run.evaluation.get("chance")
    if chance is None:
        return []
    shuffled = chance["balanced_accuracy_under_chance"]
    return [
        words(
            "answer.permutation",
            permutations=words.number(chance["permutations"], 0),
            interval=words.between(shuffled["low"], shuffled["high"]),
            p=words.p_value(chance["p_value"]),
        )
    ]


def tell_nested(run: RunFolder, words: Words) -> list[str]:
    """Say what nested cross-validation found; nothing where it was not asked for."""
    nested = run.evaluation.get("nested")
    if nested is None:
        return []
    chosen = ", ".join(f"{cell} ({count})" for cell, count in nested["chosen"].items())
    return [
        words(
            "answer.nested",
            value=words.number(nested["balanced_accuracy"]),
            interval=words.between(nested["low"], nested["high"]),
            chosen=chosen,
        )
    ]
