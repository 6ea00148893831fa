"""The page docs/domains.md, from the collected fits."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from benchmarks.domains.records import read_collected
from benchmarks.domains.scores import (
    AVERAGES,
    PEERS,
    REPEATED,
    SHIPPED,
    SINGLES,
    bootstrap,
    choose_leaving_out,
    measure_regrets,
    pivot,
    score_all,
)

HEADER = (
    "policy",
    "balanced accuracy",
    "log loss",
    "Brier",
    "seconds",
    "mean regret (95 %)",
    "worst regret",
    f"log loss less that of {SHIPPED} (95 %)",
)
SHOWN_BY_SOURCE = (*SINGLES, SHIPPED, "frozen + stage6 + stage4 + full")


def write_page(page: Path) -> None:
    """Write the page."""
    template = Path(__file__).with_name("domains.md.template").read_text(encoding="utf-8")
    page.write_text(template.format(tables="\n".join(lay_out(read_collected()))), encoding="utf-8")


def lay_out(fits: pd.DataFrame) -> Iterator[str]:
    """Lay out the tables of each number of training images."""
    scores = score_all(fits)
    for size, own in scores.groupby("size"):
        policies = (*SINGLES, *AVERAGES)
        without_full = tuple(name for name in policies if "full" not in name)
        # Until most of the long fits are there, the others are compared without them.
        if len(pivot(own, policies, "brier")) < len(pivot(own, without_full, "brier")) / 2:
            policies = without_full
        yield f"## {size} training images\n"
        yield from _compare(own, policies, has_choice=True)
        yield "### Averages of seeds, on the draws that have two\n"
        wanted = (*REPEATED, "stage4", "full", SHIPPED, "stage4 + full", policies[-1])
        yield from _compare(own, tuple(dict.fromkeys(wanted)))
        for peers in (PEERS, PEERS[:2]):
            if len(pivot(own, (*peers, *policies), "brier")):
                yield "### Beside peers, on the draws that they were given\n"
                yield from _compare(own, (*peers, *policies))
                break
        yield "### Each source: balanced accuracy and log loss\n"
        yield from _list_sources(own, tuple(name for name in SHOWN_BY_SOURCE if name in policies))


def _compare(
    scores: pd.DataFrame, policies: tuple[str, ...], has_choice: bool = False
) -> Iterator[str]:
    """Compare policies on the units that have all of them, every source counting alike."""
    tables = {name: pivot(scores, policies, name) for name in HEADERS_OF}
    accuracy, losses = tables["balanced_accuracy"], tables["log_loss"]
    if accuracy.empty:
        yield "Not measured yet.\n"
        return
    by_source = {name: table.groupby("source").mean() for name, table in tables.items()}
    regrets = measure_regrets(accuracy)
    yield f"{len(by_source['brier'])} sources, {len(accuracy)} units (source, draw and seed).\n"
    yield _row(HEADER)
    yield _row(["---"] * len(HEADER))
    for policy in policies:
        means = [by_source[name][policy].mean() for name in HEADERS_OF]
        low, high = bootstrap(100 * regrets[policy].to_numpy())
        extra = (by_source["log_loss"][policy] - by_source["log_loss"][SHIPPED]).to_numpy()
        less, more = bootstrap(extra)
        yield _row(
            [
                policy,
                *(f"{mean:.3f}" for mean in means[:3]),
                f"{means[3]:.0f}",
                f"{100 * regrets[policy].mean():.1f} ({low:.1f} to {high:.1f})",
                f"{100 * regrets[policy].max():.1f}",
                f"{extra.mean():+.3f} ({less:+.3f} to {more:+.3f})",
            ]
        )
    yield ""
    if has_choice and (chosen := choose_leaving_out(losses)):
        left_out = [by_source["log_loss"].loc[source, name] for source, name in chosen.items()]
        right = [
            by_source["balanced_accuracy"].loc[source, name] for source, name in chosen.items()
        ]
        names = ", ".join(f"{name} ({list(chosen.values()).count(name)})"
                          for name in dict.fromkeys(chosen.values()))  # fmt: skip
        yield (
            "The policy with the least log loss on the other sources, scored on the one left out: "
            f"balanced accuracy {sum(right) / len(right):.3f}, log loss "
            f"{sum(left_out) / len(left_out):.3f}. Chosen (times): {names}.\n"
        )


HEADERS_OF = ("balanced_accuracy", "log_loss", "brier", "seconds")


def _list_sources(scores: pd.DataFrame, policies: tuple[str, ...]) -> Iterator[str]:
    accuracy = pivot(scores, policies, "balanced_accuracy").groupby("source")
    losses = pivot(scores, policies, "log_loss").groupby("source").mean()
    yield _row(["source", "units", *policies])
    yield _row(["---"] * (len(policies) + 2))
    for source, own in accuracy:
        cells = [f"{own[name].mean():.3f} / {losses.loc[source, name]:.2f}" for name in policies]
        yield _row([str(source), str(len(own)), *cells])
    yield ""


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
