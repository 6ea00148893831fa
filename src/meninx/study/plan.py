"""The plan: which cells a study runs, and why each of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from meninx.backbones import Backbone
from meninx.errors import StudyError
from meninx.finetune import Strategy, count_partly_trained, load_backbone
from meninx.matrix import Advice

# What a network with random weights needs to learn at all on a laptop: more passes over
# smaller images.
SCRATCH_SETTINGS = {"image_size": 112, "epochs": 12, "batch_size": 6, "learning_rate": 1e-3}

# Twenty passes: over 22 sources that the recipe was not tuned on, 7 lost 2.6 points of balanced
# accuracy against them.
PARTIAL_SETTINGS = {"epochs": 20, "batch_size": 8}

# Of the residual blocks, in each step: as good, and a quarter faster, with 53 images to train on.
# With 21 it was perhaps worse (benchmarks/accuracy_notes.md); between them, from where training
# need not go through its images more often than it is told.
BLOCKS_LEFT_OUT, FEWEST_TO_LEAVE_OUT = 0.4, 36

NEIGHBOUR_REASON = "Half as many stages as advised: was the advised cut right?"

# How often the folds are gone through where nobody says. All candidates alike: the noise of one
# that is looked at less often would win too often. Only the baseline from scratch is run once.
USUAL_REPEATS = 3

ENSEMBLE = "ensemble"


class Role(StrEnum):
    """Why a cell is run."""

    CANDIDATE = "candidate"
    BASELINE = "baseline"


@dataclass(frozen=True)
class Cell:
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
        Why it is in the plan, in one sentence.
    is_advised
        Whether it is what the matrix advises for its backbone.
    is_first
        Whether its backbone is the first of those that are tried.
    settings
        Further arguments of the classifier.
    members
        Of an ensemble: the cells whose probabilities it averages, else none.
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
    reason: str
    is_advised: bool = False
    is_first: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    members: tuple["Cell", ...] = ()
    predicted_seconds: float | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether a network is fitted for it: not for simple baselines and ensembles."""
        return bool(self.backbone) and not self.members

    @property
    def reads_activations(self) -> bool:
        """Whether it is trained on what a frozen prefix makes of images."""
        return self.strategy in (Strategy.FROZEN, Strategy.PARTIAL)

    def as_dict(self) -> dict[str, Any]:
        """Give the cell as ``plan.json`` holds it."""
        fields = {key: value for key, value in vars(self).items() if key != "name"}
        members = [member.name for member in self.members]
        return {"cell": self.name, **fields, "members": members}


@dataclass(frozen=True)
class LeftOut:
    """A cell that a time limit left no room for.

    Attributes
    ----------
    cell
        Its name.
    reason
        In one sentence.
    predicted_seconds
        What it would have taken on one worker.
    """

    cell: str
    reason: str
    predicted_seconds: float


@dataclass(frozen=True)
class Plan:
    """The cells of a study, in the order in which they are run.

    Attributes
    ----------
    cells
        What is run.
    folds
        In how many parts each repeat divides the patients.
    left_out
        Cells that a time limit left no room for.
    predicted_seconds
        What the whole study takes on this machine, from its start to its report; None where that
        was not measured or cannot be known.
    """

    cells: tuple[Cell, ...]
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
        repeats: int = USUAL_REPEATS,
        precisions: Mapping[str, str] | None = None,
        images: int | None = None,
    ) -> Self:
        """Turn the matrix's advice into cells.

        Every backbone is tried with the frozen base and with what the matrix advises. The first
        backbone is also tried with half as many trained stages, to see whether the advice held.
        The mean of the probabilities of all these competes too, and from scratch, once, shows
        what pretraining is worth.

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
            Of every candidate; by default 3.
        precisions
            Of each backbone's activations; by default float32.
        images
            Of the cohort; by default enough to leave blocks out of the steps of ``partial``.

        Raises
        ------
        StudyError
            There is no backbone to plan with.
        """
        if not backbones:
            raise StudyError("a study needs at least one backbone; see `meninx backbones`")
        depth = max(advice.trained_stages, 1)
        wanted = [
            strategy
            for strategy in strategies or (Strategy.FROZEN, *_find_advised(advice))
            if strategy is not Strategy.SCRATCH
        ]
        loaded = [load_backbone(name) for name in backbones]
        cells = [*_make_simple_baselines(repeats)]
        for strategy in wanted:
            cells += [_make_candidate(one, strategy, depth, repeats, advice) for one in loaded]
        if not strategies:
            neighbour = _find_neighbour(advice)
            cells.append(_make_partial(loaded[0], neighbour, repeats, NEIGHBOUR_REASON, advice))
        candidates = [cell for cell in cells if cell.role is Role.CANDIDATE]
        if len(candidates) > 1:
            cells.append(_make_ensemble(candidates, repeats))
        if not strategies or Strategy.SCRATCH in strategies:
            cells.append(_make_scratch(loaded[0]))
        has_few = images is not None and images * (folds - 1) / folds < FEWEST_TO_LEAVE_OUT
        share = 0.0 if has_few else BLOCKS_LEFT_OUT
        cells = [
            replace(_settle(cell, precisions or {}, share), is_first=cell.backbone == backbones[0])
            for cell in cells
        ]
        return cls(tuple(cells), folds)

    @property
    def candidates(self) -> tuple[Cell, ...]:
        """The cells that compete."""
        return tuple(cell for cell in self.cells if cell.role is Role.CANDIDATE)

    def resume(self, earlier: Mapping[str, Any]) -> Self:
        """Take up the cells that an interrupted study had planned, by its ``plan.json``.

        What fits into a time limit is measured, and could have come out otherwise today. How
        much of the earlier study is left to do is not known.
        """
        planned = {cell["cell"]: cell for cell in earlier["cells"]}
        cells = tuple(
            replace(
                cell,
                repeats=planned[cell.name]["repeats"],
                predicted_seconds=planned[cell.name]["predicted_seconds"],
            )
            for cell in self.cells
            if cell.name in planned
        )
        left_out = tuple(LeftOut(**cell) for cell in earlier["left_out"])
        return replace(self, cells=cells, left_out=left_out, predicted_seconds=None)

    def as_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return {
            "cells": [{**cell.as_dict(), "folds": self.folds} for cell in self.cells],
            "left_out": [asdict(cell) for cell in self.left_out],
            "predicted_seconds": self.predicted_seconds,
        }


def _make_simple_baselines(repeats: int) -> Iterator[Cell]:
    reasons = {
        "majority": "Knows only how frequent the classes are: chance.",
        "histogram": "Knows only how bright an image is, not what it shows.",
    }
    for name, reason in reasons.items():
        yield Cell(name, "", name, None, Role.BASELINE, repeats, 0, reason)


def _make_candidate(
    backbone: Backbone, strategy: Strategy, depth: int, repeats: int, advice: Advice
) -> Cell:
    """Make the cell of a strategy that starts from pretrained weights."""
    is_advised = strategy == advice.strategy
    if strategy is Strategy.PARTIAL:
        reason = "The matrix advises this." if is_advised else "Asked for, at the last stages."
        cell = _make_partial(backbone, depth, repeats, reason, advice)
        return replace(cell, is_advised=is_advised)
    if is_advised:
        reason = "The matrix advises this."
    elif strategy is Strategy.FROZEN:
        reason = "The cheapest transfer, which every other must beat."
    else:
        reason = "Asked for."
    is_frozen = strategy is Strategy.FROZEN
    return Cell(
        name=f"{backbone.name}-{strategy}",
        backbone=backbone.name,
        strategy=strategy,
        cut=None,
        role=Role.CANDIDATE,
        repeats=repeats,
        trained_parameters=0 if is_frozen else _count_trained(backbone, "stem"),
        reason=reason,
        is_advised=is_advised,
        settings=_choose_settings(strategy, advice),
    )


def _make_partial(
    backbone: Backbone, depth: int, repeats: int, reason: str, advice: Advice
) -> Cell:
    """Make the cell that trains the last stages, as many as depth says (never the stem)."""
    stages = [stage.name for stage in backbone.stages]
    cut = stages[max(len(stages) - depth, 1)]
    return Cell(
        name=f"{backbone.name}-partial-{cut}",
        backbone=backbone.name,
        strategy=Strategy.PARTIAL,
        cut=cut,
        role=Role.CANDIDATE,
        repeats=repeats,
        trained_parameters=count_partly_trained(backbone, cut),
        reason=reason,
        settings={**_choose_settings(Strategy.PARTIAL, advice), **PARTIAL_SETTINGS},
    )


def _choose_settings(strategy: Strategy, advice: Advice) -> dict[str, Any]:
    """Turn the advice into arguments of the classifier."""
    settings: dict[str, Any] = {"augmentation": advice.augmentation}
    # The frozen base keeps its linear head: it is the simplest transfer, to compare with.
    if strategy is not Strategy.FROZEN:
        settings["extra_layers"] = list(advice.extra_layers)
        if advice.learning_rate is not None:
            settings["learning_rate"] = advice.learning_rate
    return settings


def _make_ensemble(members: Sequence[Cell], repeats: int) -> Cell:
    return Cell(
        name=ENSEMBLE,
        backbone=" + ".join(dict.fromkeys(member.backbone for member in members)),
        strategy=ENSEMBLE,
        cut=None,
        role=Role.CANDIDATE,
        repeats=repeats,
        trained_parameters=sum(member.trained_parameters for member in members),
        reason="All candidates together, probabilities averaged: no training but theirs.",
        members=tuple(members),
    )


def _settle(cell: Cell, precisions: Mapping[str, str], blocks_left_out: float) -> Cell:
    """Give a cell the settings that its backbone and the cohort's size decide."""
    if cell.members:
        members = tuple(_settle(one, precisions, blocks_left_out) for one in cell.members)
        return replace(cell, members=members)
    more: dict[str, Any] = {}
    if cell.reads_activations:
        more["precision"] = precisions.get(cell.backbone, "float32")
    if cell.strategy == Strategy.PARTIAL and not cell.settings["extra_layers"]:
        more["blocks_left_out"] = blocks_left_out
    return replace(cell, settings={**cell.settings, **more})


def _make_scratch(backbone: Backbone) -> Cell:
    return Cell(
        name=f"{backbone.name}-scratch",
        backbone=backbone.name,
        strategy=Strategy.SCRATCH,
        cut=None,
        role=Role.BASELINE,
        repeats=1,
        trained_parameters=_count_trained(backbone, "stem"),
        reason="The same network with random weights: what is pretraining worth? "
        f"({SCRATCH_SETTINGS['epochs']} epochs at {SCRATCH_SETTINGS['image_size']} pixels.)",
        settings=dict(SCRATCH_SETTINGS),
    )


def _find_advised(advice: Advice) -> list[Strategy]:
    """Give the advised strategy, unless it is the frozen base, which is in every plan."""
    advised = Strategy(advice.strategy)
    return [] if advised is Strategy.FROZEN else [advised]


def _find_neighbour(advice: Advice) -> int:
    """Say how many last stages the cell beside the advised one trains: half as many."""
    if advice.strategy == Strategy.FROZEN:
        return 1
    if advice.strategy == Strategy.FULL:
        return 2
    # Half of one stage is the frozen base, which is in every plan.
    return max(advice.trained_stages // 2, 1) if advice.trained_stages > 1 else 2


def _count_trained(backbone: Backbone, cut: str) -> int:
    names = [stage.name for stage in backbone.stages]
    return sum(stage.parameters for stage in backbone.stages[names.index(cut) :])
