"""What the software knows of a study, one sentence a fact, for checklists and the model card.

A fact that the run does not hold is an empty text, so that nobody is told what was not done.
"""

from collections.abc import Callable

from meninx.language.words import Words
from meninx.report.sentences import (
    name_backbones,
    name_strategy,
    name_versions,
    tell_calibration,
    tell_chance,
    tell_cut,
    tell_growth,
    tell_limits,
    tell_localisation,
    tell_nested,
    tell_ood,
    tell_patient_level,
    tell_prediction_sets,
    tell_sanity,
)
from meninx.results import RunFolder

Fact = Callable[[RunFolder, Words], str]


def gather_facts(run: RunFolder, words: Words) -> dict[str, str]:
    """Tell every fact, by name; empty where the run does not hold it."""
    return {
        **_tell_fixed(run, words),
        **{name: tell(run, words) for name, tell in _TOLD.items()},
        **{name: " ".join(tell(run, words)) for name, tell in _TOLD_AS_IN_REPORT.items()},
    }


def _tell_fixed(run: RunFolder, words: Words) -> dict[str, str]:
    """Tell what holds for every study made with this version."""
    return {
        "preprocessing": words("fact.preprocessing"),
        "deidentification": words("fact.deidentification"),
        "missing": words("fact.missing"),
        "test_labels": words("fact.test_labels"),
        "selection": words("fact.selection", candidates=run.candidates),
        "metrics": words("fact.metrics"),
        "uncertainty": words("fact.uncertainty"),
        "robustness": words("fact.robustness"),
        "internal": words("fact.internal"),
        "external": words("fact.external"),
        "failures": words("fact.failures"),
        "intended_use": words("fact.intended_use"),
        "not_for": words("fact.not_for"),
        "protocol": words("fact.protocol"),
        "availability": words("fact.availability"),
        "imbalance": words("fact.imbalance"),
        "fairness": words("fact.fairness"),
        "output": words("fact.output"),
        "same_source": words("fact.same_source"),
        "heterogeneity": words("fact.heterogeneity"),
        "poor_input": words("fact.poor_input"),
        "users": words("fact.users"),
        "predictors": words("fact.predictors"),
        "demographics": words("fact.demographics"),
    }


def _tell_technology(run: RunFolder, words: Words) -> str:
    names, strategy = name_backbones(run), name_strategy(run, words)
    if run.members:
        count = len(run.members)
        return words("fact.technology_ensemble", count=count, backbones=names, strategy=strategy)
    return words("fact.technology", backbone=names, strategy=strategy)


def _tell_ensembling(run: RunFolder, words: Words) -> str:
    models = [model.model for model in run.members]
    if models:
        return words("fact.ensembling", count=len(models), models=", ".join(models))
    return words("fact.no_ensembling") if run.chosen.backbone else ""


def _tell_goal(run: RunFolder, words: Words) -> str:
    classes = run.summary.classes
    return words("fact.goal", count=len(classes), classes=", ".join(classes))


def _tell_counts(run: RunFolder, words: Words) -> str:
    summary = run.summary
    counts = ", ".join(f"{label} {count}" for label, count in summary.classes.items())
    told = words("fact.counts", images=summary.images, patients=summary.patients, counts=counts)
    return told if summary.patients_known else f"{told} {words('limits.unknown')}"


def _tell_audit(run: RunFolder, words: Words) -> str:
    kinds = sorted({words.name("kind", finding.kind) for finding in run.findings})
    if not kinds:
        return words("notes.audit_clean")
    return words("fact.audit", count=len(run.findings), kinds=", ".join(kinds))


def _tell_splits(run: RunFolder, words: Words) -> str:
    summary = run.summary
    return words("methods.splits", folds=summary.folds, repeats=summary.repeats)


def _tell_disjoint(run: RunFolder, words: Words) -> str:
    is_known = run.summary.patients_known
    return words("fact.disjoint_patients" if is_known else "fact.disjoint_images")


def _tell_sample_size(run: RunFolder, words: Words) -> str:
    told = words("fact.sample_size", images=run.summary.images, patients=run.summary.patients)
    return " ".join([told, *tell_growth(run, words)[1:-1]])


def _tell_model(run: RunFolder, words: Words) -> str:
    plan, bundle = run.chosen_plan, run.bundle
    told = [_tell_technology(run, words), *tell_cut(run, words)]
    if plan and plan.trained_parameters:
        parameters = words.number(plan.trained_parameters, 0)
        told.append(words("fact.parameters", parameters=parameters))
    sizes = [member.input_size for member in bundle.members] if bundle else []
    if sizes:
        squares = ", ".join(f"{size} × {size}" for size in dict.fromkeys(sizes))
        told.append(words("fact.input", sizes=squares))
    return " ".join(told)


def _tell_initialisation(run: RunFolder, words: Words) -> str:
    if run.chosen.strategy == "scratch" or not run.chosen.backbone:
        return words("fact.initialised_at_random", seed=run.summary.seed)
    members = run.bundle.members if run.bundle else []
    checksums = [member.pretrained.sha256 for member in members]
    told = [words("fact.initialised_from_imagenet", seed=run.summary.seed)]
    told += [words("fact.checksum", checksum=checksum) for checksum in checksums if checksum]
    return " ".join(told)


def _tell_training(run: RunFolder, words: Words) -> str:
    return words(
        "fact.training",
        strategy=name_strategy(run, words),
        folds=run.summary.folds,
        repeats=run.chosen_repeats,
        seed=run.summary.seed,
    )


def _tell_views(run: RunFolder, words: Words) -> str:
    if run.bundle is None:
        return ""
    views = [member.views for member in run.bundle.members]
    return " ".join(words("fact.views", views=count) for count in dict.fromkeys(views))


def _tell_software(run: RunFolder, words: Words) -> str:
    return words("fact.software", versions=name_versions(run))


def _tell_headline(run: RunFolder, words: Words) -> str:
    headline, naive = run.summary.headline, run.summary.naive
    return words(
        "fact.performance",
        value=words.estimate(*vars(headline).values()),
        naive=words.estimate(*vars(naive).values()),
    )


def _tell_performance(run: RunFolder, words: Words) -> str:
    told = [_tell_headline(run, words), *tell_nested(run, words), *tell_chance(run, words)]
    return " ".join(told)


def _tell_diagnostic(run: RunFolder, words: Words) -> str:
    return " ".join(
        words(
            "fact.class_scores",
            label=label,
            sensitivity=words.estimate(*scores.sensitivity),
            specificity=words.estimate(*scores.specificity),
            auc=words.estimate(*scores.auc),
        )
        for label, scores in run.evaluation.chosen.classes.items()
    )


def _tell_updating(run: RunFolder, words: Words) -> str:
    calibration = run.evaluation.calibration
    if calibration is None:
        return ""
    return words(
        "fact.updating",
        temperature=words.number(calibration.temperature),
        before=words.estimate(*calibration.before.log_loss),
        after=words.estimate(*calibration.after.log_loss),
    )


def _tell_explainability(run: RunFolder, words: Words) -> str:
    if not run.examples and run.explanations is None:
        return ""
    told = [words("fact.explainability"), *tell_sanity(run, words)]
    return " ".join([*told, *tell_localisation(run, words)])


def _tell_baselines(run: RunFolder, words: Words) -> str:
    baselines = [row for row in run.scores if row.role == "baseline"]
    if not baselines:
        return ""
    scores = "; ".join(f"{row.model} {words.number(row.balanced_accuracy)}" for row in baselines)
    return words("fact.baselines", scores=scores)


_TOLD: dict[str, Fact] = {
    "technology": _tell_technology,
    "ensembling": _tell_ensembling,
    "goal": _tell_goal,
    "counts": _tell_counts,
    "audit": _tell_audit,
    "splits": _tell_splits,
    "disjoint": _tell_disjoint,
    "sample_size": _tell_sample_size,
    "model": _tell_model,
    "initialisation": _tell_initialisation,
    "training": _tell_training,
    "views": _tell_views,
    "software": _tell_software,
    "headline": _tell_headline,
    "performance": _tell_performance,
    "diagnostic": _tell_diagnostic,
    "updating": _tell_updating,
    "explainability": _tell_explainability,
    "baselines": _tell_baselines,
}
_TOLD_AS_IN_REPORT: dict[str, Callable[[RunFolder, Words], list[str]]] = {
    "calibration": tell_calibration,
    "prediction_sets": tell_prediction_sets,
    "ood": tell_ood,
    "growth": tell_growth,
    "patient_level": tell_patient_level,
    "limits": tell_limits,
}
