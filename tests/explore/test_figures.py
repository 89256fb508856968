"""Figures show the numbers they were given, in colours all can tell apart, and no text covers another."""

import subprocess
import sys
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Ellipse, Rectangle
from matplotlib.text import Text
from PIL import Image

from lowerbound.core.errors import ShapeError, UsageError
from lowerbound.explore import fonts
from lowerbound.explore.figures import (
    CLASSES,
    PALETTE,
    ae_beside_vae,
    aggregate_against_prior,
    curves,
    frame,
    interpolations,
    latent_scatter,
    learned_manifold,
    mosaic,
    new_figure,
    png_of,
    point_clouds,
    rate_per_dimension,
    reconstructions,
    reconstructions_by_epoch,
    rows_of_images,
    samples,
    show_images,
    traversals,
    tug_of_war,
    write_figure,
)
from lowerbound.explore.figures.frame import DPI, WIDTH

NAMES = ["猫", "狗", "变分自编码器", "$5", "a_b$", "x\ny", "a very long name of a class, longer than any axis is wide"]


def texts_of(figure: Figure) -> list[Text]:
    """Return the texts that are drawn, after a draw has placed them."""
    figure.draw_without_rendering()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            drawn = {id(t) for t in axis._update_ticks()}
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if id(tick) not in drawn or not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return [t for t in found if id(t) not in hidden]


def texts_overlap(figure: Figure, texts: list[Text] | None = None) -> list[tuple[str, str]]:
    """Return the pairs of texts in a figure that cover each other by more than a pixel."""
    boxes = [(t.get_text(), t.get_window_extent()) for t in (texts_of(figure) if texts is None else texts)]
    return [
        (a, b)
        for (a, p), (b, q) in combinations(boxes, 2)
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1
    ]


def cut_off(figure: Figure, texts: list[Text]) -> list[str]:
    """Return the texts that leave the figure."""
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    return [t for t, b in boxes if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]


def images(count: int, channels: int = 1, height: int = 4, width: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, height, width)


def way(length: int, scale: float = 1.0) -> list[tuple[float, float]]:
    return [(scale * 20 * (1 - 0.8**i), 90 + 450 * 0.7**i) for i in range(1, length + 1)]


def holes(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(count, 2), torch.randn(20, 2), torch.arange(20) % 5 == 0


def drawings():
    rates, grids = torch.rand(64), {"linear, -3 to 3": images(49), "inverse CDF": images(49, 3)}
    long = [f"class {i} with a long and tedious name" for i in range(20)]
    codes, spread, kinds = torch.randn(200, 3), torch.rand(200, 3), torch.arange(200)
    yield "curves", lambda: curves({"train": way(30), "valid": way(30)}, x="epoch", y="loss (nats)", title="loss")
    yield "curves of one epoch", lambda: curves({n: [(1, 2)] for n in NAMES}, x="epoch", y="nats", title="猫" * 200)
    yield "many curves", lambda: curves({n: way(30) for n in long}, x="epoch", y="nats", logx=True, logy=True)
    yield "reconstructions", lambda: reconstructions(images(25), images(25), seen=images(25))
    yield "one draw", lambda: reconstructions(images(1, 3), images(1, 3), show="draw", title=NAMES[-1] * 3)
    yield "epochs", lambda: reconstructions_by_epoch(images(8), {e: images(8) for e in range(31)})
    yield "one epoch", lambda: reconstructions_by_epoch(images(1), {1: images(1)})
    yield "200 epochs", lambda: reconstructions_by_epoch(images(8), {e: images(8) for e in range(200)})
    yield "samples", lambda: samples(images(64))
    yield "one sample", lambda: samples(images(1, 3, 9, 2), title="变分自编码器 " * 9)
    yield "manifold", lambda: learned_manifold(grids, steps=7)
    yield "manifolds", lambda: learned_manifold({n: images(4) for n in NAMES[2:]}, steps=2, dims=(10, 3))
    yield "scatter", lambda: latent_scatter(codes, spread, kinds % 10, [str(i) for i in range(10)])
    yield "scatter of long names", lambda: latent_scatter(codes, spread, kinds % 20, long)
    yield "scatter of names", lambda: latent_scatter(codes * 0.001, None, kinds % 7, NAMES, dims=(2, 0))
    yield "scatter of many", lambda: latent_scatter(codes, spread, kinds)
    some, many = [0.005, 0.1, 0.3, 0.5, 0.7, 0.9, 0.995], [i / 26 + 0.001 for i in range(25)]
    yield "traversals", lambda: traversals(images(70), dims=range(10), probabilities=some)
    yield "64 traversals", lambda: traversals(images(64 * 25), dims=range(64), probabilities=many)
    yield "interpolations", lambda: interpolations({"linear": images(10), "spherical": images(10)})
    yield "long interpolations", lambda: interpolations({n: images(40, 3) for n in NAMES})
    yield "tug of war", lambda: tug_of_war({"vae": way(30), "beta": way(30, 0.3)}, title="two runs")
    yield "one epoch of war", lambda: tug_of_war({n: [(1.0 + i, 50.0 * i)] for i, n in enumerate(NAMES)})
    yield "flat war", lambda: tug_of_war({n: [(i * 9, 100 - i * 0.1) for i in range(20)] for n in NAMES})
    yield "rates", lambda: rate_per_dimension({n: rates[: 10 * i + 1] for i, n in enumerate(NAMES[:4])})
    yield "64 rates", lambda: rate_per_dimension(rates)
    yield "aggregate", lambda: aggregate_against_prior(torch.randn(300, 4))
    yield "one dimension", lambda: aggregate_against_prior(torch.randn(3, 1) * 100)
    yield "12 dimensions", lambda: aggregate_against_prior(torch.randn(99, 16), dims=range(3, 15))
    yield "64 dimensions", lambda: aggregate_against_prior(torch.randn(99, 64), torch.randn(50, 64), dims=range(64))
    yield "AE and VAE", lambda: ae_beside_vae({"AE": images(32), "VAE": images(32)}, {"AE": holes(99), "VAE": holes(9)})
    yield "clouds", lambda: point_clouds({n: torch.randn(9, 2) for n in NAMES[-2:]})
    yield "one cloud", lambda: point_clouds({NAMES[-1]: torch.randn(1, 2)}, names=("猫", "width"))
    yield "named rows", lambda: rows_of_images({n: images(10) for n in NAMES}, title=NAMES[-1])
    yield "four models", lambda: ae_beside_vae({n: images(8, 3) for n in NAMES[-4:]}, {n: holes(9) for n in NAMES[-4:]})


DRAWINGS = list(drawings())


@pytest.mark.parametrize("draw", [d[1] for d in DRAWINGS], ids=[d[0] for d in DRAWINGS])
def test_no_text_covers_another_or_is_cut_off_or_small(draw):
    figure = draw()
    texts = texts_of(figure)
    assert texts_overlap(figure, texts) == []
    assert cut_off(figure, texts) == []
    assert min(t.get_fontsize() for t in texts) >= 9
    assert figure.get_figwidth() <= WIDTH
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_the_check_for_covered_texts_finds_them():
    figure, _ = new_figure(sharex=True)
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.51, "two")
    assert texts_overlap(figure) == [("one", "two")]
    figure.text(3, 0.5, "far out")
    assert cut_off(figure, texts_of(figure)) == ["far out"]


def test_a_mosaic_has_each_tile_at_its_place_and_white_gaps():
    tiles = torch.arange(1, 6)[:, None, None, None].expand(5, 1, 2, 3) / 10
    picture = mosaic(tiles, 3, gap=2)
    assert picture.shape == (2 * 2 + 2, 3 * 3 + 2 * 2, 3)
    for i in range(5):
        top, left = i // 3 * 4, i % 3 * 5
        assert picture[top : top + 2, left : left + 3] == pytest.approx((i + 1) / 10)
    white = np.ones(picture.shape[:2], dtype=bool)
    for i in range(5):
        white[i // 3 * 4 : i // 3 * 4 + 2, i % 3 * 5 : i % 3 * 5 + 3] = False
    assert (picture[white] == 1).all()


def test_a_mosaic_keeps_colours_clips_and_leaves_blank_what_is_no_number():
    tile = torch.tensor([[-1.0, 2.0], [0.25, float("nan")]]).expand(1, 3, 2, 2).clone()
    tile[0, 1:, 1, 0] = 0
    picture = mosaic(tile, 8)
    assert picture[0].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert picture[1].tolist() == [[0.25, 0, 0], [1, 1, 1]]


def test_tiles_without_a_gap_touch():
    assert mosaic(torch.zeros(4, 1, 2, 2), 2, gap=0).max() == 0


def opened(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes()))


def picture_of(axes: Axes) -> AxesImage:
    (image,) = axes.images
    return image


def test_images_in_axes_are_crisp_and_named():
    figure, axes = new_figure()
    tiles = images(6, 3, 5, 5)
    show_images(axes[0, 0], tiles, columns=3, title="six", rows=["a", "b"], heads=["0%", "50%", "100%"])
    image = picture_of(axes[0, 0])
    assert image.get_interpolation() == "nearest"
    assert np.array_equal(image.get_array(), mosaic(tiles, 3))
    assert [t.get_text() for t in texts_of(figure)] == ["0%", "50%", "100%", "a", "b", "six"]
    assert axes[0, 0].get_xticks().tolist() == [2, 8, 14], "the middle pixel of each tile"
    assert axes[0, 0].get_yticks().tolist() == [2, 8]


def test_a_png_shows_the_pixels_of_the_images(tmp_path):
    tiles = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])[:, None, None, None].expand(6, 1, 8, 8)
    shown = np.asarray(opened(write_figure(samples(tiles, columns=3), tmp_path / "a.png")).convert("L"))
    values, counts = np.unique(shown[shown.shape[0] // 2 :], return_counts=True)
    black = dict(zip(values.tolist(), counts.tolist(), strict=True))[0]
    assert black == pytest.approx(DPI**2, rel=0.1), "tiles are an inch wide; one of the second row's is black"
    assert set(values.tolist()) == {0, 255}, "no blur"


def test_pairs_of_rows_stand_below_each_other():
    first, second, seen = (torch.full((5, 1, 2, 2), v) for v in (0.2, 0.4, 0.6))
    picture = picture_of(reconstructions(first, second, columns=3, seen=seen).axes[0]).get_array()[::3, 0, 0]
    assert picture.tolist() == pytest.approx([0.6, 0.2, 0.4, 0.6, 0.2, 0.4])


def test_epochs_stand_in_order_below_the_originals():
    shown = reconstructions_by_epoch(images(2), {e: torch.full((2, 1, 4, 4), e / 10) for e in (3, 0, 1)})
    picture = picture_of(shown.axes[0]).get_array()
    assert picture[5::5, 0, 0].tolist() == pytest.approx([0, 0.1, 0.3])
    assert [t.get_text() for t in shown.axes[0].get_yticklabels()] == ["original", "untrained", "epoch 1", "epoch 3"]


@pytest.mark.parametrize(("show", "said"), [("mean", "mean of p(x|z)"), ("draw", "a draw from p(x|z)")])
def test_titles_say_mean_or_draw(show, said):
    for figure in (samples(images(3), show=show), reconstructions(images(2), images(2), show=show)):
        assert said in figure.get_suptitle().replace("\n", " ")


def test_traversals_and_interpolations_name_rows_and_columns():
    axes = traversals(images(6), dims=(7, 2), probabilities=(0.01, 0.5, 0.995)).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["z7", "z2"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1%", "50%", "99.5%"]
    axes = interpolations({"linear": images(3), "spherical": images(3)}).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["linear", "spherical"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0%", "50%", "100%"]


def test_a_manifold_is_shown_without_gaps():
    grid = images(9)
    axes = learned_manifold({"a": grid, "b": grid}, steps=3, dims=(4, 1)).axes
    assert [picture_of(a).get_array().shape for a in axes] == [(12, 12, 3)] * 2
    assert ("z4" in axes[0].get_xlabel(), "z1" in axes[0].get_ylabel()) == (True, True)


def test_curves_have_the_points_that_are_finite():
    lines = {"a": [(1, 2.0), (2, float("nan")), (3, 4.0)], "b": [(1, 0.0), (2, 5.0)]}
    first, second = curves(lines, x="epoch", y="nats").axes[0].lines
    assert first.get_xydata().tolist() == [[1, 2], [3, 4]]
    assert second.get_xydata().tolist() == [[1, 0], [2, 5]]
    assert (first.get_color(), first.get_linestyle()) != (second.get_color(), second.get_linestyle())
    second = curves(lines, x="epoch", y="nats", logy=True).axes[0].lines[1]
    assert second.get_xydata().tolist() == [[2, 5]], "0 has no logarithm"


def test_twenty_lines_all_look_different():
    drawn = curves({str(i): way(3) for i in range(20)}, x="x", y="y").axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in drawn}) == 20
    assert all(a._dash_pattern != b._dash_pattern for a, b in pairwise(drawn[:5]))


def ellipses_of(axes: Axes, gid: str) -> list[Ellipse]:
    return [p for p in axes.patches if isinstance(p, Ellipse) and p.get_gid() == gid]


def test_ellipses_are_one_deviation_to_each_side():
    mean, scale = torch.randn(10, 3), torch.rand(10, 3)
    axes = latent_scatter(mean, scale, dims=(2, 0), ellipses=4).axes[0]
    drawn = ellipses_of(axes, "posterior")
    assert np.array([e.get_center() for e in drawn]) == pytest.approx(mean[:4, [2, 0]].numpy())
    assert np.array([(e.get_width(), e.get_height()) for e in drawn]) == pytest.approx(2 * scale[:4, [2, 0]].numpy())
    assert {e.get_angle() for e in drawn} == {0}
    circles = ellipses_of(axes, "prior")
    assert [(c.get_center(), c.radius) for c in circles if isinstance(c, Circle)] == [((0, 0), 1), ((0, 0), 2)]
    assert axes.get_aspect() == 1


def test_points_are_coloured_by_class_and_named_at_its_median():
    kinds = torch.tensor([0, 1, 1, 1, 3])
    mean = torch.tensor([[-3.0, -3.0], [1.0, 2.0], [2.0, 2.5], [90.0, 3.0], [-50.0, 50.0]])
    figure = latent_scatter(mean, None, kinds, ["猫", "$5"])
    axes = figure.axes[0]
    groups = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert [c.get_offsets().tolist() for c in groups] == [mean[kinds == k].tolist() for k in (0, 1, 3)]
    assert len({tuple(c.get_facecolor()[0]) for c in groups}) == 3
    assert [t.get_text() for t in axes.texts] == [fonts.drawable("猫"), r"\$5", "3"]
    assert axes.texts[1].get_position() == pytest.approx((2, 2.5)), "a mean would be far off"
    assert ellipses_of(axes, "posterior") == []


def test_above_twenty_classes_there_are_no_names():
    axes = latent_scatter(torch.randn(21, 2), None, torch.arange(21), ["x"] * 21).axes[0]
    assert (len(axes.collections), len(axes.texts)) == (1, 0)


def test_codes_that_are_not_finite_are_left_out():
    mean, scale = torch.randn(5, 2), torch.rand(5, 2)
    mean[1, 0], scale[2, 1] = float("nan"), float("inf")
    axes = latent_scatter(mean, scale, torch.zeros(5).long()).axes[0]
    assert len(axes.collections[0].get_offsets()) == 4
    assert [e.get_center()[0] for e in ellipses_of(axes, "posterior")] == pytest.approx(mean[[0, 3, 4], 0].tolist())


def test_rate_and_distortion_are_drawn_as_they_are():
    runs = {"a": way(5), "b": way(3, 0.5)}
    axes = tug_of_war(runs).axes[0]
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    for run in runs.values():
        assert [list(p) for p in run] in drawn
        assert [list(run[0])] in drawn, "the first epoch is marked"
        assert [list(run[-1])] in drawn, "the last epoch is marked"


@pytest.mark.parametrize(
    "run", [way(30), [(5.0, 90.0)], [(i * 9, 100 - i * 0.1) for i in range(20)], [(0, -900), (1, -990)]]
)
def test_lines_of_equal_elbo_have_one_sum_and_say_it(run):
    axes = tug_of_war({"a": run}).axes[0]
    lines = [line.get_xydata() for line in axes.lines if line.get_gid() == "equal"]
    assert len(lines) >= 2
    assert len(lines) == len(axes.texts)
    for line, text in zip(lines, axes.texts, strict=True):
        value = -float(text.get_text().replace("\N{MINUS SIGN}", "-"))
        assert line.sum(1) == pytest.approx(value, rel=1e-4)
        assert sum(text.get_position()) == pytest.approx(value, rel=1e-4), "the value stands on its line"
    assert ((np.array(run) >= axes.viewLim.min) & (np.array(run) <= axes.viewLim.max)).all()


def test_bars_are_the_rates_from_large_to_small():
    rates = torch.tensor([0.5, 0.001, 2.0, 0.02])
    axes = rate_per_dimension(rates).axes[0]
    assert [p.get_height() for p in axes.patches if isinstance(p, Rectangle)] == pytest.approx([2, 0.5, 0.02, 0.001])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["z2", "z0", "z3", "z1"]
    assert "3 of 4 dimensions above 0.01 nats" in axes.get_title("left")
    assert "nats" in axes.get_ylabel()
    two = rate_per_dimension({"a": rates, "b": rates[:2]}, active=1.0).axes
    assert [a.get_title("left")[:9] for a in two] == ["a: 1 of 4", "b: 0 of 2"]


def test_rates_that_are_not_finite_are_counted():
    figure = rate_per_dimension(torch.tensor([0.5, float("nan"), float("inf")]))
    assert "2 of 3 dimensions have no finite rate" in figure.axes[0].get_title(loc="left")


def test_circles_are_left_out_where_the_prior_has_none():
    axes = latent_scatter(torch.randn(9, 2), torch.ones(9, 2), circles=False).axes[0]
    assert not [patch for patch in axes.patches if patch.get_gid() == "prior"]


def test_histograms_have_area_one_and_the_prior_its_density():
    draws = torch.randn(500, 3) * 2 + 1
    figure = aggregate_against_prior(draws, dims=(2, 0))
    panel = figure.axes[0]
    corners = np.array(panel.patches[0].get_xy())
    area = abs(np.dot(corners[:, 0], np.roll(corners[:, 1], 1)) - np.dot(corners[:, 1], np.roll(corners[:, 0], 1))) / 2
    assert area == pytest.approx(1)
    assert panel.get_title() == "z2"
    x, y = panel.lines[0].get_xydata().T
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(torch.from_numpy(x)).exp()
    assert y == pytest.approx(normal.numpy(), abs=1e-7)
    middle = figure.axes[-1]
    assert np.array(middle.collections[0].get_offsets()) == pytest.approx(draws[:, [2, 0]].numpy())
    assert [c.get_width() for c in ellipses_of(middle, "prior")] == [2, 4, 6]


def test_draws_of_the_prior_take_the_place_of_its_density():
    figure = aggregate_against_prior(torch.randn(50, 2), torch.randn(70, 2))
    assert [len(c.get_offsets()) for c in figure.axes[-1].collections] == [70, 50]
    assert ellipses_of(figure.axes[-1], "prior") == []
    assert len(figure.axes[0].lines) == 0
    assert len(figure.axes[0].patches) == 2


def test_clouds_stand_side_by_side_on_one_range():
    first, second = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[9.0, -4.0], [float("nan"), 0.0], [5.0, 6.0]])
    figure = point_clouds({"data": first, "draws": second})
    drawn = [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes]
    assert np.allclose(drawn[0], first)
    assert np.allclose(drawn[1], [[9, -4], [5, 6]])
    figure.draw_without_rendering()
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_ylim()[0] < -4


def test_rows_of_images_are_named_and_in_order():
    first, second = images(3), images(3).flip(0)
    figure = rows_of_images({"one": first, "two": second}, title="two models")
    [axes] = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["one", "two"]
    assert np.allclose(picture_of(axes).get_array(), mosaic(torch.cat([first, second]), 3))
    assert figure.get_suptitle() == "two models"


def test_holes_are_told_from_other_draws():
    codes, draws, empty = holes(30)
    axes = ae_beside_vae({"AE": images(4)}, {"AE": (codes, draws, empty)}, columns=2).axes
    drawn = [np.array(c.get_offsets()) for c in axes[1].collections]
    assert [len(d) for d in drawn] == [30, 16, 4]
    assert drawn[2] == pytest.approx(draws[empty].numpy())
    assert "4 of 20" in axes[1].get_title("left")
    assert len({tuple(c.get_edgecolor()[0]) for c in axes[1].collections}) == 3


# Machado, Oliveira & Fernandes 2009, severity 1, for linear RGB.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "none": np.eye(3).tolist(),
}


def lab(colors: tuple[str, ...], eye: str) -> np.ndarray:
    """Return colours as such an eye sees them, in CIE L*a*b* for D65."""
    rgb = np.array([to_rgb(c) for c in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(BLIND[eye]).T).clip(0, 1)
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("eye", BLIND)
@pytest.mark.parametrize(("colors", "least"), [(PALETTE[:5], 15), (CLASSES, 7)])
def test_colours_differ_for_every_eye(eye, colors, least):
    seen = lab(colors, eye)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > least, "2.3 is a just noticeable difference"


def test_red_and_green_would_fail_that_test():
    seen = lab(("#BB3300", "#666600"), "deuteranopia")
    assert np.linalg.norm(seen[0] - seen[1]) < 15


def test_the_users_settings_are_neither_used_nor_changed(tmp_path):
    plain = png_of(rate_per_dimension(torch.ones(3)))
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red", "xtick.labelsize": 3, "savefig.dpi": 10}):
        before = dict(matplotlib.rcParams)
        assert png_of(rate_per_dimension(torch.ones(3))) == plain
        rate_per_dimension(torch.ones(3)).savefig(tmp_path / "own.png", dpi=DPI)
        assert dict(matplotlib.rcParams) == before
    own = np.asarray(opened(tmp_path / "own.png").convert("RGB"))
    assert np.array_equal(
        own, np.asarray(opened(write_figure(rate_per_dimension(torch.ones(3)), tmp_path / "b.png")).convert("RGB"))
    )


def test_files_are_of_the_kind_of_their_name_and_the_same_each_time(tmp_path):
    figure = samples(images(3, 3))
    starts = {"a.png": b"\x89PNG", "b.svg": b"<?xml", "deep/er/c.pdf": b"%PDF", "D.PNG": b"\x89PNG"}
    for name, start in starts.items():
        path = write_figure(figure, tmp_path / name)
        assert path == tmp_path / name
        first = path.read_bytes()
        assert first.startswith(start)
        assert write_figure(figure, str(path)).read_bytes() == first
    size = opened(tmp_path / "a.png")
    assert size.size == pytest.approx(tuple(DPI * figure.get_size_inches()), abs=1)
    assert size.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["D.PNG", "a.png", "b.svg", "c.pdf"]


def test_an_old_file_survives_a_failed_write(tmp_path, monkeypatch):
    path = write_figure(samples(images(3)), tmp_path / "a.png")
    old = path.read_bytes()

    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr(frame, "_bytes_of", fail)
    with pytest.raises(OSError, match="no room"):
        write_figure(samples(images(4)), path)
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (old, 1)


def test_a_photo_keeps_its_colours_in_the_file():
    tile = torch.zeros(1, 3, 8, 8)
    tile[:, 2] = 1
    figure = samples(tile)
    file = BytesIO(png_of(figure))
    assert (0, 0, 255) in {color for _, color in Image.open(file).convert("RGB").getcolors(1000) or []}


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: mosaic(images(2, 2), 2), ShapeError, "2 channels"),
        (lambda: samples(images(2, 4)), ShapeError, "no shape of images"),
        (lambda: samples(images(0)), UsageError, "no image"),
        (lambda: mosaic(images(1), 0), UsageError, "0 columns"),
        (lambda: show_images(new_figure()[1][0, 0], images(4), columns=2, rows=["a"]), ShapeError, "1 texts"),
        (lambda: show_images(new_figure()[1][0, 0], images(4), columns=2, heads=["a"] * 3), ShapeError, "3 texts"),
        (lambda: reconstructions(images(2), images(3)), ShapeError, "cannot stand beside"),
        (lambda: reconstructions_by_epoch(images(2), {1: images(2, 3)}), ShapeError, "cannot stand beside"),
        (lambda: learned_manifold({"a": images(8)}, steps=3), ShapeError, "8 images"),
        (lambda: learned_manifold({}, steps=3), UsageError, "no grid"),
        (lambda: traversals(images(5), dims=(1, 2), probabilities=(0.1, 0.9)), ShapeError, "5 images"),
        (lambda: interpolations({"a": images(3), "b": images(4)}), ShapeError, "cannot stand beside"),
        (lambda: interpolations({}), UsageError, "no path"),
        (lambda: rows_of_images({"a": images(3), "b": images(3, 3)}), ShapeError, "cannot stand beside"),
        (lambda: rows_of_images({}), UsageError, "no row"),
        (lambda: point_clouds({}), UsageError, "no set of points"),
        (lambda: latent_scatter(torch.ones(3, 2), torch.ones(3, 1)), ShapeError, "scales"),
        (lambda: latent_scatter(torch.ones(3, 2), None, torch.ones(2)), ShapeError, "labels"),
        (lambda: latent_scatter(torch.ones(3, 1), None), UsageError, "no dimension 1"),
        (lambda: tug_of_war({"a": [(float("nan"), 1.0)]}), UsageError, "no rate"),
        (lambda: rate_per_dimension(torch.ones(2, 2)), ShapeError, "rates"),
        (lambda: rate_per_dimension({}), UsageError, "no rate"),
        (lambda: aggregate_against_prior(torch.ones(0, 2)), UsageError, "no draw"),
        (lambda: aggregate_against_prior(torch.ones(2, 2), dims=(2,)), UsageError, "no dimension 2"),
        (lambda: aggregate_against_prior(torch.ones(2, 2), torch.ones(2, 3)), ShapeError, "prior's draws"),
        (lambda: ae_beside_vae({"a": images(2)}, {"b": holes(3)}), UsageError, "['a']"),
        (lambda: ae_beside_vae({"a": images(2)}, {"a": (torch.ones(3, 3), *holes(3)[1:])}), ShapeError, "no map"),
        (lambda: ae_beside_vae({"a": images(2)}, {"a": (*holes(3)[:2], torch.ones(3))}), ShapeError, "holes"),
        (lambda: write_figure(samples(images(1)), "a.jpg"), UsageError, "a.jpg"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(wrong, error, said):
    with pytest.raises(error) as caught:
        wrong()
    assert said in str(caught.value)
    assert "expected" in str(caught.value)


HARD = {
    "no numbers": lambda: rate_per_dimension(torch.full((4,), float("nan"))),
    "collapsed": lambda: latent_scatter(torch.zeros(50, 2), torch.ones(50, 2), torch.arange(50) % 10),
    "nothing": lambda: latent_scatter(torch.zeros(0, 2), torch.zeros(0, 2)),
    "nan codes": lambda: latent_scatter(torch.full((3, 2), float("nan")), None, torch.arange(3)),
    "nan draws": lambda: aggregate_against_prior(torch.full((3, 2), float("nan"))),
    "no lines": lambda: curves({}, x="x", y="y", logx=True, logy=True),
    "empty lines": lambda: curves({"": [], "b": [(0, -1)]}, x="x", y="y", logx=True, logy=True),
    "flat images": lambda: samples(images(1, 1, 1, 64)),
    "tall images": lambda: samples(images(1, 1, 64, 1)),
    "large photo": lambda: samples(images(9, 3, 218, 178)),
    "no names": lambda: interpolations({"": images(3)}),
}


@pytest.mark.parametrize("draw", HARD.values(), ids=HARD)
def test_hard_input_is_drawn_without_a_warning(draw):
    assert png_of(draw()).startswith(b"\x89PNG")


def test_without_a_font_chinese_names_are_spelled(monkeypatch):
    monkeypatch.setattr(fonts, "CJK", ())
    fonts._cjk_family.cache_clear()
    try:
        figure = latent_scatter(torch.randn(9, 2), None, torch.arange(9) % 2, ["猫", "狗"])
        assert png_of(figure)
        assert [t.get_text() for t in figure.axes[0].texts] == ["U+732B", "U+72D7"]
    finally:
        fonts._cjk_family.cache_clear()


def test_the_package_starts_without_matplotlib():
    code = "import sys, lowerbound, lowerbound.cli.main; sys.exit('matplotlib.figure' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
