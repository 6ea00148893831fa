"""Explanation: where in an image a network found its answer, and whether to believe it.

It stands after evaluation. In come a fitted network and prepared images; out go heatmaps and
pictures with them, the check that the heatmaps come from what the network learned, and, where
lesions are marked, how much of the heatmaps lies on them. A heatmap says where the network
looked, not why, nor that it was right.
"""

from meninx.explain.gradcam import explain
from meninx.explain.localisation import Localisation, Marked
from meninx.explain.occlusion import occlude
from meninx.explain.overlay import crop_to_image, draw_image, draw_overlay
from meninx.explain.sanity import Sanity, WeightRandomization, randomize_weights

__all__ = [
    "Localisation",
    "Marked",
    "Sanity",
    "WeightRandomization",
    "crop_to_image",
    "draw_image",
    "draw_overlay",
    "explain",
    "occlude",
    "randomize_weights",
]
