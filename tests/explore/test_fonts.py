"""What users write is drawn as they wrote it, or as U+XXXX where no font has the character."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lowerbound.explore import fonts
from lowerbound.explore.fonts import cjk_font, drawable, families


@pytest.fixture
def no_cjk(monkeypatch):
    """Let no font for Chinese be installed."""
    monkeypatch.setattr(fonts, "CJK", ("No such font",))
    fonts._cjk_family.cache_clear()
    yield
    fonts._cjk_family.cache_clear()


def pixels(text: str, parse: bool) -> bytes:
    figure = Figure(figsize=(3, 1))
    figure.text(0.1, 0.5, text, parse_math=parse)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return bytes(canvas.buffer_rgba())


def test_plain_text_stays_as_it_is():
    assert drawable("VAE, β = 4 (é)") == "VAE, β = 4 (é)"
    assert drawable("") == ""


@pytest.mark.parametrize("text", ["$5", "a_b$", "$x^2$", r"\$", "$$", r"\frac{1}{2}$", "$a$ and $b"])
def test_dollars_are_drawn_not_parsed(text):
    assert pixels(drawable(text), True) == pixels(text, False)
    assert pixels(drawable(text), True) != pixels(text.replace("$", ""), False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a\x00b", "aU+0000b"), ("a\nb\t", "aU+000AbU+0009"), ("\x7f", "U+007F"), ("\udc80", "U+DC80")],
)
def test_what_cannot_be_drawn_is_spelled(text, wanted):
    assert drawable(text) == wanted


def test_every_character_is_drawable_without_a_warning():
    figure = Figure()
    for start in (0, 0x2000, 0x4E00, 0x1F600, 0xD7F0):
        figure.text(0, 0, drawable("".join(map(chr, range(start, start + 128)))), family=families())
    FigureCanvasAgg(figure).draw()


def test_without_a_font_chinese_is_spelled(no_cjk):
    assert cjk_font() is None
    assert families() == [fonts.LATIN]
    assert drawable("猫 cat") == "U+732B cat"


def test_with_a_font_chinese_is_drawn():
    path = cjk_font()
    if path is None:
        pytest.skip("no font for Chinese is installed")
    assert path.is_file()
    assert drawable("变分自编码器 猫") == "变分自编码器 猫"
    assert families()[0] == fonts.LATIN, "latin letters look the same with and without"
