"""AUROC, average precision and false alarms: against scikit-learn, sums over all pairs, and their own coverage."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.evaluation.ranking import Interval, auprc, auroc, ranking


def both(inside, outside):
    """Return labels and scores as scikit-learn wants them."""
    return np.repeat([0, 1], [len(inside), len(outside)]), torch.cat([inside, outside]).double().numpy()


def drawn(kind, n=83, m=37):
    inside, outside = torch.randn(n), torch.randn(m) + 0.7
    if kind == "ties":
        return inside.round(), outside.round()
    if kind == "halves":  # a score that is the same for most
        return (inside > 1).float(), (outside > 1).float()
    return inside, outside


KINDS = pytest.mark.parametrize("kind", ["all differ", "ties", "halves"])


@KINDS
def test_values_are_those_of_scikit_learn(kind):
    inside, outside = drawn(kind)
    labels, scores = both(inside, outside)
    found = ranking(inside, outside, resamples=2)
    assert found.auroc.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)
    assert found.auprc.value == pytest.approx(average_precision_score(labels, scores), abs=1e-14)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-14)
    assert (found.chance, found.inside, found.outside) == (37 / 120, 83, 37)


@KINDS
def test_the_variance_is_that_of_placement_values(kind):
    inside, outside = drawn(kind)
    order = (outside[:, None] > inside).double() + 0.5 * (outside[:, None] == inside).double()  # [M, N]
    variance = order.mean(1).var() / 37 + order.mean(0).var() / 83
    found = auroc(inside, outside)
    assert found.value == pytest.approx(float(order.mean()), abs=1e-14)
    assert found.se == pytest.approx(float(variance.sqrt()), rel=1e-12)
    half = norm.ppf(0.975) * found.se / (found.value * (1 - found.value))
    logits = [math.log(end / (1 - end)) for end in (found.low, found.value, found.high)]
    assert logits[1] - logits[0] == pytest.approx(half, rel=1e-9)
    assert logits[2] - logits[1] == pytest.approx(half, rel=1e-9)


def covered(intervals, truth):
    return np.mean([low < truth < high for low, high in intervals])


def test_the_interval_holds_the_true_value_in_95_of_100_draws():
    # 2000 draws: a share outside 0.92..0.98 comes by chance in fewer than 1e-7 of the tests, where the true one lies
    # in 0.947..0.953. Intervals of 0.7 times the width hold the value in 83 of 100, and must fail.
    truth = norm.cdf(1.2 / math.sqrt(2))
    draws = [auroc(torch.randn(90), torch.randn(60) + 1.2) for _ in range(2000)]
    assert 0.92 < covered([(d.low, d.high) for d in draws], truth) < 0.98
    narrow = [(d.value - 0.7 * (d.value - d.low), d.value + 0.7 * (d.high - d.value)) for d in draws]
    assert not 0.92 < covered(narrow, truth) < 0.98


@pytest.mark.parametrize(("n", "m"), [(7, 20), (20, 7)])
def test_rows_in_perfect_order_still_have_an_interval(n, m):
    inside, outside = torch.rand(n), torch.rand(m) + 1
    up, down = auroc(inside, outside), auroc(outside, inside)
    assert (up.value, up.low, up.high) == pytest.approx((1, 0.025 ** (1 / 7), 1))
    assert (down.value, down.low, down.high) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 7)))


def test_the_bound_of_perfect_order_is_kept():
    # With A at the bound, 5 and 3 rows are all in order in at most 25 of 1000 draws. Of 20,000 more than 640 come by
    # chance in fewer than 1e-8 of the tests. Half as high a bound in nats is broken, and must fail.
    def in_order(chance):
        shift = math.sqrt(2) * norm.ppf(chance)
        inside, outside = torch.randn(20_000, 5), torch.randn(20_000, 3) + shift
        return int((inside.amax(1) < outside.amin(1)).sum())

    low = auroc(torch.zeros(5), torch.ones(3)).low
    assert in_order(low) < 640
    assert in_order(low**0.25) > 640


def test_the_interval_of_the_average_precision_is_the_stratified_bootstrap():
    # The standard errors of 1500 and of 300 resamples differ by 4.5 percent, and the ends of the latter's interval have
    # one of 0.16 of these: 30 percent, and one standard error, come by chance in fewer than 1e-8 of the tests. With a
    # third of the rows it is 1.7 times as large, and must fail.
    inside, outside = drawn("ties")
    rng = np.random.default_rng(0)

    def bootstrap(n, m):
        found = []
        for _ in range(300):
            a, b = rng.integers(len(inside), size=n), rng.integers(len(outside), size=m)
            found.append(average_precision_score(*both(inside[a], outside[b])))
        return np.array(found)

    wanted, found = bootstrap(83, 37), auprc(inside, outside, resamples=1500, seed=1)
    assert found.se == pytest.approx(wanted.std(ddof=1), rel=0.3)
    assert (found.low, found.high) == pytest.approx(np.quantile(wanted, [0.025, 0.975]), abs=found.se)
    assert found.se != pytest.approx(bootstrap(28, 12).std(ddof=1), rel=0.3)


def test_the_seed_alone_decides_the_bootstrap():
    inside, outside = drawn("all differ")
    torch.manual_seed(5)
    first = auprc(inside, outside, resamples=50, seed=3)
    torch.manual_seed(6)
    assert auprc(inside, outside, resamples=50, seed=3) == first
    assert auprc(inside, outside, resamples=50, seed=4) != first


def test_only_the_order_counts():
    inside, outside = drawn("ties")
    assert ranking(inside.exp(), outside.exp()) == ranking(inside, outside)
    # a log p(x) of minus infinity is the most unusual there is
    far = torch.cat([outside, torch.tensor([torch.inf])])
    assert ranking(inside, far) == ranking(inside, far.nan_to_num(posinf=99.0))


def test_the_other_way_round_is_the_rest_to_one():
    inside, outside = drawn("ties")
    one, other = auroc(inside, outside), auroc(outside, inside)
    assert (other.value, other.se) == pytest.approx((1 - one.value, one.se))
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low))


def test_too_few_or_equal_scores_have_no_interval():
    assert auroc(torch.tensor([1.0]), torch.tensor([0.0, 2.0])) == Interval(0.5)
    assert auroc(torch.ones(4), torch.ones(3)) == Interval(0.5)
    assert auprc(torch.zeros(4), torch.ones(3)) == Interval(1.0)
    assert auprc(torch.tensor([1.0]), torch.tensor([0.0, 2.0])).low is None


def test_what_cannot_be_ranked_is_refused():
    one = torch.ones(3)
    with pytest.raises(DataError, match="no outside rows: one class alone"):
        ranking(one, one[:0])
    with pytest.raises(DataError, match="no inside rows"):
        auroc(one[:0], one)
    with pytest.raises(DataError, match="1 of 3 inside rows have a score that is no number"):
        auprc(torch.tensor([1.0, torch.nan, 2.0]), one)
    with pytest.raises(ShapeError, match=r"scores of shape \(3, 1\)"):
        ranking(one[:, None], one)
    with pytest.raises(UsageError, match="bootstrap cannot have 1 samples"):
        auprc(one, one, resamples=1)
