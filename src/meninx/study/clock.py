"""The clock: what a study will roughly take, and what a time limit leaves room for.

One short fit of each cell says how long a step takes on this machine; the fits that are done
correct it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from meninx.cohort import Cohort
from meninx.finetune import Recipe, count_steps
from meninx.study.plan import Cell, Plan
from meninx.study.tasks import fill_activations, make_classifier
from meninx.study.workers import Workers

# What comes after the cells, one model on all patients apart: statistics, heatmaps, report.
REST_SECONDS = 25.0
# A fit of a simple baseline: too short to be worth measuring.
BASELINE_SECONDS = 0.01
# Of a rough range around what is predicted: other programs, and how the machine is cooled.
LEAST, MOST = 0.7, 1.5


@dataclass(frozen=True)
class Pace:
    """What the parts of a cell's fit take on this machine.

    Attributes
    ----------
    image
        Seconds to read an image and run its views through the frozen prefix, once a study.
    start
        Seconds an image to solve the head that a fit starts from.
    step
        Seconds of a step of gradient descent.
    answer
        Seconds to predict an image.
    """

    image: float = 0.0
    start: float = 0.0
    step: float = 0.0
    answer: float = 0.0


@dataclass
class Clock:
    """Predicts a study and keeps its time limit.

    Attributes
    ----------
    limit
        Seconds that the whole study may take; None for as many as its plan needs.
    workers
        How many share the work.
    images, folds
        Of the cohort and the cross-validation.
    paces
        Cell name to the pace of its fits.
    started
        When the study began, by ``time.perf_counter``.
    """

    limit: float | None
    workers: int
    images: int
    folds: int
    paces: dict[str, Pace]
    started: float = field(default_factory=time.perf_counter)
    promised: float = 0.0
    observed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def measure(
        cls, plan: Plan, cohort: Cohort, workers: Workers, limit: float | None, started: float
    ) -> "Clock":
        """Measure a short fit of each cell that is fitted, on all workers at once."""
        cells = [cell for cell in plan.cells if cell.is_fitted]
        rows = _take_evenly(
            cohort.labels, max(cell.recipe.batch_size for cell in cells if cell.recipe)
        )
        images, labels = cohort.images[rows], cohort.labels[rows]
        work = [(cell, images, labels, cohort.is_framed, workers.device) for cell in cells]
        paces = {cell.name: pace for cell, pace in
                 zip(cells, workers.run(_measure_pace, work), strict=True)}  # fmt: skip
        return cls(limit, workers.count, len(cohort.samples), plan.folds, paces, started)

    def predict_fit(self, cell: Cell) -> float:
        """Predict the seconds of one of a cell's fits in a fold, on one worker."""
        if cell.members:
            return 0.0
        if cell.name in self.observed:
            return float(np.mean(self.observed[cell.name]))
        pace = self.paces.get(cell.name)
        if pace is None or cell.recipe is None:
            return BASELINE_SECONDS
        tested = self.images / self.folds
        trained = round(self.images - tested)
        return self._predict_training(pace, cell.recipe, cell, trained) + tested * pace.answer

    def _predict_training(self, pace: Pace, recipe: Recipe, cell: Cell, images: int) -> float:
        steps = count_steps(images, recipe) if cell.trained_parameters else 0
        return images * pace.start + steps * pace.step

    def predict_features(self, cells: Iterable[Cell]) -> float:
        """Predict the seconds of all activations, each computed once, on one worker."""
        deepest: dict[str, float] = defaultdict(float)
        for cell in cells:
            own = self.paces.get(cell.name, Pace()).image
            deepest[cell.backbone] = max(own, deepest[cell.backbone])
        return self.images * sum(deepest.values())

    def predict_study(self, plan: Plan) -> float:
        """Predict the seconds of the whole study, from its start to its report."""
        fits = sum(self.predict_fit(cell) * self.folds * cell.repeats for cell in plan.cells)
        features = self.predict_features(plan.cells)
        return self.elapsed + (features + fits) / self.workers + self.predict_rest(plan.cells)

    def predict_rest(self, cells: Iterable[Cell]) -> float:
        """Predict what comes after the cells: the longest fits once more, and the report."""
        fits = [self.predict_fit(cell) for cell in cells if cell.is_fitted]
        return REST_SECONDS + 1.25 * sum(fits) / self.workers

    def price(self, plan: Plan) -> Plan:
        """Write into a plan what each cell and the whole study will roughly take."""
        cells = tuple(replace(cell, predicted_seconds=round(self._predict_cell(cell), 2))
                      for cell in plan.cells)  # fmt: skip
        return replace(plan, cells=cells, predicted_seconds=round(self.predict_study(plan), 1))

    def _predict_cell(self, cell: Cell) -> float:
        parts = cell.members or (cell,)
        return sum(self.predict_fit(one) for one in parts) * self.folds * cell.repeats

    @property
    def elapsed(self) -> float:
        """Seconds since the study began."""
        return time.perf_counter() - self.started

    def fits(self, cells: Sequence[Cell]) -> bool:
        """Whether one more repeat of some cells fits into the limit; if so, it is promised."""
        wanted = sum(self.predict_fit(cell) for cell in cells) * self.folds
        needed = self.elapsed + (self.promised + wanted) / self.workers + self.predict_rest(cells)
        if self.limit is not None and needed > self.limit:
            return False
        self.promised += wanted
        return True

    def note(self, cell: Cell, seconds: float) -> None:
        """Note that a fit is done, and what it took."""
        self.promised = max(0.0, self.promised - self.predict_fit(cell))
        self.observed[cell.name].append(seconds)


def _measure_pace(
    cell: Cell, images: np.ndarray, labels: np.ndarray, crop_head: bool, device: str
) -> Pace:
    """Fit a cell for three steps on some images; the first one is slower and does not count."""
    assert cell.recipe is not None
    recipe = replace(cell.recipe, epochs=3, fewest_steps=3, batch_size=len(images), averaged=0.0)
    classifier = make_classifier(replace(cell, recipe=recipe), 0, crop_head, device)
    times = [time.perf_counter()]
    for image in images:
        fill_activations(cell.backbone, recipe, cell.cuts, image, device)
    times.append(time.perf_counter())
    classifier.fit(images, labels)
    times.append(time.perf_counter())
    classifier.predict_proba(images)
    times.append(time.perf_counter())
    reading, fitting, answering = np.diff(times)
    steps = [epoch.seconds for epoch in classifier.history_]
    share = cell.recipe.batch_size / len(images)
    return Pace(
        image=reading / len(images),
        start=max(fitting - sum(steps), 0.0) / len(images),
        step=min(steps[1:]) * share if steps else 0.0,
        answer=answering / len(images),
    )


def _take_evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Take rows of as many classes as can be, ``(m,)``."""
    by_class = np.argsort(labels, kind="stable")
    return by_class[np.linspace(0, len(labels) - 1, min(count, len(labels))).round().astype(int)]
