"""What the matrix advised, and whether it held."""

from meninx.report.evaluation_file import AdviceHeld
from meninx.report.language import Words
from meninx.report.run_folder import RunFolder


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
        *_tell_probability(advice, words),
        words("advice.did_not_hold" if is_told_apart else "advice.held"),
        note,
    ]


def _tell_probability(advice: AdviceHeld, words: Words) -> list[str]:
    p_value = advice.get("p_value")
    return [] if p_value is None else [words("advice.p_value", p=words.p_value(p_value))]
