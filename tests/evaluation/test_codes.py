"""Measures of latent spaces against constructed spaces, closed forms, and brute force by NumPy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.neighbors import NearestNeighbors

from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.evaluation import codes as module
from lowerbound.evaluation.codes import hole_distance, hole_rate, holes, nearest_distance, neighbour_purity, stretch


def normal(rows, dims, seed=0):
    return torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed))


def labels_of(rows, classes, seed=0):
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1 << 22, 70])
def blocks(request, monkeypatch):
    """The same in one block and in many, the last of which is shorter."""
    monkeypatch.setattr(module, "BLOCK_PAIRS", request.param)


def by_hand(x, y, k):
    near = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x, return_distance=False)
    return np.array([np.mean([y[j] == y[i] for j in row if j != i][:k]) for i, row in enumerate(near)])


@pytest.mark.parametrize("k", [1, 3, 32])
@pytest.mark.usefixtures("blocks")
def test_purity_is_that_of_scikit_learns_neighbours(k):
    codes, labels = normal(33, 4), labels_of(33, 3)
    torch.testing.assert_close(
        neighbour_purity(codes, labels, k), torch.from_numpy(by_hand(codes.double().numpy(), labels.numpy(), k))
    )


def test_purity_of_separate_clusters_is_1_and_of_shuffled_labels_that_of_chance():
    labels = torch.arange(5).repeat_interleave(40)
    codes = normal(200, 3) + 100.0 * labels[:, None]
    assert bool((neighbour_purity(codes, labels) == 1).all())
    shuffled = labels[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    chance = 39 / 199
    spread = float(neighbour_purity(codes, shuffled).std()) / math.sqrt(200)
    assert float(neighbour_purity(codes, shuffled).mean()) == pytest.approx(chance, abs=4 * spread)


def test_each_row_of_an_alternating_line_has_the_purity_of_its_place():
    """On 0, 1, 2, ... labelled 0 1 0 1 the two nearest of an inner row have the other label, the next two its own."""
    codes, labels = torch.arange(11.0)[:, None], torch.arange(11) % 2
    assert neighbour_purity(codes, labels, 2)[1:-1].tolist() == [0.0] * 9
    assert neighbour_purity(codes, labels, 4)[2:-2].tolist() == [0.5] * 7


def test_a_row_is_not_its_own_neighbour_even_among_duplicates():
    codes = torch.zeros(4, 2)
    labels = torch.tensor([0, 1, 2, 3])
    assert neighbour_purity(codes, labels, 3).tolist() == [0.0] * 4
    assert nearest_distance(codes[:1], codes[1:]).tolist() == [0.0]


@pytest.mark.parametrize(("dims", "offset"), [(1, 0.0), (5, 0.0), (5, 1e4), (300, 1.0)])
@pytest.mark.usefixtures("blocks")
def test_nearest_distances_are_those_of_brute_force(dims, offset):
    a, b = normal(50, dims) + offset, normal(31, dims, seed=1) + offset
    expected = cdist(a.double().numpy(), b.double().numpy())
    torch.testing.assert_close(nearest_distance(a, b), torch.from_numpy(expected.min(1)), rtol=1e-12, atol=0)
    same = cdist(a.double().numpy(), a.double().numpy()) + np.diag(np.full(50, np.inf))
    torch.testing.assert_close(
        nearest_distance(a, a, exclude_self=True), torch.from_numpy(same.min(1)), rtol=1e-12, atol=0
    )
    assert nearest_distance(a, a).tolist() == [0.0] * 50


def test_small_distances_far_from_the_origin_keep_their_digits():
    a = torch.tensor([[1e6, 1e6]], dtype=torch.float64)
    reference = torch.cat([a + 3e-7, a + 1e-7, -a])
    assert float(nearest_distance(a, reference)) == pytest.approx(float((a - reference[1]).norm()), rel=1e-9)


def grid(side, keep):
    """Centres of a side x side grid on the unit square, those that `keep` keeps."""
    line = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    points = torch.cartesian_prod(line, line)
    return points[keep(points)]


def test_the_rate_of_a_square_with_a_round_hole_is_the_holes_area():
    """Draws over the unit square; codes everywhere but in a disc of radius 0.3, of which a rim of width r is near."""

    def outside(points):
        return (points - 0.5).norm(dim=1) > 0.3

    codes = grid(150, outside)
    uniform = torch.rand(16_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    held_out, draws = uniform[:8_000][outside(uniform[:8_000])], uniform[8_000:]
    reach = float(hole_distance(codes, held_out))
    assert reach < 0.01
    area = math.pi * (0.3 - reach) ** 2
    rest = 0.01 * (1 - math.pi * 0.3**2)
    rate = hole_rate(draws, codes, held_out)
    assert area - 0.015 < rate < area + rest + 0.015
    inside = (draws - 0.5).norm(dim=1) < 0.3 - reach - 1 / 150
    assert bool(holes(draws, codes, held_out)[inside].all())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_all_but_that_share_of_the_held_out_codes_are_holes(share):
    codes, held_out = normal(300, 3), normal(1001, 3, seed=1)
    assert hole_rate(held_out, codes, held_out, share=share) == pytest.approx(1 - share, abs=1.5 / 1001)


def test_draws_from_the_law_of_the_codes_have_about_one_percent_of_holes():
    codes, held_out, draws = normal(3000, 4), normal(2000, 4, seed=1), normal(4000, 4, seed=2)
    assert hole_rate(draws, codes, held_out) == pytest.approx(0.01, abs=4 * math.sqrt(0.01 * (1 / 2000 + 1 / 4000)))
    assert hole_rate(3 * draws, codes, held_out) > 0.3
    assert hole_rate(torch.zeros(10, 4), codes, held_out) == 0


def test_no_measure_changes_when_the_codes_are_moved_turned_and_scaled():
    codes, labels, draws = normal(120, 3).double(), labels_of(120, 4), 2 * normal(100, 3, seed=3).double()
    turn = torch.linalg.qr(normal(3, 3, seed=4).double()).Q
    inputs = normal(120, 6, seed=5)

    def moved(points):
        return 70 * points @ turn + 3

    assert torch.equal(neighbour_purity(codes, labels), neighbour_purity(moved(codes), labels))
    torch.testing.assert_close(stretch(inputs, codes), stretch(inputs, moved(codes)))
    before = holes(draws, codes[:80], codes[80:])
    assert 0 < int(before.sum()) < 100
    assert torch.equal(before, holes(moved(draws), moved(codes[:80]), moved(codes[80:])))


@pytest.mark.usefixtures("blocks")
def test_stretch_is_that_of_brute_force():
    inputs, codes = normal(40, 7).reshape(40, 1, 7), normal(40, 2, seed=1)
    x, z = inputs.flatten(1).double().numpy(), codes.double().numpy()
    near = (cdist(x, x) + np.diag(np.full(40, np.inf))).argmin(1)
    expected = np.linalg.norm(z - z[near], axis=1) / pdist(z).mean()
    torch.testing.assert_close(stretch(inputs, codes), torch.from_numpy(expected))


def test_stretch_is_small_for_a_smooth_map_and_1_for_strangers():
    inputs = normal(800, 2)
    smooth = stretch(inputs, 5 * inputs @ normal(2, 2, seed=1))
    strangers = stretch(inputs, normal(800, 2, seed=2))
    assert float(smooth.mean()) < 0.1
    assert float(strangers.mean()) == pytest.approx(1, abs=4 * float(strangers.std()) / math.sqrt(800))


def test_impossible_arguments_are_refused():
    codes, labels = normal(6, 2), labels_of(6, 2)
    for k in (0, 6, True):
        with pytest.raises(UsageError, match="neighbours"):
            neighbour_purity(codes, labels, k)
    with pytest.raises(ShapeError, match="labels of shape"):
        neighbour_purity(codes, labels[:5])
    with pytest.raises(ShapeError, match="2 dimensions are compared with points of 3"):
        nearest_distance(codes, normal(6, 3))
    with pytest.raises(ShapeError, match="expected"):
        nearest_distance(codes[:, 0], codes)
    with pytest.raises(ShapeError, match="not the 6 reference"):
        nearest_distance(codes[:5], codes, exclude_self=True)
    with pytest.raises(UsageError, match="no nearest"):
        nearest_distance(codes, codes[:0])
    with pytest.raises(UsageError, match="no nearest"):
        nearest_distance(codes[:1], codes[:1], exclude_self=True)
    with pytest.raises(UsageError, match="share of codes"):
        hole_distance(codes, codes, share=1.0)
    with pytest.raises(UsageError, match="held-out"):
        hole_distance(codes, codes[:0])
    with pytest.raises(UsageError, match="at least 1 draw"):
        hole_rate(codes[:0], codes, codes)
    with pytest.raises(ShapeError, match="5 codes were given for 6 inputs"):
        stretch(codes, codes[:5])
    with pytest.raises(UsageError, match="all codes are the same"):
        stretch(codes, torch.ones(6, 2))


def test_codes_that_are_not_finite_are_refused_by_number():
    codes = normal(6, 2)
    codes[[1, 4], 0] = torch.tensor([math.nan, math.inf])
    with pytest.raises(DataError, match="2 of 6 points"):
        nearest_distance(codes, normal(6, 2))
    with pytest.raises(DataError, match="2 of 6 codes"):
        neighbour_purity(codes, labels_of(6, 2), 1)
