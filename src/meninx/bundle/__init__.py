"""The bundle: a trained model as a folder that can be given to someone.

It stands after explanation. In come a fitted classifier, its calibration and its scores; out
goes a folder of safetensors and JSON, which predicts and explains without the training data.
"""

from meninx.bundle.bundle import Bundle, Prediction
from meninx.bundle.card import Card

__all__ = ["Bundle", "Card", "Prediction"]
