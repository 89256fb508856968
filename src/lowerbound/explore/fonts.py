"""Fonts for texts of users: which installed ones have Chinese characters, and what to draw where none has one."""

import unicodedata
from functools import lru_cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

LATIN = "DejaVu Sans"  # comes with matplotlib
CJK = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Noto Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Noto Sans CJK JP",  # what matplotlib before 3.11 knows of the collection of all Noto Sans CJK
    "Noto Sans CJK TC",
    "Noto Sans CJK KR",
    "Heiti SC",
    "STHeiti",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "Noto Serif CJK SC",
    "SimSun",
)


@lru_cache(maxsize=1)
def _cjk_family() -> str | None:
    """Return the first family of `CJK` whose file is there; matplotlib's own list may be older than what it lists."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist if Path(entry.fname).is_file()}
    return next((name for name in CJK if name in installed), None)


def cjk_font() -> Path | None:
    """Return an installed font file with Chinese, Japanese and Korean characters, or None."""
    family = _cjk_family()
    return None if family is None else Path(_file(family))


def families() -> list[str]:
    """Return the font families to draw with: for each character the first that has it is taken."""
    family = _cjk_family()
    return [LATIN] if family is None else [LATIN, family]


def drawable(text: str) -> str:
    r"""Return `text` as figures can draw it: characters that no font has become U+XXXX, and `$` starts no formula.

    >>> drawable("a_b$")
    'a_b\\$'
    >>> drawable("one\ttwo")
    'oneU+0009two'
    """
    return "".join(_character(c, tuple(families())) for c in text)


@lru_cache(maxsize=4096)
def _character(c: str, names: tuple[str, ...]) -> str:
    """Return what to draw for one character in fonts of these families."""
    if c == "$":
        return r"\$"
    shown = c.isprintable() or unicodedata.category(c) == "Zs"
    return c if shown and any(_font(name).get_char_index(ord(c)) for name in names) else f"U+{ord(c):04X}"


@lru_cache(maxsize=32)
def _file(family: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


@lru_cache(maxsize=32)
def _font(family: str) -> FT2Font:
    return font_manager.get_font(_file(family))
