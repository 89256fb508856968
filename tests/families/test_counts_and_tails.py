"""Counts, Student's t, Beta and levels against scipy and mpmath, and what the common tests leave out of them."""

import math

import mpmath
import pytest
import scipy.stats
import torch

from lowerbound.core.errors import LowerboundError
from lowerbound.families import (
    Beta,
    Categorical,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from lowerbound.families.beta import CellwiseBeta, log_beta
from lowerbound.families.cellwise import deviance, log_factorial_rest, stirling_rest
from lowerbound.families.counts import CellwiseNegativeBinomial, CellwisePoisson
from lowerbound.families.student import CellwiseStudentT

F64 = torch.float64


def f64(*values):
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("mean", [1e-4, 0.3, 5.0, 1e3, 1e5])
@pytest.mark.parametrize("x", [0, 1, 7, 1000, 100_000])
def test_the_poisson_is_scipys(mean, x):
    found = CellwisePoisson(f64(mean).log(), event_dims=1).log_prob(f64(x))
    assert float(found) == pytest.approx(scipy.stats.poisson.logpmf(x, mean), rel=1e-9, abs=1e-12)
    single = CellwisePoisson(f64(mean).log().float(), event_dims=1).log_prob(f64(x).float())
    assert float(single) == pytest.approx(float(found), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("mean", [1e-4, 0.3, 5.0, 1e3, 1e5])
@pytest.mark.parametrize("r", [1e-3, 0.1, 0.99, 1.01, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("x", [0, 1, 7, 1000, 100_000])
def test_the_negative_binomial_is_exact_with_its_gradients(mean, r, x):
    """Against mpmath at 40 digits, from sparse to nearly Poisson, in double and single precision."""
    for dtype, tolerance in ((F64, 1e-11), (torch.float32, 3e-5)):
        logs = [torch.tensor(math.log(v), dtype=dtype, requires_grad=True) for v in (mean, r)]
        found = CellwiseNegativeBinomial(*logs, event_dims=0).log_prob(torch.tensor(float(x), dtype=dtype))
        slopes = torch.autograd.grad(found, logs)
        with mpmath.workdps(40):
            m, s = (mpmath.exp(mpmath.mpf(v.item())) for v in logs)
            exact = mpmath.loggamma(x + s) - mpmath.loggamma(s) - mpmath.loggamma(x + 1)
            exact += s * mpmath.log(s / (s + m)) + x * mpmath.log(m / (s + m))
            in_mean = s * (x - m) / (s + m)
            in_r = s * (mpmath.digamma(x + s) - mpmath.digamma(s) + mpmath.log(s / (s + m)) + 1 - (x + s) / (s + m))
        assert found.item() == pytest.approx(float(exact), rel=tolerance, abs=tolerance)
        if dtype == F64:
            assert slopes[0].item() == pytest.approx(float(in_mean), rel=1e-9, abs=1e-9)
            assert slopes[1].item() == pytest.approx(float(in_r), rel=1e-9, abs=1e-9)


def test_many_more_zeros():
    """P(0) = pi + (1 - pi) p(0), and other counts (1 - pi) p(x)."""
    raw, gate = f64(0.7), f64(-0.4)
    pi = torch.sigmoid(gate)
    for inflated, plain in (
        (ZeroInflatedPoisson((1,)), Poisson((1,))(raw)),
        (ZeroInflatedNegativeBinomial((1,)).double(), NegativeBinomial((1,)).double()(raw)),
    ):
        px = inflated(torch.stack([raw, gate]))
        for x in (0.0, 1.0, 4.0):
            expected = (1 - pi) * plain.log_prob(f64(x)).exp() + pi * (x == 0)
            assert float(px.log_prob(f64(x)).detach().exp()) == pytest.approx(float(expected.detach()), rel=1e-8)


@pytest.mark.parametrize(
    "family",
    [
        NegativeBinomial((4,)),
        NegativeBinomial((4,), dispersion="network"),
        ZeroInflatedPoisson((4,)),
        ZeroInflatedNegativeBinomial((4,)),
        ZeroInflatedNegativeBinomial((4,), dispersion="network"),
    ],
    ids=lambda family: type(family).__name__,
)
def test_counts_start_at_the_mean_and_the_spread_of_counts(family):
    mean, variance = f64(0.5, 3.0, 20.0, 300.0), f64(1.0, 9.0, 400.0, 40_000.0)
    family = family.double()
    with torch.no_grad():
        px = family(family.bias_for(mean, variance))
    torch.testing.assert_close(px.mean, mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(px.variance, variance, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "make", [Poisson, NegativeBinomial, ZeroInflatedPoisson, ZeroInflatedNegativeBinomial], ids=lambda f: f.__name__
)
def test_a_column_of_zeros_costs_nothing_and_a_count_in_it_is_not_impossible(make):
    family = make((2,))
    with torch.no_grad():
        px = family(family.bias_for(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0])))
        assert float(px.elements().log_prob(torch.zeros(2))[0]) > -1e-3
        surprise = px.elements().log_prob(torch.tensor([3.0, 3.0]))
    assert bool(surprise.isfinite().all())


def test_count_draws_are_whole_numbers_at_any_size():
    px = NegativeBinomial((3,))(torch.tensor([-60.0, 1.0, 15.0]))
    draws = px.sample((200,))
    assert torch.equal(draws, draws.round())
    assert float(draws.min()) >= 0
    assert float(draws[:, 0].max()) == 0


@pytest.mark.parametrize("df", [1.2, 2.0, 3.5, 30.0, 1e4])
@pytest.mark.parametrize("x", [-50.0, 0.3, 4.0])
def test_students_t_is_scipys(df, x):
    px = CellwiseStudentT(f64(0.5), f64(2.0), f64(df), event_dims=1)
    exact = scipy.stats.t.logpdf(x, df, 0.5, 2.0)
    assert float(px.log_prob(f64(x))) == pytest.approx(exact, rel=1e-11)
    single = CellwiseStudentT(*(t.float() for t in (f64(0.5), f64(2.0), f64(df))), event_dims=1)
    assert float(single.log_prob(f64(x).float())) == pytest.approx(exact, rel=2e-5, abs=1e-6)
    variance = float(px.variance)
    assert variance == pytest.approx(scipy.stats.t.var(df, 0.5, 2.0)) if df > 2 else variance == math.inf


def test_students_t_draws_are_of_it_where_tails_are_heavy():
    """Kolmogorov-Smirnov of 50,000 draws at 1.2 degrees of freedom, false-fail rate 1e-7; df 1.4 is rejected."""
    draws = CellwiseStudentT(f64(0.5), f64(2.0), f64(1.2), event_dims=1).sample((50_000,))[:, 0].numpy()
    assert scipy.stats.kstest(draws, scipy.stats.t(1.2, 0.5, 2.0).cdf).pvalue > 1e-7
    assert scipy.stats.kstest(draws, scipy.stats.t(1.4, 0.5, 2.0).cdf).pvalue < 1e-7


@pytest.mark.parametrize(("a", "b"), [(0.002, 0.3), (0.5, 0.5), (1.0, 1.0), (3.0, 700.0), (2e4, 1e4)])
def test_the_beta_is_scipys(a, b):
    for x in (1e-6, 0.3, 0.7, 0.9999):
        found = CellwiseBeta(f64(a), f64(b), event_dims=1).log_prob(f64(x))
        assert float(found) == pytest.approx(scipy.stats.beta.logpdf(x, a, b), rel=1e-9, abs=1e-10)
    single = log_beta(torch.tensor(a), torch.tensor(b))
    assert float(single) == pytest.approx(scipy.special.betaln(a, b), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.7), (1.5, 0.4), (3.0, 5.0)])
def test_beta_draws_are_of_it_and_carry_the_gradient_of_the_mean(a, b):
    """Kolmogorov-Smirnov, false-fail rate 1e-7; the mean gradient of 100,000 draws within 6 standard errors (2e-9).

    d E[x] / da = b / (a + b)^2, d E[x] / db = -a / (a + b)^2.
    """
    n = 100_000
    parts = [torch.full((n, 1), v, dtype=F64, requires_grad=True) for v in (a, b)]
    draws = CellwiseBeta(*parts, event_dims=1).rsample()
    values = draws.detach()[:, 0].numpy()
    assert scipy.stats.kstest(values, scipy.stats.beta(a, b).cdf).pvalue > 1e-7
    assert scipy.stats.kstest(values, scipy.stats.beta(1.1 * a, b).cdf).pvalue < 1e-7
    for slope, exact in zip(torch.autograd.grad(draws.sum(), parts), (b, -a), strict=True):
        error = float(slope.mean()) - exact / (a + b) ** 2
        assert abs(error) < 6 * float(slope.std()) / math.sqrt(n)


def test_beta_draws_lie_inside_however_near_to_an_end():
    for dtype in (torch.float32, F64):
        draws = Beta((2,)).to(dtype)(torch.tensor([[-50.0, 50.0], [-50.0, -50.0]], dtype=dtype)).rsample((5000,))
        assert bool(((draws > 0) & (draws < 1)).all())
        assert 0.4 < float((draws[:, 0] > 0.5).double().mean()) < 0.6  # two ends, alike


def test_levels_are_a_categorical_of_torch():
    family = Categorical((2, 3), levels=7)
    params = torch.randn(4, 7, 2, 3, dtype=F64)
    places = torch.randint(7, (4, 2, 3))
    theirs = torch.distributions.Categorical(logits=params.movedim(1, -1)).log_prob(places).sum((1, 2))
    torch.testing.assert_close(family(params).log_prob(places / 6), theirs)
    eight_bits = torch.arange(256) / 255  # as data in float32 give them
    logits = torch.randn(256, 1)
    found = Categorical((1,))(logits).log_prob(eight_bits[:, None])
    torch.testing.assert_close(found, logits[:, 0].log_softmax(0))


def test_levels_start_near_a_histogram_and_show_their_most_probable_level():
    family = Categorical((1,), levels=5)
    px = family(family.bias_for(f64(0.5), f64(0.04)))
    assert float(px.mean) == pytest.approx(0.5)
    assert float(px.centre) == 0.5
    assert float(px.variance) == pytest.approx(0.04, rel=0.1)


def test_stable_sums():
    """Stirling's rest and the deviance, at 1e-14 of mpmath's and where subtraction would leave nothing."""
    with mpmath.workdps(40):
        for x in (1e-6, 0.5, 7.99, 8.01, 1e3, 1e9):
            at = mpmath.mpf(x)
            rest = mpmath.loggamma(at) - (at - 0.5) * mpmath.log(at) + at - mpmath.log(2 * mpmath.pi) / 2
            assert float(stirling_rest(f64(x))) == pytest.approx(float(rest), rel=1e-11, abs=1e-14)
        for x, mean in ((0.0, 3.0), (5.0, 5.0), (5.0, 5.0001), (1e6, 1e6 + 1), (10.0, 0.1), (3.0, 400.0)):
            exact = (x * mpmath.log(mpmath.mpf(x) / mean) if x else 0) + mpmath.mpf(mean) - x
            found = float(deviance(f64(x), f64(mean), f64(mean).log()))
            assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-30)
    assert float(log_factorial_rest(f64(0.0))) == 0


@pytest.mark.parametrize(
    "build",
    [
        lambda: Laplace((2,), floor=0.0),
        lambda: StudentT((2,), least_df=0.5),
        lambda: LogNormal((2,), floor=-1.0),
        lambda: Beta((2,), floor=math.inf),
        lambda: Categorical((2,), levels=1),
    ],
)
def test_impossible_arguments_are_refused(build):
    with pytest.raises(LowerboundError, match=r"cannot be|there is no"):
        build()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("a", "b"), [(1e-3, 1e-3), (0.02, 0.5), (1.0, 1.0), (0.9, 0.1)])
def test_the_ends_of_the_beta_have_the_mass_of_their_cell(a, b, dtype):
    """All draws beyond a dtype's numbers lie at the last one: its density times the cell is scipy's mass there."""
    limits = torch.finfo(dtype)
    px = CellwiseBeta(*(torch.tensor([v], dtype=dtype) for v in (a, b)), event_dims=1)
    for x, cell, mass in (
        (limits.tiny, limits.tiny, scipy.stats.beta(a, b).cdf(limits.tiny)),
        (1 - limits.eps / 2, limits.eps / 2, scipy.stats.beta(b, a).cdf(limits.eps / 2)),
    ):
        found = float(px.log_prob(torch.tensor([x], dtype=dtype))) + math.log(cell)
        assert found == pytest.approx(math.log(mass), rel=1e-5, abs=1e-4)
