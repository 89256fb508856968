"""Pictures of images: grids with a caption that says what is shown."""

from math import ceil

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..core.errors import ShapeError
from ..core.model import Show

TILE = 56  # smallest side of a tile in pixels: 28 x 28 digits are doubled
GAP = 2
CAPTION = 24

WHAT: dict[Show, str] = {
    "mean": "mean of p(x|z)",
    "draw": "a draw from p(x|z)",
}


def grid(images: Float[Tensor, "N C H W"], *, columns: int, caption: str) -> Image.Image:
    """Return images in [0, 1] as tiles on a grid, row by row, above a caption.

    Raises:
        ShapeError: if the images have neither 1 nor 3 channels.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ShapeError(f"images with {channels} channels cannot be drawn", expected="1 (grey) or 3 (colour)")
    factor = max(1, ceil(TILE / min(height, width)))
    pixels = (images.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    big = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3).permute(0, 2, 3, 1)
    step_y, step_x = factor * height + GAP, factor * width + GAP
    rows, columns = ceil(count / columns), min(columns, count)
    font = ImageFont.load_default(13)
    size = (max(columns * step_x + GAP, ceil(font.getlength(caption)) + 12), rows * step_y + GAP + CAPTION)
    sheet = Image.new("RGB", size, "white")
    for i, tile in enumerate(big):
        picture = Image.fromarray(tile.squeeze(-1).numpy() if channels == 1 else tile.numpy())
        sheet.paste(picture, (GAP + i % columns * step_x, GAP + i // columns * step_y))
    ImageDraw.Draw(sheet).text((6, size[1] - CAPTION + 4), caption, fill="black", font=font)
    return sheet


def sample_grid(samples: Float[Tensor, "N C H W"], show: Show, *, columns: int = 8) -> Image.Image:
    """Return samples on a grid; the caption says whether it shows means or draws."""
    return grid(samples, columns=columns, caption=f"samples: z from the prior, {WHAT[show]}")


def reconstruction_grid(
    originals: Float[Tensor, "N C H W"], reconstructions: Float[Tensor, "N C H W"], show: Show, *, columns: int = 10
) -> Image.Image:
    """Return rows of originals, each above the row of their reconstructions."""
    pairs = []
    for start in range(0, len(originals), columns):
        for images in (originals, reconstructions):
            row = images[start : start + columns]
            blank = row.new_ones(columns - len(row), *row.shape[1:])
            pairs.append(torch.cat([row, blank]))
    caption = f"originals above their reconstructions: {WHAT[show]} at the mean of q(z|x)"
    return grid(torch.cat(pairs), columns=columns, caption=caption)
