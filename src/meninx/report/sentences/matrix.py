"""What the matrix advised, and whether it held."""

from meninx.language.words import Words
from meninx.results import RunFolder
from meninx.results.evaluation import AdviceHeld

# Below it the test of a difference is believed, as the 95 % of its interval are.
SIGNIFICANCE = 0.05


def tell_advice(run: RunFolder, words: Words) -> str:
    """Say what the matrix advised."""
    advice = run.matrix.advice
    values = {
        "quadrant": run.matrix.quadrant,
        "strategy": words.name("strategy", advice.strategy),
    }
    if advice.cut and advice.strategy == "partial":
        return words("matrix.advice_cut", cut=advice.cut, **values)
    return words("matrix.advice", **values)


def tell_whether_advice_held(run: RunFolder, words: Words) -> list[str]:
    """Compare what the matrix advised with the best model; nothing where it was not run."""
    advice = run.evaluation.advice
    if not advice:
        return []
    sizes = {"images": run.summary.images, "patients": run.summary.patients}
    note = words("advice.note", candidates=run.candidates, **sizes)
    if advice.model == advice.best:
        return [words("advice.was_best", model=advice.model), note]
    return [
        words(
            "advice.difference",
            model=advice.model,
            best=advice.best,
            difference=words.number(advice.difference.value, 3),
            interval=words.between(advice.difference.low, advice.difference.high),
        ),
        *_tell_probability(advice, words),
        _judge_advice(advice, words),
        note,
    ]


def _judge_advice(advice: AdviceHeld, words: Words) -> str:
    """Say what interval and test allow together.

    Where both models are good, and repeats average their answers, the interval is the more cautious
    of the two: of 200 simulated studies of such models, truly 4 points apart, the test alone found
    the difference in 39, the interval alone in 4. One alone is not enough for either verdict.
    """
    high, p_value = advice.difference.high, advice.p_value
    is_interval_below_0 = high is not None and high < 0
    if p_value is not None and is_interval_below_0 != (p_value < SIGNIFICANCE):
        return words("advice.undecided")
    return words("advice.did_not_hold" if is_interval_below_0 else "advice.held")


def _tell_probability(advice: AdviceHeld, words: Words) -> list[str]:
    if advice.p_value is None:
        return []
    return [words("advice.p_value", p=words.p_value(advice.p_value))]
