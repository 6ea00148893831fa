"""The plan: which models a study runs, and why each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from meninx.backbones import Backbone
from meninx.errors import StudyError
from meninx.finetune import SCRATCH, Preset, Recipe, Strategy, count_trained, load_backbone
from meninx.language import Message
from meninx.matrix import Advice
from meninx.results import convert
from meninx.results.schema import LeftOutModel, PlanFile, PlannedModel

ENSEMBLE = "ensemble"
# How many last stages `partial` trains where the matrix advises another strategy.
FEW_STAGES = 2


class Role(StrEnum):
    """Why a model is run."""

    CANDIDATE = "candidate"
    BASELINE = "baseline"


@dataclass(frozen=True)
class Model:
    """One way to classify: a backbone, a strategy and the settings of its head.

    Attributes
    ----------
    name
        What its folder is called.
    backbone
        Empty for the baselines that have none.
    strategy
        A :class:`meninx.finetune.Strategy`, or ``majority`` or ``histogram``.
    cut
        The first stage that is trained, for ``partial``.
    role
        Whether it competes.
    repeats
        How many times the folds are gone through.
    trained_parameters
        How many numbers gradient descent or the solver fits, head apart.
    reason
        Why it is in the plan.
    is_advised
        Whether it is what the matrix advises for its backbone.
    is_first
        Whether its backbone is the first of those that are tried.
    extra_layers
        Widths of hidden layers in front of the output.
    recipe
        How it is trained; None for what gradient descent and views have no part in.
    members
        Of an ensemble: the models whose probabilities it averages, else none.
    predicted_seconds
        What all its repeats take on one worker of this machine; None before that is measured.
    """

    name: str
    backbone: str
    strategy: str
    cut: str | None
    role: Role
    repeats: int
    trained_parameters: int
    reason: Message
    is_advised: bool = False
    is_first: bool = False
    extra_layers: tuple[int, ...] = ()
    recipe: Recipe | None = None
    members: tuple["Model", ...] = ()
    predicted_seconds: float | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether a network is fitted for it: not for simple baselines and ensembles."""
        return bool(self.backbone) and not self.members

    @property
    def reads_activations(self) -> bool:
        """Whether it is trained on what a frozen prefix makes of images."""
        return self.strategy in (Strategy.FROZEN, Strategy.PARTIAL)

    @property
    def cuts(self) -> tuple[str, ...]:
        """The cuts whose stored activations its fits read."""
        if self.strategy not in (Strategy.FROZEN, Strategy.PARTIAL):
            return ()
        return tuple(dict.fromkeys((self.cut or "head", "head")))

    def describe(self) -> PlannedModel:
        """Give the model as ``plan.json`` holds it."""
        members = [member.name for member in self.members]
        return convert(
            PlannedModel,
            self,
            model=self.name,
            reason=self.reason.text,
            message=self.reason,
            members=members,
        )


@dataclass(frozen=True)
class LeftOut:
    """A model that a time limit left no room for.

    Attributes
    ----------
    model
        Its name.
    reason
        Why.
    predicted_seconds
        What it would have taken on one worker.
    """

    model: str
    reason: Message
    predicted_seconds: float

    def describe(self) -> LeftOutModel:
        """Give it as ``plan.json`` holds it."""
        return convert(LeftOutModel, self, reason=self.reason.text, message=self.reason)


@dataclass(frozen=True)
class Plan:
    """The models of a study, in the order in which they are run.

    Attributes
    ----------
    models
        What is run.
    folds
        In how many parts each repeat divides the patients.
    left_out
        Models that a time limit left no room for.
    predicted_seconds
        What the whole study takes on this machine, from its start to its report; None where that
        was not measured or cannot be known.
    """

    models: tuple[Model, ...]
    folds: int
    left_out: tuple[LeftOut, ...] = ()
    predicted_seconds: float | None = None

    @classmethod
    def make(
        cls,
        advice: Advice,
        backbones: Sequence[str],
        strategies: Sequence[Strategy] = (),
        folds: int = 5,
        repeats: int = 2,
        recipe: Recipe = Preset.DEFAULT.recipe,
    ) -> Self:
        """Turn the matrix's advice into models.

        No single depth is right everywhere, so the first backbone is tried at three: with its
        base frozen, with its last stages trained and, unless frozen is advised, trained as a
        whole. Other backbones are tried frozen and as the matrix advises. The mean of the
        probabilities of all these competes too, and from scratch, once, shows what pretraining
        is worth.

        Parameters
        ----------
        advice
            Of the matrix. It does not depend on labels, so planning spends no evidence.
        backbones
            Names, at least one.
        strategies
            Run just these on every backbone, in place of what is advised.
        folds
            In each repeat.
        repeats
            Of every candidate; by default 2.
        recipe
            Of pretrained networks; the advice has a say in its augmentation and rate.

        Raises
        ------
        StudyError
            There is no backbone to plan with.
        """
        if not backbones:
            raise StudyError("a study needs at least one backbone; see `meninx backbones`")
        recipe = replace(
            recipe,
            augmentation=advice.augmentation,
            learning_rate=advice.learning_rate or recipe.learning_rate,
        )
        loaded = [load_backbone(name) for name in backbones]
        candidates = [
            _make_candidate(one, strategy, advice, repeats, recipe, is_asked_for=bool(strategies))
            for one in loaded
            for strategy in strategies or _list_depths(advice, is_first=one is loaded[0])
            if strategy is not Strategy.SCRATCH
        ]
        if len(candidates) > 1:
            candidates.append(_make_ensemble(candidates, repeats))
        models = [*_make_simple_baselines(repeats), *candidates]
        if not strategies or Strategy.SCRATCH in strategies:
            models.append(_make_scratch(loaded[0]))
        firsts = (replace(model, is_first=model.backbone == backbones[0]) for model in models)
        return cls(tuple(firsts), folds)

    @property
    def candidates(self) -> tuple[Model, ...]:
        """The models that compete."""
        return tuple(model for model in self.models if model.role is Role.CANDIDATE)

    def describe(self) -> PlanFile:
        """Give what ``plan.json`` holds."""
        return convert(
            PlanFile,
            self,
            models=[model.describe() for model in self.models],
            left_out=[model.describe() for model in self.left_out],
        )


def _make_simple_baselines(repeats: int) -> Iterator[Model]:
    reasons = {"majority": Message("majority"), "histogram": Message("histogram")}
    for name, reason in reasons.items():
        yield Model(name, "", name, None, Role.BASELINE, repeats, 0, reason)


def _list_depths(advice: Advice, is_first: bool) -> list[Strategy]:
    """List the strategies of a backbone: of the first all that may be right, else the advised.

    Where few images are like photographs, to train everything only loses what fits already.
    """
    if is_first and advice.strategy == Strategy.FROZEN:
        return [Strategy.FROZEN, Strategy.PARTIAL]
    if is_first:
        return [Strategy.FROZEN, Strategy.PARTIAL, Strategy.FULL]
    return list(dict.fromkeys([Strategy.FROZEN, Strategy(advice.strategy)]))


def _make_candidate(
    backbone: Backbone,
    strategy: Strategy,
    advice: Advice,
    repeats: int,
    recipe: Recipe,
    is_asked_for: bool,
) -> Model:
    """Make the model of a strategy that starts from pretrained weights."""
    is_advised = strategy == advice.strategy
    if is_advised:
        reason = Message("advised")
    elif is_asked_for:
        reason = Message("asked_last_stages" if strategy is Strategy.PARTIAL else "asked")
    else:
        reason = Message("cheapest" if strategy is Strategy.FROZEN else "other_depth")
    if strategy is Strategy.FROZEN:
        # It keeps its linear head: it is the simplest transfer, to compare with.
        model = Model(
            f"{backbone.name}-frozen", backbone.name, strategy, None, Role.CANDIDATE, repeats, 0,
            reason, recipe=recipe,
        )  # fmt: skip
    else:
        stages = advice.trained_stages or FEW_STAGES
        model = _make_trained(backbone, strategy, stages, advice, repeats, recipe, reason)
    return replace(model, is_advised=is_advised)


def _make_trained(
    backbone: Backbone,
    strategy: Strategy,
    stages: int,
    advice: Advice,
    repeats: int,
    recipe: Recipe,
    reason: Message,
) -> Model:
    """Make a model that trains everything, or the last stages (never the stem)."""
    names = [stage.name for stage in backbone.stages]
    is_partial = strategy is Strategy.PARTIAL
    cut = names[max(len(names) - stages, 1)] if is_partial else "stem"
    return Model(
        name=f"{backbone.name}-{strategy}" + (f"-{cut}" if is_partial else ""),
        backbone=backbone.name,
        strategy=strategy,
        cut=cut if is_partial else None,
        role=Role.CANDIDATE,
        repeats=repeats,
        trained_parameters=count_trained(backbone, cut, strategy),
        reason=reason,
        extra_layers=tuple(advice.extra_layers),
        recipe=recipe,
    )


def _make_ensemble(members: Sequence[Model], repeats: int) -> Model:
    return Model(
        name=ENSEMBLE,
        backbone=" + ".join(dict.fromkeys(member.backbone for member in members)),
        strategy=ENSEMBLE,
        cut=None,
        role=Role.CANDIDATE,
        repeats=repeats,
        trained_parameters=sum(member.trained_parameters for member in members),
        reason=Message("ensemble"),
        members=tuple(members),
    )


def _make_scratch(backbone: Backbone) -> Model:
    return Model(
        name=f"{backbone.name}-scratch",
        backbone=backbone.name,
        strategy=Strategy.SCRATCH,
        cut=None,
        role=Role.BASELINE,
        repeats=1,
        trained_parameters=count_trained(backbone, "stem", Strategy.SCRATCH),
        reason=Message("scratch", epochs=SCRATCH.epochs, pixels=SCRATCH.image_size or 0),
        recipe=SCRATCH,
    )
