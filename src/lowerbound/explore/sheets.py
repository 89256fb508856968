"""Pictures of images: sheets with a caption that says what is shown."""

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import ShapeError
from ..core.model import Show
from ..core.spec import DataSpec
from .modalities import tiles_of

TILE = 56  # smallest side of a tile in pixels: 28 x 28 digits are doubled
GAP = 2
CAPTION, HEAD, LINE = 24, 20, 16
FIRST_CJK = "\u2e80"

WHAT: dict[Show, str] = {
    "mean": "mean of p(x|z)",
    "draw": "a draw from p(x|z)",
}


def grid(
    images: Float[Tensor, "N C H W"],
    *,
    columns: int,
    caption: str,
    support: Support = "unit",
    gap: int = GAP,
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
    words: Sequence[str] = (),
) -> Image.Image:
    """Return images as tiles on a sheet, row by row, above a caption.

    Values are shown from 0 to 1 and clipped there; images of real values that leave this range are scaled to their own,
    and the caption says so.

    Args:
        images: what to show.
        columns: tiles in a row.
        caption: what they are.
        support: where the values of such images lie.
        gap: pixels between tiles.
        labels: a text left of each row, if any.
        heads: a text above each column, if any; shown as far as they have room.
        words: a text below each tile, if any, of one line or several, each cut to the tile's width.

    Raises:
        ShapeError: if the images have neither 1 nor 3 channels.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ShapeError(f"images with {channels} channels cannot be drawn", expected="1 (grey) or 3 (colour)")
    images, note = images.detach().cpu().float(), ""
    if support == "real":
        images, note = _in_range(images)
    factor = max(1, ceil(TILE / min(height, width)))
    big = (images.clamp(0, 1) * 255).round().to(torch.uint8).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    below = LINE * max((text.count("\n") + 1 for text in words), default=0)
    step_y, step_x = factor * height + below + gap, factor * width + gap
    rows, columns = ceil(count / columns), min(columns, count)
    text = caption + note
    font = _font("".join([text, *labels, *heads, *words]))
    left = ceil(max((font.getlength(label) for label in labels), default=-8)) + 8
    top = gap + (HEAD if heads else 0)
    size = (max(left + columns * step_x + gap, ceil(font.getlength(text)) + 12), top + rows * step_y + CAPTION)
    sheet = Image.new("RGB", size, "white")
    for i, tile in enumerate(big.permute(0, 2, 3, 1)):
        picture = Image.fromarray(tile.squeeze(-1).numpy() if channels == 1 else tile.numpy())
        sheet.paste(picture, (left + gap + i % columns * step_x, top + i // columns * step_y))
    draw = ImageDraw.Draw(sheet)
    for i, label in enumerate(labels):
        draw.text((4, top + i * step_y + factor * height // 2), label, fill="black", font=font, anchor="lm")
    for i, lines in enumerate(words):
        place = (left + gap + i % columns * step_x + factor * width // 2, top + i // columns * step_y + factor * height)
        for number, line in enumerate(lines.split("\n")):
            cut = _cut(line, font, factor * width)
            draw.text((place[0], place[1] + number * LINE), cut, fill="black", font=font, anchor="ma")
    every = ceil(max((font.getlength(head) + 4 for head in heads), default=1) / step_x)
    for i, head in list(enumerate(heads))[::every]:
        draw.text((left + gap + i * step_x + step_x // 2, 2), head, fill="black", font=font, anchor="ma")
    draw.text((6, size[1] - CAPTION + 4), text, fill="black", font=font)
    return sheet


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """Return a line as far as it has room, and dots for the rest."""
    if font.getlength(line) <= room:
        return line
    return max(
        (f"{line[:i]}..." for i in range(len(line)) if font.getlength(f"{line[:i]}...") <= room), default="", key=len
    )


def _font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, or an installed one with Chinese characters where the text has any."""
    if max(text, default=" ") >= FIRST_CJK:
        from .fonts import cjk_font  # loads matplotlib, which lists the fonts

        path = cjk_font()
        if path is not None:
            return ImageFont.truetype(path, 13)
    return ImageFont.load_default(13)


def _in_range(images: Tensor) -> tuple[Tensor, str]:
    """Return images in [0, 1] and what was done to them."""
    known = images[torch.isfinite(images)]
    if not known.numel() or (float(known.min()) >= 0 and float(known.max()) <= 1):
        return images, ""
    low, high = float(known.min()), float(known.max())
    return (images - low) / max(high - low, 1e-12), f" (values {low:.3g} to {high:.3g}, scaled for show)"


def sheet_caption(what: str, show: Show) -> str:
    """Return a caption that says what is shown, and whether means or draws."""
    return f"{what}: {WHAT[show]}"


def example_grid(
    x: Float[Tensor, "N *event"],
    spec: DataSpec,
    *,
    columns: int,
    caption: str,
    gap: int = GAP,
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Image.Image:
    """Return examples on a sheet: images, or the images of several modalities with their classes below them.

    Args:
        x: what to show, in model units.
        spec: what it is.
        columns: as for `grid`, and so all that follows.
        caption: what they are.
        gap: pixels between tiles; 0 leaves out what has no image.
        labels: a text left of each row, if any.
        heads: a text above each column, if any.
    """
    images, words = tiles_of(spec, x)
    how = {"support": spec.support, "gap": gap, "labels": labels, "heads": heads, "words": words if gap else ()}
    return grid(images, columns=columns, caption=caption, **how)


def sample_grid(
    samples: Float[Tensor, "N C H W"],
    show: Show,
    *,
    columns: int = 8,
    drawn: Sequence[str] = (),
    support: Support = "unit",
    words: Sequence[str] = (),
) -> Image.Image:
    """Return samples on a sheet; the caption says whether it shows means or draws, and `drawn` of what."""
    caption = sheet_caption(", ".join(["samples: z from the prior", *drawn]), show)
    return grid(samples, columns=columns, caption=caption, support=support, words=words)


def in_rows(pairs: Sequence[Float[Tensor, "N C H W"]], columns: int) -> Float[Tensor, "M C H W"]:
    """Return sets of N images so that a sheet of so many columns has each set's row below that of the one before."""
    tiles = []
    for start in range(0, len(pairs[0]), columns):
        for images in pairs:
            row = images[start : start + columns]
            blank = row.new_ones(columns - len(row), *row.shape[1:])
            tiles.append(torch.cat([row, blank]))
    return torch.cat(tiles)


def words_in_rows(sets: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Return the words of sets of N tiles in the order of `in_rows`; none where no set has any."""
    if not any(sets):
        return []
    count = max(map(len, sets))
    made = []
    for start in range(0, count, columns):
        for words in sets:
            row = list(words[start : start + columns])
            made += [*row, *([""] * (columns - len(row)))]
    return made


def reconstruction_grid(
    originals: Float[Tensor, "N C H W"],
    reconstructions: Float[Tensor, "N C H W"],
    show: Show,
    *,
    columns: int = 10,
    seen: Float[Tensor, "N C H W"] | None = None,
    binarized: bool = False,
    support: Support = "unit",
    at: str | None = None,
    words: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Image.Image:
    """Return rows of originals above their reconstructions, and above both what the encoder saw, if it is given.

    `at` says in words which z was decoded, unless it is the mean of q; `words` stand below originals and
    reconstructions.
    """
    columns = min(columns, len(originals))
    what = "originals (pixels made 0/1)" if binarized else "originals"
    given = "x" if seen is None else "what is seen"
    caption = f"{what} above their reconstructions: {WHAT[show]} at {at or f'the mean of q(z|{given})'}"
    rows = (originals, reconstructions) if seen is None else (seen, originals, reconstructions)
    caption = caption if seen is None else f"what the encoder sees, {caption}"
    below = words_in_rows(words if seen is None else ((), *words), columns)
    return grid(in_rows(rows, columns), columns=columns, caption=caption, support=support, words=below)
