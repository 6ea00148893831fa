"""The process that a competitor runs in: ``python -m benchmarks.speed.compete TASK``.

The task is JSON: which competitor and draw, and whether it is the timed part or the test. The
answer is written beside it. Imports are done before the clock starts.
"""

import json
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.speed.competitor import Competitor
from benchmarks.speed.draws import Draw, draw_images

# Where each competitor is; imported only in its own process.
COMPETITORS = {
    "fastai": "fastai_learner:COMPETITOR",
    "pytorch": "plain_pytorch:COMPETITOR",
    "full_fine_tuning": "full_fine_tuning:COMPETITOR",
    "pooled_features": "pooled_features:COMPETITOR",
    "meninx_frozen": "meninx_cells:FROZEN",
    "meninx_partial": "meninx_cells:PARTIAL",
    "meninx_full": "meninx_cells:FULL",
    "meninx_study": "meninx_study:COMPETITOR",
}


def make_draw(manifest: Path, number: int, is_trial: bool) -> Draw:
    """Draw images; for a trial, few folds and epochs."""
    draw = draw_images(manifest, number)
    return draw.trimmed() if is_trial else draw


def find_competitor(name: str) -> Competitor:
    """Import a competitor."""
    module, _, attribute = COMPETITORS[name].partition(":")
    competitor: Competitor = getattr(import_module(f"benchmarks.speed.{module}"), attribute)
    return competitor


def compete(task: dict[str, object], work: Path) -> dict[str, object]:
    """Do the timed part of a task or its test."""
    draw = make_draw(Path(str(task["manifest"])), int(str(task["draw"])), bool(task["is_trial"]))
    draw = replace(draw, train=draw.train.copy_to(work / "images"))
    competitor = find_competitor(str(task["competitor"]))
    if task["part"] == "test":
        return {"probabilities": competitor.predict_test(draw, work).tolist()}
    started = time.perf_counter()
    outcome = competitor.cross_validate(draw, work)
    return {
        "seconds": time.perf_counter() - started,
        "phases": outcome.phases,
        "facts": outcome.facts,
        "probabilities": outcome.probabilities.tolist(),
    }


if __name__ == "__main__":
    file = Path(sys.argv[1])
    answer = compete(json.loads(file.read_text()), file.parent)
    file.with_suffix(".answer").write_text(json.dumps(answer))
