"""Explanation: where in an image a network found its answer.

It stands after evaluation. In come a fitted network and prepared images; out go heatmaps and
pictures with them. A heatmap says where the network looked, not why, nor that it was right.
"""

from meninx.explain.gradcam import explain
from meninx.explain.overlay import crop_to_image, draw_image, draw_overlay

__all__ = ["crop_to_image", "draw_image", "draw_overlay", "explain"]
