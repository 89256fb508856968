"""Curves as SVG: one small drawing for each quantity, readable in light and dark, drawn by nothing but this file."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 44
Points = Sequence[tuple[float, float]]


def curves(name: str, lines: Mapping[str, Points], *, x: str, y: str) -> str:
    """Return an SVG with one line for each entry; its colours come from the classes line0, line1, ... of the page.

    Args:
        name: what is drawn, for those who cannot see it.
        lines: points (x, y) by the lines' names; one point alone is drawn as a dot.
        x: label of the x axis.
        y: label of the y axis, with its unit.

    >>> curves("loss", {"train": [(1.0, 3.0), (2.0, 2.0)]}, x="epoch", y="loss (nats)").count("<path")
    1
    """
    points = [p for line in lines.values() for p in line]
    across, up = ticks([p[0] for p in points], whole=True), ticks([p[1] for p in points])
    drawn = [_line(i, line, across, up) for i, line in enumerate(lines.values())]
    legend = [_legend(i, text) for i, text in enumerate(lines)]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [f'<svg {size} role="img" aria-label="{escape(name)}">', _axes(across, up, x, y), *drawn, *legend, "</svg>"]
    )


def ticks(values: Sequence[float], *, whole: bool = False) -> list[float]:
    """Return about five round numbers, the first at or below all values and the last at or above them.

    >>> ticks([27.3, 31.9])
    [27.0, 28.0, 29.0, 30.0, 31.0, 32.0]
    >>> ticks([1.0, 3.0], whole=True)
    [1.0, 2.0, 3.0]
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    # flat lines need a height, too; rounding keeps what float arithmetic leaves of a difference out
    spread = high - low if high - low > 1e-9 * max(abs(low), abs(high)) else max(abs(high), 1.0) * 0.1
    power = 10.0 ** math.floor(math.log10(spread / 5))
    step = next(power * m for m in (1, 2, 5, 10) if spread / (power * m) <= 5.5)
    if whole:
        step = max(1.0, float(round(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    return [round(i * step, 10) for i in range(first, last + 1)]


def _place(value: float, axis: list[float], start: int, end: int) -> float:
    return start + (value - axis[0]) / (axis[-1] - axis[0]) * (end - start)


def _across(value: float, axis: list[float]) -> float:
    return _place(value, axis, LEFT, WIDTH - RIGHT)


def _up(value: float, axis: list[float]) -> float:
    return _place(value, axis, HEIGHT - BOTTOM, TOP)


def _axes(across: list[float], up: list[float], x: str, y: str) -> str:
    bottom, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    parts = []
    for value in up:
        at = _up(value, up)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across:
        at = _across(value, across)
        parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
    centre = (TOP + bottom) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>')
    turned = f'transform="rotate(-90 14 {centre:.1f})"'
    parts.append(f'<text x="14" y="{centre:.1f}" text-anchor="middle" {turned}>{escape(y)}</text>')
    return "\n".join(parts)


def _line(i: int, points: Points, across: list[float], up: list[float]) -> str:
    places = [f"{_across(a, across):.1f} {_up(b, up):.1f}" for a, b in points]
    dot = ""
    if len(places) == 1:
        left, top = places[0].split()
        dot = f'<circle class="line{i}" cx="{left}" cy="{top}" r="3"/>'
    return f'<path class="line{i}" d="M{" L".join(places)}"/>{dot}' if places else ""


def _legend(i: int, text: str) -> str:
    right, top = WIDTH - RIGHT - 70, TOP + 10 + 16 * i
    sample = f'<line class="line{i}" x1="{right - 30}" x2="{right - 6}" y1="{top}" y2="{top}"/>'
    return f'{sample}<text x="{right}" y="{top + 4}">{escape(text)}</text>'
