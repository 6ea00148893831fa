"""The page docs/domains.md, from the collected fits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from benchmarks.domains.records import read_collected
from benchmarks.domains.scores import (
    AVERAGES,
    EARLIER,
    MEASURES,
    PEERS,
    REPEATED,
    SINGLES,
    bootstrap,
    choose_leaving_out,
    measure_regrets,
    pivot,
    score_all,
)

HEADER = (
    "policy", "balanced accuracy", "log loss", "Brier", "seconds", "mean regret (95 %)",
    "worst regret", f"log loss less that of {EARLIER} (95 %)",
)  # fmt: skip
CONTROLS = (*REPEATED, "stage4", "full", "stage4 + full", EARLIER, AVERAGES[4])
SHOWN_BY_SOURCE = (*SINGLES, EARLIER, AVERAGES[4])


def write_page(page: Path) -> None:
    """Write the page."""
    template = Path(__file__).with_name("domains.md.template").read_text(encoding="utf-8")
    page.write_text(template.format(tables="\n".join(lay_out(read_collected()))), encoding="utf-8")


def lay_out(fits: pd.DataFrame) -> Iterator[str]:
    """Lay out the tables of each number of training images."""
    for size, scores in score_all(fits).groupby("size"):
        policies = (*SINGLES, *AVERAGES)
        # Until most of the long fits are there, the others are compared without them.
        without_full = tuple(name for name in policies if "full" not in name)
        if _count(scores, policies) < _count(scores, without_full) / 2:
            policies = without_full
        yield f"## {size} training images\n"
        yield from _compare(scores, policies)
        yield from _choose(scores, policies)
        yield "### Averages of seeds, on the draws that have two\n"
        yield from _compare(scores, CONTROLS)
        yield "### Beside peers, on the draws that they were given\n"
        peers = PEERS if _count(scores, (*PEERS, *policies)) else PEERS[:2]
        yield from _compare(scores, (*peers, *policies))
        yield "### Each source: balanced accuracy / log loss\n"
        yield from _list_sources(scores, tuple(one for one in SHOWN_BY_SOURCE if one in policies))


def _count(scores: pd.DataFrame, policies: tuple[str, ...]) -> int:
    return len(pivot(scores, policies, "brier"))


def _average(scores: pd.DataFrame, policies: tuple[str, ...], measure: str) -> pd.DataFrame:
    return pivot(scores, policies, measure).groupby("source").mean()


def _compare(scores: pd.DataFrame, policies: tuple[str, ...]) -> Iterator[str]:
    """Compare policies on the units that have all of them, every source counting alike."""
    accuracy = pivot(scores, policies, "balanced_accuracy")
    if accuracy.empty:
        yield "Not measured yet.\n"
        return
    means = {measure: _average(scores, policies, measure) for measure in MEASURES}
    regrets, losses = 100 * measure_regrets(accuracy), means["log_loss"]
    yield f"{len(losses)} sources, {len(accuracy)} units (source, draw and seed).\n"
    yield from (_row(HEADER), _row(["---"] * len(HEADER)))
    for policy in policies:
        extra = losses[policy] - losses[EARLIER]
        yield _row(
            [
                policy,
                *(f"{means[measure][policy].mean():.3f}" for measure in MEASURES[:3]),
                f"{means['seconds'][policy].mean():.0f}",
                "{:.1f} ({:.1f} to {:.1f})".format(
                    regrets[policy].mean(), *bootstrap(regrets[policy])
                ),
                f"{regrets[policy].max():.1f}",
                "{:+.3f} ({:+.3f} to {:+.3f})".format(extra.mean(), *bootstrap(extra)),
            ]
        )
    yield ""


def _choose(scores: pd.DataFrame, policies: tuple[str, ...]) -> Iterator[str]:
    """Choose a policy on all sources but one and score it there."""
    losses = _average(scores, policies, "log_loss")
    accuracy = _average(scores, policies, "balanced_accuracy")
    if len(losses) > 1:
        chosen = choose_leaving_out(losses)
        names = ", ".join(f"{name} ({times})" for name, times in chosen.value_counts().items())
        right, lost = (
            sum(table.loc[source, name] for source, name in chosen.items()) / len(chosen)
            for table in (accuracy, losses)
        )
        yield (
            "The policy with the least log loss on the other sources, scored on the one left out: "
            f"balanced accuracy {right:.3f}, log loss {lost:.3f}. Chosen (times): {names}.\n"
        )


def _list_sources(scores: pd.DataFrame, policies: tuple[str, ...]) -> Iterator[str]:
    accuracy = _average(scores, policies, "balanced_accuracy")
    losses = _average(scores, policies, "log_loss")
    yield from (_row(["source", *policies]), _row(["---"] * (len(policies) + 1)))
    for source in accuracy.index:
        pairs = zip(accuracy.loc[source], losses.loc[source], strict=True)
        yield _row([source, *(f"{right:.3f} / {lost:.2f}" for right, lost in pairs)])
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
