"""Scores of single policies and of averages, and what each loses against the best of its source.

A unit is one source, size, draw and seed.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from meninx.evaluate.predictions import SMALLEST_PROBABILITY

SINGLES = ("frozen", "stage_probes", "stage6", "stage4", "full")
SHIPPED = "frozen + stage6 + stage4"
AVERAGES = (
    "stage6 + stage4",
    "stage4 + full",
    SHIPPED,
    "stage6 + stage4 + full",
    "frozen + stage6 + stage4 + full",
    "stage_probes + stage4",
    "stage_probes + stage6 + stage4",
    "frozen + stage_probes + stage6 + stage4",
    "frozen + stage_probes + stage6 + stage4 + full",
)
REPEATED = ("2 × stage4", "2 × full")
PEERS = ("peer_features", "peer_fastai", "peer_plain")
UNIT = ["source", "size", "draw", "seed"]
DRAWS = 10_000

Members = dict[str, tuple[np.ndarray, float, float]]


def score_all(fits: pd.DataFrame) -> pd.DataFrame:
    """Score every policy and average on every unit that has its members.

    Returns
    -------
    pd.DataFrame
        Columns of `UNIT`, ``policy``, ``balanced_accuracy``, ``log_loss``, ``brier``, ``seconds``.
    """
    rows = []
    for (source, size, draw), own in fits.groupby(UNIT[:3]):
        labels = np.asarray(own["labels"].iloc[0])
        by_seed = {seed: _list_members(own, seed) for seed in sorted(own["seed"].unique())}
        found = [
            (seed, policy, *average)
            for seed, members in by_seed.items()
            for policy in (*SINGLES, *AVERAGES, *PEERS)
            if (average := _average([members.get(name) for name in policy.split(" + ")]))
        ]
        for policy in REPEATED if len(by_seed) > 1 else ():
            each = [members.get(policy.split()[-1]) for members in by_seed.values()]
            if average := _average(each):
                found += [(seed, policy, *average) for seed in by_seed]
        for seed, policy, probabilities, seconds in found:
            scores = measure(probabilities, labels)
            key = {"source": source, "size": size, "draw": draw, "seed": seed, "policy": policy}
            rows.append({**key, **scores, "seconds": seconds})
    return pd.DataFrame(rows)


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measure probabilities ``(m, k)`` by the definitions of :mod:`meninx.evaluate`."""
    true = probabilities[np.arange(len(labels)), labels]
    distance = (probabilities - np.eye(probabilities.shape[1])[labels]) ** 2
    return {
        "balanced_accuracy": float(balanced_accuracy_score(labels, probabilities.argmax(axis=1))),
        "log_loss": float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1)).mean()),
        "brier": float(distance.sum(axis=1).mean()),
    }


def pivot(scores: pd.DataFrame, policies: tuple[str, ...], name: str) -> pd.DataFrame:
    """Lay a score out as units × policies, only units that have all the policies."""
    chosen = scores[scores["policy"].isin(policies)]
    return (
        chosen.pivot(index=UNIT, columns="policy", values=name).reindex(columns=policies).dropna()
    )


def measure_regrets(table: pd.DataFrame) -> pd.DataFrame:
    """Measure by how much each policy is below the best one of its source, source × policy.

    The best one is chosen on one half of the draws (of seeds, where there is one draw), and the
    distance from it measured on the other half, and the other way round: the best of many looks
    better than it is. A source with a single unit can only be judged by itself.
    """
    regrets = {}
    for source, own in table.groupby("source"):
        level = "draw" if own.index.get_level_values("draw").nunique() > 1 else "seed"
        is_odd = own.index.get_level_values(level) % 2 == 1
        halves = [own[is_odd], own[~is_odd]] if 0 < is_odd.sum() < len(own) else [own, own]
        each = [
            measured.mean()[choosing.mean().idxmax()] - measured.mean()
            for choosing, measured in pairwise([*halves, halves[0]])
        ]
        regrets[source] = sum(each) / len(each)
    return pd.DataFrame(regrets).T


def choose_leaving_out(losses: pd.DataFrame) -> dict[str, str]:
    """For each source, name the policy with the least mean loss on all others."""
    means = losses.groupby("source").mean()
    if len(means) < 2:
        return {}
    return {source: str(means.drop(source).mean().idxmin()) for source in means.index}


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Give the 95 % interval of a mean over sources."""
    random = np.random.default_rng(0)
    means = values[random.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _list_members(own: pd.DataFrame, seed: int) -> Members:
    """Give a draw's fits of one seed; those without a seed count for each."""
    fits = own[(own["seed"] == seed) | own["policy"].isin(["frozen", "stage_probes"])]
    return {
        fit.policy: (fit.probabilities, fit.seconds, fit.prefix_seconds)
        for fit in fits.itertuples(index=False)
    }


def _average(
    members: list[tuple[np.ndarray, float, float] | None],
) -> tuple[np.ndarray, float] | None:
    """Average probabilities and add up seconds; the prefix is run once. None if one is missing."""
    there = [one for one in members if one is not None]
    if not there or len(there) < len(members):
        return None
    seconds = sum(one[1] for one in there) + max(one[2] for one in there)
    return np.mean([one[0] for one in there], axis=0), seconds
