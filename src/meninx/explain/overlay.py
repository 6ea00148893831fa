"""Pictures of an image and of a heatmap laid over it."""

import io

import numpy as np
from PIL import Image

LARGEST_OPACITY = 0.6


def crop_to_image(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """Undo the padding to a square: ``(s, s)`` on the square becomes ``(height, width)``."""
    side = max(height, width)
    square = Image.fromarray(heatmap.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    top, left = (side - height) // 2, (side - width) // 2
    return np.asarray(square)[top : top + height, left : left + width]


def draw_image(image: np.ndarray) -> bytes:
    """Draw an image ``(h, w)`` or ``(h, w, 3)`` in [0, 1] as PNG."""
    return _encode(_as_colour(image))


def draw_overlay(image: np.ndarray, heatmap: np.ndarray) -> bytes:
    """Lay a heatmap over an image, the stronger the less transparent, as PNG.

    Parameters
    ----------
    image
        ``(h, w)`` or ``(h, w, 3)`` in [0, 1].
    heatmap
        ``(h, w)`` in [0, 1].
    """
    # 20 MiB that a study need not hold while it trains.
    import matplotlib

    colours = matplotlib.colormaps["inferno"](heatmap)[:, :, :3]
    opacity = LARGEST_OPACITY * heatmap[:, :, None]
    return _encode((1 - opacity) * _as_colour(image) + opacity * colours)


def _as_colour(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def _encode(colours: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((colours * 255).round().astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
