"""Grids put every picture where it belongs and say what they show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.core.spec import Column, DataSpec
from lowerbound.data import joined
from lowerbound.explore.modalities import table_of, tiles_of
from lowerbound.explore.sheets import CAPTION, GAP, LINE, grid, reconstruction_grid, sample_grid
from lowerbound.explore.write import read_labels, target, write_examples


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


def test_overshoots_are_clipped_not_wrapped():
    pixels = torch.tensor([-3.0, 4.0])[:, None, None, None].expand(2, 1, 56, 56)
    sheet = np.asarray(grid(pixels, columns=2, caption=""))
    assert sheet[20, 20].tolist() == [0, 0, 0]
    assert sheet[20, 90].tolist() == [255, 255, 255]


def test_values_far_outside_are_scaled_and_it_says_so():
    pixels = torch.tensor([-3.0, 0.5, 4.0])[:, None, None, None].expand(3, 1, 56, 56)
    sheet = np.asarray(grid(pixels, columns=3, caption="x", support="real"))
    assert [sheet[20, 20 + 58 * i, 0] for i in range(3)] == [0, 128, 255]
    plain = np.asarray(grid(pixels.clamp(0, 1), columns=3, caption="x"))
    assert sheet.shape[1] > plain.shape[1] or not np.array_equal(sheet[-CAPTION:], plain[-CAPTION:])


def test_columns_have_their_heads_above():
    images = torch.zeros(6, 1, 28, 28)
    plain, named = (
        np.asarray(grid(images, columns=3, caption="", heads=heads)) for heads in ((), ("1%", "50%", "99%"))
    )
    added = named.shape[0] - plain.shape[0]
    assert added > 10
    assert (named[added:] == plain).all()
    step = (named.shape[1] - 2) // 3
    marked = [(named[:added, 2 + i * step : 2 + (i + 1) * step] < 128).any() for i in range(3)]
    assert all(marked)


def test_heads_without_room_are_left_out():
    images = torch.zeros(40, 1, 56, 56)
    sheet = np.asarray(grid(images, columns=40, caption="", heads=["HHHHHHHHHHHHHHHHH"] * 40))  # without white gaps
    dark = np.flatnonzero((sheet[:18] < 200).any((0, 2)))
    shown = 1 + int((np.diff(dark) > 8).sum())
    assert 8 <= shown <= 14  # each is between two and a half and five tiles wide


def test_chinese_captions_are_drawn_by_a_font_that_has_them():
    from lowerbound.explore.fonts import cjk_font

    first, second = (np.asarray(grid(torch.zeros(1, 1, 8, 8), columns=1, caption=c)) for c in ("\u732b", "\u72d7"))
    assert (first.shape != second.shape or (first != second).any()) == (cjk_font() is not None)


def test_rows_have_their_labels_on_the_left():
    images = torch.ones(4, 1, 56, 56)
    plain, named = (np.asarray(grid(images, columns=2, caption="", labels=labels)) for labels in ((), ("z10", "z2")))
    left = named.shape[1] - plain.shape[1]
    assert left > 8
    for row in range(2):
        assert (named[GAP + row * 58 : GAP + row * 58 + 56, :left] < 128).any()


def test_tiles_without_a_gap_touch():
    sheet = np.asarray(grid(torch.zeros(4, 1, 56, 56), columns=2, caption="", gap=0))
    assert (sheet[: 2 * 56, : 2 * 56] == 0).all()


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


def test_words_stand_below_their_tiles_and_are_cut_to_their_width():
    images = torch.linspace(0.1, 0.9, 3)[:, None, None, None].expand(3, 1, 56, 56)
    sheet = np.asarray(grid(images, columns=2, caption="", words=["3\nH", "", "W" * 40]).convert("L"))
    step = 56 + 2 * LINE + GAP
    for i, value in enumerate((26, 128, 230)):
        top, left = GAP + i // 2 * step, GAP + i % 2 * (56 + GAP)
        assert np.unique(sheet[top : top + 56, left : left + 56]).tolist() == [value]
        lines = sheet[top + 56 : top + 56 + 2 * LINE, left : left + 56] < 128
        assert [bool(lines[:LINE].any()), bool(lines[LINE:].any())] == [[True, True], [False, False], [True, False]][i]
    assert (sheet[GAP + step + 56 : GAP + step + 56 + LINE, GAP + 58 :] == 255).all()  # the long word is cut


def several():
    """Three examples of two images, a class and a number, of which some are missing."""
    images = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)
    parts = {"near": images, "far": images[:, :1, :1] * 2, "kind": ["cat", "dog"] * 10, "size": np.linspace(0, 2, 20)}
    data = joined(parts, observed={"kind": np.arange(20) != 1, "near": np.arange(20) != 2})
    rows = data.split("all").take(3)
    return rows.spec, rows.values(), rows.mask_values()


def test_examples_of_several_modalities_are_tiles_and_words():
    spec, x, mask = several()
    tiles, words = tiles_of(spec, x, mask)
    assert tiles.shape == (3, 1, 2 + 1 + 3, 3)  # one pixel between, and the small image three times as large
    assert torch.equal(tiles[0, 0, :2], torch.arange(6.0).view(2, 3) / 255)
    assert tiles[1, 0, 3:].unique().tolist() == [pytest.approx(12 / 255)]
    assert bool((tiles[2, 0, :2] == 1).all())
    assert words == ["kind cat\nsize 0", "kind -\nsize 0.105", "kind cat\nsize 0.211"]
    table = table_of(spec, x, mask)
    assert list(table) == [*(f"near{i}" for i in range(6)), "far", "kind", "size"]
    assert table["kind"] == ["cat", None, "cat"]
    assert table["near0"] == [0, pytest.approx(6 / 255), None]


def test_examples_of_several_modalities_are_written_as_a_sheet_or_a_table(tmp_path):
    spec, x, _ = several()
    assert target(None, tmp_path / "default", spec).suffix == ".png"
    path = write_examples(tmp_path / "x.csv", x, spec, sheet)
    assert path.read_text().splitlines()[0].endswith('"far","kind","size"')
    assert '"cat"' in path.read_text()


IMAGE = DataSpec("a", (1, 6, 7), "image", "unit", 2, resolution=1 / 255)
POINTS = DataSpec("b", (3,), "points", "real", 2)


def sheet():
    return grid(torch.zeros(2, 1, 6, 7), columns=2, caption="")


@pytest.mark.parametrize(
    ("out", "spec", "name"),
    [
        (None, IMAGE, "default.png"),
        (None, POINTS, "default.csv"),
        (None, replace(POINTS, form="parquet"), "default.parquet"),
        ("seven", IMAGE, "seven.png"),
        ("v1.2", POINTS, "v1.2.csv"),
        ("x.npz", IMAGE, "x.npz"),
        ("x.npz", POINTS, "x.npz"),
        ("x.PARQUET", POINTS, "x.PARQUET"),
    ],
)
def test_files_are_named_after_their_data(tmp_path, out, spec, name):
    assert target(None if out is None else tmp_path / out, tmp_path / "default", spec) == tmp_path / name


@pytest.mark.parametrize(("out", "spec"), [("x.csv", IMAGE), ("x.png", POINTS)])
def test_a_suffix_that_does_not_fit_is_refused(tmp_path, out, spec):
    with pytest.raises(UsageError, match="cannot be written as"):
        target(tmp_path / out, tmp_path / "default", spec)


def test_a_folder_of_pictures_takes_no_pixels_of_any_real_value(tmp_path):
    with pytest.raises(UsageError, match=r"do not fit image files\n  expected a file of arrays: \.npz"):
        target(f"{tmp_path}/many/", tmp_path / "default", replace(IMAGE, support="real", resolution=0.0))
    assert not list(tmp_path.iterdir())


def test_images_are_written_in_every_form(tmp_path):
    x = torch.arange(84.0).reshape(2, 1, 6, 7) / 255
    with Image.open(write_examples(tmp_path / "deep" / "s.png", x, IMAGE, sheet)) as picture:
        assert picture.mode == "RGB"
    (tmp_path / "each").mkdir()
    write_examples(tmp_path / "each", x, IMAGE, sheet)
    with Image.open(tmp_path / "each" / "000001.png") as picture:
        assert np.asarray(picture).tolist() == np.arange(42, 84).reshape(6, 7).tolist()
    for layout, shape in (("chw", (2, 1, 6, 7)), ("hw", (2, 6, 7)), ("hwc", (2, 6, 7, 1))):
        path = write_examples(tmp_path / "x.npz", x, replace(IMAGE, layout=layout), sheet)
        with np.load(path) as held:
            assert held["x"].dtype == np.uint8
            assert held["x"].shape == shape
            assert held["x"].flatten().tolist() == list(range(84))


def test_points_are_written_as_a_table(tmp_path):
    path = write_examples(tmp_path / "r.csv", torch.tensor([[0.0, 1.0, 2.5]]), POINTS, sheet)
    assert path.read_text().splitlines() == ['"x0","x1","x2"', "0,1,2.5"]


def test_levels_beyond_255_are_written_as_they_came(tmp_path):
    spec = DataSpec("deep", (1, 1, 3), "image", "unit", 2, resolution=1 / 65535, layout="hw")
    x = torch.tensor([0.0, 300 / 65535, 1.0]).reshape(1, 1, 1, 3)
    held = np.load(write_examples(tmp_path / "x.npz", x, spec, sheet))["x"]
    assert (held.dtype, held.tolist()) == (np.uint16, [[[0, 300, 65535]]])


def test_examples_beside_others_are_in_the_same_units(tmp_path):
    columns = (
        Column("size", "numeric", "double", offset=100.0, scale=10.0, missing=True),
        Column("y", "category", "string", categories=("u", "v"), missing=True),
    )
    x, own = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    mask = torch.tensor([[True, True], [False, False]])
    spec = DataSpec("t", (2,), "table", "mixed", 2, ("a", "b"), columns=columns, form="csv")
    labels = torch.tensor([1, 0])
    path = write_examples(tmp_path / "x.npz", x, spec, sheet, y=labels, beside={"original": (own, mask)})
    held = dict(np.load(path))
    assert (held["size"].tolist(), held["y"].tolist(), held["y_"].tolist()) == ([110, 100], ["v", "u"], ["b", "a"])
    assert held["original_y"].tolist() == ["u", ""]
    np.testing.assert_array_equal(held["original_size"], [120, np.nan])
    plain = replace(spec, columns=columns[:1], shape=(1,), support="real", form="arrays")
    path = write_examples(tmp_path / "y.npz", x[:, :1], plain, sheet, beside={"original": (own[:, :1], mask[:, :1])})
    held = dict(np.load(path))
    assert held["x"].tolist() == [[110], [100]]
    np.testing.assert_array_equal(held["original"], [[120], [np.nan]])
    grey = write_examples(
        tmp_path / "z.npz", torch.ones(2, 1, 6, 7), IMAGE, sheet, beside={"clean": (torch.ones(2, 1, 6, 7), None)}
    )
    assert np.array_equal(*np.load(grey).values())


def test_labels_that_read_as_missing_are_labels(tmp_path):
    (tmp_path / "codes.csv").write_text('"z0","label"\n0.5,"NA"\n0.25,"nan"\n')
    assert read_labels(tmp_path / "codes.csv") == ["NA", "nan"]
    (tmp_path / "codes.csv").write_text('"z0","label"\n0.5,"NA"\n0.25,\n')
    with pytest.raises(DataError, match="1 empty labels"):
        read_labels(tmp_path / "codes.csv")
