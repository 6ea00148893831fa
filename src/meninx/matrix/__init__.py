"""The Size-Similarity Matrix: look at the images before training on them.

It stands after cohort and backbones. In come a cohort and the names of backbones; out go how
far the images are from ImageNet, the quadrant they are in, the strategy and cut that this
advises with its reasons, and how well each backbone's frozen features suit the classes.
"""

from meninx.matrix.advice import Advice, Thresholds
from meninx.matrix.matrix import REFERENCE_BACKBONE, SizeSimilarityMatrix, count_advised_stages

__all__ = [
    "REFERENCE_BACKBONE",
    "Advice",
    "SizeSimilarityMatrix",
    "Thresholds",
    "count_advised_stages",
]
