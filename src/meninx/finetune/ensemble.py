"""The ensemble: several classifiers that answer together."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from meninx.cohort import Images
from meninx.finetune.classifier import FineTunedClassifier


class Ensemble(ClassifierMixin, BaseEstimator):
    """Average the class probabilities of several fine-tuned classifiers.

    Networks of different architecture make different mistakes, and the mean of their
    probabilities is surer where they agree and less sure where they do not (Lakshminarayanan,
    Pritzel and Blundell 2017).

    Parameters
    ----------
    members
        Classifiers; left as they are.

    Attributes
    ----------
    classes_
        ``(k,)`` the labels, sorted.
    members_
        Fitted copies.
    """

    def __init__(self, members: Sequence[FineTunedClassifier]) -> None:
        self.members = members

    @classmethod
    def of_fitted(cls, members: Sequence[FineTunedClassifier]) -> Self:
        """Make an ensemble of classifiers that were fitted on the same images before."""
        ensemble = cls(members)
        ensemble.members_ = list(members)
        ensemble.classes_ = members[0].classes_
        return ensemble

    def fit(self, X: Images, y: Sequence[object], groups: object = None) -> Self:
        """Fit each member on the same images; see :meth:`FineTunedClassifier.fit`."""
        self.members_ = [clone(member).fit(X, y) for member in self.members]
        self.classes_ = self.members_[0].classes_
        return self

    def predict_proba(self, X: Images) -> np.ndarray:
        """Give class probabilities ``(n, k)``, the mean of the members'."""
        check_is_fitted(self)
        mean: np.ndarray = np.mean([member.predict_proba(X) for member in self.members_], axis=0)
        return mean

    def predict(self, X: Images) -> np.ndarray:
        """Give the most probable class of each image, ``(n,)``."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen
