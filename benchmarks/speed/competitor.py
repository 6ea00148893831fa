"""A competitor: something that learns from a draw and is timed while it does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.speed.draws import COUNTS, Draw, LabelledFiles


class Stopwatch:
    """Sums the seconds of the phases of some work.

    Attributes
    ----------
    seconds
        Of each phase so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Add what happens inside to a phase."""
        started = time.perf_counter()
        yield
        elapsed = time.perf_counter() - started
        self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What a timed cross-validation gave.

    Attributes
    ----------
    probabilities
        ``(n, k)`` out of fold; NaN where a fold was not gone through.
    phases
        Name of a part of the work to the seconds it took over all folds.
    facts
        What else is worth recording.
    """

    probabilities: np.ndarray
    phases: dict[str, float]
    facts: dict[str, object]


@dataclass(frozen=True)
class Competitor:
    """Two things that every competitor can do.

    Attributes
    ----------
    cross_validate
        The timed part: fit on each fold's training side, predict its other side. It may leave
        files in the folder that it is given, for the other part.
    predict_test
        Not timed: fit on the whole draw by the same recipe and give the probabilities
        ``(m, k)`` of the test images.
    """

    cross_validate: Callable[[Draw, Path], CrossValidation]
    predict_test: Callable[[Draw, Path], np.ndarray]


# Fits on files, predicts others, and times its phases.
FitAndPredict = Callable[[LabelledFiles, tuple[Path, ...], Draw, Stopwatch], np.ndarray]


def fold_by_fold(fit_and_predict: FitAndPredict) -> Competitor:
    """Make a competitor of a recipe that starts anew in every fold."""

    def cross_validate(draw: Draw, _: Path) -> CrossValidation:
        probabilities = np.full((len(draw.train), len(COUNTS)), np.nan)
        watch = Stopwatch()
        for train, test in draw.splits():
            tested = draw.train.take(test).paths
            probabilities[test] = fit_and_predict(draw.train.take(train), tested, draw, watch)
        return CrossValidation(probabilities, watch.seconds, {})

    def predict_test(draw: Draw, _: Path) -> np.ndarray:
        return fit_and_predict(draw.train, draw.test.paths, draw, Stopwatch())

    return Competitor(cross_validate, predict_test)
