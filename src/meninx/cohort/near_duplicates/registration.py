"""Registration: the affine map that lays one picture over another.

In: pairs of pictures of one square size, and a first guess of the map. Out: better maps, and
pictures looked at through them. Inverse compositional Gauss-Newton steps (Baker & Matthews
2004, IJCV 56:221), for many pairs at once, because a library's registration of one pair at a
time takes longer than opening the images does.
"""

import numpy as np

# Of half a side: what lies further out is not compared. There are frames, the black corners of
# rotated pictures, and outlines, which are alike in all pictures of one organ.
MARGIN = 0.85


def register(
    part: np.ndarray, whole: np.ndarray, warp: np.ndarray, stride: int, steps: int
) -> np.ndarray:
    """Improve the maps that lay `whole` over `part`, by Gauss-Newton steps.

    Parameters
    ----------
    part, whole
        ``(m, s, s)`` details of pictures: mean 0, spread 1.
    warp
        ``(m, 2, 3)`` maps of (y, x, 1), both in [-1, 1], from `part` to `whole`.
    stride
        At every how many pixels it is looked.
    steps
        How many steps are made.
    """
    side = part.shape[-1]
    grid = make_grid(side, stride)
    gradients = np.gradient(part, 2 / side, axis=(1, 2))
    slopes = np.concatenate(
        [g[:, ::stride, ::stride].reshape(len(part), 1, -1) * grid.T for g in gradients], axis=1
    )
    curvature = slopes @ slopes.transpose(0, 2, 1)
    curvature += 1e-3 * np.trace(curvature, axis1=1, axis2=2)[:, None, None] * np.eye(6) / 6
    inverse = np.linalg.inv(curvature).astype(np.float32)
    target = part[:, ::stride, ::stride].reshape(len(part), -1)
    for _ in range(steps):
        seen, inside = look_through(whole, warp, stride)
        pull = slopes @ ((seen - target) * inside)[:, :, None]
        step = (inverse @ pull).reshape(-1, 2, 3)
        warp = _compose(warp, np.clip(step, -0.1, 0.1))
    return warp


def look_through(
    whole: np.ndarray, warp: np.ndarray, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Look at pictures through maps: values ``(m, p)``, and whether both show each."""
    side = whole.shape[-1]
    grid = make_grid(side, stride).T
    y, x = ((warp[:, axis] @ grid + 1) * (side / 2) - 0.5 for axis in (0, 1))
    reach = MARGIN * side / 2
    inside = (np.abs(grid[:2]) < MARGIN).all(axis=0)
    for at in (y, x):
        inside = inside & (np.abs(at + 0.5 - side / 2) < reach)
    top, left = (np.clip(np.floor(at), 0, side - 2).astype(np.int32) for at in (y, x))
    down, right = np.clip(y - top, 0, 1), np.clip(x - left, 0, 1)
    # Indices into all pictures at once: numpy's take is quicker than one along an axis.
    corner = top * side + left + (np.arange(len(whole), dtype=np.int32) * side**2)[:, None]
    flat = whole.ravel()
    value = [flat.take(corner + shift) for shift in (0, 1, side, side + 1)]
    upper = value[0] + (value[1] - value[0]) * right
    lower = value[2] + (value[3] - value[2]) * right
    return upper + (lower - upper) * down, inside


def make_grid(side: int, stride: int = 1) -> np.ndarray:
    """Give (y, x, 1) of every pixel, or every stride-th, from -1 to 1, ``(p, 3)``."""
    places = ((np.arange(0, side, stride) + 0.5) * 2 / side - 1).astype(np.float32)
    y, x = np.meshgrid(places, places, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.ones(y.size, np.float32)], axis=1)


def _compose(warp: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Follow the inverse of the map 1 + step by a map, ``(m, 2, 3)``."""
    bottom = np.broadcast_to(np.array([0, 0, 1], dtype=np.float32), (len(warp), 1, 3))
    moved = np.concatenate([np.eye(2, 3, dtype=np.float32) + step, bottom], axis=1)
    return warp @ np.linalg.inv(moved)
