"""Two-sample measures: against closed forms between normals, other implementations, and their own false-alarm rate."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from lowerbound.core.errors import DataError, LowerboundError, ShapeError, UsageError
from lowerbound.evaluation.two_samples import (
    WIDTHS,
    ClassifierTest,
    classifier_two_sample,
    frechet_distance,
    mmd,
    mmd_test,
)

DIMS = 3


def normal(rows, *, mean=0.0, scale=1.0, seed=0, dims=DIMS):
    return mean + scale * torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected_kernel(squared, variance, bandwidth, dims=DIMS):
    """E k(a, b) for a - b ~ N(d, variance I), |d|^2 = squared: a Gaussian integral for each of the widths."""
    total = 0.0
    for s2 in ((w * bandwidth) ** 2 for w in WIDTHS):
        total += (s2 / (s2 + variance)) ** (dims / 2) * math.exp(-squared / (2 * (s2 + variance)))
    return total


def true_mmd(shift, scale, bandwidth):
    """MMD^2 of N(0, I) and N(shift, scale^2 I)."""
    return (
        expected_kernel(0, 2, bandwidth)
        + expected_kernel(0, 2 * scale**2, bandwidth)
        - 2 * expected_kernel(DIMS * shift**2, 1 + scale**2, bandwidth)
    )


def slow_mmd(x, y, bandwidth):
    """Gretton et al. 2012, eq. 3, pair by pair."""

    def k(a, b):
        return sum(np.exp(-((a - b) ** 2).sum() / (2 * (w * bandwidth) ** 2)) for w in WIDTHS)

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_mmd_is_its_formula_pair_by_pair():
    x, y = normal(7), normal(9, mean=0.5, seed=1)
    pooled = torch.cat([x, y])
    median = np.median([float((pooled[i] - pooled[j]).norm()) for i in range(16) for j in range(i)])
    assert mmd(x, y, bandwidth=1.3) == pytest.approx(slow_mmd(x.numpy(), y.numpy(), 1.3), abs=1e-12)
    # an even number of pairs: the lower of the two middle distances is taken, where numpy takes their mean
    assert mmd_test(x, y, permutations=1).bandwidth == pytest.approx(median, rel=0.02)
    assert mmd(x, y) == pytest.approx(slow_mmd(x.numpy(), y.numpy(), mmd_test(x, y, permutations=1).bandwidth))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.6), (1.0, 0.5)])
def test_mmd_is_unbiased_for_the_closed_form_between_normals(shift, scale):
    found = [
        mmd(normal(40, seed=2 * i), normal(30, mean=shift, scale=scale, seed=2 * i + 1), bandwidth=1.5)
        for i in range(300)
    ]
    se = np.std(found, ddof=1) / math.sqrt(len(found))
    truth = true_mmd(shift, scale, 1.5)
    assert abs(np.mean(found) - truth) < 6 * se  # false-fail rate 2e-9
    # the biased estimate, which counts each row with itself, would not pass
    bias = len(WIDTHS) * (1 / 40 + 1 / 30) / 2
    assert abs(np.mean(found) + bias - truth) > 6 * se


def test_mmd_asks_neither_for_order_nor_for_place():
    x, y = normal(20), normal(30, mean=0.4, seed=1)
    assert mmd(y.flip(0), x) == pytest.approx(mmd(x, y), abs=1e-12)
    assert mmd(x + 1e4, y + 1e4) == pytest.approx(mmd(x, y), abs=1e-9)
    assert mmd(7 * x, 7 * y) == pytest.approx(mmd(x, y), abs=1e-9)  # the median grows with them


def test_mmd_test_alarms_as_often_as_it_says_and_no_more():
    # 200 pairs of one distribution: the number of p-values up to 0.1 is Binomial(200, 0.1) at most; 99.99% below 37
    p = [mmd_test(normal(25, seed=2 * i), normal(35, seed=2 * i + 1), permutations=99).p_value for i in range(200)]
    assert scipy.stats.binom.ppf(0.0001, 200, 0.1) <= sum(v <= 0.1 + 1e-9 for v in p)
    assert sum(v <= 0.1 + 1e-9 for v in p) <= scipy.stats.binom.ppf(0.9999, 200, 0.1)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-4
    shifted = [mmd_test(normal(25, seed=2 * i), normal(35, mean=1, seed=2 * i + 1), permutations=99) for i in range(9)]
    assert max(t.p_value for t in shifted) == pytest.approx(0.01)
    assert scipy.stats.kstest([t.p_value for t in shifted], "uniform").pvalue < 1e-4


def test_mmd_test_sees_a_spread_that_the_means_do_not_show():
    assert mmd_test(normal(200), normal(200, scale=1.5, seed=1)).p_value < 0.01


def test_mmd_test_is_decided_by_its_seed():
    x, y = normal(20), normal(20, mean=0.3, seed=1)
    first = mmd_test(x, y, seed=3)
    assert first == mmd_test(x, y, seed=3)
    assert first.p_value != mmd_test(x, y, seed=4).p_value
    assert first.mmd == pytest.approx(mmd(x, y))
    assert first.to_json()["permutations"] == 500


def test_equal_divisions_count_as_large():
    # each division of four equal pairs of rows has a twin: rounding must not decide which is larger
    x = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    assert mmd_test(x, x, permutations=200).p_value > 0.9


def test_frechet_distance_of_known_normals():
    # samples that have exactly the wanted mean and covariance
    whitened = normal(50)
    whitened -= whitened.mean(0)
    whitened = whitened @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(whitened.T))).T
    a = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.5, 0.1], [-0.5, 3.0, 0.4], [0.1, 0.4, 0.2]], dtype=torch.float64)
    m = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x, y = whitened @ torch.linalg.cholesky(a).T, whitened @ torch.linalg.cholesky(b).T + m
    root = scipy.linalg.sqrtm(a.numpy() @ b.numpy())
    wanted = float(m @ m) + np.trace(a.numpy() + b.numpy() - 2 * root.real)
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(wanted, rel=1e-9)
    # for matrices that do not commute A^1/2 B^1/2 is not (A B)^1/2
    apart = np.trace(
        a.numpy() + b.numpy() - 2 * scipy.linalg.sqrtm(a.numpy()).real @ scipy.linalg.sqrtm(b.numpy()).real
    )
    assert frechet_distance(x, y) != pytest.approx(float(m @ m) + apart, rel=1e-3)


def test_frechet_distance_of_diagonal_normals_and_of_few_rows():
    x = normal(4000)
    assert frechet_distance(x, 2 * x + 1) == pytest.approx(
        float((x.mean(0) + 1).square().sum() + x.var(0).sum()), rel=1e-9
    )
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    wide = normal(5, dims=40)  # covariances without full rank
    assert frechet_distance(wide, wide + 3) == pytest.approx(9 * 40, rel=1e-9)
    singular = scipy.linalg.sqrtm(np.cov(wide.T.numpy()) @ np.cov(normal(6, dims=40, seed=1).T.numpy()))
    mixed = frechet_distance(wide, normal(6, dims=40, seed=1))
    other = normal(6, dims=40, seed=1)
    mean = float((wide.mean(0) - other.mean(0)).square().sum())
    assert mixed == pytest.approx(
        mean + float(wide.var(0).sum() + other.var(0).sum()) - 2 * np.trace(singular).real, rel=1e-4
    )


def test_frechet_distance_of_one_column():
    x = normal(30, dims=1)
    y = 3 * x + 2
    wanted = float((x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2)
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-9)


def test_classifier_alarms_as_often_as_it_says_and_no_more():
    # 60 pairs of one distribution: p-values up to 0.05 are at most Binomial(60, 0.05); 99.99% have no more than 11
    found = [classifier_two_sample(normal(60, seed=2 * i), normal(60, seed=2 * i + 1), seed=i) for i in range(60)]
    assert sum(t.p_value <= 0.05 for t in found) <= scipy.stats.binom.ppf(0.9999, 60, 0.05)
    accuracy = np.array([t.accuracy for t in found])
    assert abs(accuracy.mean() - 0.5) < 4 * accuracy.std(ddof=1) / math.sqrt(60)
    shifted = [classifier_two_sample(normal(60, seed=2 * i), normal(60, mean=1.5, seed=2 * i + 1)) for i in range(5)]
    assert max(t.p_value for t in shifted) < 1e-3
    assert min(t.accuracy for t in shifted) > 0.75


def test_classifier_comes_near_to_the_best_there_is():
    # N(0, I) and N(1, I) in three dimensions: the best accuracy is Phi(sqrt(3) / 2) = 0.807
    found = classifier_two_sample(normal(3000), normal(3000, mean=1, seed=1))
    assert found.accuracy == pytest.approx(scipy.stats.norm.cdf(math.sqrt(3) / 2), abs=4 * found.se)
    assert found.se == pytest.approx(math.sqrt(found.accuracy * (1 - found.accuracy) / found.n))
    assert found.n == 3000


def test_classifier_sees_what_no_plane_can_divide():
    assert classifier_two_sample(normal(500), normal(500, scale=2, seed=1)).accuracy > 0.65


def test_p_value_of_the_classifier_is_fishers():
    found = classifier_two_sample(normal(100), normal(140, mean=0.3, seed=1), seed=2)
    assert found.n == 100
    # the table of what it says: all with this accuracy and so many rows called the first sample's
    tables = []
    for called in range(found.n + 1):
        right = (found.accuracy * found.n + called - found.n / 2) / 2
        if right == int(right) and 0 <= right <= min(called, 50) and called - right <= 50:
            table = [[int(right), 50 - int(right)], [int(called - right), 50 - int(called - right)]]
            tables.append(scipy.stats.fisher_exact(table, alternative="greater").pvalue)
    assert min(abs(found.p_value - p) for p in tables) < 1e-9
    assert 0 < found.p_value < 0.5 < found.accuracy  # unlike the lower tail


def test_classifier_uses_as_many_rows_of_either_sample():
    # with all rows of the larger one, always to say its name would be right nine times of ten
    found = classifier_two_sample(normal(400), normal(40, seed=1))
    assert isinstance(found, ClassifierTest)
    assert found.n == 40
    assert found.accuracy < 0.8
    assert found == classifier_two_sample(normal(400), normal(40, seed=1))
    assert found.to_json()["n"] == 40


@pytest.mark.parametrize("measure", [mmd, mmd_test, frechet_distance, classifier_two_sample])
def test_what_cannot_be_compared_is_refused(measure):
    rows = normal(30)
    with pytest.raises(ShapeError, match="of 3 and of 2 values"):
        measure(rows, rows[:, :2])
    with pytest.raises(ShapeError, match=r"\[30, 3, 1\]"):
        measure(rows[..., None], rows)
    with pytest.raises(DataError, match="has 1 rows"):
        measure(rows, rows[:1])
    broken = rows.clone()
    broken[2, 1] = torch.inf
    with pytest.raises(DataError, match="1 values of a sample are not finite"):
        measure(rows, broken)
    assert measure(rows.float(), rows) is not None


def test_impossible_options_are_refused():
    rows = normal(30)
    for bandwidth in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="bandwidth"):
            mmd(rows, rows, bandwidth=bandwidth)
    with pytest.raises(UsageError, match="permutations"):
        mmd_test(rows, rows, permutations=0)
    with pytest.raises(LowerboundError, match="median distance is 0"):
        mmd(torch.zeros(20, 2), torch.zeros(20, 2))
    assert mmd(torch.zeros(20, 2), torch.zeros(20, 2), bandwidth=1.0) == pytest.approx(0)
