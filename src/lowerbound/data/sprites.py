"""Sprites: white shapes on black whose five factors are known, drawn by a formula when they are asked for.

They are in the manner of dSprites (Matthey et al. 2017, github.com/google-deepmind/dsprites-dataset), but a smaller set
of their own: 32 x 32 pixels, other outlines, scales, orientations and places. Numbers on them do not compare with
published ones on dSprites.
"""

from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..core.errors import DataError, ShapeError
from .arrays import from_arrays
from .dataset import Data, Dataset

FACTORS = {"shape": 3, "scale": 4, "orientation": 8, "x": 11, "y": 12}
"""The factors, and how many values each has."""
SHAPES = ("ellipse", "heart", "square")
SIZE = 32
_SIZES = tuple(FACTORS.values())
_RADIUS, _STEP = 4.7, 1.0  # of the smallest shape, and from one scale to the next, in pixels
_TURN = np.pi / 2  # that all orientations span: a square turned by this is itself again


def sprites(**options: Any) -> Data:
    """Sprites: 12,672 images of 32 x 32 binary pixels, every combination of shape, scale, orientation, x and y."""
    codes = _at(np.arange(prod(_SIZES)))
    return from_arrays(render(codes), np.asarray(SHAPES)[codes[:, 0]], name="sprites", kind="image", **options)


def factors(rows: Dataset) -> Int64[Tensor, "N 5"]:
    """Return the factors of each row as numbers from 0, in the order of `FACTORS`, whatever split it is in.

    They are read off each row's place in the whole set, and drawn again to see that they are those of its image.

    Args:
        rows: rows of `sprites`, any of them in any order.

    Raises:
        DataError: if they are no rows of `sprites`.

    >>> import lowerbound as lb
    >>> rows = lb.load_data("sprites").test
    >>> codes = factors(rows)
    >>> codes.shape, codes.amax(0).tolist(), torch.equal(codes[:, 0], rows.y)
    (torch.Size([1267, 5]), [2, 3, 7, 10, 11], True)
    """
    places = rows.places.cpu().numpy()
    if (
        rows.spec.name != "sprites"
        or tuple(rows.spec.shape) != (1, SIZE, SIZE)
        or places.max(initial=0) >= prod(_SIZES)
    ):
        raise DataError(f"the factors of {rows.spec.name} are not known", expected="rows of the built-in sprites")
    codes = _at(places)
    other = int((torch.from_numpy(render(codes)) != rows.values().cpu()[:, 0]).flatten(1).any(1).sum())
    if other:
        raise DataError(
            f"{other:,} of {len(rows):,} images are not those of their places: their factors are not known",
            expected="rows as `load_data` gave them",
        )
    return torch.from_numpy(codes)


def render(codes: np.ndarray) -> np.ndarray:
    """Return the images of factors `[N, 5]`, `[N, 32, 32]` uint8: 1 where a pixel's centre lies inside, else 0.

    In a shape's own frame, with u and v in units of its radius, a square is max(|u|, |v|) <= 0.83, an ellipse
    u^2 + (v / 0.55)^2 <= 1, a heart (u^2 + v^2 - 0.74)^3 <= 0.95 u^2 v^3. The radius is 4.7 to 7.7 pixels, the turn 0
    to 7/16 of pi; x counts pixels to the right and y pixels down.

    Raises:
        ShapeError: if these are no factors.

    >>> int(render(np.array([[2, 0, 0, 5, 6]])).sum())  # a square whose sides are 7.8 pixels long
    56
    """
    if codes.ndim != 2 or codes.shape[1] != len(_SIZES) or (codes < 0).any() or (codes >= _SIZES).any():
        raise ShapeError(f"no factors: {codes.tolist() if codes.size < 20 else codes.shape}", expected=f"{FACTORS}")
    rows, columns = SIZE + FACTORS["y"] - 1, SIZE + FACTORS["x"] - 1
    forms = _at(np.arange(prod(_SIZES[:3])), _SIZES[:3])
    drawn = _inside(forms, rows, columns)
    # a shape elsewhere is a window elsewhere of one larger picture [forms, 43, 42]
    windows = np.lib.stride_tricks.sliding_window_view(drawn, (SIZE, SIZE), (1, 2))
    form = np.ravel_multi_index(tuple(codes[:, :3].T), _SIZES[:3])
    return windows[form, FACTORS["y"] - 1 - codes[:, 4], FACTORS["x"] - 1 - codes[:, 3]]


def _at(places: np.ndarray, sizes: tuple[int, ...] = _SIZES) -> np.ndarray:
    """Return the factors `[N, F]` of places in the whole set, whose last factor changes fastest."""
    return np.stack(np.unravel_index(places, sizes), 1).astype(np.int64)


def _inside(forms: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return pictures `[M, rows, columns]` of shapes in the middle, for shape, scale and orientation `[M, 3]`."""
    shape, scale, orientation = (forms[:, i, None, None] for i in range(3))
    right = np.arange(columns)[None, None, :] - (columns - 1) / 2
    up = (rows - 1) / 2 - np.arange(rows)[None, :, None]
    angle, radius = orientation * (_TURN / FACTORS["orientation"]), _RADIUS + _STEP * scale
    u = (right * np.cos(angle) + up * np.sin(angle)) / radius
    v = (up * np.cos(angle) - right * np.sin(angle)) / radius
    ellipse = u**2 + (v / 0.55) ** 2 - 1
    heart = (u**2 + v**2 - 0.74) ** 3 - 0.95 * u**2 * v**3
    square = np.maximum(abs(u), abs(v)) - 0.83
    return (np.choose(shape, [ellipse, heart, square]) <= 0).astype(np.uint8)
