"""How the scores came about, and what they cannot show."""

from meninx.language.words import Words
from meninx.results import RunFolder


def tell_methods(run: RunFolder, words: Words) -> list[str]:
    """Say how the scores came about."""
    summary = run.summary
    return [
        words("methods.splits", folds=summary.folds, repeats=summary.repeats),
        words("methods.out_of_fold"),
        words("methods.intervals"),
        words("methods.choice", candidates=run.candidates),
        *([words("methods.comparisons")] if run.has_probabilities else []),
        words("methods.similarity"),
        words(
            "methods.machine",
            seed=summary.seed,
            seconds=words.number(summary.seconds, 0),
            versions=name_versions(run),
        ),
    ]


def tell_limits(run: RunFolder, words: Words) -> list[str]:
    """Say aloud what so few patients can and cannot show."""
    summary, headline = run.summary, run.summary.headline
    sentences = []
    if headline.low is not None and headline.high is not None:
        sentences.append(
            words(
                "limits.width",
                width=words.number(headline.high - headline.low),
                interval=words.between(headline.low, headline.high),
                patients=summary.patients,
            )
        )
    classes = run.evaluation.chosen.classes
    label, smallest = min(classes.items(), key=lambda item: item[1].patients)
    sentences.append(
        words(
            "limits.smallest",
            label=label,
            patients=smallest.patients,
            images=smallest.images,
            step=words.number(1 / smallest.images),
        )
    )
    if not summary.patients_known:
        sentences.append(words("limits.unknown"))
    return [*sentences, words("limits.generality"), words("limits.purpose")]


def name_versions(run: RunFolder) -> str:
    """Name the software and its versions."""
    return ", ".join(f"{name} {version}" for name, version in run.summary.versions.items())
