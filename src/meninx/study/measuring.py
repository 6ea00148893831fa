"""Measuring: what the parts of fits take on this machine, before any is run.

A second or two must do. So of fits that are alike one is timed, on all processes at once, as they
will be run; and what is short is measured by the process that is done first.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from meninx.finetune import (
    EXACT,
    FineTunedClassifier,
    FitTimes,
    Strategy,
    count_arithmetic,
    estimate_cost_of_steps,
    time_fits,
    time_heads,
)
from meninx.study.workers import run_in_workers

# Standard deviation of the logarithm of a cell's time of a step, measured again and again on a
# machine whose processor others use, too.
NOISE = 0.2

# Larger networks keep a processor busier: the time of lite0 to lite2 grows with some such power of
# their arithmetic, on each of four processors.
GROWTH = 0.8


def measure_fits(
    classifiers: Mapping[str, FineTunedClassifier], images: np.ndarray, classes: int, workers: int
) -> dict[str, FitTimes]:
    """Measure the parts of fits, with all processes busy.

    Parameters
    ----------
    classifiers
        By the names of their cells, not fitted. Of those that are alike one is timed.
    images
        ``(n,)`` samples of the cohort; the first is what is trained on.
    classes
        How many there are.
    workers
        How many processes.

    Returns
    -------
    dict of str to FitTimes
        By the same names.
    """
    pretrained = {
        name: one for name, one in classifiers.items() if one.strategy != Strategy.SCRATCH
    }
    stand_ins = _find_stand_ins(classifiers)
    timed = {name: one for name, one in classifiers.items() if stand_ins[name] == name}
    shares = _deal_out(_group_by_prefix(timed), workers)
    kinds = {
        name: _find_kind_of_head(one)
        for name, one in pretrained.items()
        if one.is_solved or one.starts_solved
    }
    distinct = tuple(dict.fromkeys(kinds.values()))

    work: list[tuple[Any, ...]] = [
        (time_fits, _pick(classifiers, share), images[0], classes) for share in shares
    ]
    # Short, and done by the process that has timed its share first.
    work += [(time_heads, *kind, len(images), classes) for kind in distinct]
    work += [(_count_all, pretrained)]
    found: list[Any] = list(run_in_workers(operator.call, work, workers))
    *of_heads, arithmetic = found[len(shares) :]
    heads = dict(zip(distinct, of_heads, strict=True))

    times = _even_out(_average(shares, found[: len(shares)]), classifiers, arithmetic)
    foretold = {}
    for name, one in pretrained.items():
        other = stand_ins[name]
        own = _infer(times[other], arithmetic[other], arithmetic[name])
        foretold[name] = own.with_heads(one, *heads[kinds[name]]) if name in kinds else own
    return {**times, **foretold}


@dataclass(frozen=True)
class _Arithmetic:
    """How the time of a network's looks compares with another's of its family.

    Attributes
    ----------
    whole, trained
        Of the whole network, and of what is behind the cut as it is trained; 0 where that is the
        head alone.
    """

    whole: float
    trained: float


def _find_stand_ins(classifiers: Mapping[str, FineTunedClassifier]) -> dict[str, str]:
    """Find, for each classifier, the one that is timed in its place: the first like it, or itself.

    Networks of the same kinds of layers, trained from the same cut on, differ by what their
    arithmetic says, where both prefixes are exact or both fast. How long steps from another cut on
    take, on maps of another size, it does not say.
    """
    first: dict[tuple[object, ...], str] = {}
    stand_ins = {name: name for name in classifiers}
    for name, one in classifiers.items():
        if one.strategy != Strategy.SCRATCH:
            backbone, cut = one.choose_network()
            layers, features = backbone.find_kinds_of_layers(), backbone.features
            is_exact = one.precision == EXACT
            kind = (one.strategy, cut, layers, features, is_exact, one.image_size)
            stand_ins[name] = first.setdefault(kind, name)
    return stand_ins


def _group_by_prefix(classifiers: Mapping[str, FineTunedClassifier]) -> list[list[str]]:
    """Group classifiers by their frozen network, whose activations they share, largest first."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, one in classifiers.items():
        is_pretrained = one.strategy != Strategy.SCRATCH
        key = (one.backbone, is_pretrained, one.image_size, one.precision, one.augmentation)
        groups.setdefault(key, []).append(name)
    return sorted(groups.values(), key=len, reverse=True)


def _deal_out(groups: Sequence[list[str]], count: int) -> list[list[list[str]]]:
    """Deal out groups to processes, each of which gets one and all of which get as much to do.

    Each is given, the largest first, to the process that has least; where there are more
    processes, some groups to several of them.
    """
    shares: list[list[list[str]]] = [[] for _ in range(count)]
    most = max(count, len(groups))
    for turn in range(most):
        least = min(shares, key=lambda share: sum(map(len, share)))
        least.append(groups[turn * len(groups) // most])
    return shares


def _pick(
    classifiers: Mapping[str, FineTunedClassifier], share: Sequence[Sequence[str]]
) -> list[list[FineTunedClassifier]]:
    """Pick the classifiers of a share, by their names."""
    return [[classifiers[name] for name in group] for group in share]


def _find_kind_of_head(classifier: FineTunedClassifier) -> tuple[int, int]:
    """Find what the time of a pretrained network's linear heads depends on: views and features."""
    backbone, _ = classifier.choose_network()
    return classifier.views, backbone.features


def _count_all(classifiers: Mapping[str, FineTunedClassifier]) -> dict[str, _Arithmetic]:
    """Count what each of some pretrained networks has to do."""
    networks = {name: one.choose_network() for name, one in classifiers.items()}
    return {
        name: _Arithmetic(
            count_arithmetic(backbone, "stem") ** GROWTH,
            count_arithmetic(backbone, cut) ** GROWTH * estimate_cost_of_steps(backbone, cut),
        )
        for name, (backbone, cut) in networks.items()
    }


def _average(
    shares: Sequence[Sequence[Sequence[str]]], measured: Sequence[Sequence[Sequence[FitTimes]]]
) -> dict[str, FitTimes]:
    """Average what several processes measured of a cell at the same time."""
    found: dict[str, list[FitTimes]] = {}
    for share, given in zip(shares, measured, strict=True):
        for name, own in zip(chain(*share), chain(*given), strict=True):
            found.setdefault(name, []).append(own)
    return {
        name: FitTimes(*np.mean([astuple(one) for one in times], axis=0).tolist())
        for name, times in found.items()
    }


def _even_out(
    times: Mapping[str, FitTimes],
    classifiers: Mapping[str, FineTunedClassifier],
    arithmetic: Mapping[str, _Arithmetic],
) -> dict[str, FitTimes]:
    """Take from like cells' times of training what differs between them by chance.

    How cells of one strategy differ is mostly known from their arithmetic. So the logarithms of
    their paces, seconds for what the arithmetic says, are drawn to their mean as far as noise
    explains their spread: empirical Bayes, with the variance of the noise known (Efron and Morris
    1973, J. Am. Stat. Assoc. 68). Cells of which one is really slower differ by more, and keep what
    was measured.
    """
    even = dict(times)
    for strategy in (Strategy.PARTIAL, Strategy.FULL):
        alike = [name for name in times if classifiers[name].strategy == strategy]
        if len(alike) < 2:
            continue
        expected = np.array([arithmetic[name].trained for name in alike])
        paces = np.log([times[name].training for name in alike] / expected)
        spread = max(paces.var(ddof=1), NOISE**2)
        paces = paces.mean() + (1 - NOISE**2 / spread) * (paces - paces.mean())
        for name, training in zip(alike, (np.exp(paces) * expected).tolist(), strict=True):
            even[name] = replace(times[name], training=training)
    return even


def _infer(times: FitTimes, timed: _Arithmetic, alike: _Arithmetic) -> FitTimes:
    """Say what a fit takes, linear heads apart, from what one like it took.

    From lite0's those of lite1 and lite2 are foretold within a tenth, on each of four processors;
    of other families' some are a sixth too short, VGG-19's a quarter too long (docs/benchmarks.md).
    """
    # Where nothing but a head is trained there is nothing to foretell.
    factor = alike.trained / timed.trained if timed.trained else 1.0
    return FitTimes(
        activations=times.activations * (alike.whole / timed.whole),
        reading=times.reading,
        start=times.start * factor,
        training=times.training * factor,
        prediction=times.prediction * factor,
    )
