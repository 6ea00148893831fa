"""Examples: images that the chosen cell got right and wrong, with heatmaps.

Each heatmap is made by the model of the fold in which the image was tested: a model that had
not seen the patient.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from meninx.cohort import Cohort, read_image
from meninx.evaluate import Predictions
from meninx.explain import crop_to_image, draw_image, draw_overlay, explain
from meninx.files import write_whole
from meninx.finetune import FineTunedClassifier
from meninx.study.run_folder import RunFolder
from meninx.study.tasks import Task, fit_classifier, one_thread

MOST_WRONG = 6


@dataclass(frozen=True)
class Example:
    """One image to show.

    Attributes
    ----------
    row
        Of the cohort.
    predicted
        Class index, out of fold, in the first repeat.
    """

    row: int
    predicted: int


def choose_examples(predictions: Predictions) -> list[Example]:
    """Choose each class's surest right answer and the surest wrong answers of all.

    Parameters
    ----------
    predictions
        Of the chosen cell, rows in the cohort's order; the first repeat is used.
    """
    predicted = predictions.predicted[0]
    surety = predictions.probabilities[0].max(axis=1)
    surest_first = np.argsort(-surety, kind="stable")
    is_right = predicted == predictions.labels
    right = [
        next((row for row in surest_first if is_right[row] and predicted[row] == index), None)
        for index in range(len(predictions.classes))
    ]
    wrong = [row for row in surest_first if not is_right[row]][:MOST_WRONG]
    rows = [row for row in right if row is not None] + wrong
    return [Example(int(row), int(predicted[row])) for row in rows]


def write_examples(
    folder: RunFolder,
    cohort: Cohort,
    predictions: Predictions,
    tasks: Sequence[Task],
    workers: int | None,
) -> None:
    """Draw the examples of a cell into the run folder.

    Parameters
    ----------
    folder
        Gets ``examples.json`` and the pictures in ``examples/``.
    cohort
        Its images.
    predictions
        Out-of-fold ones of the cell.
    tasks
        The cell's tasks of the first repeat; those whose test side has an example are run
        again, and give the same model as before.
    workers
        How many processes.
    """
    examples = choose_examples(predictions)
    work = [
        (task, shown)
        for task in tasks
        if (shown := [example for example in examples if example.row in task.split.test])
    ]
    heatmaps = Parallel(n_jobs=workers or os.cpu_count() or 1)(
        delayed(_explain_fold)(task, shown, cohort.images, cohort.labels) for task, shown in work
    )
    heatmap_of_row = {
        example.row: heatmap
        for (_, shown), maps in zip(work, heatmaps, strict=True)
        for example, heatmap in zip(shown, maps, strict=True)
    }
    folder.write_json(
        "examples.json",
        [
            _write_example(folder, cohort, predictions, example, heatmap_of_row[example.row])
            for example in examples
        ],
    )


def _explain_fold(
    task: Task, examples: Sequence[Example], images: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """Fit a fold's model again and compute the heatmaps ``(s, s)`` of its test images."""
    with one_thread():
        classifier = fit_classifier(task, images, labels)
        assert isinstance(classifier, FineTunedClassifier)
        backbone = classifier.backbone_
        inputs = backbone.prepare([read_image(images[example.row]) for example in examples])
        classes = [example.predicted for example in examples]
        return list(explain(classifier.network_, inputs, classes))


def _write_example(
    folder: RunFolder,
    cohort: Cohort,
    predictions: Predictions,
    example: Example,
    heatmap: np.ndarray,
) -> dict[str, Any]:
    image = read_image(cohort.images[example.row])
    name = str(cohort.sample_names[example.row])
    overlay = draw_overlay(image, crop_to_image(heatmap, *image.shape[:2]))
    write_whole(folder.path / f"examples/{name}-image.png", draw_image(image))
    write_whole(folder.path / f"examples/{name}-heatmap.png", overlay)
    probabilities = predictions.probabilities[0, example.row].tolist()
    return {
        "sample": name,
        "label": predictions.classes[predictions.labels[example.row]],
        "predicted": predictions.classes[example.predicted],
        "probabilities": dict(zip(predictions.classes, probabilities, strict=True)),
        "right": bool(predictions.labels[example.row] == example.predicted),
        "image": f"examples/{name}-image.png",
        "heatmap": f"examples/{name}-heatmap.png",
    }
