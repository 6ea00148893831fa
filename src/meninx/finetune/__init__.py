"""Fine-tuning: a pretrained network becomes a classifier of the cohort's classes.

It stands after the matrix, which advises a strategy and a cut. In come images, labels, a
backbone's name, a strategy and a recipe; out goes a fitted scikit-learn classifier that holds one
torch network from image to logits. The frozen prefix is computed once for each image and view.
"""

from meninx.finetune.activations import ActivationStore
from meninx.finetune.augmentation import make_views
from meninx.finetune.baselines import (
    compute_histograms,
    make_histogram_classifier,
    make_majority_classifier,
)
from meninx.finetune.batches import count_steps
from meninx.finetune.classifier import FineTunedClassifier, load_backbone
from meninx.finetune.ensemble import Ensemble
from meninx.finetune.folding import fold_batch_norm
from meninx.finetune.heads import build_head
from meninx.finetune.precision import find_device
from meninx.finetune.recipe import SCRATCH, Preset, Recipe
from meninx.finetune.strategy import Strategy, count_trained
from meninx.finetune.trainer import Epoch

__all__ = [
    "SCRATCH",
    "ActivationStore",
    "Ensemble",
    "Epoch",
    "FineTunedClassifier",
    "Preset",
    "Recipe",
    "Strategy",
    "build_head",
    "compute_histograms",
    "count_steps",
    "count_trained",
    "find_device",
    "fold_batch_norm",
    "load_backbone",
    "make_histogram_classifier",
    "make_majority_classifier",
    "make_views",
]
