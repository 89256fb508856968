"""Figures of the latent space: codes, their noise, what each dimension costs, and how all of it fits the prior."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ...core.errors import ShapeError, UsageError
from ..fonts import drawable
from ..latents import check_dims
from .frame import (
    CLASSES,
    DPI,
    FONT,
    GREY,
    LETTER,
    MARKERS,
    MOST_CLASSES,
    PALETTE,
    WIDTH,
    HouseFigure,
    check_some,
    color_of,
    new_figure,
    short,
    style,
    write_heading,
    write_legend,
    write_title,
)
from .tiles import check_images, show_images


def latent_scatter(
    mean: Float[Tensor, "N D"],
    scale: Tensor | None,
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    *,
    dims: tuple[int, int] = (0, 1),
    ellipses: int = 60,
    circles: bool = True,
) -> Figure:
    """Return codes as points coloured by class, with ellipses of q(z|x) and circles of the prior N(0, I).

    Args:
        mean: of q(z|x).
        scale: standard deviation of q(z|x), of the same shape; None where codes are points.
        labels: the class of each row; above 20 classes all points look alike.
        classes: their names, which are written at their medians.
        dims: which two dimensions.
        ellipses: of so many rows one standard deviation of q(z|x) is drawn.
        circles: whether the prior is N(0, I), whose first two standard deviations are then drawn.

    Raises:
        ShapeError: if scale or labels are not of as many rows.
        UsageError: if there are no such dimensions.
    """
    _check_codes(mean, scale, labels, dims)
    codes = mean[:, list(dims)].detach().cpu().double().numpy()
    seen = np.asarray(np.isfinite(codes).all(1))
    kinds = None if labels is None else labels.detach().cpu().long().numpy()
    found = [] if kinds is None else np.unique(kinds[seen]).tolist()
    named = found if len(found) <= MOST_CLASSES else []
    figure, grid = new_figure(6.2, 6.4)
    axes = grid[0, 0]
    with style():
        for i, kind in enumerate(named or [None]):
            rows = codes[seen if kind is None or kinds is None else seen & (kinds == kind)]
            color = PALETTE[0] if kind is None else _class_color(i)
            marker = "o" if kind is None else MARKERS[i // len(CLASSES)]
            axes.scatter(*rows.T, s=7, color=color, marker=marker, alpha=0.65, linewidths=0, rasterized=True)
        if scale is not None:
            spread = scale[:, list(dims)].detach().cpu().double().numpy()
            colors = [PALETTE[0] if not named else _class_color(named.index(k)) for k in _or_none(kinds, seen)]
            _ellipses(axes, codes[seen][:ellipses], spread[seen][:ellipses], colors)
        if circles:
            _prior_circles(axes, (1, 2))
        _square(axes)
        axes.set_xlabel(f"z{dims[0]}")
        axes.set_ylabel(f"z{dims[1]}")
        write_title(axes, "means of q(z|x)" if scale is not None else "codes")
        _scatter_legend(figure, ellipses=scale is not None and ellipses > 0, circles=circles)
    if kinds is not None:
        names = [str(classes[k]) if 0 <= k < len(classes) else str(k) for k in named]
        _name_classes(figure, axes, names, [np.median(codes[seen & (kinds == k)], 0) for k in named])
    return figure


def _or_none(kinds: np.ndarray | None, seen: np.ndarray) -> list[Any]:
    return [None] * int(seen.sum()) if kinds is None else kinds[seen].tolist()


def _check_codes(mean: Tensor, scale: Tensor | None, labels: Tensor | None, dims: tuple[int, int]) -> None:
    check_dims(dims, mean.shape[1])
    if scale is not None and scale.shape != mean.shape:
        raise ShapeError(f"the scales are {list(scale.shape)}", expected=f"{list(mean.shape)}, as the means")
    if labels is not None and labels.shape != mean.shape[:1]:
        raise ShapeError(f"the labels are {list(labels.shape)}", expected=f"[{len(mean)}], one for each code")


def _class_color(i: int) -> str:
    return CLASSES[i % len(CLASSES)]


def _ellipses(axes: Axes, centres: np.ndarray, spread: np.ndarray, colors: Sequence[str]) -> None:
    for (x, y), (across, up), color in zip(centres, spread, colors, strict=False):
        if np.isfinite([across, up]).all():
            edge = Ellipse((x, y), 2 * across, 2 * up, fill=False, edgecolor=color, linewidth=0.9, gid="posterior")
            axes.add_patch(edge)


def _prior_circles(axes: Axes, radii: Sequence[int]) -> None:
    for radius in radii:
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="black", linestyle="--", linewidth=1, gid="prior"))


def _scatter_legend(figure: Figure, *, ellipses: bool, circles: bool) -> None:
    dashed = Line2D([], [], color="black", linestyle="--", linewidth=1)
    ring = Line2D([], [], color=GREY, marker="o", markerfacecolor="none", linestyle="none")
    drawn = [(ring, "q(z|x), 1 sd")] * ellipses + [(dashed, "N(0, 1) at 1 and 2 sd")] * circles
    write_legend(figure, [handle for handle, _ in drawn], [name for _, name in drawn])


def _name_classes(figure: Figure, axes: Axes, names: Sequence[str], places: Sequence[np.ndarray]) -> None:
    """Write names at their places, or as near as they fit without covering each other, with a line to the place."""
    with style():
        look: dict[str, Any] = {"ha": "center", "va": "center", "size": FONT + 1.5, "zorder": 6}
        edge = [withStroke(linewidth=3.5, foreground="white")]
        texts = [
            axes.text(x, y, short(n, 20), path_effects=edge, **look) for n, (x, y) in zip(names, places, strict=True)
        ]
        figure.draw_without_rendering()
        _spread(axes, texts)


def _spread(axes: Axes, texts: Sequence[Text]) -> None:
    """Move texts so that none covers another, and none leaves the axes where there is room."""
    room, taken = axes.get_window_extent(), []
    for text in texts:
        box = text.get_window_extent()
        start = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        half = np.array([box.width / 2 + 2, box.height / 2 + 1])
        low, high = np.array([room.x0, room.y0]) + half, np.array([room.x1, room.y1]) - half
        place = _free(np.clip(start, low, np.maximum(low, high)), half, low, high, taken)
        taken.append((place, half))
        moved = np.abs(place - start)
        origin = axes.transData.inverted().transform(start)
        text.set_position(tuple(axes.transData.inverted().transform(place)))
        if (moved > half).any():
            end = text.get_position()
            axes.plot([origin[0], end[0]], [origin[1], end[1]], color=GREY, linewidth=0.7, scalex=False, scaley=False)


def _free(start: np.ndarray, half: np.ndarray, low: np.ndarray, high: np.ndarray, taken: list[Any]) -> np.ndarray:
    """Return the place nearest to `start` where a box of half such a size covers no taken one."""
    steps = np.stack(np.meshgrid(np.arange(-40, 41) * 0.25, np.arange(-40, 41) * 0.5), -1).reshape(-1, 2)
    tried = start + steps * half * 2
    fits = ((tried >= low) & (tried <= high)).all(1)
    for place, size in taken:
        fits &= (np.abs(tried - place) > half + size).any(1)
    if not fits.any():
        return start
    return tried[fits][((tried[fits] - start) ** 2).sum(1).argmin()]


def rate_per_dimension(rates: Tensor | Mapping[str, Tensor], *, active: float = 0.01) -> Figure:
    """Return the rate of each dimension of z as bars from large to small, and how many are above `active`.

    Args:
        rates: `[D]` in nats, or such tensors by the models' names.
        active: the rate in nats above which a dimension counts as used.

    Raises:
        ShapeError: if rates are not of one axis.
        UsageError: if there is none.
    """
    parts = rates if isinstance(rates, Mapping) else {"": rates}
    check_some(parts, "rate")
    figure, grid = new_figure(WIDTH, 0.5 + 2.2 * len(parts), rows=len(parts), sharey=True)
    for axes, (name, values) in zip(grid[:, 0], parts.items(), strict=True):
        if values.dim() != 1 or not len(values):
            raise ShapeError(f"rates of the shape {list(values.shape)} cannot be drawn", expected="[D], 1 or more")
        with style():
            _bars(axes, name, values.detach().cpu().double().numpy(), active)
    with style():
        grid[-1, 0].set_xlabel("dimension of z, by its rate")
    return figure


def _bars(axes: Axes, name: str, values: np.ndarray, active: float) -> None:
    lost = int((~np.isfinite(values)).sum())
    values = np.where(np.isfinite(values), values, 0.0)
    order = np.argsort(-values, kind="stable")
    used = values[order] > active
    colors = [PALETTE[0] if u else "#BBBBBB" for u in used]
    axes.bar(np.arange(len(values)), values[order], color=colors, width=0.8)
    step = ceil(len(values) / 24)
    axes.set_xticks(np.arange(0, len(values), step), [f"z{d}" for d in order[::step]])
    axes.axhline(active, color=PALETTE[1], linestyle="--", linewidth=1)
    axes.set_ylabel("rate (nats)")
    axes.set_xlim(-0.7, len(values) - 0.3)
    what = f"{used.sum()} of {len(values)} dimensions above {active:g} nats, {values.sum():.4g} nats in all"
    if lost:
        what = (
            f"{lost} of {len(values)} dimensions have no finite rate; of the others {used.sum()} above {active:g} nats"
        )
    write_title(axes, f"{name}: {what}" if name else what)


def aggregate_against_prior(
    draws: Float[Tensor, "N D"], prior: Tensor | None = None, *, dims: Sequence[int] | None = None
) -> Figure:
    """Return histograms of draws from q(z) against the prior, and the first two dimensions as points.

    Args:
        draws: a draw from q(z|x) for each of many rows.
        prior: draws from the prior `[M, D]`; None for N(0, 1).
        dims: which dimensions; None for the first six.

    Raises:
        ShapeError: if the prior's draws have other dimensions.
        UsageError: if there are no draws, or no such dimensions.
    """
    if not len(draws):
        raise UsageError("there is no draw from q(z)", expected="1 or more")
    if prior is not None and (prior.dim() != 2 or prior.shape[1] != draws.shape[1]):
        raise ShapeError(f"the prior's draws are {list(prior.shape)}", expected=f"[M, {draws.shape[1]}]")
    chosen = tuple(range(min(6, draws.shape[1]))) if dims is None else tuple(dims)
    check_dims(chosen, draws.shape[1])
    values = draws[:, list(chosen)].detach().cpu().double().numpy()
    other = None if prior is None else prior[:, list(chosen)].detach().cpu().double().numpy()
    figure, map_axes, panels = _aggregate_layout(len(chosen))
    with style():
        for panel, i in zip(panels, range(len(chosen)), strict=True):
            _histogram(panel, values[:, i], None if other is None else other[:, i])
            panel.set_title(f"z{chosen[i]}", pad=3)
        if map_axes is not None:
            _map(map_axes, values[:, :2], other)
            map_axes.set_xlabel(f"z{chosen[0]}")
            map_axes.set_ylabel(f"z{chosen[1]}")
        write_heading(figure, "draws from q(z) against the prior p(z)")
        _aggregate_legend(
            figure, "p(z)" if prior is not None else "N(0, 1)" + ", 1, 2 and 3 sd" * (map_axes is not None)
        )
    return figure


def _aggregate_layout(count: int) -> tuple[Figure, Axes | None, list[Axes]]:
    """Return a figure with room for a map of two dimensions and so many histograms."""
    columns = 2 if count <= 6 else 4 if count <= 16 else 8
    rows = ceil(count / columns)
    beside = count <= 6
    with style():
        figure = HouseFigure(figsize=(WIDTH, 3.9 if beside else 3.4 + 1.1 * rows), dpi=DPI, layout="constrained")
        if count < 2:
            alone = figure.subplots()
            alone.set_ylabel("density")
            return figure, None, [alone]
        if beside:
            outer = figure.add_gridspec(1, 2, width_ratios=(1.1, 1))
        else:
            outer = figure.add_gridspec(2, 1, height_ratios=(2.8, 1.1 * rows))
        inner = outer[1].subgridspec(rows, min(columns, count))
        panels: list[Axes] = []
        for i in range(count):
            shared = panels[0] if panels else None
            panels.append(figure.add_subplot(inner[i // columns, i % columns], sharex=shared, sharey=shared))
            panels[-1].xaxis.set_major_locator(MaxNLocator(2 if columns > 4 else 4, integer=True))
            panels[-1].tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= count)
            if i % columns == 0 and (columns <= 4 or i // columns == rows // 2):
                panels[-1].set_ylabel("density")
        return figure, figure.add_subplot(outer[0]), panels


def _histogram(axes: Axes, values: np.ndarray, prior: np.ndarray | None) -> None:
    known = values[np.isfinite(values)]
    both = known if prior is None else np.concatenate([known, prior[np.isfinite(prior)]])
    low, high = min([-4.0, *both.tolist()]), max([4.0, *both.tolist()])
    bins = np.linspace(low, high, 41).tolist()
    if len(known):
        axes.hist(known, bins, density=True, color=PALETTE[0], alpha=0.6, histtype="stepfilled")
    if prior is None:
        across = np.linspace(low, high, 400)
        axes.plot(across, np.exp(-(across**2) / 2) / np.sqrt(2 * np.pi), color="black", linestyle="--", linewidth=1.1)
    else:
        axes.hist(prior[np.isfinite(prior)], bins, density=True, color="black", linestyle="--", histtype="step")


def _map(axes: Axes, values: np.ndarray, prior: np.ndarray | None) -> None:
    if prior is not None:
        axes.scatter(*prior[:, :2].T, s=5, color=GREY, marker="x", linewidths=0.6, rasterized=True)
    axes.scatter(*values[np.isfinite(values).all(1)].T, s=5, color=PALETTE[0], alpha=0.5, linewidths=0, rasterized=True)
    if prior is None:
        _prior_circles(axes, (1, 2, 3))
    _square(axes)


def _square(axes: Axes) -> None:
    """Make axes a square with both units of one length."""
    middles = [(low + high) / 2 for low, high in (axes.get_xlim(), axes.get_ylim())]
    half = max(abs(high - low) / 2 for low, high in (axes.get_xlim(), axes.get_ylim()))
    axes.set(xlim=(middles[0] - half, middles[0] + half), ylim=(middles[1] - half, middles[1] + half))
    axes.set_aspect("equal", adjustable="box")


def _aggregate_legend(figure: Figure, prior: str) -> None:
    dot = Line2D([], [], color=PALETTE[0], marker="o", markersize=5, linestyle="none")
    dashed = Line2D([], [], color="black", linestyle="--", linewidth=1.1)
    write_legend(figure, [dot, dashed], ["q(z)", prior])


def ae_beside_vae(
    decodes: Mapping[str, Float[Tensor, "N C H W"]],
    holes: Mapping[str, tuple[Tensor, Tensor, Tensor]],
    *,
    columns: int = 8,
) -> Figure:
    """Return a column for each model: random decodes, and below them where codes of data and random draws lie.

    Args:
        decodes: decoded random draws by the model's name.
        holes: by the same names codes of data `[N, 2]`, random draws `[M, 2]`, and which draws lie in holes `[M]`.
        columns: decodes in a row.

    Raises:
        ShapeError: if codes are not of two dimensions, or holes not one for each draw.
        UsageError: if the names differ, or there are none.
    """
    check_some(decodes, "model")
    if set(decodes) != set(holes):
        raise UsageError(f"decodes of {sorted(decodes)} but holes of {sorted(holes)}", expected="the same names")
    for images in decodes.values():
        check_images(images)
    for codes, draws, empty in holes.values():
        _check_holes(codes, draws, empty)
    width = WIDTH / len(decodes) - 0.7
    tall = max(_ratio(images, columns) for images in decodes.values()) * width
    heights = {"height_ratios": (tall, width)}
    figure, grid = new_figure(WIDTH, tall + width + 1.8, rows=2, columns=len(decodes), gridspec_kw=heights)
    for i, name in enumerate(decodes):
        show_images(grid[0, i], decodes[name], columns=columns)
        with style():
            grid[0, i].set_title(short(name, int(width / LETTER)), loc="left")
            _hole_map(grid[1, i], *holes[name])
    with style():
        write_heading(figure, "random z decoded, and where they lie among the codes of data")
        write_legend(figure, *_hole_legend())
    return figure


def _ratio(images: Tensor, columns: int) -> float:
    columns = min(columns, len(images))
    return ceil(len(images) / columns) * images.shape[2] / (columns * images.shape[3])


def _check_holes(codes: Tensor, draws: Tensor, empty: Tensor) -> None:
    for values in (codes, draws):
        if values.dim() != 2 or values.shape[1] != 2:
            raise ShapeError(f"codes of the shape {list(values.shape)} are on no map", expected="[N, 2]")
    if empty.shape != draws.shape[:1]:
        raise ShapeError(f"holes are of the shape {list(empty.shape)}", expected=f"[{len(draws)}], one for each draw")


def _hole_map(axes: Axes, codes: Tensor, draws: Tensor, empty: Tensor) -> None:
    bad = empty.detach().cpu().bool()
    for values, color, marker, size in _hole_layers(codes.detach().cpu(), draws.detach().cpu(), bad):
        axes.scatter(*values.double().numpy().T, s=size, color=color, marker=marker, linewidths=0.9, rasterized=True)
    _square(axes)
    axes.set_xlabel("z0")
    axes.set_ylabel("z1")
    axes.set_title(f"{int(bad.sum())} of {len(bad)} in holes", loc="left")


def _hole_layers(codes: Tensor, draws: Tensor, bad: Tensor) -> list[tuple[Tensor, str, str, int]]:
    return [(codes, "#BBBBBB", ".", 6), (draws[~bad], PALETTE[0], "+", 18), (draws[bad], PALETTE[1], "x", 18)]


def _hole_legend() -> tuple[list[Line2D], list[str]]:
    looks = (("#BBBBBB", "."), (PALETTE[0], "+"), (PALETTE[1], "x"))
    handles = [Line2D([], [], color=color, marker=marker, linestyle="none") for color, marker in looks]
    return handles, ["codes of data", "random z near them", "random z in a hole"]


def point_clouds(clouds: Mapping[str, Float[Tensor, "N 2"]], *, names: tuple[str, str] = ("x0", "x1")) -> Figure:
    """Return sets of points in the plane side by side, all on the same axes' range.

    Args:
        clouds: points by the set's name; those that are not finite are left out.
        names: of the axes.

    Raises:
        UsageError: if there is no set.
    """
    check_some(clouds, "set of points")
    known = np.concatenate([_known(points) for points in clouds.values()] + [np.zeros((0, 2))])
    low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.ones(2))
    margin = np.maximum(0.05 * (high - low), 1e-3)
    shape = np.clip((high - low + 2 * margin)[1] / (high - low + 2 * margin)[0], 0.4, 1.6)
    width = min(3.4, WIDTH / len(clouds))
    figure, grid = new_figure(
        max(3.4, width * len(clouds)), (width - 0.5) * shape + 0.8, columns=len(clouds), sharex=True, sharey=True
    )
    with style():
        for i, (axes, (name, points)) in enumerate(zip(grid[0], clouds.items(), strict=True)):
            axes.scatter(*_known(points).T, s=4, color=color_of(i), alpha=0.5, linewidths=0, rasterized=True)
            axes.set_xlabel(drawable(names[0]))
            axes.set_aspect("equal", adjustable="box")
            axes.set_title(short(name, int((width - 0.9) / LETTER)), loc="left")
        grid[0, 0].set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        grid[0, 0].set_ylabel(drawable(names[1]))
    return figure


def _known(points: Tensor) -> np.ndarray:
    """Return the points `[N, 2]` that are finite."""
    values = points.detach().cpu().double().numpy()
    return values[np.isfinite(values).all(1)]
