"""Figures of images: sheets of tiles with names of rows and columns."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ...core.errors import ShapeError, UsageError
from ...core.model import Show
from ..fonts import drawable
from ..sheets import WHAT, in_rows, words_in_rows
from .frame import (
    LETTER,
    LINE,
    NAME,
    WIDTH,
    check_some,
    in_lines,
    letters,
    new_figure,
    short,
    style,
    write_heading,
    write_title,
)

TILE, TALLEST = 1.0, 11.0  # inches: the largest tile, and the tallest sheet of tiles


def mosaic(images: Float[Tensor, "N C H W"], columns: int, gap: int = 1, below: int = 0) -> np.ndarray:
    """Return images row by row as one picture `[height, width, 3]` of floats in [0, 1], white between the tiles.

    Values are clipped to [0, 1]; those that are no numbers stay white.

    Args:
        images: grey or in colour.
        columns: tiles in a row, if there are so many.
        gap: pixels between tiles.
        below: more pixels below each tile.

    Raises:
        ShapeError: if the images have neither 1 nor 3 channels.
        UsageError: if there is none, or no column.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ShapeError(f"images with {channels} channels cannot be drawn", expected="1 (grey) or 3 (colour)")
    if not images.numel() or columns < 1:
        asked = f"in {columns} columns" if images.numel() else "of no image"
        raise UsageError(f"a picture {asked} cannot be drawn", expected="1 or more")
    columns = min(columns, count)
    tiles = images.detach().cpu().float().nan_to_num(1.0, 1.0, 0.0).clamp(0, 1).expand(-1, 3, -1, -1)
    step = height + below + gap
    whole = np.ones((ceil(count / columns) * step - gap, columns * (width + gap) - gap, 3))
    for i, tile in enumerate(tiles.permute(0, 2, 3, 1).numpy()):
        top, left = i // columns * step, i % columns * (width + gap)
        whole[top : top + height, left : left + width] = tile
    return whole


def show_images(
    axes: Axes,
    images: Float[Tensor, "N C H W"],
    *,
    columns: int,
    title: str = "",
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
    gap: int = 1,
    words: Sequence[str] = (),
    below: int = 0,
) -> None:
    """Draw images as tiles into axes, each pixel a square with sharp edges.

    Args:
        axes: where to.
        images: grey or in colour, values in [0, 1].
        columns: tiles in a row.
        title: what they are.
        rows: a text left of each row, if any.
        heads: a text above each column, if any.
        gap: pixels between tiles.
        words: a text below each tile, if any.
        below: pixels of the images that these have room in.

    Raises:
        ShapeError: if the images have neither 1 nor 3 channels, or the texts are not one for each row or column.
        UsageError: if there is no image.
    """
    picture = mosaic(images, columns, gap, below)
    columns = min(columns, len(images))
    height, width = images.shape[2] + below + gap, images.shape[3] + gap
    lines = ceil(len(images) / columns)
    for what, texts, count in (("rows", rows, lines), ("columns", heads, columns), ("tiles", words, len(images))):
        if texts and len(texts) != count:
            raise ShapeError(f"{len(texts)} texts cannot name {count} {what}", expected="a text for each, or none")
    with style():
        axes.imshow(picture, interpolation="nearest", vmin=0, vmax=1)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, pad=3)
        axes.set_xticks([i * width + (width - 1 - gap) / 2 for i in range(len(heads))], [drawable(t) for t in heads])
        for i, text in enumerate(words):
            across, down = i % columns * width + (width - 1 - gap) / 2, i // columns * height + images.shape[2] - 0.5
            axes.text(across, down, text, ha="center", va="top", linespacing=1.0)
        axes.set_yticks([i * height + (images.shape[2] - 1) / 2 for i in range(len(rows))], [short(t) for t in rows])
        write_title(axes, title)


def _sheet(
    images: Tensor, *, columns: int, title: str = "", rows: Sequence[str] = (), heads: Sequence[str] = (),
    words: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Return a figure of nothing but tiles, just large enough for them and their texts."""
    check_images(images)
    columns = min(columns, len(images))
    lines, ratio = ceil(len(images) / columns), images.shape[2] / images.shape[3]
    left = 0.15 + LETTER * max((min(letters(t), NAME) for t in rows), default=0)
    said = LINE * max((text.count("\n") + 1 for text in words), default=0)
    tile = min(TILE, (WIDTH - left) / columns, max(TALLEST / lines - said, 0.1) / ratio)
    width = min(WIDTH, max(3.5, left + columns * tile))
    texts = len(in_lines(title, width)) + bool(heads)
    figure, axes = new_figure(width, lines * (tile * ratio + said) + LINE * texts + 0.15)
    rows = _thinned(rows, 0.8 * LINE / (tile * ratio + said))
    heads = _thinned(heads, LETTER * (1 + max(map(letters, heads), default=0)) / tile)
    below = ceil(said * images.shape[3] / tile)
    room = max(1, int(tile / LETTER))
    words = ["\n".join(short(line, room) for line in text.split("\n")) for text in words]
    show_images(axes[0, 0], images, columns=columns, rows=rows, heads=heads, words=words, below=below)
    if rows:
        axes[0, 0].set_anchor("E")  # what room is left goes to the names
    with style():
        write_heading(figure, title)
    return figure


def _thinned(texts: Sequence[str], each: float) -> list[str]:
    """Return texts of which so many are blank that the others have room: each needs that of `each` tiles."""
    step = max(1, ceil(each))
    return [t if i % step == 0 else "" for i, t in enumerate(texts)]


def check_images(images: Tensor, like: Tensor | None = None) -> None:
    """Raise ShapeError or UsageError unless these are images, of the shape of `like` if that is given."""
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"{list(images.shape)} is no shape of images", expected="[N, 1 or 3, height, width]")
    if not images.numel():
        raise UsageError("there is no image to draw", expected="1 or more")
    if like is not None and images.shape != like.shape:
        raise ShapeError(
            f"{list(images.shape)} images cannot stand beside {list(like.shape)}", expected="two sets of one shape"
        )


def reconstructions(
    originals: Float[Tensor, "N C H W"],
    made: Tensor,
    *,
    show: Show = "mean",
    columns: int = 10,
    seen: Tensor | None = None,
    title: str = "",
    words: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Figure:
    """Return rows of originals above rows of their reconstructions, and above both what the encoder saw, if given.

    Args:
        originals: values in [0, 1].
        made: their reconstructions, of the same shape.
        show: whether they are means or draws.
        columns: images in a row.
        seen: what the encoder was given in place of the originals, of the same shape.
        title: what is shown, if more than the rows' names say.
        words: texts below the originals and below their reconstructions, if any.

    Raises:
        ShapeError: if the sets differ in shape, or are no images.
        UsageError: if there is none.
    """
    sets = [originals, made] if seen is None else [seen, originals, made]
    for images in sets:
        check_images(images, originals)
    columns = min(columns, len(originals))
    names = [*(["seen"] if seen is not None else []), "original", WHAT[show].removeprefix("a ")]
    rows = names * ceil(len(originals) / columns)
    title = title or f"originals above their reconstructions: {WHAT[show]}"
    below = words_in_rows(words if seen is None else ((), *words), columns)
    images = in_rows([s.detach().cpu().float() for s in sets], columns)
    return _sheet(images, columns=columns, title=title, rows=rows, words=below)


def reconstructions_by_epoch(originals: Float[Tensor, "N C H W"], made: Mapping[int, Tensor]) -> Figure:
    """Return the originals in the first row, and below them a row of their reconstructions after each epoch.

    Args:
        originals: values in [0, 1].
        made: means of p(x|z) of the same shape by epoch; epoch 0 is the untrained model.

    Raises:
        ShapeError: if the sets differ in shape, or are no images.
        UsageError: if there is none.
    """
    epochs = sorted(made)
    for images in (originals, *made.values()):
        check_images(images, originals)
    rows = ["original", *(f"epoch {e}" if e else "untrained" for e in epochs)]
    images = torch.cat([s.detach().cpu().float() for s in (originals, *(made[e] for e in epochs))])
    return _sheet(images, columns=len(originals), title=f"reconstructions by epoch: {WHAT['mean']}", rows=rows)


def samples(
    images: Float[Tensor, "N C H W"], *, show: Show = "mean", columns: int = 8, title: str = "",
    words: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Return images decoded from draws of the prior; the title says whether they are means or draws.

    A text of `words` stands below each image, if there are any.

    Raises:
        ShapeError: if they are no images.
        UsageError: if there is none.
    """
    what = f"{WHAT[show]}, z from the prior"
    return _sheet(images, columns=columns, title=f"{title}: {what}" if title else what, words=words)


def learned_manifold(
    grids: Mapping[str, Float[Tensor, "N C H W"]], *, steps: int, dims: tuple[int, int] = (0, 1)
) -> Figure:
    """Return the images that two dimensions of z span, side by side for each way to place the codes, without gaps.

    Args:
        grids: by their names `steps * steps` images each, as `latents.manifold` orders the codes.
        steps: images in a row.
        dims: the dimensions that run across and up.

    Raises:
        ShapeError: if a grid has another number of images, or none that can be drawn.
        UsageError: if there is no grid.
    """
    check_some(grids, "grid")
    for name, images in grids.items():
        check_images(images)
        _check_count(f"grid {name!r}", images, steps * steps, f"{steps} x {steps}")
    first = next(iter(grids.values()))
    side = min(5.0, WIDTH / len(grids))
    titles = max(len(in_lines(name, side - 0.3)) for name in grids)
    height = (side - 0.3) * first.shape[2] / first.shape[3] + 0.56 + LINE * titles
    figure, axes = new_figure(max(3.5, side * len(grids)), height, columns=len(grids))
    for panel, (name, images) in zip(axes[0], grids.items(), strict=True):
        show_images(panel, images, columns=steps, gap=0)
        with style():
            write_title(panel, name, side - 0.3)
            panel.set_xlabel(f"z{dims[0]} →")
            panel.set_ylabel(f"z{dims[1]} →")
    with style():
        write_heading(figure, f"what two dimensions of z span: {WHAT['mean']}")
    return figure


def _check_count(what: str, images: Tensor, count: int, why: str) -> None:
    if len(images) != count:
        raise ShapeError(f"{what} has {len(images)} images", expected=f"{count} ({why})")


def traversals(
    images: Float[Tensor, "N C H W"], *, dims: Sequence[int], probabilities: Sequence[float], title: str = "",
    words: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Return a row of images for each dimension of z, which runs through its prior's quantiles.

    Args:
        images: row by row, as `latents.traversal` orders the codes.
        dims: the dimension of each row.
        probabilities: of the quantile of each column.
        title: what is shown.
        words: a text below each image, if any.

    Raises:
        ShapeError: if there is another number of images, or none that can be drawn.
        UsageError: if there is none.
    """
    check_images(images)
    _check_count("a traversal", images, len(dims) * len(probabilities), f"{len(dims)} x {len(probabilities)}")
    heads = [f"{100 * p:.3g}%" for p in probabilities]
    title = title or f"one dimension at a time, at quantiles of its prior: {WHAT['mean']}"
    return _sheet(images, columns=len(heads), title=title, rows=[f"z{d}" for d in dims], heads=heads, words=words)


def interpolations(paths: Mapping[str, Float[Tensor, "N C H W"]], *, words: Sequence[str] = ()) -> Figure:
    """Return a row of images for each way from one code to another; the heads are the share of the way.

    Args:
        paths: images from start to end by the path's name, all of one shape.
        words: a text below each image, path after path, if any.

    Raises:
        ShapeError: if the paths differ in shape, or are no images.
        UsageError: if there is none.
    """
    check_some(paths, "path")
    steps = len(next(iter(paths.values())))
    heads = [f"{i / max(steps - 1, 1):.0%}" for i in range(steps)]
    title = f"between two codes, by the share of the way: {WHAT['mean']}"
    return rows_of_images(paths, title=title, heads=heads, words=words)


def rows_of_images(
    sets: Mapping[str, Float[Tensor, "N C H W"]], *, title: str = "", heads: Sequence[str] = (),
    words: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Return a row of images for each set, named at its left.

    Args:
        sets: images by the row's name, all of one shape.
        title: what is shown.
        heads: a text above each column, if any.
        words: a text below each image, row after row, if any.

    Raises:
        ShapeError: if the sets differ in shape, or are no images.
        UsageError: if there is none.
    """
    check_some(sets, "row")
    rows = list(sets.values())
    for images in rows:
        check_images(images, rows[0])
    together = torch.cat([images.detach().cpu().float() for images in rows])
    return _sheet(together, columns=len(rows[0]), title=title, rows=list(sets), heads=heads, words=words)
