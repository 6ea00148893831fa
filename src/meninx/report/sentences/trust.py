"""What can be trusted: probabilities, sets, flags of foreign images, heatmaps."""

from meninx.language.words import Words
from meninx.results import RunFolder
from meninx.results.evaluation import Interval


def tell_calibration(run: RunFolder, words: Words) -> list[str]:
    """Say how far probabilities miss, and how far they would in any case with so few images."""
    calibration = run.evaluation.calibration
    if calibration is None:
        return []
    before, after = calibration.before.error, calibration.after.error
    is_unchanged = round(calibration.temperature, 2) == 1
    perfect = calibration.after.error_if_perfect
    return [
        words("calibration.meaning"),
        words(
            "calibration.errors",
            before=words.estimate(*before),
            after=words.estimate(*after),
            temperature=words.number(calibration.temperature),
        ),
        *([words("calibration.unchanged")] if is_unchanged else []),
        words("calibration.bias", perfect=words.number(perfect), images=run.summary.images),
        _judge_calibration(after, perfect, words),
    ]


def _judge_calibration(error: Interval, perfect: float, words: Words) -> str:
    if error.value is None or error.value <= perfect:
        return words("calibration.as_perfect")
    if error.low is not None and error.low > 0:
        return words("calibration.worse")
    return words("calibration.cannot_tell_from_perfect")


def tell_prediction_sets(run: RunFolder, words: Words) -> list[str]:
    """Say what the sets promise, whether they keep it, and how often they cannot tell."""
    sets = run.evaluation.prediction_sets
    if sets is None:
        return []
    coverage = sets.coverage
    is_by_class = sets.is_class_conditional
    is_below = coverage.high is not None and coverage.high < sets.level
    return [
        words("prediction_sets.meaning", level=words.percent(sets.level)),
        words(
            "prediction_sets.coverage",
            level=words.percent(sets.level),
            coverage=words.percent(coverage.value),
            low=words.percent(coverage.low),
            high=words.percent(coverage.high),
        ),
        *([words("prediction_sets.below")] if is_below else []),
        words(
            "prediction_sets.cannot_tell",
            count=sets.cannot_tell,
            share=words.percent(sets.share_cannot_tell),
            several=round(sets.several),
            empty=round(sets.empty),
        ),
        words("prediction_sets.by_class" if is_by_class else "prediction_sets.together"),
    ]


def tell_ood(run: RunFolder, words: Words) -> list[str]:
    """Say how often images that belong here are flagged as foreign."""
    ood = run.evaluation.ood
    if ood is None:
        return []
    rate = ood.false_alarm_rate
    sentences = [
        words("ood.meaning"),
        words(
            "ood.false_alarms",
            rate=words.percent(rate.value),
            low=words.percent(rate.low),
            high=words.percent(rate.high),
        ),
    ]
    if ood.alarms is not None and ood.images is not None:
        sentences.append(words("ood.counts", alarms=ood.alarms, images=ood.images))
    if ood.level is not None:
        sentences.append(words("ood.level", level=words.percent(ood.level)))
    return [*sentences, words("ood.limits")]


def tell_sanity(run: RunFolder, words: Words) -> list[str]:
    """Say whether the heatmaps depend on what the network learned."""
    if run.explanations is None:
        return []
    sanity = run.explanations.sanity
    if sanity is None:
        return [words("sanity.not_done")]
    return [
        words("sanity.meaning"),
        words(
            "sanity.passed" if sanity.passed else "sanity.failed",
            similarity=words.estimate(sanity.similarity, sanity.low, sanity.high),
            threshold=words.number(sanity.threshold),
            images=sanity.images,
        ),
    ]


def tell_localisation(run: RunFolder, words: Words) -> list[str]:
    """Say whether the heatmaps find the lesions; nothing where no lesion was drawn."""
    found = run.explanations.localisation if run.explanations else None
    if found is None:
        return []
    mass, chance, is_better = found.mass, found.chance, found.better_than_chance
    return [
        words(
            "localisation.compared",
            mass=words.percent(mass.value),
            low=words.percent(mass.low),
            high=words.percent(mass.high),
            chance=words.percent(chance.value),
            images=found.images,
        ),
        words("localisation.better" if is_better else "localisation.not_better"),
    ]
