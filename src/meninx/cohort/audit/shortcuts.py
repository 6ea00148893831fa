"""Findings about shortcuts: facts that are not anatomy and yet tell the classes apart.

Each fact alone tries to predict the label: ridge regression on one indicator a class,
cross-validated with patients kept together, judged by the one-vs-rest AUC, averaged over the
classes. The same is done with labels permuted by patient; the folds do not look at labels, so
that under the null hypothesis all permutations are exchangeable. Patients of one label exchange
their labels; patients with as many images and several labels exchange all of theirs together,
which are then shuffled within each patient (multi-level block permutation, Winkler and others
2015, NeuroImage 123:253): of such a patient, images are taken for exchangeable. The smallest p
value of all facts is compared with the smallest of each permutation (Westfall & Young 1993,
min-p), so that a cohort without a shortcut is flagged in at most `ALPHA` of cases, however many
facts are tested.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from meninx.cohort.appearance import Fact
from meninx.cohort.audit.findings import Finding, Severity
from meninx.cohort.cohort import Cohort
from meninx.language import Message

ALPHA = 0.05  # family-wise error rate: a cohort, all its facts together
PERMUTATIONS = 999
FOLDS = 10
RIDGE = 1.0
MOST_CATEGORIES = 8  # indicators a fact has; rarer categories share one
SEED = 20  # of folds and permutations: the same cohort is always judged alike
CHUNK = 200_000  # values ranked together


@dataclass(frozen=True)
class Shortcut:
    """How well a fact tells the classes apart.

    Attributes
    ----------
    fact
        Its name.
    auc
        Macro one-vs-rest, cross-validated; 0.5 is chance.
    p
        Corrected for the number of facts.
    marked
        The classes it tells best, one against the rest; of two classes both.
    told
        Rows of their images that look like their class by the fact alone, in cross-validation;
        the most telling first.
    """

    fact: str
    auc: float
    p: float
    marked: tuple[int, ...]
    told: tuple[int, ...]


def find_shortcuts(cohort: Cohort) -> Iterator[Finding]:
    """Find the facts that predict the label, and say how well."""
    facts = _collect_facts(cohort)
    for shortcut in measure_shortcuts(facts, cohort.labels, cohort.groups):
        if shortcut.p <= ALPHA:
            marked = ", ".join(cohort.classes[label] for label in shortcut.marked)
            count = int(np.isin(cohort.labels, shortcut.marked).sum())
            message = Message(
                "shortcut",
                fact=shortcut.fact,
                auc=shortcut.auc,
                p=shortcut.p,
                facts=len(facts),
                marked=marked,
                told=len(shortcut.told),
                images=count,
            )
            yield Finding.about(cohort, "shortcut", Severity.WARNING, message, shortcut.told)


def measure_shortcuts(
    facts: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray
) -> list[Shortcut]:
    """Test whether facts predict the label.

    Parameters
    ----------
    facts
        Name → ``(n, d)`` numbers.
    labels
        ``(n,)`` class indices.
    groups
        ``(n,)`` what must be kept together.

    Returns
    -------
    list of Shortcut
        One a fact that varies, in the order given.
    """
    random = np.random.default_rng(SEED)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    folds = random.permutation(len(first))[group] % min(FOLDS, len(first))
    every = np.stack([labels, *_permute(labels, group, random)])
    varying = {name: fact for name, fact in facts.items() if (fact != fact[0]).any()}
    if not varying:
        return []
    tested = [_predict(_prepare(fact), every, folds) for fact in varying.values()]
    # (facts, 1 + permutations), the observed one first; rounded, so that equal rankings do not
    # differ in the last bit.
    aucs = np.round(np.stack([each for each, _ in tested]), 9)
    p = _count_at_least(aucs) / aucs.shape[1]
    smallest = np.sort(p.min(axis=0))
    corrected = np.searchsorted(smallest, p[:, 0], side="right") / len(smallest)
    return [
        Shortcut(name, float(auc), float(chance), *_find_marked(scores, labels))
        for name, auc, chance, (_, scores) in zip(
            varying, aucs[:, 0], corrected, tested, strict=True
        )
    ]


def _permute(
    labels: np.ndarray, group: np.ndarray, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Permute labels ``(n,)`` by patient, again and again."""
    rows_of = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    single = [rows for rows in rows_of if len(np.unique(labels[rows])) == 1]
    several: dict[int, list[np.ndarray]] = {}
    for rows in rows_of:
        if len(np.unique(labels[rows])) > 1:
            several.setdefault(len(rows), []).append(rows)
    of_one = np.concatenate([*single, np.empty(0, np.int64)])
    own, images = labels[[rows[0] for rows in single]], [len(rows) for rows in single]
    for _ in range(PERMUTATIONS):
        permuted = labels.copy()
        permuted[of_one] = np.repeat(random.permutation(own), images)
        for alike in several.values():
            block = np.stack(alike)
            permuted[block] = random.permuted(labels[random.permutation(block)], axis=1)
        yield permuted


def _collect_facts(cohort: Cohort) -> dict[str, np.ndarray]:
    """Give each fact as numbers ``(n, d)``; categories become indicators."""
    appearances = [sample.appearance for sample in cohort.samples]
    if not all(appearances):
        return {}
    names = dict.fromkeys(name for one in appearances if one for name in one.facts)
    return {
        name: _as_numbers([one.facts.get(name) for one in appearances if one]) for name in names
    }


def _as_numbers(values: Sequence[Fact | None]) -> np.ndarray:
    """Give one fact of all images as numbers; one that lacks it is a category of its own, or 0s."""
    numbers = [value for value in values if isinstance(value, tuple)]
    if numbers:
        nothing = (0.0,) * len(numbers[0])
        given = [value if isinstance(value, tuple) else nothing for value in values]
        return np.array(given, dtype=float)
    categories, counts = np.unique([str(value) for value in values], return_counts=True)
    common = categories[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
    return np.array([[float(str(value) == category) for category in common] for value in values])


def _prepare(fact: np.ndarray) -> np.ndarray:
    """Put numbers on their ranks, -1 to 1, and add squares: a middle value may mark a class."""
    from scipy.stats import rankdata

    ranks = rankdata(fact, axis=0) / len(fact) * 2 - (1 + 1 / len(fact))
    columns = np.concatenate([ranks, ranks**2], axis=1)
    spread = columns.std(axis=0)
    columns = columns[:, spread > 0]
    standard: np.ndarray = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return standard


def _predict(x: np.ndarray, every: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-validate one fact against each labelling ``(b, n)``.

    Returns
    -------
    aucs
        ``(b,)`` macro AUCs.
    scores
        ``(classes, n)`` of the first labelling: by how much more than usual each image looks
        like each class.
    """
    classes = np.unique(every[0])
    scores = np.zeros((len(classes), *every.shape))
    targets = (every[None] == classes[:, None, None]).astype(float)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        mean = x[train].mean(axis=0)
        inner = x[train] - mean
        inverse = np.linalg.inv(inner.T @ inner + RIDGE * np.eye(x.shape[1]))
        # Centred on all labels, not on the fold's: a fold's own mean would tell what it lacks.
        centred = targets[:, :, train] - targets.mean(axis=2, keepdims=True)
        scores[:, :, test] = centred @ (inner @ inverse @ (x[test] - mean).T)
    aucs = np.mean([measure_auc(s, t) for s, t in zip(scores, targets, strict=True)], axis=0)
    return aucs, scores[:, 0]


def _find_marked(scores: np.ndarray, labels: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the classes that scores ``(classes, n)`` tell best, and the images that show it."""
    classes, own = np.unique(labels, return_inverse=True)
    targets = (labels == classes[:, None]).astype(float)
    aucs = np.round(measure_auc(scores, targets), 9)
    best = np.flatnonzero(aucs == aucs.max())
    # Rounded, so that of equally telling images the first comes first.
    telling = np.round(scores[own, np.arange(len(labels))], 9)
    told = np.flatnonzero(np.isin(own, best) & (telling > 0))
    in_order = told[np.argsort(-telling[told], kind="stable")]
    return tuple(classes[best].tolist()), tuple(in_order.tolist())


def measure_auc(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Measure the AUC of each row of scores ``(b, n)`` for targets of 0 and 1, ``(b,)``.

    Where there is only one kind of target, nothing can be told apart: 0.5.
    """
    from scipy.stats import rankdata

    rows = max(1, CHUNK // scores.shape[1])
    sums = np.concatenate(
        [
            (rankdata(np.round(scores[at : at + rows], 9), axis=1) * targets[at : at + rows]).sum(1)
            for at in range(0, len(scores), rows)
        ]
    )
    positive = targets.sum(axis=1)
    negative = targets.shape[1] - positive
    pairs = positive * negative
    right = sums - positive * (positive + 1) / 2
    return np.divide(right, pairs, out=np.full(len(sums), 0.5), where=pairs > 0)


def _count_at_least(aucs: np.ndarray) -> np.ndarray:
    """Count for each value of each row ``(f, b)`` how many of its row are as large."""
    ordered = np.sort(aucs, axis=1)
    return np.stack(
        [
            len(row) - np.searchsorted(row, own, side="left")
            for row, own in zip(ordered, aucs, strict=True)
        ]
    )
