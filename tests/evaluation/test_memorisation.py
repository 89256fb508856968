"""Memorisation: neighbours against other implementations, and each test with and without something to find."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.neighbors import NearestNeighbors

from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.evaluation.memorisation import CERTAIN, memorisation, nearest_rows


def normal(rows, *, seed=0, dims=6, scale=1.0):
    return scale * torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dims", "offset"), [(2, 0.0), (90, 0.0), (7, 1000.0)])
def test_neighbours_are_those_of_scikit_learn(monkeypatch, dims, offset):
    rows, reference = normal(53, dims=dims) + offset, normal(4111, dims=dims, seed=1) + offset
    found = nearest_rows(rows.reshape(53, 1, dims), reference.reshape(4111, 1, dims))
    distance, nearest = (
        NearestNeighbors(n_neighbors=1).fit(reference.double().numpy()).kneighbors(rows.double().numpy())
    )
    assert found.nearest.tolist() == nearest[:, 0].tolist()
    np.testing.assert_allclose(found.distance.numpy(), distance[:, 0], rtol=1e-9)
    monkeypatch.setattr("lowerbound.evaluation.memorisation._CHUNK", 17)
    monkeypatch.setattr("lowerbound.evaluation.memorisation._BLOCK", 10)
    again = nearest_rows(rows, reference)
    assert torch.equal(again.nearest, found.nearest)
    assert torch.equal(again.distance, found.distance)


def test_a_copy_is_at_distance_zero_and_ties_are_counted():
    reference = torch.rand(50, 200, generator=torch.Generator().manual_seed(0)) + 300
    found = nearest_rows(reference[[7, 3]], torch.cat([reference, reference[3:4], reference[3:4]]))
    assert found.distance.tolist() == [0, 0]
    assert found.nearest.tolist() == [7, 3]
    assert found.ties.tolist() == [1, 3]


def test_samples_that_are_training_rows_are_found_and_held_out_rows_are_not():
    train, held, others = normal(900), normal(300, seed=1), normal(200, seed=2)
    copies = memorisation(train[:200], train, held)
    assert copies.copied
    assert copies.copies == 1
    assert copies.seen == 1
    assert copies.nearer_z < -CERTAIN
    assert copies.nearer_p < 1e-30
    assert "copy training rows" in copies.verdict
    # each |z| is above 5.4 with probability 7e-8
    fresh = memorisation(others, train, held)
    assert not fresh.copied
    assert abs(fresh.seen_z) < 5.4
    assert abs(fresh.nearer_z) < 5.4
    assert fresh.nearer_p > 1e-7
    assert fresh.copies == 0
    assert fresh.verdict == "no sign that samples copy training rows"


def test_a_twentieth_of_copies_is_found_among_fresh_rows():
    train, held = normal(900), normal(300, seed=1)
    mixed = torch.cat([train[:50], normal(950, seed=2)])
    found = memorisation(mixed, train, held)
    assert found.copies == pytest.approx(0.05)
    assert found.nearer == pytest.approx(0.1, abs=0.04)
    assert found.nearer_p < 1e-3


def test_few_samples_do_not_clear_a_model():
    train, held = normal(900), normal(100, seed=1)
    few = memorisation(train[:100], train, held)  # nine of ten fresh rows would have a training row as their nearest
    assert few.most_z < CERTAIN
    assert not few.copied
    assert "too few to tell whether they copy" in few.verdict
    assert memorisation(train, train, held).copied


def test_near_copies_are_found_and_samples_near_to_all_rows_are_not():
    train, held = normal(900), normal(300, seed=1)
    near = memorisation(train[:300] + 0.1 * normal(300, seed=3), train, held)
    assert near.copied
    assert near.copies == 0
    # in the middle of the data everything is near, whether it was trained on or not
    middle = memorisation(normal(900, seed=3, scale=0.4), train, normal(500, seed=1))
    assert middle.nearer_z < -CERTAIN
    assert not middle.copied
    assert "no copies" in middle.verdict


def test_nearer_z_is_that_of_scipy_with_ties():
    train = torch.tensor([[0.0], [10.0]])
    held, samples = torch.tensor([[1.0], [2.0], [2.0], [3.0], [12.0]]), torch.tensor([[1.0], [0.5], [2.0], [13.0]])
    found = memorisation(samples, train, held)
    wanted = scipy.stats.mannwhitneyu(
        [1.0, 0.5, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0, 2.0], method="asymptotic", use_continuity=False, alternative="less"
    )
    assert scipy.stats.norm.cdf(found.nearer_z) == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.distance.tolist() == [1.0, 0.5, 2.0, 3.0]
    assert found.held_out.tolist() == [1.0, 2.0, 2.0, 3.0, 2.0]


def test_nearer_p_is_the_share_of_orders_with_so_many():
    held, below = 40, 6
    distances = torch.arange(1.0, held + 1)
    samples = torch.cat([torch.full((below,), 1.5), torch.full((19,), 100.0)])
    found = memorisation(samples[:, None], torch.tensor([[0.0], [-1000.0]]), distances[:, None])  # limit: 2.0
    assert found.nearer == below / 25
    draws = np.random.default_rng(0).permuted(np.tile(np.repeat([1, 0], [25, held]), (40_000, 1)), axis=1)
    # those before the second held-out row
    before = np.where(np.cumsum(1 - draws, axis=1) < 2, draws, 0).sum(1)
    share = (before >= below).mean()
    assert found.nearer_p == pytest.approx(share, abs=5.5 * math.sqrt(share / 40_000))  # fails once in 2e7


def test_seen_z_is_standard_where_training_made_no_difference():
    # 400 divisions of the same rows: the square of z is 1 on average, by the exact moments of random labels
    rows, samples = normal(90, dims=2), normal(60, dims=2, seed=1)
    samples[:20] = 0.0  # many samples with one nearest row: as if there were fewer
    found = []
    for i in range(400):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(i))
        found.append(memorisation(samples, rows[order[:60]], rows[order[60:]]).seen_z)
    assert abs(np.mean(found)) < 5.4 / math.sqrt(400)  # fails once in 1e7
    assert np.mean(np.square(found)) == pytest.approx(1, abs=5.4 * np.std(np.square(found)) / math.sqrt(400))
    # a binomial that takes each sample for itself would be wrong by more
    seen = [memorisation(samples, rows[order[:60]], rows[order[60:]]).seen for order in [torch.randperm(90)]]
    assert seen[0] != 1


@pytest.mark.parametrize("dims", [8, 4])  # few equal rows, and more of them than are counted
def test_ties_between_training_and_held_out_rows_are_shared(dims):
    bits = torch.randint(0, 2, (640, dims), generator=torch.Generator().manual_seed(0)).float()
    samples, train, held = bits[:200], bits[200:400], bits[400:]
    found = memorisation(samples, train, held)
    # most samples have copies on both sides: |z| is above 5.4 with probability 7e-8
    assert found.copies > 0.4
    assert not found.copied
    assert abs(found.seen_z) < 5.4
    # if every tie went to the training rows, it would be far from the half that they are
    naive = (nearest_rows(samples, train).distance <= nearest_rows(samples, held).distance).double().mean()
    assert (naive - found.seen_expected) > 5.4 * math.sqrt(0.25 / 200)


def test_what_is_said():
    found = memorisation(normal(30), normal(80, seed=1), normal(40, seed=2))
    known = json.loads(json.dumps(found.to_json()))
    assert known["n"] == 30
    assert known["seen_expected"] == pytest.approx(2 / 3)
    assert known["median_distance"] == pytest.approx(float(found.distance.median()))
    assert "of held-out rows" in str(found)
    assert str(found).splitlines()[-1] == known["verdict"]


def test_what_cannot_be_compared_is_refused():
    rows = normal(30)
    with pytest.raises(ShapeError, match="rows of 6 and of 5 values"):
        memorisation(rows, rows[:, :5], rows)
    with pytest.raises(DataError, match="1 held-out rows were given"):
        memorisation(rows, rows, rows[:1])
    with pytest.raises(UsageError, match=r"share of held-out rows cannot be 1\.0"):
        memorisation(rows, rows, rows, share=1.0)
    with pytest.raises(DataError, match="no reference row"):
        nearest_rows(rows, rows[:0])
    broken = rows.clone()
    broken[3] = math.nan
    with pytest.raises(DataError, match="1 of 30 rows have a value that is not finite"):
        nearest_rows(broken, rows)
