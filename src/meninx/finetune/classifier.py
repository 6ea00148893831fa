"""The fine-tuned classifier: a scikit-learn estimator around a pretrained network."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Image
from meninx.errors import CohortError, StudyError
from meninx.finetune.activations import Activations, ActivationStore
from meninx.finetune.augmentation import OwnView, View, make_views
from meninx.finetune.features import compute_features
from meninx.finetune.heads import build_head, fit_linear_head
from meninx.finetune.inputs import Inputs, list_images, weigh_images
from meninx.finetune.precision import find_device
from meninx.finetune.recipe import Preset, Recipe
from meninx.finetune.strategy import Strategy, copy_suffix
from meninx.finetune.trainer import Loss, train
from meninx.matrix import count_advised_stages

AUTO = "auto"


class FineTunedClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify images with a pretrained CNN, fine-tuned by one of the strategies.

    Parameters
    ----------
    backbone
        Name of a pretrained CNN (see :func:`meninx.backbones.catalogue`), or a network of your
        own: an ``nn.Module`` for 224 pixels, mean and standard deviation 0.5, or a
        :class:`meninx.backbones.Backbone` for others.
    strategy
        What of it is trained: ``frozen``, ``partial``, ``full`` or ``scratch``.
    cut
        For ``partial``: the first stage that is trained, such as ``stage7``; ``auto`` for what
        the Size-Similarity Matrix advises for the training images. It does not look at labels.
    extra_layers
        Widths of hidden layers in front of the output; empty for a linear head.
    recipe
        Every number of training: a :class:`Recipe`, or the name of a preset (``fast``,
        ``default``, ``thorough``).
    crop_head
        Whether images are cropped to the head, in fitting and in prediction alike.
    class_weight
        As in scikit-learn: ``balanced``, a mapping, or None for classes as frequent as they are.
    transforms
        Your own augmentation in place of the recipe's views: functions of squares
        ``(n, 3, s, s)`` in [0, 1]. Each is one view; their activations are not stored on disk.
    loss
        Your own loss of each image ``(b,)``, from logits ``(b, k)`` and class indices ``(b,)``;
        by default cross-entropy with label smoothing.
    weights
        A weight file for the backbone, in place of the usual sources.
    device
        Where it is computed: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    random_state
        Seed of everything random.

    Attributes
    ----------
    classes_
        ``(k,)`` the labels, sorted.
    backbone_, cut_
        The pretrained backbone, and where it was cut.
    suffix_, head_
        What was trained: activations at the cut to features, and features to logits.
    history_
        One :class:`Epoch` a pass over the images; none where gradient descent was not used.
    network_
        The whole, put together anew each time it is asked for: from normalised images
        ``(n, 3, s, s)`` to logits ``(n, k)``, children ``stem``, ``stage1`` … ``pool``, ``head``.

    Notes
    -----
    The prefix is frozen, its BatchNorm statistics too, and its activations are stored, so that
    fitting again, on other folds or with other settings, does not run it again. ``partial`` also
    leaves depthwise convolutions of the suffix as they are: few images say little about them, and
    a step is a third shorter. Fitted with the same seed on the same images, the same machine
    gives the same network, bit for bit, if it computes on one thread.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold, cross_val_predict
    >>> from meninx import Cohort, FineTunedClassifier
    >>> cohort = Cohort.open("my_images")  # doctest: +SKIP
    >>> cross_val_predict(
    ...     FineTunedClassifier(), cohort.images, cohort.labels,
    ...     groups=cohort.groups, cv=GroupKFold(5), method="predict_proba",
    ... )  # doctest: +SKIP
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, nn.Module, Backbone],
        "strategy": [str],
        "cut": [str, None],
        "extra_layers": ["array-like"],
        "recipe": [Recipe, str],
        "crop_head": ["boolean"],
        "class_weight": [dict, str, None],
        "transforms": ["array-like", None],
        "loss": [callable, None],
        "weights": [Path, str, None],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone: str | nn.Module | Backbone = "tf_efficientnet_lite0",
        strategy: Strategy | str = Strategy.PARTIAL,
        cut: str | None = AUTO,
        extra_layers: Sequence[int] = (),
        recipe: Recipe | Preset | str = Preset.DEFAULT,
        crop_head: bool = True,
        class_weight: Mapping[Any, float] | str | None = "balanced",
        transforms: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
        loss: Loss | None = None,
        weights: Path | str | None = None,
        device: str = AUTO,
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.strategy = strategy
        self.cut = cut
        self.extra_layers = extra_layers
        self.recipe = recipe
        self.crop_head = crop_head
        self.class_weight = class_weight
        self.transforms = transforms
        self.loss = loss
        self.weights = weights
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        X: Inputs,
        y: Sequence[object],
        sample_weight: Sequence[float] | None = None,
        groups: object = None,
    ) -> Self:
        """Fine-tune on images.

        Parameters
        ----------
        X
            n images; see :func:`meninx.finetune.inputs.list_images`.
        y
            ``(n,)`` labels, of at least two classes.
        sample_weight
            ``(n,)`` what each image counts for, on top of the class weights.
        groups
            Not used in fitting; here so that tools that pass patients along need not care.

        Raises
        ------
        CohortError
            There are fewer than two classes, or as many labels as images are not given.
        StudyError
            The strategy and the cut do not go together, or there is no such device.
        """
        self._validate_params()
        images, labels = list_images(X, self.crop_head), np.asarray(y)
        if len(images) != len(labels):
            raise CohortError(f"{len(images)} images were given with {len(labels)} labels")
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise CohortError("a classifier needs images of at least two classes")
        self.backbone_, self.cut_ = self.choose_network(images)
        weights = weigh_images(labels, self.class_weight, sample_weight)
        self.suffix_, self.history_ = self._copy_suffix(), []
        self.head_ = self._start_head(images, targets, weights)
        if not self.is_linear_probe:
            self.history_ = train(
                self.suffix_,
                self.head_,
                self._get_activations(self.cut_, images),
                targets,
                weights,
                self.recipe_,
                find_device(self.device),
                self.random_state,
                self.loss,
            )
        self.suffix_.eval()
        self.head_.eval()
        return self

    def decision_function(self, X: Inputs) -> np.ndarray:
        """Give the logits of images, averaged over their views.

        Returns
        -------
        np.ndarray
            ``(n, k)``; of two classes ``(n,)``, the second one's logit less the first one's, as
            scikit-learn's scorers expect it.
        """
        logits = self._compute_logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Inputs) -> np.ndarray:
        """Give class probabilities ``(n, k)``, columns as in ``classes_``."""
        return self._compute_logits(X).softmax(dim=1).numpy()

    def predict(self, X: Inputs) -> np.ndarray:
        """Give the most probable class of each image, ``(n,)``."""
        chosen: np.ndarray = self.classes_[self._compute_logits(X).argmax(dim=1).numpy()]
        return chosen

    def transform(self, X: Inputs) -> np.ndarray:
        """Give the pooled features ``(n, d)`` of images, averaged over their views."""
        return self._compute_features(X).mean(dim=1).numpy()

    @property
    def is_linear_probe(self) -> bool:
        """Whether all that is fitted is a logistic regression, and nothing by gradient descent."""
        return Strategy(self.strategy) is Strategy.FROZEN and not self.extra_layers

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Give the weights of what was trained, the suffix and the head, by their names."""
        check_is_fitted(self)
        trained = nn.ModuleDict({"suffix": self.suffix_, "head": self.head_})
        return {name: tensor.contiguous() for name, tensor in trained.state_dict().items()}

    def load_state_dict(
        self, state: Mapping[str, torch.Tensor], y: Sequence[object], cut: str
    ) -> Self:
        """Become the classifier that was fitted before, without training.

        Parameters
        ----------
        state
            Of its :meth:`state_dict`.
        y
            The labels that it was fitted on.
        cut
            Its ``cut_``.
        """
        self.classes_ = np.unique(np.asarray(y))
        self.backbone_, self.cut_ = self._load_backbone(), cut
        suffix, head = self._copy_suffix(), self._build_head()
        nn.ModuleDict({"suffix": suffix, "head": head}).load_state_dict(state)
        self.suffix_, self.head_, self.history_ = suffix.eval(), head.eval(), []
        return self

    @property
    def network_(self) -> nn.Sequential:
        """Put the frozen prefix, the suffix and the head together, each a copy."""
        check_is_fitted(self)
        return _join(self.backbone_.prefix(self.cut_), self.suffix_, self.head_)

    def choose_network(self, images: Sequence[Image]) -> tuple[Backbone, str]:
        """Load the backbone (from scratch, with fresh weights) and find where it is cut.

        Raises
        ------
        StudyError
            The strategy and the cut do not go together.
        """
        backbone, strategy = self._load_backbone(), Strategy(self.strategy)
        if strategy is not Strategy.PARTIAL:
            if self.cut not in (None, AUTO):
                raise StudyError(f"strategy {strategy} has no cut, but cut={self.cut!r} was given")
            return backbone, "head" if strategy is Strategy.FROZEN else "stem"
        if self.cut == AUTO:
            stages = len(backbone.stages)
            return backbone, backbone.cuts[max(stages - count_advised_stages(images), 1)]
        if self.cut not in backbone.cuts:
            raise StudyError(
                f"strategy partial needs a cut of {backbone.name}: "
                f"auto or one of {', '.join(backbone.cuts)}, not {self.cut!r}"
            )
        return backbone, self.cut

    @property
    def views(self) -> tuple[View | OwnView, ...]:
        """What each image is seen in."""
        if self.transforms is not None:
            return tuple(map(OwnView, self.transforms))
        return make_views(self.recipe_.views, self.recipe_.augmentation)

    @property
    def recipe_(self) -> Recipe:
        """The recipe, by whichever name it was given."""
        recipe = self.recipe
        return recipe if isinstance(recipe, Recipe) else Preset(recipe).recipe

    @property
    def _starts_from_regression(self) -> bool:
        """Whether the head is, or starts as, a logistic regression on frozen features."""
        is_pretrained = Strategy(self.strategy) is not Strategy.SCRATCH
        has_start = self.is_linear_probe or self.recipe_.head_start is not None
        return is_pretrained and not self.extra_layers and has_start

    def _load_backbone(self) -> Backbone:
        if Strategy(self.strategy) is Strategy.SCRATCH:
            if not isinstance(self.backbone, str):
                raise StudyError("strategy scratch needs a backbone's name, to build it anew")
            backbone = Backbone.untrained(self.backbone, self.random_state)
        elif isinstance(self.backbone, Backbone):
            backbone = self.backbone
        elif isinstance(self.backbone, nn.Module):
            backbone = Backbone.from_module(self.backbone)
        else:
            backbone = load_backbone(self.backbone, Path(self.weights) if self.weights else None)
        side = self.recipe_.image_size
        return backbone if side is None else backbone.resized(side)

    def _copy_suffix(self) -> nn.Module:
        return copy_suffix(self.backbone_, self.cut_, Strategy(self.strategy))

    def _get_activations(self, cut: str, images: Sequence[Image]) -> Activations:
        store = ActivationStore(device=find_device(self.device))
        return store.get(self.backbone_, cut, images, self.views)

    def _compute_features(self, X: Inputs) -> torch.Tensor:
        """Compute features ``(n, v, d)`` of n images in their views."""
        check_is_fitted(self)
        activations = self._get_activations(self.cut_, list_images(X, self.crop_head))
        return compute_features(
            self.suffix_, activations, len(self.views), find_device(self.device)
        )

    def _compute_logits(self, X: Inputs) -> torch.Tensor:
        """Compute logits ``(n, k)``, float64, the mean over an image's views."""
        with torch.inference_mode():
            logits: torch.Tensor = self.head_(self._compute_features(X)).mean(dim=1).double()
        return logits

    def _build_head(self) -> nn.Sequential:
        """Build a new head from the seed, leaving the global random state as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)
            return build_head(
                self.backbone_.features,
                len(self.classes_),
                self.extra_layers,
                self.recipe_.dropout,
            )

    def _start_head(
        self, images: Sequence[Image], targets: np.ndarray, weights: np.ndarray
    ) -> nn.Sequential:
        """Make the head that is the answer of a linear probe, and the start of other strategies."""
        head = self._build_head()
        if self._starts_from_regression:
            C = self.recipe_.C if self.is_linear_probe else self.recipe_.head_start
            assert C is not None
            features = compute_features(
                nn.Identity(), self._get_activations("head", images), len(self.views),
                torch.device("cpu"),
            )  # fmt: skip
            head[-1] = fit_linear_head(features.numpy(), targets, weights, C)
        return head

    def __sklearn_tags__(self) -> Tags:
        """Say that it takes images, not a table."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.non_deterministic = False
        return tags


def load_backbone(name: str, weights: Path | None = None) -> Backbone:
    """Load a backbone once a process; its layers are only ever read or copied."""
    # The cache tells `f(name)` from `f(name, None)`.
    return _load_backbone(name, weights)


@lru_cache(maxsize=16)
def _load_backbone(name: str, weights: Path | None) -> Backbone:
    return Backbone.load(name, weights)


def _join(prefix: nn.Module, suffix: nn.Module, head: nn.Module) -> nn.Sequential:
    """Put the parts together under the names their layers have in the backbone."""
    children = [
        child
        for part in (prefix, suffix)
        if isinstance(part, nn.Sequential)
        for child in part.named_children()
    ]
    # A copy: the frozen layers are shared with the backbone, which others read too.
    return copy.deepcopy(nn.Sequential(OrderedDict([*children, ("head", head)]))).eval()
