"""How a slice lies in the patient and how large its pixels are: bring both to one convention."""

import numpy as np

# Of a pixel's two sides; closer than this is square for any network.
SQUARE_WITHIN = 0.01
# More stretched than any scanner's slices: such a spacing is a mistake, and is not followed.
MOST_STRETCHED = 20.0


def turn_upright(pixels: np.ndarray, orientation: tuple[float, ...] | None) -> np.ndarray:
    """Turn a slice so that it is shown as radiologists see it.

    Axial: anterior up, the patient's right on the left. Coronal: head up, right on the left.
    Sagittal: head up, anterior on the left. Quarter turns and flips only: oblique slices
    are not resampled.

    Parameters
    ----------
    pixels
        ``(h, w)`` or ``(h, w, 3)``.
    orientation
        DICOM's ImageOrientationPatient: the direction of a row, then of a column, in a space
        whose axes run to the patient's left, back and head. None, or one that is no
        orientation, leaves the slice as it is.
    """
    directions = read_directions(orientation)
    if directions is None:
        return pixels
    along_row, along_column = (int(np.abs(d).argmax()) for d in directions)
    if along_row == along_column:
        return pixels
    # Shown rows run to the left (axial, coronal) or to the back (sagittal): the lower axis.
    if along_row > along_column:
        pixels, directions = np.swapaxes(pixels, 0, 1), directions[::-1]
        along_row, along_column = along_column, along_row
    if directions[0][along_row] < 0:
        pixels = pixels[:, ::-1]
    # Shown columns run to the back (axial) or to the feet (coronal, sagittal).
    runs_down = (
        directions[1][along_column] > 0 if along_column == 1 else (directions[1][along_column] < 0)
    )
    return pixels if runs_down else pixels[::-1]


def read_directions(orientation: tuple[float, ...] | None) -> np.ndarray | None:
    """Give the unit directions of a row and a column, (2, 3), or None when there are none."""
    if orientation is None or len(orientation) != 6:
        return None
    directions = np.reshape(np.asarray(orientation, dtype=np.float64), (2, 3))
    lengths = np.linalg.norm(directions, axis=1)
    if not np.isfinite(directions).all() or not np.allclose(lengths, 1, atol=0.05):
        return None
    return directions / lengths[:, None]


def square_pixels(pixels: np.ndarray, height: float, width: float) -> np.ndarray:
    """Stretch a slice until its pixels are square, so that anatomy keeps its shape.

    Parameters
    ----------
    pixels
        ``(h, w)`` or ``(h, w, 3)``.
    height, width
        Of one pixel, in any unit. What is not a plausible size changes nothing.
    """
    if not (np.isfinite([height, width]).all() and height > 0 and width > 0):
        return pixels
    ratio = height / width
    if abs(ratio - 1) < SQUARE_WITHIN or not 1 / MOST_STRETCHED < ratio < MOST_STRETCHED:
        return pixels
    from scipy.ndimage import zoom

    stretch = (max(1.0, ratio), max(1.0, 1 / ratio), *[1.0] * (pixels.ndim - 2))
    return zoom(pixels.astype(np.float32), stretch, order=1, grid_mode=True, mode="nearest")
