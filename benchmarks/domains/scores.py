"""Scores of single policies and of averages, and what each loses against the best of its source.

A unit is one source, size, draw and seed.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from meninx.evaluate.predictions import SMALLEST_PROBABILITY

SINGLES = ("frozen", "stage_probes", "stage6", "stage4", "full")
# What a default study averaged before docs/decisions/0006; today it is frozen + stage4 + full.
EARLIER = "frozen + stage6 + stage4"
AVERAGES = (
    "stage6 + stage4",
    "stage4 + full",
    EARLIER,
    "stage6 + stage4 + full",
    "frozen + stage6 + stage4 + full",
    "stage_probes + stage4",
    "frozen + stage4 + full",
    "stage_probes + stage6 + stage4",
    "frozen + stage_probes + stage6 + stage4",
    "frozen + stage_probes + stage6 + stage4 + full",
)
REPEATED = ("2 × stage4", "2 × full")
PEERS = ("peer_features", "peer_fastai", "peer_plain")
# Nothing in them is random: one seed stands for all.
SEEDLESS = ("frozen", "stage_probes", "peer_features")
UNIT = ["source", "size", "draw", "seed"]
MEASURES = ("balanced_accuracy", "log_loss", "brier", "seconds")
DRAWS = 10_000


def score_all(fits: pd.DataFrame) -> pd.DataFrame:
    """Score every policy and average on every unit that has its members.

    Returns
    -------
    pd.DataFrame
        Columns of `UNIT`, ``policy``, and `MEASURES`.
    """
    rows = []
    for (source, size, draw), own in fits.groupby(UNIT[:3]):
        seeds = sorted(set(own["seed"]))
        members = {
            seed: {
                fit.policy: fit
                for fit in own[(own["seed"] == seed) | own["policy"].isin(SEEDLESS)].itertuples()
            }
            for seed in seeds
        }
        wanted = {
            (seed, policy): [members[seed].get(name) for name in policy.split(" + ")]
            for seed in seeds
            for policy in (*SINGLES, *AVERAGES, *PEERS)
        }
        if len(seeds) > 1:
            for policy in REPEATED:
                each = [members[seed].get(policy.split()[-1]) for seed in seeds]
                wanted |= {(seed, policy): each for seed in seeds}
        labels = np.asarray(own["labels"].iloc[0])
        for (seed, policy), there in wanted.items():
            if None not in there:
                key = dict(zip([*UNIT, "policy"], (source, size, draw, seed, policy), strict=True))
                rows.append({**key, **_score(there, labels)})
    return pd.DataFrame(rows)


def pivot(scores: pd.DataFrame, policies: tuple[str, ...], measure: str) -> pd.DataFrame:
    """Lay a score out as units × policies, only units that have all the policies."""
    table = scores[scores["policy"].isin(policies)].pivot(
        index=UNIT, columns="policy", values=measure
    )
    return table.reindex(columns=list(policies)).dropna()


def measure_regrets(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Measure by how much each policy is below the best one of its source, source × policy.

    The best one is chosen on one half of the draws (of seeds, where there is one draw), and the
    distance from it measured on the other half, and the other way round: the best of many looks
    better than it is. A source with a single unit can only be judged by itself.
    """
    regrets = {}
    for source, own in accuracy.groupby("source"):
        level = "draw" if own.index.get_level_values("draw").nunique() > 1 else "seed"
        is_odd = own.index.get_level_values(level) % 2 == 1
        halves = (own[is_odd], own[~is_odd]) if 0 < is_odd.sum() < len(own) else (own, own)
        one, other = (half.mean() for half in halves)
        regrets[source] = (other[one.idxmax()] - other + one[other.idxmax()] - one) / 2
    return pd.DataFrame(regrets).T


def choose_leaving_out(by_source: pd.DataFrame) -> pd.Series:
    """For each source, name the policy with the least mean loss on all others."""
    others = (by_source.sum() - by_source) / max(len(by_source) - 1, 1)
    return others.idxmin(axis=1)


def bootstrap(values: pd.Series) -> tuple[float, float]:
    """Give the 95 % interval of a mean over sources."""
    rows = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values.to_numpy()[rows].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _score(members: list, labels: np.ndarray) -> dict[str, float]:
    """Score the mean of fits' probabilities, by the definitions of :mod:`meninx.evaluate`."""
    probabilities = np.mean([one.probabilities for one in members], axis=0)
    true = probabilities[np.arange(len(labels)), labels]
    distance = (probabilities - np.eye(probabilities.shape[1])[labels]) ** 2
    return {
        "balanced_accuracy": float(balanced_accuracy_score(labels, probabilities.argmax(axis=1))),
        "log_loss": float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1)).mean()),
        "brier": float(distance.sum(axis=1).mean()),
        # The frozen layers are run once for all members.
        "seconds": sum(one.seconds for one in members) + max(one.prefix_seconds for one in members),
    }
