"""Significance: could this be chance? Permutations that keep each patient whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.multitest import multipletests

from meninx.evaluate.bootstrap import draw_weights, stratify
from meninx.evaluate.intervals import (
    LEVEL,
    Estimate,
    count_worth,
    estimate_difference,
    estimate_share,
)
from meninx.evaluate.predictions import Predictions
from meninx.evaluate.scores import measure_balanced_accuracy

PERMUTATIONS = 1999
SIGN_FLIPS = 9999
FLIPS_AT_ONCE = 1000


@dataclass(frozen=True)
class PermutationTest:
    """What the best candidate would reach if its predictions knew nothing of the labels.

    Attributes
    ----------
    p_value
        Part of the permutations, the true labels among them, in which the best candidate does
        as well as the best one did.
    permutations
        How many were made.
    balanced_accuracy
        Of the best candidate under permuted labels: mean, and where its middle 95 % lie.
    """

    p_value: float
    permutations: int
    balanced_accuracy: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two models on the same patients.

    Attributes
    ----------
    difference
        In balanced accuracy, with the interval of the difference.
    p_value
        Two-sided, for the two models being exchangeable for every patient.
    p_adjusted
        For all comparisons made together, by Holm's method (1979): the chance of any false
        finding among them stays below 5 % when those below 0.05 are believed.
    """

    difference: Estimate
    p_value: float
    p_adjusted: float


def permutation_test(candidates: Mapping[str, Predictions], seed: int = 0) -> PermutationTest:
    """Test whether the best candidate could be a guesser.

    Parameters
    ----------
    candidates
        Model to its out-of-fold predictions, all of the same images.
    seed
        Of the permutations.

    Notes
    -----
    Labels are permuted among patients, the predictions stay as they are: the null is that the
    predictions say nothing about the labels of these patients. The models are not trained
    again with permuted labels. In each permutation the best candidate counts, so that having
    many of them to choose from is paid for (Westfall and Young 1993).

    The labels of a patient with images of several are not permuted: its images may be alike, as
    neighbouring slices are, and are then not exchangeable. What was recognised of such a patient
    beyond guessing gets a random sign, all its images together: sign flips of whole blocks, valid
    whatever the dependence within a block if that excess is as often above 0 as below (Winkler
    and others 2014, NeuroImage 92:381; 2015, NeuroImage 123:253). Guessing is to give classes as
    often as such patients' images were given them. A model that recognises much has a large excess
    to flip; the scores that are told of chance hold only how far patients' excesses differ.
    """
    any_model = next(iter(candidates.values()))
    _, member, stratum = stratify(any_model.labels, any_model.patients)
    has_several = stratum[member] > any_model.labels.max()
    one, several = np.flatnonzero(~has_several), np.flatnonzero(has_several)
    random = np.random.default_rng(seed)
    permuted = _permute_labels([each.take(one) for each in candidates.values()], random)
    signs = random.choice(
        [-1.0, 1.0], (PERMUTATIONS, int((stratum > any_model.labels.max()).sum()))
    )
    best, luck = (
        _find_best(
            permuted,
            _flip_excesses([each.take(several) for each in candidates.values()], signs, is_centred),
        )
        for is_centred in (False, True)
    )
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(luck[1:], [tail, 1 - tail])
    return PermutationTest(
        p_value=float((best >= best[0] - 1e-12).sum() / len(best)),
        permutations=PERMUTATIONS,
        balanced_accuracy=Estimate(float(luck[1:].mean()), float(low), float(high)),
    )


def compare(one: Predictions, other: Predictions, seed: int = 0) -> Comparison:
    """Compare two models on the same patients; one minus the other."""
    return compare_with_each(one, {"other": other}, seed)["other"]


def compare_with_each(
    one: Predictions, others: Mapping[str, Predictions], seed: int = 0
) -> dict[str, Comparison]:
    """Compare a model with each of some others, patient by patient.

    Parameters
    ----------
    one
        A model.
    others
        Those to compare it with, of the same images; at least one.
    seed
        Of draws and permutations.

    Returns
    -------
    dict
        Name to the comparison: balanced accuracy of ``one`` minus the other's. Its p-value is
        from 9,999 exchanges of the two models' answers, patient by patient.
    """
    draws = draw_weights(one.labels, one.patients, seed=seed)
    counts = np.vstack([np.ones(len(one.labels)), draws])
    classes = len(one.classes)
    patients = count_worth(one.labels, one.patients, classes)
    mine = measure_balanced_accuracy(one, counts)
    estimate = estimate_share(mine[0], mine[1:], patients, classes)
    differences = {}
    for name, other in others.items():
        theirs = measure_balanced_accuracy(other, counts)
        against = estimate_share(theirs[0], theirs[1:], patients, classes)
        differences[name] = estimate_difference(estimate, against, mine[1:], theirs[1:])
    p_values = _exchange(one, list(others.values()), seed)
    adjusted = multipletests(p_values, method="holm")[1]
    return {
        name: Comparison(difference, float(p_value), float(p_adjusted))
        for (name, difference), p_value, p_adjusted in zip(
            differences.items(), p_values, adjusted, strict=True
        )
    }


@dataclass(frozen=True, eq=False)
class _Recognised:
    """Images recognised in the cohort as it is (first) and in each permutation.

    Attributes
    ----------
    right
        ``(k, 1 + permutations, candidates)``: of each class, mean over repeats.
    images
        ``(k, 1 + permutations, 1)``: how many there are.
    """

    right: np.ndarray
    images: np.ndarray


def _permute_labels(models: Sequence[Predictions], random: np.random.Generator) -> _Recognised:
    """Permute labels among patients of one label each."""
    classes = range(len(models[0].classes))
    _, first, member = np.unique(models[0].patients, return_index=True, return_inverse=True)
    labels, images = models[0].labels[first], np.bincount(member).astype(float)
    given = np.stack([_count_given(model, member, len(first)) for model in models])
    permuted = random.permuted(np.tile(labels, (PERMUTATIONS, 1)), axis=1)
    everything = np.vstack([labels, permuted])
    inside = [(everything == index).astype(float) for index in classes]
    return _Recognised(
        right=np.stack([inside[index] @ given[:, :, index].T for index in classes]),
        images=np.stack([(those @ images)[:, None] for those in inside]),
    )


def _find_best(one: _Recognised, other: _Recognised) -> np.ndarray:
    """Give the best candidate's balanced accuracy on two sets of patients together."""
    recalls = (one.right + other.right) / (one.images + other.images)
    best: np.ndarray = recalls.mean(axis=0).max(axis=1)
    return best


def _flip_excesses(
    models: Sequence[Predictions], signs: np.ndarray, is_centred: bool
) -> _Recognised:
    """Give each patient's sign to what was recognised of it beyond guessing.

    Parameters
    ----------
    models
        Candidates, of the same patients.
    signs
        ``(permutations, p)``.
    is_centred
        Whether the mean excess is taken from each patient's first.
    """
    labels, classes = models[0].labels, range(len(models[0].classes))
    patients, member = np.unique(models[0].patients, return_inverse=True)
    images = np.zeros((len(patients), len(classes)))
    np.add.at(images, (member, labels), 1)
    right = np.zeros((len(classes), 1 + len(signs), len(models)))
    for place, model in enumerate(models):
        recognised = np.zeros_like(images)
        np.add.at(recognised, (member, labels), model.share_right)
        given = _count_given(model, member, len(patients)).sum(axis=0)
        guessed = images * given / max(len(labels), 1)
        excess = recognised - guessed
        if is_centred:
            excess -= images * excess.sum(axis=0) / np.maximum(images.sum(axis=0), 1)
        right[:, 0, place] = recognised.sum(axis=0)
        right[:, 1:, place] = (guessed.sum(axis=0) + signs @ excess).T
    return _Recognised(right, images.sum(axis=0)[:, None, None])


def _count_given(predictions: Predictions, member: np.ndarray, blocks: int) -> np.ndarray:
    """Count how many of each block's images were given each class, mean over repeats."""
    given = np.eye(len(predictions.classes))[predictions.predicted].mean(axis=0)
    counted = np.zeros((blocks, len(predictions.classes)))
    np.add.at(counted, member, given)
    return counted


def _exchange(one: Predictions, others: list[Predictions], seed: int) -> np.ndarray:
    """Give the p-value of each difference by exchanging the answers of patients, ``(m,)``.

    An exchange changes the sign of what a patient adds to the difference.
    """
    names, member = np.unique(one.patients, return_inverse=True)
    weights = 1 / np.bincount(one.labels, minlength=len(one.classes))[one.labels]
    parts = np.zeros((len(names), len(others)))
    for index, other in enumerate(others):
        gained = (one.share_right - other.share_right) * weights
        parts[:, index] = np.bincount(member, gained, len(names))
    observed = np.abs(parts.sum(axis=0)) - 1e-12
    as_large = np.ones(len(others))
    for signs in _draw_signs(len(names), seed):
        as_large += (np.abs(signs @ parts) >= observed).sum(axis=0)
    share: np.ndarray = as_large / (SIGN_FLIPS + 1)
    return share


def _draw_signs(patients: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for start in range(0, SIGN_FLIPS, FLIPS_AT_ONCE):
        size = min(FLIPS_AT_ONCE, SIGN_FLIPS - start)
        yield 2.0 * random.integers(0, 2, size=(size, patients), dtype=np.int8) - 1
