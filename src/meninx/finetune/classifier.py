"""The fine-tuned classifier: a scikit-learn estimator around a pretrained network."""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from meninx.backbones import Backbone
from meninx.cohort import Images
from meninx.errors import CohortError, StudyError
from meninx.finetune.activations import Activations, ActivationStore
from meninx.finetune.arithmetic import EXACT
from meninx.finetune.heads import build_head, solve_linear_head, solve_linear_heads
from meninx.finetune.prediction import average_logits, compute_all_features
from meninx.finetune.strategy import Strategy
from meninx.finetune.training import Recipe, count_passes, draw_batches, train
from meninx.finetune.training_form import TrainingForm
from meninx.finetune.views import make_views
from meninx.memory import give_memory_back

# Of the head that training starts from, and the last part of the steps that is averaged
# (benchmarks/accuracy_notes.md).
START_REGULARISATION, AVERAGED = 0.003, 0.5


class FineTunedClassifier(ClassifierMixin, BaseEstimator):
    """Classify images with a pretrained CNN, fine-tuned by one of the strategies.

    Parameters
    ----------
    backbone
        Name of a pretrained CNN; see :func:`meninx.backbones.catalogue`.
    strategy
        What of it is trained: ``frozen``, ``partial``, ``full`` or ``scratch``.
    cut
        For ``partial``: the first stage that is trained, such as ``stage7``.
    extra_layers
        Widths of hidden layers in front of the output; empty for a linear head.
    views
        In how many views each image is trained on and predicted.
    augmentation
        How far the views depart from the image; 0 only flips, 1 is the usual.
    regularisation
        For the linear head of ``frozen``: scikit-learn's C, larger fits closer.
    image_size
        Side of the square that images are resized to, pixels; by default what the backbone was
        pretrained on.
    epochs, batch_size, learning_rate, weight_decay, label_smoothing, dropout
        Of gradient descent, which trains all but the linear head of ``frozen``.
    blocks_left_out
        The share of its residual blocks that ``partial`` does without in each step, 0 to 1, where
        it starts from a solved head.
    weights
        A weight file for the backbone, in place of the usual sources.
    precision
        Of the stored activations; see :func:`choose_precision`.
    random_state
        Seed of everything random.

    Attributes
    ----------
    classes_
        ``(k,)`` the labels, sorted.
    backbone_
        The pretrained backbone.
    suffix_, head_
        What was trained: activations at the cut to features, and features to logits.
    network_
        The whole, put together anew each time it is asked for: from normalised images
        ``(n, 3, s, s)`` to logits ``(n, k)``, children ``stem``, ``stage1`` … ``pool``, ``head``.

    Notes
    -----
    The prefix is frozen, its BatchNorm statistics too, and its activations are stored, so that
    fitting again, on other folds or with other settings, does not run it again. What is trained
    keeps its pretrained BatchNorm statistics, and in the suffix of ``partial`` its depthwise
    convolutions: few images say little about either, and a step takes less than half the time.
    Without extra layers ``partial`` starts from a linear head that was solved on what the
    pretrained network makes of the images (Kumar et al. 2022, "Fine-tuning can distort pretrained
    features"), here loosely, leaves some residual blocks out of each step (Huang et al.
    2016, "Deep networks with stochastic depth"), and ends in the average of its last steps' weights
    (Izmailov et al. 2018, "Averaging weights leads to wider optima").
    ``scratch`` has no statistics to keep and learns them. Fitted with
    the same seed on the same images, the same machine gives the same network, bit for bit.

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

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        strategy: Strategy | str = Strategy.FROZEN,
        cut: str | None = None,
        extra_layers: Sequence[int] = (),
        views: int = 8,
        augmentation: float = 1.0,
        regularisation: float = 1.0,
        image_size: int | None = None,
        epochs: int = 12,
        batch_size: int = 16,
        learning_rate: float = 4e-4,
        weight_decay: float = 0.05,
        label_smoothing: float = 0.1,
        dropout: float = 0.3,
        blocks_left_out: float = 0.4,
        weights: Path | None = None,
        precision: str = EXACT,
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.strategy = strategy
        self.cut = cut
        self.extra_layers = extra_layers
        self.views = views
        self.augmentation = augmentation
        self.regularisation = regularisation
        self.image_size = image_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.blocks_left_out = blocks_left_out
        self.weights = weights
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Images, y: Sequence[object], groups: object = None) -> Self:
        """Fine-tune on images.

        Parameters
        ----------
        X
            n images: samples of a cohort, paths, or arrays in [0, 1] such as ``(n, h, w)`` or
            ``(n, c, h, w)``.
        y
            ``(n,)`` labels, of at least two classes.
        groups
            Not used in fitting; here so that tools that pass patients along need not care.

        Raises
        ------
        CohortError
            There are fewer than two classes, or as many labels as images are not given.
        StudyError
            The strategy and the cut do not go together.
        """
        labels = np.asarray(y)
        if len(X) != len(labels):
            raise CohortError(f"{len(X)} images were given with {len(labels)} labels")
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise CohortError("a classifier needs images of at least two classes")
        self.backbone_, self.cut_ = self.choose_network()
        activations = self._get_activations(self.backbone_, self.cut_, X)
        head = self._start_head(X, targets)
        suffix: nn.Module = nn.Identity()
        if self.is_solved:
            features = compute_all_features(suffix, activations, self.views)
            head[-1] = solve_linear_head(features.numpy(), targets, self.regularisation)
        elif self.cut_ == "head":
            self._train(suffix, head, activations, targets)
        else:
            form = TrainingForm.of_suffix(
                self.backbone_, self.cut_, Strategy(self.strategy), activations
            )
            self._train(form.network, head, activations, targets, form.residual_blocks)
            # A new copy: none beside the fast one, and its optimiser, is there until now.
            suffix = self.backbone_.suffix(self.cut_)
            form.write_back(suffix)
        self.suffix_, self.head_ = suffix.eval(), head.eval()
        return self

    def decision_function(self, X: Images) -> np.ndarray:
        """Give the logits of images, averaged over their views.

        Returns
        -------
        np.ndarray
            ``(n, k)``; of two classes ``(n,)``, the second one's logit less the first one's, as
            scikit-learn's scorers expect it.
        """
        logits = self._compute_logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Images) -> np.ndarray:
        """Give class probabilities ``(n, k)``, columns as in ``classes_``."""
        return torch.softmax(torch.from_numpy(self._compute_logits(X)), dim=1).numpy()

    def predict(self, X: Images) -> np.ndarray:
        """Give the most probable class of each image, ``(n,)``."""
        chosen: np.ndarray = self.classes_[self._compute_logits(X).argmax(axis=1)]
        return chosen

    def _compute_logits(self, X: Images) -> np.ndarray:
        """Compute logits ``(n, k)``, the mean over an image's views."""
        check_is_fitted(self)
        activations = self._get_activations(self.backbone_, self.cut_, X)
        features = compute_all_features(self.suffix_, activations, self.views)
        return average_logits(self.head_, features).numpy()

    @property
    def is_solved(self) -> bool:
        """Whether all that is fitted is a linear head: solved, and not trained step by step."""
        return Strategy(self.strategy) is Strategy.FROZEN and not self.extra_layers

    @property
    def starts_solved(self) -> bool:
        """Whether gradient descent starts from a linear head that was solved."""
        return Strategy(self.strategy) is Strategy.PARTIAL and not self.extra_layers

    @property
    def needed_cuts(self) -> tuple[str, ...]:
        """The cuts whose stored activations a fit reads."""
        cuts = {Strategy.FROZEN: ("head",), Strategy.PARTIAL: (str(self.cut),)}
        own = cuts.get(Strategy(self.strategy), ())
        return (*own, "head") if self.starts_solved else own

    def cross_predict(
        self, X: Images, y: Sequence[object], sides: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> list[np.ndarray]:
        """Solve the linear heads of several training sides together, and ask each its test side.

        The same as to fit and predict one after the other, within the tolerance of a solution
        and in a fifth of the time: features are read once, and the heads share their products.

        Parameters
        ----------
        X, y
            All images and their labels; every training side has all classes.
        sides
            Rows of each training side and its test side.

        Returns
        -------
        list of np.ndarray
            Probabilities ``(m, k)`` of each test side.

        Raises
        ------
        CohortError
            A training side has no image of one of the classes.
        StudyError
            More than a linear head is to be fitted.
        """
        if not self.is_solved:
            raise StudyError("only linear heads of frozen networks are solved together")
        _, targets = np.unique(np.asarray(y), return_inverse=True)
        activations = self._get_activations(*self.choose_network(), X)
        features = compute_all_features(nn.Identity(), activations, self.views)
        trained = [train for train, _ in sides]
        heads = solve_linear_heads(features.numpy(), targets, trained, self.regularisation)
        return [
            average_logits(head, features[test]).softmax(dim=1).numpy()
            for head, (_, test) in zip(heads, sides, strict=True)
        ]

    def list_trained(self) -> dict[str, torch.Tensor]:
        """List the weights of what was trained, the suffix and the head, by their names."""
        check_is_fitted(self)
        trained = nn.ModuleDict({"suffix": self.suffix_, "head": self.head_})
        return {name: tensor.contiguous() for name, tensor in trained.state_dict().items()}

    def restore(self, trained: Mapping[str, torch.Tensor], y: Sequence[object]) -> Self:
        """Become the classifier that was fitted before, without training.

        Parameters
        ----------
        trained
            Of its :meth:`list_trained`.
        y
            The labels that it was fitted on.
        """
        self.classes_ = np.unique(np.asarray(y))
        self.backbone_, self.cut_ = self.choose_network()
        suffix = self.backbone_.suffix(self.cut_)
        head = self.make_head(self.backbone_.features, len(self.classes_))
        nn.ModuleDict({"suffix": suffix, "head": head}).load_state_dict(trained)
        self.suffix_, self.head_ = suffix.eval(), head.eval()
        return self

    @property
    def network_(self) -> nn.Sequential:
        """Put the frozen prefix, the suffix and the head together, each a copy."""
        check_is_fitted(self)
        return _join(self.backbone_.prefix(self.cut_), self.suffix_, self.head_)

    def choose_network(self) -> tuple[Backbone, str]:
        """Load the backbone (from scratch, with fresh weights) and find where it is cut.

        Raises
        ------
        StudyError
            The strategy and the cut do not go together.
        """
        strategy = Strategy(self.strategy)
        if strategy is Strategy.SCRATCH:
            backbone = Backbone.untrained(self.backbone, self.random_state)
        else:
            backbone = load_backbone(self.backbone, self.weights)
        if self.image_size is not None:
            backbone = backbone.resized(self.image_size)
        if strategy is not Strategy.PARTIAL:
            if self.cut is not None:
                raise StudyError(f"strategy {strategy} has no cut, but cut={self.cut!r} was given")
            return backbone, "head" if strategy is Strategy.FROZEN else "stem"
        if self.cut not in backbone.cuts:
            raise StudyError(
                f"strategy partial needs a cut of {self.backbone}: "
                f"one of {', '.join(backbone.cuts)}, not {self.cut!r}"
            )
        return backbone, self.cut

    def _get_activations(self, backbone: Backbone, cut: str, X: Images) -> Activations:
        views = make_views(self.views, self.augmentation)
        return ActivationStore(precision=self.precision).get(backbone, cut, list(X), views)

    def make_head(self, features: int, classes: int) -> nn.Sequential:
        """Build a new head from the seed, leaving the global random state as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)
            return build_head(features, classes, self.extra_layers, self.dropout)

    def _start_head(self, X: Images, targets: np.ndarray) -> nn.Sequential:
        """Make the head that training starts from.

        For ``partial`` a linear head is solved first, on what the pretrained network makes of the
        images, so loosely that they have still much to teach: from a head that fits them nothing
        is learned any more, and a random one shakes the layers below until it has learned itself.
        """
        head = self.make_head(self.backbone_.features, len(self.classes_))
        if self.starts_solved:
            activations = self._get_activations(self.backbone_, "head", X)
            features = compute_all_features(nn.Identity(), activations, self.views)
            head[-1] = solve_linear_head(features.numpy(), targets, START_REGULARISATION)
            del features
            # Of thousands of images it would stay beside the activations that are trained on.
            give_memory_back()
        return head

    def _train(
        self,
        suffix: nn.Module,
        head: nn.Module,
        activations: Activations,
        targets: np.ndarray,
        residual_blocks: Sequence[str] = (),
    ) -> None:
        """Train the suffix and the head together."""
        recipe, seed = self.recipe, self.random_state
        batches = draw_batches(len(targets), self.views, recipe, seed)
        train(suffix, head, activations, targets, batches, recipe, seed, residual_blocks)

    @property
    def recipe(self) -> Recipe:
        """How gradient descent trains."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            averaged=AVERAGED if self.starts_solved else 0.0,
            left_out=self.blocks_left_out if self.starts_solved else 0.0,
        )

    def count_looks(self, images: int) -> int:
        """Count how often gradient descent looks at an image, all steps together."""
        return images * count_passes(images, self.recipe)


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
