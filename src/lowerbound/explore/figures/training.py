"""Figures of numbers in the course of training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ...core.errors import UsageError
from ..fonts import drawable
from .frame import (
    GREY,
    LINE,
    MARKERS,
    WIDTH,
    Points,
    color_of,
    dash_of,
    finite,
    legend_rows,
    new_figure,
    style,
    write_legend,
    write_title,
)


def curves(
    lines: Mapping[str, Points],
    *,
    x: str,
    y: str,
    title: str = "",
    logx: bool = False,
    logy: bool = False,
    markers: bool = False,
) -> Figure:
    """Return lines that differ by colour and dashes, with a legend below them.

    Args:
        lines: points (x, y) by the lines' names; those that have no place on the axes are left out.
        x: what runs across.
        y: what runs up, with its unit.
        title: what is shown.
        logx: whether x has a logarithmic axis.
        logy: whether y has one.
        markers: whether each point is marked.
    """
    figure, grid = new_figure(WIDTH, 3.3 + LINE * legend_rows(list(lines)))
    axes = grid[0, 0]
    with style():
        for i, points in enumerate(lines.values()):
            across = finite(points)
            across = across[(across[:, 0] > 0) >= logx]
            across = across[(across[:, 1] > 0) >= logy]
            marker = MARKERS[i % len(MARKERS)] if markers or len(across) == 1 else None
            axes.plot(*across.T, color=color_of(i), linestyle=dash_of(i), marker=marker, markersize=4)
        drawn = any(len(line.get_xydata()) for line in axes.lines)
        axes.set(xscale="log" if logx and drawn else "linear", yscale="log" if logy and drawn else "linear")
        axes.set_xlabel(drawable(x))
        if not logx and all(float(point[0]).is_integer() for points in lines.values() for point in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(drawable(y))
        write_title(axes, title)
        write_legend(figure, axes.lines, list(lines))
    return figure


def tug_of_war(runs: Mapping[str, Points], *, title: str = "") -> Figure:
    """Return the way of each run over rate and distortion, with thin lines of equal ELBO and their values.

    Args:
        runs: (rate, distortion) after each epoch in nats, by the run's name; the ELBO is minus their sum.
        title: what is shown.

    Raises:
        UsageError: if there is no finite point.
    """
    points = {name: finite(run) for name, run in runs.items()}
    if not sum(map(len, points.values())):
        raise UsageError("there is no rate and distortion to draw", expected="a point or more of finite values")
    names = [*points, "first epoch", "last epoch", "equal ELBO (nats)"]
    figure, grid = new_figure(WIDTH, 4.0 + LINE * legend_rows(names))
    axes = grid[0, 0]
    with style():
        lines = [_way(axes, i, way) for i, way in enumerate(points.values())]
        _equal_elbo(axes, np.concatenate(list(points.values())))
        axes.set_xlabel("rate: KL(q(z|x) || p(z)) (nats)")
        axes.set_ylabel("distortion: -E log p(x|z) (nats)")
        write_title(axes, title or "rate against distortion, epoch by epoch")
        first = Line2D([], [], color=GREY, marker="o", markerfacecolor="white", markersize=7, linestyle="none")
        last = Line2D([], [], color=GREY, marker="o", markersize=7, linestyle="none")
        equal = Line2D([], [], color=GREY, linewidth=0.6)
        write_legend(figure, [*lines, first, last, equal], names)
    return figure


def _way(axes: Axes, i: int, way: np.ndarray) -> Line2D:
    """Draw one run: a line through all epochs, the first one open and the last one filled."""
    marker = MARKERS[i % len(MARKERS)]
    (line,) = axes.plot(*way.T, color=color_of(i), linestyle=dash_of(i), marker=marker, markersize=3, zorder=3)
    if len(way):
        axes.plot(*way[0], color=color_of(i), marker=marker, markersize=8, markerfacecolor="white", zorder=4)
        axes.plot(*way[-1], color=color_of(i), marker=marker, markersize=8, zorder=5)
    return line


def _equal_elbo(axes: Axes, points: np.ndarray) -> None:
    """Draw lines of equal ELBO over the range of the points, each with its value where it is far from them."""
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, (high - low) * 0.07, np.maximum(np.abs(high), 1) * 0.1)
    corner, size = low - margin, high - low + 2 * margin
    axes.set(xlim=(corner[0], corner[0] + size[0]), ylim=(corner[1], corner[1] + size[1]))
    busy = _filled((points - corner) / size)
    for total in MaxNLocator(10).tick_values(corner.sum(), (corner + size).sum()):
        start = max(corner[0] + 0.08 * size[0], total - corner[1] - 0.96 * size[1])
        end = min(corner[0] + 0.92 * size[0], total - corner[1] - 0.04 * size[1])
        if start > end:  # there is no room for its value
            continue
        across = np.linspace(start, end, 43)
        line = (np.stack([across, total - across], 1) - corner) / size
        ends = corner[0] + np.array([0, 1]) * size[0]
        axes.plot(ends, total - ends, color=GREY, linewidth=0.6, zorder=1, gid="equal", scalex=False, scaley=False)
        gaps = np.abs((line[:, None] - busy) / (0.06, 0.03)).max(-1).min(1)
        spot = line[gaps.round(6).argmax()]
        busy = np.concatenate([busy, spot[None]])
        edge = [withStroke(linewidth=4, foreground="white")]
        x, y = corner + spot * size
        axes.text(x, y, _number(-total), ha="center", va="center", path_effects=edge, zorder=2)


def _filled(points: np.ndarray) -> np.ndarray:
    """Return points and, between each and the next, those on the line that joins them."""
    if len(points) < 2:
        return points
    t = np.linspace(0, 1, 6)[:, None, None]
    return ((1 - t) * points[:-1] + t * points[1:]).reshape(-1, 2)


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
