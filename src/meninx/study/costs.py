"""Costs: how long each cell of a plan will take on this machine, measured before it is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from meninx.finetune import FineTunedClassifier, FitTimes, Strategy
from meninx.study.further import FRACTIONS
from meninx.study.measuring import measure_fits
from meninx.study.plan import Cell, LeftOut, Plan, Role
from meninx.study.tasks import make_classifier
from meninx.study.workers import count_processes

# A fit of a simple baseline, and what each image adds to it: too short to be worth measuring.
BASELINE_SECONDS = {"majority": (0.0002, 0.0), "histogram": (0.004, 4e-6)}

# What comes after the cells: statistics, heatmaps, report.
REST_SECONDS = 20.0


@dataclass(frozen=True)
class Costs:
    """What the parts of a plan take on this machine.

    Attributes
    ----------
    images, folds
        Of the cohort and the cross-validation.
    workers
        How many processes share the work.
    times
        Name of each cell that is fitted, to the times of the parts of its fit.
    classifiers
        Name of each such cell, to a classifier of it.
    is_nested
        Whether all candidates are also run inside each fold.
    measures_learning_curve
        Whether the chosen cell is also trained on parts of the patients.
    """

    images: int
    folds: int
    workers: int
    times: Mapping[str, FitTimes]
    classifiers: Mapping[str, FineTunedClassifier]
    is_nested: bool = False
    measures_learning_curve: bool = False

    @classmethod
    def measure(cls, plan: Plan, images: np.ndarray, classes: int, workers: int | None) -> "Costs":
        """Measure a plan's parts, with all processes busy, as they are when it is run.

        Parameters
        ----------
        plan
            Its cells; of those that are alike one is timed, on an image.
        images
            ``(n,)`` samples of the cohort.
        classes
            How many there are.
        workers
            As in :func:`run_in_workers`.
        """
        count = count_processes(workers)
        classifiers = {
            cell.name: make_classifier(cell, seed=0) for cell in plan.cells if cell.is_fitted
        }
        times = measure_fits(classifiers, images, classes, count)
        return cls(len(images), plan.folds, count, times, classifiers)

    def predict_cell(self, cell: Cell) -> float:
        """Predict the seconds of all repeats and folds of a cell together, on one worker.

        An ensemble is not trained: its members are.
        """
        if cell.members:
            return 0.0
        fits = self.folds * cell.repeats
        if not cell.is_fitted:
            start, an_image = BASELINE_SECONDS[cell.strategy]
            return fits * (start + an_image * self.images)
        if self.classifiers[cell.name].is_solved:
            # Features are read once, and all heads are solved together.
            others = fits - 1
            return self._predict_fit(cell, self.images) + others * self.times[cell.name].training
        return fits * self._predict_fold(cell, self._count_trained())

    def predict_nested(self, candidates: Sequence[Cell]) -> float:
        """Predict the seconds of choosing among candidates inside each fold, on one worker."""
        inside = replace(self, images=self._count_trained())
        once = [replace(cell, repeats=1) for cell in candidates]
        return self.folds * sum(inside.predict_cell(cell) for cell in once)

    def predict_learning_curve(self, cell: Cell) -> float:
        """Predict the seconds of a cell's learning curve, on one worker."""
        parts = [round(fraction * self._count_trained()) for fraction in FRACTIONS]
        members = cell.members or (cell,)
        return self.folds * sum(self._predict_fold(one, part) for one in members for part in parts)

    def predict_activations(self, cells: Sequence[Cell]) -> float:
        """Predict the seconds of all cells' activations, each computed once, on one worker."""
        deepest: dict[str, float] = {}
        for cell in cells:
            if cell.is_fitted:
                own = self.times[cell.name].activations
                deepest[cell.backbone] = max(own, deepest.get(cell.backbone, 0.0))
        return self.images * sum(deepest.values())

    def predict_study(self, cells: Sequence[Cell]) -> float:
        """Predict the seconds of a study of some cells, from its plan on.

        After the cells come nested cross-validation, where it is asked for, and what is done
        with the chosen cell, for which the costliest (all members of an ensemble) is taken.
        """
        fitting = sum(self.predict_cell(cell) for cell in cells)
        candidates = [cell for cell in cells if cell.role is Role.CANDIDATE]
        nested = self.predict_nested(candidates) if self.is_nested else 0.0
        chosen = max(map(self._predict_chosen, candidates), default=0.0)
        shared = self.predict_activations(cells) + fitting + nested + chosen
        return REST_SECONDS + shared / self.workers

    def _predict_chosen(self, cell: Cell) -> float:
        """Predict the seconds of a chosen cell's model, and of its learning curve if asked for."""
        model = sum(self._predict_fit(one, self.images) for one in cell.members or (cell,))
        return model + (self.predict_learning_curve(cell) if self.measures_learning_curve else 0.0)

    def _count_trained(self) -> int:
        """Count the images on the training side of a fold."""
        return round(self.images * (self.folds - 1) / self.folds)

    def _predict_fold(self, cell: Cell, trained: int) -> float:
        """Predict the seconds of training on some images, and predicting those of a fold."""
        times = self.times[cell.name]
        tested = self.images / self.folds
        return self._predict_fit(cell, trained) + tested * (times.reading + times.prediction)

    def _predict_fit(self, cell: Cell, images: int) -> float:
        times, classifier = self.times[cell.name], self.classifiers[cell.name]
        looks = 1 if classifier.is_solved else classifier.count_looks(images)
        return times.start + times.reading * images + times.training * looks


def price(plan: Plan, costs: Costs, spent: float = 0.0) -> Plan:
    """Write into a plan what each cell will take, all its repeats together, and the study.

    Parameters
    ----------
    plan
        Its cells.
    costs
        Of the plan, on this machine.
    spent
        Seconds of the study that have passed already.
    """
    cells = tuple(_price_cell(cell, costs) for cell in plan.cells)
    seconds = round(spent + costs.predict_study(plan.cells), 1)
    return replace(plan, cells=cells, predicted_seconds=seconds)


def fit_into(plan: Plan, costs: Costs, seconds: float, spent: float = 0.0) -> Plan:
    """Keep the most informative cells of a plan that fit into a time limit.

    Parameters
    ----------
    plan
        Its cells.
    costs
        Of the plan, on this machine.
    seconds
        For the whole study. The simple baselines and one candidate are kept however short it is.
    spent
        Seconds of them that have passed already.

    Returns
    -------
    Plan
        First one repeat of each cell, in the order of what it tells: the frozen base of the
        first backbone, what is advised for it, the other backbones, their ensemble, the
        neighbour, from scratch. Then as many repeats of all as there is time for.
    """
    kept: list[Cell] = []
    for cell in sorted(plan.cells, key=_rank):
        once = replace(cell, repeats=1)
        is_needed = not cell.backbone or not any(one.backbone for one in kept)
        is_whole = all(member.name in {one.name for one in kept} for member in cell.members)
        if is_needed or (is_whole and spent + costs.predict_study([*kept, once]) <= seconds):
            kept.append(once)
    planned = {cell.name: cell.repeats for cell in plan.cells}
    for repeats in range(2, max(planned.values()) + 1):
        more = [replace(cell, repeats=min(repeats, planned[cell.name])) for cell in kept]
        if spent + costs.predict_study(more) > seconds:
            break
        kept = more
    names = {cell.name: cell.repeats for cell in kept}
    cells = tuple(
        replace(cell, repeats=names[cell.name]) for cell in plan.cells if cell.name in names
    )
    left_out = tuple(
        LeftOut(cell.name, f"It does not fit into {seconds:.0f} s.", _predict(cell, costs))
        for cell in plan.cells
        if cell.name not in names
    )
    return replace(plan, cells=cells, left_out=left_out)


def _rank(cell: Cell) -> int:
    """Say how early a cell is wanted, lowest first; equals stay in the plan's order."""
    order = (
        not cell.backbone,
        cell.is_first and cell.strategy == Strategy.FROZEN,
        cell.is_first and cell.is_advised,
        cell.strategy == Strategy.FROZEN or cell.is_advised,
        bool(cell.members),
        cell.strategy != Strategy.SCRATCH,
    )
    return order.index(True) if True in order else len(order)


def _price_cell(cell: Cell, costs: Costs) -> Cell:
    return replace(cell, predicted_seconds=_predict(cell, costs))


def _predict(cell: Cell, costs: Costs) -> float:
    """Predict all repeats of a cell, its members' where it is an ensemble; as in scores.csv."""
    if cell.members:
        return sum(_predict(replace(one, repeats=cell.repeats), costs) for one in cell.members)
    return round(costs.predict_cell(cell), 2)
