"""The process that a competitor runs in: ``python -m benchmarks.speed.compete TASK``.

The task is JSON: which competitor and draw, and whether it is the timed part or the test. The
answer is written beside it. Imports are done before the clock starts.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.draws import Draw, LabelledFiles, make_draw

# Fits on files and gives the probabilities of others.
FitAndPredict = Callable[[LabelledFiles, tuple[Path, ...], Draw], np.ndarray]


@dataclass(frozen=True)
class Competitor:
    """What every competitor can do.

    Attributes
    ----------
    cross_validate
        The timed part: fit on each fold's training side, predict its other side.
    predict_test
        Not timed: fit on the whole draw by the same recipe and give the probabilities ``(m, k)``
        of the test images.
    """

    cross_validate: Callable[[Draw], object]
    predict_test: Callable[[Draw], np.ndarray]


def fold_by_fold(fit_and_predict: FitAndPredict) -> Competitor:
    """Make a competitor of a recipe that starts anew in every fold."""

    def cross_validate(draw: Draw) -> None:
        for train, test in draw.splits():
            fit_and_predict(draw.train.take(train), draw.train.take(test).paths, draw)

    def predict_test(draw: Draw) -> np.ndarray:
        return fit_and_predict(draw.train, draw.test.paths, draw)

    return Competitor(cross_validate, predict_test)


def find_competitor(name: str, work: Path) -> Competitor:
    """Import a competitor, and only what it needs."""
    if name == "fastai":
        from benchmarks.speed import fastai_learner

        return fold_by_fold(fastai_learner.fine_tune)
    if name in ("pytorch", "full_fine_tuning"):
        from benchmarks.speed import plain_pytorch

        if name == "full_fine_tuning":
            return fold_by_fold(plain_pytorch.train_everything)
        return fold_by_fold(plain_pytorch.train_head_then_last_stage)
    from benchmarks.speed import meninx_models

    if name == "meninx_study":
        # The timed part is the command itself, which `run` starts.
        test = partial(meninx_models.predict_with_bundle, work / "run" / "bundle")
        return Competitor(lambda draw: None, test)
    strategy = name.removeprefix("meninx_")
    return Competitor(
        partial(meninx_models.cross_validate, strategy),
        partial(meninx_models.predict_test, strategy),
    )


def compete(task: dict[str, Any], work: Path) -> dict[str, object]:
    """Do the timed part of a task or its test."""
    draw = make_draw(Path(task["manifest"]), task["draw"], task["is_trial"])
    draw = replace(draw, train=draw.train.copy_to(work / "images"))
    competitor = find_competitor(task["competitor"], work)
    if task["part"] == "test":
        return {"probabilities": competitor.predict_test(draw).tolist()}
    started = time.perf_counter()
    competitor.cross_validate(draw)
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    file = Path(sys.argv[1])
    answer = compete(json.loads(file.read_text()), file.parent)
    file.with_suffix(".answer").write_text(json.dumps(answer))
