"""The answer: how good the chosen model is, against what, and what it is."""

from meninx.language.words import Words
from meninx.results import RunFolder


def tell_answer(run: RunFolder, words: Words) -> list[str]:
    """Say in sentences how well the chosen model does, against what, and what it is."""
    summary = run.summary
    headline, chance = summary.headline, 1 / len(summary.classes)
    low = headline.low
    is_above_chance = low is not None and low > chance
    sentences = [
        words(
            "answer.headline",
            value=words.number(headline.balanced_accuracy),
            interval=words.between(headline.low, headline.high),
        ),
        words(
            "answer.measure_meaning",
            classes=len(summary.classes),
            chance=words.number(chance),
        ),
        words("answer.above_chance" if is_above_chance else "answer.not_above_chance"),
    ]
    return [*sentences, _tell_model(run, words), *tell_cut(run, words)]


def _tell_model(run: RunFolder, words: Words) -> str:
    """Say which network was chosen, or which networks together."""
    chosen, strategy = run.chosen, name_strategy(run, words)
    if run.members:
        return words(
            "answer.model_ensemble",
            count=len(run.members),
            backbones=name_backbones(run),
            strategy=strategy,
        )
    if chosen.backbone:
        return words("answer.model", backbone=chosen.backbone, strategy=strategy)
    return words("answer.model_plain", model=chosen.model, strategy=strategy)


def tell_cut(run: RunFolder, words: Words) -> list[str]:
    """Say from which layers on the chosen model was trained; nothing where it has no cut."""
    cuts = dict.fromkeys(model.cut for model in run.members if model.cut)
    if cuts:
        return [words("answer.cut_ensemble", cuts=", ".join(map(str, cuts)))]
    if run.chosen.cut and run.chosen.strategy == "partial":
        return [words("answer.cut", cut=run.chosen.cut)]
    return []


def name_strategy(run: RunFolder, words: Words) -> str:
    """Name the strategy of the chosen model: of an ensemble, that of its members."""
    strategies = [model.strategy for model in run.members] or [run.chosen.strategy]
    return ", ".join(words.name("strategy", strategy) for strategy in dict.fromkeys(strategies))


def name_backbones(run: RunFolder) -> str:
    """Name the networks of the chosen model, or the model where it has none."""
    backbones = dict.fromkeys(str(model.backbone) for model in run.members)
    return ", ".join(backbones) or run.chosen.backbone or run.chosen.model


def tell_chance(run: RunFolder, words: Words) -> list[str]:
    """Say how often shuffled labels would do as well; nothing where that was not tried."""
    chance = run.evaluation.chance
    if chance is None:
        return []
    shuffled = chance.balanced_accuracy
    several = run.evaluation.patients_of_several_labels
    return [
        words(
            "answer.permutation",
            permutations=words.number(chance.permutations, 0),
            interval=words.between(shuffled.low, shuffled.high),
            p=words.p_value(chance.p_value),
        ),
        *([words("answer.permutation_several", count=several)] if several else []),
    ]


def tell_nested(run: RunFolder, words: Words) -> list[str]:
    """Say what nested cross-validation found; nothing where it was not asked for."""
    nested = run.evaluation.nested
    if nested is None:
        return []
    score = nested.balanced_accuracy
    chosen = ", ".join(f"{model} ({count})" for model, count in nested.chosen.items())
    return [
        words(
            "answer.nested",
            value=words.number(score.value),
            interval=words.between(score.low, score.high),
            chosen=chosen,
        )
    ]
