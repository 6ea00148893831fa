"""Fine-tuning: a pretrained network becomes a classifier of the cohort's classes.

It stands after the matrix, which advises a strategy and a cut. In come images, labels, a
backbone's name and a strategy; out goes a fitted scikit-learn classifier that holds one torch
network from image to logits. The frozen prefix is computed once for each image and view.
"""

from meninx.finetune.activations import ActivationStore
from meninx.finetune.arithmetic import (
    EXACT,
    bring_into_fast_form,
    choose_precision,
    forget_fast_forms,
    quicken,
    run_in_parts,
)
from meninx.finetune.baselines import (
    compute_histograms,
    make_histogram_classifier,
    make_majority_classifier,
)
from meninx.finetune.classifier import FineTunedClassifier, load_backbone
from meninx.finetune.convolution import count_partly_trained
from meninx.finetune.counting import count_arithmetic, estimate_cost_of_steps
from meninx.finetune.ensemble import Ensemble
from meninx.finetune.heads import build_head
from meninx.finetune.strategy import Strategy
from meninx.finetune.timing import FitTimes, time_fits, time_heads
from meninx.finetune.views import make_views

__all__ = [
    "EXACT",
    "ActivationStore",
    "Ensemble",
    "FineTunedClassifier",
    "FitTimes",
    "Strategy",
    "bring_into_fast_form",
    "build_head",
    "choose_precision",
    "compute_histograms",
    "count_arithmetic",
    "count_partly_trained",
    "estimate_cost_of_steps",
    "forget_fast_forms",
    "load_backbone",
    "make_histogram_classifier",
    "make_majority_classifier",
    "make_views",
    "quicken",
    "run_in_parts",
    "time_fits",
    "time_heads",
]
