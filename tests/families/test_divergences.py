"""Divergences of normal distributions: quadrature, golden values, limits, infinities."""

import math

import pytest
import torch
from scipy.integrate import quad

from lowerbound.core.errors import UsageError
from lowerbound.families.divergences import bhattacharyya, hellinger, jeffreys, kl, renyi, wasserstein_2
from lowerbound.families.normal import DiagonalNormal

PAIRS = [((0.3, 0.8), (-0.5, 1.3)), ((1.0, 2.0), (0.0, 1.9)), ((-2.0, 0.5), (0.4, 0.7))]
SYMMETRIC = [jeffreys, bhattacharyya, hellinger, wasserstein_2]
ALL = [kl, *SYMMETRIC, lambda q, p: renyi(q, p, 0.3), lambda q, p: renyi(q, p, 1.2)]


def normal(mean, scale):
    """Return N(mean, scale^2) in double precision; lists give a vector."""
    loc = torch.tensor(mean, dtype=torch.float64)
    return DiagonalNormal(loc.reshape(-1), torch.tensor(scale, dtype=torch.float64).reshape(-1), 1)


def log_density(x, mean, scale):
    return -0.5 * ((x - mean) / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))


def integral(function, q, p):
    """Integrate function(log q, log p) over the line."""
    points = sorted([q[0], p[0]])
    whole = quad(
        lambda x: function(log_density(x, *q), log_density(x, *p)), -30, 30, points=points, limit=400, epsabs=1e-13
    )
    return whole[0]


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_each_divergence_is_its_integral(q, p):
    of = normal(*q), normal(*p)
    expected = integral(lambda a, b: math.exp(a) * (a - b), q, p)
    back = integral(lambda a, b: math.exp(b) * (b - a), q, p)
    coefficient = integral(lambda a, b: math.exp(0.5 * (a + b)), q, p)
    assert float(kl(*of)) == pytest.approx(expected, abs=1e-9)
    assert float(jeffreys(*of)) == pytest.approx(expected + back, abs=1e-9)
    assert float(bhattacharyya(*of)) == pytest.approx(-math.log(coefficient), abs=1e-9)
    squares = integral(lambda a, b: 0.5 * (math.exp(a / 2) - math.exp(b / 2)) ** 2, q, p)
    assert float(hellinger(*of)) == pytest.approx(math.sqrt(squares), abs=1e-9)
    for alpha in (0.2, 0.9, 1.05):
        power = integral(lambda a, b, r=alpha: math.exp(r * a + (1 - r) * b), q, p)
        assert float(renyi(*of, alpha)) == pytest.approx(math.log(power) / (alpha - 1), abs=1e-8)


def test_wasserstein_is_the_distance_of_quantiles():
    (m, s), (n, t) = PAIRS[0]
    of_level = torch.distributions.Normal(0.0, 1.0)
    levels = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = of_level.icdf(levels)
    expected = ((m + s * z) - (n + t * z)).square().mean().sqrt()
    assert float(wasserstein_2(normal(m, s), normal(n, t))) == pytest.approx(float(expected), abs=1e-4)


def test_golden_values():
    assert float(kl(normal(1.0, 2.0), normal(0.0, 1.0))) == pytest.approx(1.306852819440, abs=1e-12)
    assert float(kl(normal(0.5, 0.3), normal(-1.0, 2.0))) == pytest.approx(1.689619984886, abs=1e-12)


def test_the_renyi_bound_of_order_one_half_lies_two_bhattacharyya_below_log_px():
    # z ~ N(0, 1), x|z ~ N(W z + b, 1/2 I), q = N(.5, 1/e): L_1/2 = 2 log E_q sqrt(p(x, z) / q(z)) by quadrature
    w, residual, noise = (1.0, 2.0), (0.3 - 0.1, -0.7 + 0.2), 0.5
    variance = 1 / (1 + (w[0] ** 2 + w[1] ** 2) / noise)
    mean = variance * (w[0] * residual[0] + w[1] * residual[1]) / noise
    q = 0.5, math.exp(-0.5)

    def joint(z):
        each = (log_density(r, v * z, math.sqrt(noise)) for r, v in zip(residual, w, strict=True))
        return log_density(z, 0.0, 1.0) + sum(each)

    evidence = math.log(quad(lambda z: math.exp(joint(z)), -10, 10, points=[mean])[0])
    half = 2 * math.log(quad(lambda z: math.exp(0.5 * (joint(z) + log_density(z, *q))), -10, 10, points=[mean])[0])
    assert half == pytest.approx(-3.1979828723463, abs=1e-9)
    found = 2 * bhattacharyya(normal(*q), normal(mean, math.sqrt(variance)))
    assert evidence - half == pytest.approx(float(found), abs=1e-9)
    elbo = evidence - float(kl(normal(*q), normal(mean, math.sqrt(variance))))
    assert elbo == pytest.approx(-5.6330668, abs=1e-7)


def test_the_limits_of_renyi():
    q, p = (normal(*one) for one in PAIRS[0])
    for alpha in (1 - 1e-6, 1 + 1e-6):
        assert float(renyi(q, p, alpha)) == pytest.approx(float(kl(q, p)), abs=1e-5)
    assert torch.equal(renyi(q, p, 1.0), kl(q, p))
    torch.testing.assert_close(renyi(q, p, 0.5), 2 * bhattacharyya(q, p))
    values = [float(renyi(q, p, alpha)) for alpha in (0.01, 0.3, 0.7, 1.0, 1.1)]
    assert values == sorted(values)  # it does not fall with the order
    torch.testing.assert_close(renyi(q, p, 0.3) / 0.3, renyi(p, q, 0.7) / 0.7)  # skew symmetry


def test_renyi_is_infinite_where_its_integral_diverges():
    p = normal(0.0, 1.0)
    for alpha in (1.5, 2.0, 4.0):
        limit = math.sqrt(alpha / (alpha - 1))  # s_q^2 < alpha / (alpha - 1)
        assert float(renyi(normal(0.3, limit * 0.999), p, alpha)) < math.inf
        assert float(renyi(normal(0.3, limit * 1.001), p, alpha)) == math.inf
    assert float(renyi(normal([0.0, 0.0], [0.5, 9.0]), normal([0.0, 0.0], [1.0, 1.0]), 2.0)) == math.inf
    for alpha in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError):
            renyi(p, p, alpha)


@pytest.mark.parametrize("divergence", ALL)
def test_each_is_zero_for_equals_positive_for_others_and_has_the_batch_shape(divergence):
    torch.manual_seed(1)
    q = DiagonalNormal(torch.randn(4, 3).double(), torch.rand(4, 3).double() + 0.7, 1)
    p = DiagonalNormal(torch.randn(2, 1, 3).double(), torch.rand(2, 1, 3).double() + 1.5, 1)
    assert float(divergence(q, q).abs().max()) < 1e-7
    assert divergence(q, p).shape == (2, 4)
    assert bool((divergence(q, p) > 0).all())


@pytest.mark.parametrize("divergence", SYMMETRIC)
def test_some_are_symmetric_and_kl_is_not(divergence):
    q, p = (normal(*one) for one in PAIRS[0])
    torch.testing.assert_close(divergence(q, p), divergence(p, q))
    assert abs(float(kl(q, p) - kl(p, q))) > 0.1


def test_nats_add_over_independent_dimensions():
    q, p = normal([0.3, 1.0], [0.8, 2.0]), normal([-0.5, 0.0], [1.3, 1.9])
    for divergence in (kl, jeffreys, bhattacharyya, lambda a, b: renyi(a, b, 1.3)):
        parts = [divergence(normal(*one), normal(*other)) for one, other in PAIRS[:2]]
        torch.testing.assert_close(divergence(q, p), sum(parts))
