"""Grids put every picture where it belongs and say what they show."""

import numpy as np
import pytest
import torch
from PIL import Image

from lowerbound.core.errors import ShapeError
from lowerbound.core.spec import DataSpec
from lowerbound.explore.figures import CAPTION, GAP, grid, reconstruction_grid, sample_grid
from lowerbound.explore.write import write_reconstructions, write_samples


def test_tiles_stand_row_by_row():
    images = torch.linspace(0, 1, 7)[:, None, None, None].expand(7, 1, 5, 9)
    sheet = np.asarray(grid(images, columns=3, caption="x").convert("L"))
    factor = 12  # the smallest whole number that makes 5 pixels at least 56
    for i in range(7):
        top, left = GAP + i // 3 * (5 * factor + GAP), GAP + i % 3 * (9 * factor + GAP)
        tile = sheet[top : top + 5 * factor, left : left + 9 * factor]
        assert np.unique(tile).tolist() == [round(255 * i / 6)]
    assert sheet.shape == (3 * (5 * factor + GAP) + GAP + CAPTION, 3 * (9 * factor + GAP) + GAP)


def test_colour_keeps_its_channels():
    image = torch.zeros(1, 3, 60, 61)
    image[:, 2] = 1
    sheet = np.asarray(grid(image, columns=4, caption=""))
    assert sheet[30, 30].tolist() == [0, 0, 255]


def test_values_outside_are_clipped_not_wrapped():
    sheet = np.asarray(grid(torch.tensor([-3.0, 4.0])[:, None, None, None].expand(2, 1, 56, 56), columns=2, caption=""))
    assert sheet[20, 20].tolist() == [0, 0, 0]
    assert sheet[20, 90].tolist() == [255, 255, 255]


def test_two_channels_cannot_be_drawn():
    with pytest.raises(ShapeError, match="2 channels"):
        grid(torch.zeros(1, 2, 8, 8), columns=1, caption="")


def test_the_caption_says_mean_or_draw():
    images = torch.zeros(2, 1, 8, 8)
    mean, draw = (np.asarray(sample_grid(images, show)) for show in ("mean", "draw"))
    assert mean.shape[0] == draw.shape[0]
    assert mean.shape != draw.shape or not np.array_equal(mean[-CAPTION:], draw[-CAPTION:])


def test_reconstructions_stand_below_their_originals():
    originals = torch.full((3, 1, 56, 56), 0.25)
    sheet = np.asarray(reconstruction_grid(originals, 1 - originals, "mean", columns=2).convert("L"))
    rows = [sheet[GAP + i * (56 + GAP) + 5, 10] for i in range(4)]
    assert rows == [64, 191, 64, 191]
    assert sheet[GAP + 2 * (56 + GAP) + 5, 80] == 255  # the fourth place is empty


def test_files_have_the_suffix_of_their_data(tmp_path):
    image = DataSpec("a", (1, 6, 7), "image", "unit", 2)
    points = DataSpec("b", (3,), "points", "real", 2)
    path = write_samples(tmp_path / "deep" / "s", torch.zeros(2, 1, 6, 7), image, "mean")
    with Image.open(path) as picture:
        assert path.suffix == ".png"
        assert picture.mode == "RGB"
    path = write_reconstructions(tmp_path / "r", torch.zeros(2, 3), torch.ones(2, 3), points, "draw")
    assert path.read_text().splitlines() == [
        "x0,x1,x2,reconstructed_x0,reconstructed_x1,reconstructed_x2",
        *["0.0,0.0,0.0,1.0,1.0,1.0"] * 2,
    ]
