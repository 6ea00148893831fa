"""What is fitted, in which order: what tells most for its time comes first."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from benchmarks.domains.peers import fit_fastai, fit_features, fit_plain
from benchmarks.domains.policies import Fit, Task, fit_depth, fit_probes
from benchmarks.domains.records import Key, write_record
from benchmarks.domains.scores import SEEDLESS, SINGLES
from benchmarks.domains.sources import SOURCES, Draw, open_source
from threadpoolctl import threadpool_limits

from meninx.evaluate import derive_seed, keep_patients_apart

POLICIES: dict[str, Callable[[Task], Fit]] = {
    **{name: partial(fit_depth, name) for name in ("frozen", "stage6", "stage4", "full")},
    "stage_probes": fit_probes,
    "peer_features": fit_features,
    "peer_fastai": fit_fastai,
    "peer_plain": fit_plain,
}
CHEAP = ("frozen", "stage_probes", "stage6", "stage4")
# Size, draw, seed and policies, each for all sources.
ROUNDS: tuple[tuple[int, int, int, tuple[str, ...]], ...] = (
    *((size, 0, 0, policies) for size in (53, 20) for policies in (CHEAP, ("full",))),
    *((size, 0, 0, ("peer_features",)) for size in (53, 20)),
    (53, 1, 0, SINGLES),
    *((size, 0, 0, ("peer_plain",)) for size in (53, 20)),
    (20, 1, 0, SINGLES),
    *((size, 0, 0, ("peer_fastai",)) for size in (20, 53)),
    *((size, draw, 1, SINGLES) for draw in (0, 1) for size in (53, 20)),
    *((size, 2, seed, SINGLES) for seed in (0, 1) for size in (53, 20)),
    *((150, draw, seed, CHEAP) for seed in (0, 1) for draw in range(3)),
    (150, 0, 0, ("peer_features", "peer_fastai", "peer_plain")),
    *((150, draw, seed, ("full",)) for seed in (0, 1) for draw in range(3)),
)


def list_keys() -> Iterator[Key]:
    """List all fits in their order."""
    for size, number, seed, policies in ROUNDS:
        for source in SOURCES:
            for policy in policies:
                if seed == 0 or policy not in SEEDLESS:
                    yield Key(Draw(source, size, number), seed, policy)


def run(data: Path, work: Path, minutes: float) -> None:
    """Fit what is not there yet, until the time is over; the last fit is finished."""
    os.environ.setdefault("MENINX_CACHE", str(work / "cache"))
    torch.set_num_threads(1)
    ends = time.monotonic() + 60 * minutes
    for key in list_keys():
        if time.monotonic() >= ends:
            return
        if not key.file(work).exists():
            with threadpool_limits(1):
                _run_one(key, data, work)


def _run_one(key: Key, data: Path, work: Path) -> None:
    source = open_source(key.draw.source, data, work)
    train, test = source.draw(key.draw)
    cohort = source.cohort
    keep_patients_apart(cohort.groups, train, test)
    seed = derive_seed(key.seed, key.draw.number)
    task = Task(source, train, test, seed, work / "pooled" / f"{key.draw.source}.npy")
    started = time.monotonic()
    fit = POLICIES[key.policy](task)
    write_record(key, fit, cohort.labels[test], cohort.groups[test], work)
    right = (fit.probabilities.argmax(axis=1) == cohort.labels[test]).mean()
    print(
        f"{key.file(work).stem}: {len(train)} for {len(test)}, right {right:.3f}, "
        f"{fit.prefix_seconds:.1f} + {fit.seconds:.1f} s ({time.monotonic() - started:.0f} s)",
        flush=True,
    )
