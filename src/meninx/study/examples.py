"""Examples: images that the chosen model got right and wrong, with heatmaps that are tested.

Each heatmap is made by the model of the fold in which the image was tested: a model that had
not seen the patient. Only a few folds are looked at again, those with the most wrong answers, and
the examples are theirs: the surest wrong answers of these folds, not of the whole cohort. The same
models serve the sanity check of the heatmaps and, where lesions are marked, their localisation.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import ClassifierMixin

from meninx.cohort import Cohort, as_array
from meninx.evaluate import Predictions
from meninx.explain import (
    Localisation,
    Marked,
    Sanity,
    WeightRandomization,
    crop_to_image,
    draw_image,
    draw_overlay,
    explain,
    randomize_weights,
)
from meninx.explain.lesions import find_lesion
from meninx.explain.sanity import THRESHOLD
from meninx.finetune import Ensemble, FineTunedClassifier
from meninx.results import RunFolder, convert, schema
from meninx.study.tasks import Task
from meninx.study.workers import Workers

MOST_WRONG = 6
MOST_FOLDS = 2
# In each fold that is looked at again: images in the sanity check, and with a lesion.
MOST_FORGOTTEN, MOST_MARKED = 8, 64
# Images that are explained at a time; more than one, since random layers are normalised by them.
BATCH = 2


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


@dataclass(frozen=True, eq=False)
class FoldExplanation:
    """What one fold's model shows of images that it was not trained on.

    Attributes
    ----------
    heatmaps
        Row of an example → ``(h, w)`` of the image.
    randomizations
        Heatmaps of some of its test images while a network is randomised; one for each
        network of the model.
    marked
        Its test images with a known lesion.
    """

    heatmaps: dict[int, np.ndarray]
    randomizations: tuple[WeightRandomization, ...]
    marked: tuple[Marked, ...]


def choose_folds(predictions: Predictions, tests: Sequence[np.ndarray]) -> list[int]:
    """Choose the folds to look at again: those with the most wrong answers.

    Parameters
    ----------
    predictions
        Of the chosen model, rows in the cohort's order; the first repeat is used.
    tests
        Row numbers of each fold's test side.
    """
    is_wrong = predictions.predicted[0] != predictions.labels
    most_first = sorted(range(len(tests)), key=lambda fold: -int(is_wrong[tests[fold]].sum()))
    return sorted(most_first[:MOST_FOLDS])


def choose_examples(predictions: Predictions, rows: np.ndarray) -> list[Example]:
    """Choose each class's surest right answer and the surest wrong answers of all.

    Parameters
    ----------
    predictions
        Of the chosen model, rows in the cohort's order; the first repeat is used.
    rows
        Those to choose from.
    """
    predicted = predictions.predicted[0]
    surety = predictions.probabilities[0].max(axis=1)
    surest_first = rows[np.argsort(-surety[rows], kind="stable")]
    is_right = predicted == predictions.labels
    right = [
        next((row for row in surest_first if is_right[row] and predicted[row] == index), None)
        for index in range(len(predictions.classes))
    ]
    wrong = [row for row in surest_first if not is_right[row]][:MOST_WRONG]
    chosen = [row for row in right if row is not None] + wrong
    return [Example(int(row), int(predicted[row])) for row in chosen]


def write_examples(
    folder: RunFolder,
    cohort: Cohort,
    predictions: Predictions,
    tasks: Sequence[Task],
    workers: Workers,
) -> None:
    """Draw the examples of a model into the run folder, and test its heatmaps.

    Parameters
    ----------
    folder
        Gets ``examples.json``, the pictures in ``examples/``, and ``explanations.json``: the
        sanity check and the localisation.
    cohort
        Its images.
    predictions
        Out-of-fold ones of the model.
    tasks
        The model's tasks of the first repeat; the models of at most two are used, as they were
        kept, or trained again to the same.
    workers
        Who does it.
    """
    tests = [task.split.test for task in tasks]
    again = [tasks[fold] for fold in choose_folds(predictions, tests)]
    examples = choose_examples(predictions, np.concatenate([task.split.test for task in again]))
    work = [(task, examples, cohort, predictions.predicted[0]) for task in again]
    explained = list(workers.run(_explain_fold, work))
    heatmaps = {row: heatmap for fold in explained for row, heatmap in fold.heatmaps.items()}
    shown, pictures = [], {}
    for example in examples:
        described = _describe(cohort, predictions, example)
        pixels = as_array(cohort.images[example.row])
        pictures[described.image] = draw_image(pixels)
        pictures[described.heatmap] = draw_overlay(pixels, heatmaps[example.row])
        shown.append(described)
    folder.write_examples(shown, pictures)
    folder.write(_judge(explained))


def _judge(explained: Sequence[FoldExplanation]) -> schema.Explanations:
    """Judge the heatmaps by the sanity check, and by the lesions where some are marked."""
    sanity = Sanity.judge([each for fold in explained for each in fold.randomizations])
    marked = [one for fold in explained for one in fold.marked]
    found = Localisation.average(marked) if marked else None
    return schema.Explanations(
        method="grad-cam",
        sanity=None
        if sanity is None
        else convert(schema.Sanity, sanity, passed=sanity.is_passed, threshold=THRESHOLD),
        localisation=None
        if found is None
        else convert(schema.Localisation, found, better_than_chance=found.is_better_than_chance),
    )


def _explain_fold(
    task: Task, examples: Sequence[Example], cohort: Cohort, predicted: np.ndarray
) -> FoldExplanation:
    """Look at the test images of a fold with its model."""
    members = _list_members(task.fit(cohort.images, cohort.labels))
    test = task.split.test.tolist()
    shown = [example.row for example in examples if example.row in test]
    # The examples first: it is their heatmaps that are shown.
    compared = list(dict.fromkeys([*shown, *test]))[:MOST_FORGOTTEN]
    heatmaps = _explain_rows(members, cohort, shown, predicted)
    return FoldExplanation(
        heatmaps=dict(zip(shown, heatmaps, strict=True)),
        randomizations=tuple(
            forgetting
            for member in members
            for forgetting in _forget(member, cohort, compared, predicted)
        ),
        marked=_compare_with_lesions(members, cohort, test),
    )


def _forget(
    member: FineTunedClassifier, cohort: Cohort, compared: Sequence[int], predicted: np.ndarray
) -> Iterator[WeightRandomization]:
    """Randomise a network; compare its heatmaps of rows' predicted classes, a few at a time."""
    # Put together once: the classifier makes a new copy each time it is asked.
    network = member.network_
    for rows in np.array_split(compared, math.ceil(len(compared) / BATCH)):
        pixels = [as_array(cohort.samples[row]) for row in rows]
        inputs = member.backbone_.prepare(pixels)
        yield randomize_weights(explain, network, inputs, predicted[rows].tolist())


def _list_members(classifier: ClassifierMixin) -> list[FineTunedClassifier]:
    """List the fitted classifiers that each have a network of their own."""
    members = classifier.members_ if isinstance(classifier, Ensemble) else [classifier]
    assert all(isinstance(member, FineTunedClassifier) for member in members)
    return list(members)


def _compare_with_lesions(
    members: Sequence[FineTunedClassifier], cohort: Cohort, test: Sequence[int]
) -> tuple[Marked, ...]:
    """Compare the heatmap of each test image's true class with its lesion, where one is marked."""
    lesions = {}
    for row in test:
        if (lesion := find_lesion(cohort.samples[row])) is not None:
            lesions[row] = lesion
        if len(lesions) == MOST_MARKED:
            break
    heatmaps = _explain_rows(members, cohort, list(lesions), cohort.labels)
    patients = cohort.groups
    return tuple(
        Marked.measure(str(patients[row]), heatmap, lesion.region, lesion.head)
        for (row, lesion), heatmap in zip(lesions.items(), heatmaps, strict=True)
    )


def _explain_rows(
    members: Sequence[FineTunedClassifier],
    cohort: Cohort,
    rows: Sequence[int],
    classes: np.ndarray,
) -> list[np.ndarray]:
    """Compute the heatmap ``(h, w)`` of each row's image for its class in `classes` ``(n,)``.

    That of several networks is the mean of theirs; its strongest place is 1.
    """
    heatmaps = []
    for start in range(0, len(rows), BATCH):
        some = list(rows[start : start + BATCH])
        pixels = [as_array(cohort.samples[row]) for row in some]
        squares = []
        for member in members:
            inputs = member.backbone_.prepare(pixels)
            squares.append(explain(member.network_, inputs, classes[some].tolist()))
        for index, image in enumerate(pixels):
            height, width = image.shape[:2]
            mean = np.mean([crop_to_image(maps[index], height, width) for maps in squares], axis=0)
            heatmaps.append(mean / (mean.max() or 1))
    return heatmaps


def _describe(cohort: Cohort, predictions: Predictions, example: Example) -> schema.Example:
    name = str(cohort.sample_names[example.row])
    probabilities = predictions.probabilities[0, example.row].tolist()
    label = int(predictions.labels[example.row])
    return schema.Example(
        sample=name,
        label=predictions.classes[label],
        predicted=predictions.classes[example.predicted],
        probabilities=dict(zip(predictions.classes, probabilities, strict=True)),
        right=label == example.predicted,
        image=f"examples/{name}-image.png",
        heatmap=f"examples/{name}-heatmap.png",
    )
