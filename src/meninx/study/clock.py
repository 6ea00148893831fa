"""The clock: what a study will roughly take, and what a time limit leaves room for.

One short fit of each model says how long a step takes on this machine; the fits that are done
correct it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from meninx.cohort import Cohort
from meninx.finetune import Recipe, count_steps
from meninx.study.plan import Model, Plan
from meninx.study.tasks import fill_activations, make_classifier
from meninx.study.workers import Workers

# What comes after the models, one model on all patients apart: statistics, heatmaps, report.
REST_SECONDS = 25.0
# A fit of a simple baseline: too short to be worth measuring.
BASELINE_SECONDS = 0.01
# Of a rough range around what is predicted: other programs, and how the machine is cooled.
LEAST, MOST = 0.7, 1.5


@dataclass(frozen=True)
class Pace:
    """What the parts of a model's fit take on this machine.

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
        Model name to the pace of its fits.
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
        """Measure a short fit of each model that is fitted, on all workers at once."""
        models = [model for model in plan.models if model.is_fitted]
        rows = _take_evenly(
            cohort.labels, max(model.recipe.batch_size for model in models if model.recipe)
        )
        images, labels = cohort.images[rows], cohort.labels[rows]
        work = [(model, images, labels, cohort.is_cropped, workers.device) for model in models]
        paces = {model.name: pace for model, pace in
                 zip(models, workers.run(_measure_pace, work), strict=True)}  # fmt: skip
        return cls(limit, workers.count, len(cohort.samples), plan.folds, paces, started)

    def predict_fit(self, model: Model) -> float:
        """Predict the seconds of one of a model's fits in a fold, on one worker."""
        if model.members:
            return 0.0
        if model.name in self.observed:
            return float(np.mean(self.observed[model.name]))
        pace = self.paces.get(model.name)
        if pace is None or model.recipe is None:
            return BASELINE_SECONDS
        tested = self.images / self.folds
        trained = round(self.images - tested)
        return self._predict_training(pace, model.recipe, model, trained) + tested * pace.answer

    def _predict_training(self, pace: Pace, recipe: Recipe, model: Model, images: int) -> float:
        steps = count_steps(images, recipe) if model.trained_parameters else 0
        return images * pace.start + steps * pace.step

    def predict_features(self, models: Iterable[Model]) -> float:
        """Predict the seconds of all activations, each computed once, on one worker."""
        deepest: dict[str, float] = defaultdict(float)
        for model in models:
            own = self.paces.get(model.name, Pace()).image
            deepest[model.backbone] = max(own, deepest[model.backbone])
        return self.images * sum(deepest.values())

    def predict_study(self, plan: Plan) -> float:
        """Predict the seconds of the whole study, from its start to its report."""
        fits = sum(self.predict_fit(model) * self.folds * model.repeats for model in plan.models)
        features = self.predict_features(plan.models)
        return self.elapsed + (features + fits) / self.workers + self.predict_rest(plan.models)

    def predict_rest(self, models: Iterable[Model]) -> float:
        """Predict what comes after the models: the longest fits once more, and the report."""
        fits = [self.predict_fit(model) for model in models if model.is_fitted]
        return REST_SECONDS + 1.25 * sum(fits) / self.workers

    def price(self, plan: Plan) -> Plan:
        """Write into a plan what each model and the whole study will roughly take."""
        models = tuple(replace(model, predicted_seconds=round(self._predict_model(model), 2))
                      for model in plan.models)  # fmt: skip
        return replace(plan, models=models, predicted_seconds=round(self.predict_study(plan), 1))

    def _predict_model(self, model: Model) -> float:
        parts = model.members or (model,)
        return sum(self.predict_fit(one) for one in parts) * self.folds * model.repeats

    @property
    def elapsed(self) -> float:
        """Seconds since the study began."""
        return time.perf_counter() - self.started

    def fits(self, models: Sequence[Model]) -> bool:
        """Whether one more repeat of some models fits into the limit; if so, it is promised."""
        wanted = sum(self.predict_fit(model) for model in models) * self.folds
        needed = self.elapsed + (self.promised + wanted) / self.workers + self.predict_rest(models)
        if self.limit is not None and needed > self.limit:
            return False
        self.promised += wanted
        return True

    def note(self, model: Model, seconds: float) -> None:
        """Note that a fit is done, and what it took."""
        self.promised = max(0.0, self.promised - self.predict_fit(model))
        self.observed[model.name].append(seconds)


def _measure_pace(
    model: Model, images: np.ndarray, labels: np.ndarray, crop_head: bool, device: str
) -> Pace:
    """Fit a model for three steps on some images; the first one is slower and does not count."""
    assert model.recipe is not None
    recipe = replace(model.recipe, epochs=3, fewest_steps=3, batch_size=len(images), averaged=0.0)
    classifier = make_classifier(replace(model, recipe=recipe), 0, crop_head, device)
    times = [time.perf_counter()]
    for image in images:
        fill_activations(model.backbone, recipe, model.cuts, image, device)
    times.append(time.perf_counter())
    classifier.fit(images, labels)
    times.append(time.perf_counter())
    classifier.predict_proba(images)
    times.append(time.perf_counter())
    reading, fitting, answering = np.diff(times)
    steps = [epoch.seconds for epoch in classifier.history_]
    share = model.recipe.batch_size / len(images)
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
