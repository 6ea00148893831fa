"""Was the matrix's advice right? Many draws whose truth is known, and docs/advice.md from them.

A draw takes few training images from one half of a source and is tested on the whole other half
(other patients), so that each model's true balanced accuracy is known to some two points. Every
model that the matrix could have advised is trained on every draw; what the rules advise is looked
up afterwards, so that rules can be changed without training again.

    python benchmarks/advice.py run --data ../shared/data/cemri --work /tmp/advice
    python benchmarks/advice.py table --work /tmp/advice

The first command is resumable: each outcome is one line of WORK/outcomes.jsonl.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, log_loss
from threadpoolctl import threadpool_limits

from meninx.backbones import Backbone
from meninx.cohort import Cohort
from meninx.finetune import FineTunedClassifier, Recipe
from meninx.matrix.advice import SIZE_RULES, Thresholds, advise
from meninx.matrix.similarity import measure_similarity, observe
from meninx.matrix.transferability import (
    measure_h_score,
    measure_logme,
    measure_nearest_neighbours,
    measure_probe,
)
from meninx.phantom import phantom

# Class sizes of the flagship; a draw of n images has them in proportion.
PROPORTIONS = np.array([16, 22, 15]) / 53
DRAWS = {20: 4, 53: 4, 150: 2, 600: 1}
LITE = [f"tf_efficientnet_lite{size}" for size in range(3)]
VIEWS = 4


@dataclass(frozen=True)
class Draw:
    """A training set drawn from one half of a source."""

    source: str
    size: int
    number: int


@dataclass(frozen=True)
class Candidate:
    """A model that the matrix could advise."""

    backbone: str
    strategy: str
    cut: str | None
    views: int


CANDIDATES = [
    *(Candidate(name, "frozen", None, 1) for name in LITE),
    Candidate(LITE[0], "frozen", None, VIEWS),
    *(Candidate(LITE[0], "partial", f"stage{stage}", VIEWS) for stage in (7, 6, 5, 4)),
    Candidate(LITE[0], "full", None, VIEWS),
]


def open_source(source: str, data: Path, work: Path) -> Cohort:
    """Open a source as a cohort whose folds 1 and 2 are its halves."""
    if source == "cemri":
        return Cohort.from_manifest(data / "manifest.csv")
    folder = work / "phantom"
    if not (folder / "manifest.csv").exists():
        phantom(folder, seed=1000, counts={"lm": 384, "leukemia": 528, "normal": 360})
    return Cohort.open(folder)


def halve(cohort: Cohort) -> np.ndarray:
    """Give the half, 0 or 1, of each image."""
    if cohort.folds is not None:
        return (cohort.folds == cohort.folds.max()).astype(int)
    return np.arange(len(cohort.samples)) % 2


def draw_rows(cohort: Cohort, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows to train on and those to test on; even and odd draws swap the halves."""
    halves = halve(cohort)
    random = np.random.default_rng([draw.size, draw.number])
    # The largest class of the source takes the largest part, as in the flagship.
    counts = np.bincount(cohort.labels)
    parts = np.empty(3)
    parts[np.argsort(counts)] = np.sort(PROPORTIONS)
    train = []
    for label, part in enumerate(parts):
        rows = np.flatnonzero((cohort.labels == label) & (halves == draw.number % 2))
        train.append(random.permutation(rows)[: round(draw.size * part)])
    return np.sort(np.concatenate(train)), np.flatnonzero(halves != draw.number % 2)


def run_candidate(cohort: Cohort, draw: Draw, candidate: Candidate) -> dict[str, object]:
    """Train a candidate on a draw and score it on the other half."""
    torch.set_num_threads(1)
    train, test = draw_rows(cohort, draw)
    started = time.perf_counter()
    with threadpool_limits(1):
        classifier = FineTunedClassifier(
            candidate.backbone,
            candidate.strategy,
            candidate.cut,
            recipe=Recipe(views=candidate.views),
            crop_head=cohort.is_cropped,
            random_state=draw.number,
        ).fit(cohort.images[train], cohort.labels[train])
        seconds = time.perf_counter() - started
        probabilities = classifier.predict_proba(cohort.images[test])
    return {
        **asdict(draw),
        **asdict(candidate),
        "balanced_accuracy": balanced_accuracy_score(
            cohort.labels[test], probabilities.argmax(axis=1)
        ),
        "log_loss": log_loss(cohort.labels[test], probabilities),
        "tested": len(test),
        "seconds": round(seconds, 2),
    }


def list_draws() -> Iterator[Draw]:
    """List the draws, the cheap ones first; the phantom has half as many."""
    for size, count in DRAWS.items():
        for number in range(count):
            yield Draw("cemri", size, number)
            if number < max(count // 2, 1):
                yield Draw("phantom", size, number)


def list_candidates(draw: Draw) -> list[Candidate]:
    """List a draw's candidates; with 600 images one of the long ones is left out."""
    return [c for c in CANDIDATES if draw.size < 600 or c.cut != "stage5"]


def run(data: Path, work: Path, workers: int) -> None:
    """Train and score what is not in outcomes.jsonl yet."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MENINX_CACHE", str(work / "cache"))
    file = work / "outcomes.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    keys = ("source", "size", "number", "backbone", "strategy", "cut", "views")
    done = {tuple(json.loads(line)[key] for key in keys) for line in lines}
    cohorts = {source: open_source(source, data, work) for source in ("cemri", "phantom")}
    missing = [
        (draw, candidate)
        for draw in list_draws()
        for candidate in list_candidates(draw)
        if (*asdict(draw).values(), *asdict(candidate).values()) not in done
    ]
    outcomes = Parallel(n_jobs=workers, return_as="generator")(
        delayed(run_candidate)(cohorts[draw.source], draw, candidate) for draw, candidate in missing
    )
    with file.open("a") as lines_file:
        for outcome in outcomes:
            lines_file.write(json.dumps(outcome) + "\n")
            lines_file.flush()
            print(outcome, flush=True)


@dataclass(frozen=True)
class Judged:
    """One draw with what the rules advise for it and what became of every policy.

    Attributes
    ----------
    draw
        Which.
    kl
        Distance of its training images from ImageNet, nats.
    advised
        Name of the advised policy.
    outcomes
        Policy to balanced accuracy.
    correlations
        Transferability score to its rank correlation with the backbones' outcomes.
    """

    draw: Draw
    kl: float
    advised: str
    outcomes: dict[str, float]
    correlations: dict[str, float]

    def regret(self, policy: str) -> float:
        """Give how much worse a policy did than the best one."""
        return max(self.outcomes.values()) - self.outcomes[policy]


def judge(cohort: Cohort, draw: Draw, outcomes: list[dict[str, Any]]) -> Judged:
    """Look up what the rules advise for a draw, from its training images alone."""
    train, _ = draw_rows(cohort, draw)
    images, labels = cohort.images[train], cohort.labels[train]
    patients = cohort.groups[train]
    observations = observe([Backbone.load(name) for name in LITE], images)
    seen = dict(zip(LITE, observations, strict=True))
    similarity = measure_similarity(seen[LITE[0]].moments, patients)
    parameters = dict.fromkeys([*similarity.by_stage(), "head"], 0)
    advice = advise(draw.size / 3, similarity.kl, similarity.by_stage(), parameters, Thresholds())
    by_backbone = {o["backbone"]: o["balanced_accuracy"] for o in outcomes if o["views"] == 1}
    truth = [by_backbone[name] for name in LITE]
    scores = {
        "LogME": [measure_logme(seen[name].features, labels) for name in LITE],
        "H-score": [measure_h_score(seen[name].features, labels) for name in LITE],
        "linear probe": [measure_probe(seen[name].features, labels, patients) for name in LITE],
        "nearest neighbours": [
            measure_nearest_neighbours(seen[name].features, labels, patients) for name in LITE
        ],
    }
    return Judged(
        draw,
        similarity.kl,
        advice.cut or advice.strategy,
        {
            o["cut"] or o["strategy"]: o["balanced_accuracy"]
            for o in outcomes
            if o["views"] == VIEWS
        },
        {name: float(spearmanr(values, truth).statistic) for name, values in scores.items()},
    )


def tabulate(data: Path, work: Path, out: Path) -> None:
    """Judge every draw whose candidates are all there and write the page."""
    outcomes = [json.loads(line) for line in (work / "outcomes.jsonl").read_text().splitlines()]
    judged = []
    for source in ("cemri", "phantom"):
        cohort = open_source(source, data, work)
        for draw in list_draws():
            own = [
                o
                for o in outcomes
                if (o["source"], o["size"], o["number"]) == (draw.source, draw.size, draw.number)
            ]
            if draw.source == source and len(own) >= len(list_candidates(draw)):
                judged.append(judge(cohort, draw, own))
    judged.sort(key=lambda j: (j.draw.size, j.draw.source, j.draw.number))
    out.write_text(write_page(judged), encoding="utf-8")


def write_page(judged: list[Judged]) -> str:
    """Write docs/advice.md."""
    policies = ["frozen", "stage7", "stage6", "stage4", "full"]
    if not all(policy in j.outcomes for j in judged for policy in policies):
        raise SystemExit("some draws lack an outcome; run the benchmark first")
    names = {
        "advised": "**as the matrix advises**",
        "frozen": "always frozen",
        "stage7": "always partial, last stage",
        "stage6": "always partial, last two stages",
        "stage4": "always partial, last four stages",
        "full": "always full",
    }
    regrets = {
        "advised": np.array([j.regret(j.advised) for j in judged]),
        **{policy: np.array([j.regret(policy) for j in judged]) for policy in policies},
    }
    random = np.random.default_rng(0)
    draws = random.integers(len(judged), size=(10_000, len(judged)))
    rows = []
    for policy, regret in regrets.items():
        low, high = np.quantile(regret[draws].mean(axis=1), [0.025, 0.975])
        rows.append(
            f"| {names[policy]} | {100 * regret.mean():.1f} ({100 * low:.1f} to {100 * high:.1f}) "
            f"| {100 * regret.max():.1f} | {(regret <= 0.02).sum()} of {len(judged)} |"
        )
    columns = ["frozen", "stage7", "stage6", "stage5", "stage4", "full"]
    details = [
        f"| {j.draw.source} | {j.draw.size} | {j.draw.number} | {j.kl:.3f} | {j.advised} | "
        + " | ".join(f"{100 * j.outcomes[c]:.1f}" if c in j.outcomes else "–" for c in columns)
        + f" | {100 * j.regret(j.advised):.1f} |"
        for j in judged
    ]
    correlations = [
        f"| {name} | {np.nanmean([j.correlations[name] for j in judged]):.2f} |"
        for name in judged[0].correlations
    ]
    page = Path(__file__).with_name("advice.md.template").read_text(encoding="utf-8")
    return page.format(
        draws=len(judged),
        views=VIEWS,
        border=Thresholds().similarity,
        most=SIZE_RULES[0].most_stages,
        dashes=" | ".join("---" for _ in columns),
        policies="\n".join(rows),
        details="\n".join(details),
        columns=" | ".join(columns),
        correlations="\n".join(correlations),
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cemri"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/advice"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.action == "run":
        run(arguments.data, arguments.work, arguments.workers)
    else:
        tabulate(arguments.data, arguments.work, Path(__file__).parents[1] / "docs" / "advice.md")


if __name__ == "__main__":
    main()
