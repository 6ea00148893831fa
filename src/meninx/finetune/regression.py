"""Logistic regression on many training sides at a time.

The folds of a cross-validation share nearly all their images, so their regressions share their
products with the features: each step of all of them together is two products of large matrices,
which a processor does many times faster than as many small ones. The standardisation of each side
is part of its weights, so that no side needs a copy of the features.

The method is L-BFGS (Nocedal and Wright 2006, algorithm 7.4), as in scikit-learn, with a nearly
exact line search: along a line the logits change evenly, so that trying a step costs no product.
The steps of a problem do not depend on the others beside it, rounding apart.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch.nn import functional

from meninx.errors import CohortError

logger = logging.getLogger(__name__)

# Standardised features are scaled so that their squared length is this much on average: then
# one regularisation strength means the same for 512 features and for 2048.
SQUARED_LENGTH = 100.0

# The largest part of a gradient, of a mean loss, that counts as none: probabilities are then
# within 0.001 of those at the minimum (tests/test_finetune.py).
TOLERANCE = 1e-6
MOST_STEPS = 500
# Earlier steps that tell a problem's curvature.
HISTORY = 10
# Newton steps of a line search.
TRIALS = 3

# Problems solved together: enough for the products to be fast, and their memory is bounded.
TOGETHER = 32
# Rows whose sums are formed at a time, in double precision.
ROWS = 512
# Less variance than this part of the mean square is rounding.
LEAST_VARIANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Regressions:
    """Weighted multinomial logistic regressions on the same rows, p problems of k classes.

    A problem's unknowns are ``(k, d + 1)``: the weights of its standardised features, and biases.

    Attributes
    ----------
    inputs
        ``(n, d)`` features.
    targets
        ``(k, n)`` 1 for each row's class, else 0.
    shares
        ``(p, 1, n)`` what each row counts for in a problem; they sum to one.
    means, factors
        ``(p, 1, d)``: a problem sees ``(inputs - means) * factors``.
    penalties
        ``(p, 1, 1)`` half of it times the squared weights is added to the loss.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    shares: torch.Tensor
    means: torch.Tensor
    factors: torch.Tensor
    penalties: torch.Tensor

    @classmethod
    def state(
        cls,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor,
        members: torch.Tensor,
        strengths: torch.Tensor,
    ) -> Self:
        """State problems whose features are standardised over their own rows.

        Parameters
        ----------
        inputs, targets, shares
            As in the attributes, ``shares`` ``(p, n)``.
        members
            ``(p, n)`` which rows a problem is of: equal numbers that sum to one, else 0.
        strengths
            ``(p,)`` of the penalty.
        """
        means = torch.zeros(len(members), inputs.shape[1], dtype=torch.float64)
        squares = torch.zeros_like(means)
        for rows, weights in zip(inputs.split(ROWS), members.split(ROWS, dim=1), strict=True):
            exact = rows.double()
            means += weights @ exact
            squares += weights @ exact.square()
        variances = squares - means.square()
        is_constant = variances <= LEAST_VARIANCE * squares
        length = np.sqrt(SQUARED_LENGTH / inputs.shape[1])
        factors = torch.where(is_constant, 0.0, length * variances.clamp_min(0).rsqrt())
        parts = (shares[:, None], means[:, None], factors[:, None], strengths[:, None, None])
        return cls(inputs, targets, *(part.float() for part in parts))

    @property
    def start(self) -> torch.Tensor:
        """All unknowns zero, ``(p, k, d + 1)``."""
        return torch.zeros(len(self.shares), len(self.targets), self.inputs.shape[1] + 1)

    def write_out(self, points: torch.Tensor) -> torch.Tensor:
        """Write unknowns ``(p, k, d + 1)`` as weights and biases of the inputs as they are."""
        weights = points[..., :-1] * self.factors
        biases = points[..., -1:] - (weights * self.means).sum(dim=2, keepdim=True)
        return torch.cat([weights, biases], dim=2)

    def compute_logits(self, points: torch.Tensor) -> torch.Tensor:
        """Compute logits ``(p, k, n)``, which are linear in the points."""
        written = self.write_out(points)
        products = written[..., :-1].flatten(0, 1) @ self.inputs.T
        return products.unflatten(0, points.shape[:2]) + written[..., -1:]

    def compute_gradients(self, points: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Compute the gradients ``(p, k, d + 1)`` of the problems' losses."""
        errors = (logits.softmax(dim=1) - self.targets) * self.shares
        sums = errors.sum(dim=2, keepdim=True)
        products = (errors.flatten(0, 1) @ self.inputs).unflatten(0, points.shape[:2])
        weights = (products - sums * self.means) * self.factors
        return torch.cat([weights + self.penalties * points[..., :-1], sums], dim=2)

    def search(
        self,
        points: torch.Tensor,
        logits: torch.Tensor,
        directions: torch.Tensor,
        changes: torch.Tensor,
    ) -> torch.Tensor:
        """Find how far to go, ``(p, 1, 1)`` of the directions, by Newton steps in a bracket.

        Parameters
        ----------
        points, logits
            Where the problems are.
        directions, changes
            Where they go to, and what it does to the logits.
        """
        pulls = self.penalties * directions[..., :-1]
        bends = _multiply(pulls, directions[..., :-1])
        slopes = _multiply(pulls, points[..., :-1])
        slopes -= _multiply(self.targets * changes, self.shares)
        steps, low = torch.ones_like(slopes), torch.zeros_like(slopes)
        high = torch.full_like(slopes, torch.inf)
        for _ in range(TRIALS):
            likely = (logits + steps * changes).softmax(dim=1)
            expected = (likely * changes).sum(dim=1, keepdim=True)
            spread = (likely * changes.square()).sum(dim=1, keepdim=True) - expected.square()
            first = slopes + steps * bends + _multiply(expected, self.shares)
            second = bends + _multiply(spread, self.shares)
            low, high = torch.where(first < 0, steps, low), torch.where(first < 0, high, steps)
            wanted = steps - first / second
            middle = torch.where(high.isinf(), 2 * steps, (low + high) / 2)
            is_inside = (wanted > low) & (wanted < torch.minimum(high, 4 * steps))
            steps = torch.where(is_inside, wanted, middle)
        return steps

    def solve(self) -> torch.Tensor:
        """Find the minima: weights and biases ``(p, k, d + 1)`` of the inputs as they are."""
        points, history = self.start, _History()
        logits = self.compute_logits(points)
        gradients = self.compute_gradients(points, logits)
        for _ in range(MOST_STEPS):
            is_open = gradients.abs().amax(dim=(1, 2), keepdim=True) > TOLERANCE
            if not is_open.any():
                break
            directions = history.direct(gradients)
            changes = self.compute_logits(directions)
            steps = self.search(points, logits, directions, changes)
            # What is solved stays as it is, whatever the others still need.
            steps = torch.where(is_open, steps, 0.0)
            points, logits = points + steps * directions, logits + steps * changes
            earlier, gradients = gradients, self.compute_gradients(points, logits)
            history.add(steps * directions, gradients - earlier)
        else:
            logger.warning("a linear head was not solved in %d steps", MOST_STEPS)
        return self.write_out(points)


class _History:
    """The last steps of L-BFGS, and how they changed the gradients."""

    def __init__(self) -> None:
        self._pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._scale: torch.Tensor | None = None

    def add(self, step: torch.Tensor, change: torch.Tensor) -> None:
        curvature = _multiply(step, change)
        is_known = curvature > 0
        weight = torch.where(is_known, 1 / curvature, 0.0)
        self._pairs = [*self._pairs, (step, change, weight)][-HISTORY:]
        self._scale = torch.where(is_known, curvature / _multiply(change, change), 1.0)

    def direct(self, gradients: torch.Tensor) -> torch.Tensor:
        """Give the directions to go in, downhill."""
        if self._scale is None:
            return -gradients / _multiply(gradients, gradients).sqrt().clamp_min(TOLERANCE)
        result, taken = gradients.clone(), []
        for step, change, weight in reversed(self._pairs):
            taken.append(weight * _multiply(step, result))
            result -= taken[-1] * change
        result *= self._scale
        for (step, change, weight), part in zip(self._pairs, reversed(taken), strict=True):
            result += step * (part - weight * _multiply(change, result))
        return -result


def _multiply(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Form the scalar product of each problem's parts, ``(p, 1, 1)``."""
    return (one * other).sum(dim=(1, 2), keepdim=True)


def solve_regressions(
    features: np.ndarray,
    labels: np.ndarray,
    sides: Sequence[np.ndarray],
    strengths: Sequence[float],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit a multinomial logistic regression on each of several training sides.

    Parameters
    ----------
    features
        ``(n, v, d)``: n images in v views of d features each.
    labels
        ``(n,)`` class indices of k classes; a side weights them by the inverse of their frequency.
    sides
        The rows of the images that each problem is of.
    strengths
        Of each problem: inverse strength of the L2 penalty per image (scikit-learn's C); larger
        fits closer. The views of an image are not independent: together they count as one.

    Returns
    -------
    list of (np.ndarray, np.ndarray)
        Weights ``(k, d)`` and biases ``(k,)``, float64, of the raw features; the standardisation
        learned from each side is part of them.

    Raises
    ------
    CohortError
        A side has no image of one of the classes.
    """
    views = features.shape[1]
    rows = torch.as_tensor(features, dtype=torch.float32).flatten(0, 1)
    # All sides lie close to the mean of all: sums of what is left lose no digits.
    centre = rows.mean(dim=0)
    rows = rows - centre
    classes = int(labels.max()) + 1
    targets = functional.one_hot(torch.from_numpy(np.repeat(labels, views)), classes).T.float()
    # Two classes have one logit in scikit-learn, the difference of ours, each half as long.
    penalties = [
        (2 if classes == 2 else 1) / (strength * len(side))
        for side, strength in zip(sides, strengths, strict=True)
    ]
    solved = []
    for start in range(0, len(sides), TOGETHER):
        some = slice(start, start + TOGETHER)
        shares, members = _weigh(sides[some], labels, classes, views)
        wanted = torch.tensor(penalties[some])
        found = Regressions.state(rows, targets, shares, members, wanted).solve().double()
        weights = found[..., :-1]
        biases = found[..., -1] - weights @ centre.double()
        solved += list(zip(weights.numpy(), biases.numpy(), strict=True))
    return solved


def _weigh(
    sides: Sequence[np.ndarray], labels: np.ndarray, classes: int, views: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say what each row counts for in the loss, and in the means: ``(p, n * v)`` each."""
    shares, members = np.zeros((2, len(sides), len(labels)))
    for problem, side in enumerate(sides):
        counts = np.bincount(labels[side], minlength=classes)
        if not counts.all():
            raise CohortError("a training side has no image of one of the classes")
        shares[problem, side] = 1 / (classes * counts[labels[side]])
        members[problem, side] = 1 / len(side)
    repeated = (np.repeat(part / views, views, axis=1) for part in (shares, members))
    first, second = (torch.from_numpy(part) for part in repeated)
    return first, second
