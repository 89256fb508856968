"""The house style of figures: palette, fonts, titles and legends, and how a figure becomes a file.

Every figure is drawn in one style, whatever the user's own matplotlib is set to, and that is left as it was.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ...core.errors import UsageError
from ...ship.files import replaced
from ..fonts import drawable, families

PALETTE: tuple[str, ...] = (
    "#0072B2",  # Okabe & Ito 2008: blue, vermillion, bluish green, orange, reddish purple, sky blue, yellow, black
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
CLASSES: tuple[str, ...] = (
    "#332288",  # Tol 2021, "muted", and black
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#000000",
)
MOST_CLASSES = 20
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#767676"
WIDTH, DPI, FONT = 7.0, 144, 9.0
LETTER = 0.078  # inches across for one letter
LINE = 0.19  # inches for a line of text
CODE = 9  # letters that U+XXXX is wide
LINES = 6  # of a title, at most
NAME = 28  # letters of a user's name that are shown
Points = Sequence[tuple[int | float, int | float]]
_KEPT = ("backend", "interactive", "toolbar", "timezone", "webagg", "tk.", "savefig.directory", "figure.", "macosx")
_STYLE: dict[str, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT + 0.5,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "legend.frameon": False,
    "figure.titlesize": FONT + 1,
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "figure.edgecolor": "white",
    "savefig.dpi": DPI,
    "savefig.bbox": None,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "text.parse_math": True,  # `drawable` escapes every dollar
    "svg.hashsalt": "lowerbound",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style on top of matplotlib's defaults, and leave the user's settings as they were."""
    usual = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith(_KEPT)}
    style: dict[Any, Any] = {**usual, **_STYLE, "font.family": families()}
    with matplotlib.rc_context(style):
        yield


class HouseFigure(Figure):
    """A figure that is drawn in the house style also when somebody else saves it."""

    def draw(self, renderer: Any) -> None:
        with style():
            super().draw(renderer)


def new_figure(
    width: float = WIDTH, height: float = 3.5, *, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple[Figure, np.ndarray]:
    """Return an empty figure in the house style and its axes, an array `[rows, columns]`.

    Args:
        width: in inches.
        height: in inches.
        rows: of axes.
        columns: of axes.
        grid: what else matplotlib's `Figure.subplots` takes.
    """
    with style():
        figure = HouseFigure(figsize=(width, height), dpi=DPI, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, SVG or PDF, as the name ends; a reader of the file sees the old one or the new.

    Args:
        figure: what to write.
        path: the file; its folders are made.

    Raises:
        UsageError: if the name ends otherwise.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise UsageError(f"no figure can be written as {path.name!r}", expected="a name in .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_bytes(_bytes_of(figure, kind))
    return path


def png_of(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    return _bytes_of(figure, "png")


def _bytes_of(figure: Figure, kind: str) -> bytes:
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    file = BytesIO()
    with style():
        # a PNG is written anew by `_smaller`: that this one is not compressed saves time
        packing: dict[str, Any] = {"pil_kwargs": {"compress_level": 0}} if kind == "png" else {}
        figure.savefig(file, format=kind, dpi=DPI, metadata=undated[kind], **packing)
    return _smaller(file) if kind == "png" else file.getvalue()


def _smaller(file: BytesIO) -> bytes:
    """Return a PNG without the transparency nobody sees, and without colours where all is grey."""
    picture, small = Image.open(file).convert("RGB"), BytesIO()
    pixels = np.asarray(picture)
    grey = (pixels == pixels[..., :1]).all()
    (picture.convert("L") if grey else picture).save(small, "PNG", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()


def short(text: str, most: int = NAME) -> str:
    """Return a user's text ready to draw, its middle left out where it is long."""
    width = letters(text)
    if width > most:
        kept = int(most * len(text) / width) - 1
        text = text[: ceil(kept / 2)] + "…" + text[len(text) - kept // 2 :]
    return drawable(text)


def letters(text: str) -> int:
    """Return how many latin letters a text is wide: Chinese ones count twice, or as U+XXXX where no font has them."""
    return sum(map(_width, text))


def _width(c: str) -> int:
    drawn = drawable(c)
    if drawn.startswith("U+"):
        return CODE * len(c)
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def write_title(axes: Axes, text: str, width: float = WIDTH) -> None:
    """Write a title above axes that are so many inches wide."""
    axes.set_title("\n".join(in_lines(text, width)), loc="left", pad=6)


def in_lines(text: str, width: float) -> list[str]:
    """Return a text in lines that fit so many inches, ready to draw; a text of many lines is cut short."""
    room, lines = max(8, int(width / LETTER)), []
    for word in text.split():
        if lines and letters(lines[-1]) + 1 + letters(word) <= room:
            lines[-1] += f" {word}"
            continue
        while letters(word) > room:
            cut = max((i for i in range(1, len(word)) if letters(word[:i]) <= room), default=1)
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1][:-1]}…"]
    return [drawable(line) for line in lines]


def finite(points: Points) -> np.ndarray:
    """Return points `[N, 2]` without those that are not finite."""
    values = np.asarray(points, dtype=float).reshape(-1, 2)
    return values[np.isfinite(values).all(1)]


def color_of(i: int) -> str:
    """Return the colour of line i."""
    return PALETTE[i % len(PALETTE)]


def dash_of(i: int) -> Any:
    """Return the dashes of line i: another pattern where colours come again."""
    return DASHES[(i + i // len(PALETTE)) % len(DASHES)]


def _legend_columns(names: Sequence[str]) -> int:
    longest = max((min(letters(n), NAME) for n in names), default=0)
    return max(1, min(len(names), int(WIDTH / (0.55 + LETTER * longest))))


def legend_rows(names: Sequence[str]) -> int:
    """Return how many lines of text a legend takes."""
    return ceil(len(names) / _legend_columns(names))


def write_legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Write the names below all axes."""
    if handles:
        texts = [short(n) or " " for n in names]
        figure.legend(list(handles), texts, loc="outside lower center", ncols=_legend_columns(names))


def write_heading(figure: Figure, text: str) -> None:
    """Write a title above all axes."""
    figure.suptitle("\n".join(in_lines(text, figure.get_figwidth())), x=0.01, ha="left")


def check_some(parts: Mapping[str, Any], what: str) -> None:
    """Raise UsageError if there is nothing to draw."""
    if not parts:
        raise UsageError(f"there is no {what} to draw", expected="1 or more")
