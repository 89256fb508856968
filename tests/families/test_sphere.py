"""von Mises-Fisher: its normaliser against mpmath, its draws and their gradient against quadrature."""

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch

from lowerbound.core.errors import UsageError
from lowerbound.core.kl import kl_divergence
from lowerbound.families import VonMisesFisher
from lowerbound.families.sphere import (
    UniformDirection,
    VonMisesFisherDirection,
    bessel,
    d_gap,
    drawn_gap,
    log_sphere_area,
)
from lowerbound.priors import HypersphericalUniform

SIZES = [2, 3, 5, 10, 20, 40]
KAPPAS = [1e-3, 0.1, 1.0, 7.0, 16.0, 50.0, 1e3, 1e4]


def of(kappa: float, size: int) -> VonMisesFisherDirection:
    return VonMisesFisherDirection(
        torch.eye(size, dtype=torch.float64)[0], torch.tensor(kappa, dtype=torch.float64), (size,)
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_bessel_function_is_mpmaths_with_its_gradients(size: int) -> None:
    order = mpmath.mpf(size) / 2 - 1
    kappa = torch.tensor(KAPPAS, dtype=torch.float64, requires_grad=True)
    found, ratio = bessel(kappa, float(order))
    (slope,) = torch.autograd.grad(found.sum(), kappa, retain_graph=True)
    for k, value, quotient, gradient in zip(KAPPAS, found.tolist(), ratio.tolist(), slope.tolist(), strict=True):
        with mpmath.workdps(40):
            exact = mpmath.besseli(order, k)
            log_scaled = float(mpmath.log(exact) - k - order * mpmath.log(k))
            expected = float(mpmath.besseli(order + 1, k) / exact)
        assert value == pytest.approx(log_scaled, rel=1e-11, abs=1e-11)
        assert quotient == pytest.approx(expected, rel=1e-11)
        assert gradient == pytest.approx(expected - 1, rel=1e-6)  # d/dk log I_v - v log k - k
    assert torch.autograd.gradcheck(
        lambda k: bessel(k, float(order)), torch.tensor([0.5, 20.0]).double().requires_grad_()
    )
    single, _ = bessel(kappa.detach().float(), float(order))
    torch.testing.assert_close(single.double(), found.detach(), rtol=2e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("kappa", "size", "golden"),
    [(1, 3, 0.151595923928), (10, 3, 1.995732316838), (10, 5, 2.416176651237), (50, 10, 8.391899217769)],
)
def test_golden_divergences_from_the_uniform(kappa: float, size: int, golden: float) -> None:
    uniform = UniformDirection(torch.zeros(size, dtype=torch.float64))
    assert float(kl_divergence(of(kappa, size), uniform)) == pytest.approx(golden, rel=1e-10)


@pytest.mark.parametrize(("kappa", "size"), [(0.5, 2), (3.0, 2), (0.7, 3), (20.0, 5), (5.0, 12)])
def test_it_integrates_to_one_with_the_moments_it_states(kappa: float, size: int) -> None:
    """By the angle to the mean: density times the area of the circle of latitude, sin^(m-2) |S^(m-2)|."""
    q = of(kappa, size)
    ring = math.exp(log_sphere_area(size - 1))

    def mean(function) -> float:
        def integrand(angle: float) -> float:
            z = torch.tensor([math.cos(angle), math.sin(angle)] + [0.0] * (size - 2), dtype=torch.float64)
            return math.exp(float(q.log_prob(z))) * ring * math.sin(angle) ** (size - 2) * function(math.cos(angle))

        return scipy.integrate.quad(integrand, 0, math.pi, epsabs=1e-11)[0]

    assert mean(lambda c: 1.0) == pytest.approx(1, abs=1e-9)
    assert mean(lambda c: c) == pytest.approx(float(q.mean[0]), rel=1e-8)
    first = mean(lambda c: c * c)
    expected = [first - float(q.mean[0]) ** 2] + [(1 - first) / (size - 1)] * (size - 1)
    torch.testing.assert_close(q.variance, torch.tensor(expected).double(), rtol=1e-6, atol=1e-9)
    log_q = mean(lambda c: math.log(max(1e-300, math.exp(kappa * (c - 1)))))
    assert float(q.entropy()) == pytest.approx(-log_q - float(q.log_normalizer), rel=1e-8)


def angle_cdf(kappa: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(0, math.pi, 200_001)
    density = np.exp(kappa * (np.cos(angle) - 1)) * np.sin(angle) ** (size - 2)
    cdf = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return angle, cdf / cdf[-1]


@pytest.mark.parametrize(("kappa", "size"), [(1e-3, 2), (4.0, 2), (1.0, 3), (300.0, 3), (10.0, 10), (1e4, 40)])
def test_draws_have_the_angles_they_should(kappa: float, size: int) -> None:
    """Kolmogorov-Smirnov of 20,000 angles, false-fail rate 1e-7; those of another kappa are rejected."""
    gap = drawn_gap(torch.full((20_000,), kappa, dtype=torch.float64), size)
    angles = np.sort(2 * np.arcsin(np.sqrt(gap.numpy() / 2)))
    bound = math.sqrt(math.log(2 / 1e-7) / (2 * len(angles)))
    ranks = np.arange(len(angles) + 1) / len(angles)

    def distance(other: float) -> float:
        cdf = np.interp(angles, *angle_cdf(other, size))
        return max(np.abs(cdf - ranks[1:]).max(), np.abs(cdf - ranks[:-1]).max())

    assert distance(kappa) < bound
    assert distance(1.2 * kappa + 0.2) > bound


def test_draws_are_unit_vectors_around_the_mean_in_every_direction() -> None:
    """Mean and second moments of 100,000 draws within 6 standard errors (false-fail rate 4e-8 for 14 numbers)."""
    family = VonMisesFisher((2, 2))
    q = family(torch.tensor([1.0, -2.0, 0.5, 3.0, 2.0], dtype=torch.float64))
    draws = q.sample((100_000,)).flatten(1)
    torch.testing.assert_close(draws.norm(dim=1), torch.ones(100_000, dtype=torch.float64))
    assert float(((draws.mean(0) - q.mean.flatten()) / draws.std(0)).abs().max()) < 6 / math.sqrt(len(draws))
    down = float(q.resultant / q.kappa)
    second = down * torch.eye(4).double() + (1 - 4 * down) * torch.outer(q.direction, q.direction)
    products = draws[:, :, None] * draws[:, None]
    assert float(((products.mean(0) - second) / products.std(0)).abs().max()) < 6 / math.sqrt(len(draws))


@pytest.mark.parametrize("size", [2, 3, 10, 40])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 300.0])
def test_the_gradient_of_a_draw_is_that_of_its_quantile(kappa: float, size: int) -> None:
    """Finite differences of the inverse distribution function, found by root finding over quadrature."""

    def cdf(angle: float, k: float) -> float:
        def density(t: float) -> float:
            return math.exp(k * (math.cos(t) - 1)) * math.sin(t) ** (size - 2)

        points = [min(3.0, 5 / math.sqrt(k))]
        below, whole = (
            scipy.integrate.quad(density, 0, end, epsabs=0, epsrel=1e-12, limit=300, points=p)[0]
            for end, p in ((angle, None), (math.pi, points))
        )
        return below / whole

    for quantile in (0.05, 0.5, 0.97):
        angles = [
            scipy.optimize.brentq(
                lambda t, k=k, quantile=quantile: cdf(t, k) - quantile, 1e-9, math.pi - 1e-9, xtol=1e-14
            )
            for k in (kappa, kappa * (1 + 1e-4), kappa * (1 - 1e-4))
        ]
        expected = -(math.cos(angles[1]) - math.cos(angles[2])) / (2e-4 * kappa)
        for dtype, error in ((torch.float64, 1e-5), (torch.float32, 5e-3)):
            gap = torch.tensor(2 * math.sin(angles[0] / 2) ** 2, dtype=dtype)
            assert float(d_gap(gap, torch.tensor(kappa, dtype=dtype), size)) == pytest.approx(expected, rel=error)


@pytest.mark.parametrize("size", [2, 5])
def test_gradients_of_expectations_are_unbiased(size: int) -> None:
    """d/dparams of E[f(z)], f = <a, z> + <b, z>^2, over 200,000 draws: 6 standard errors; a lost path is far away."""
    family = VonMisesFisher((size,))
    params = torch.randn(size + 1, dtype=torch.float64)
    a, b = torch.randn(2, size, dtype=torch.float64)

    def exact(p: torch.Tensor) -> torch.Tensor:
        q = family(p)
        down = q.resultant / q.kappa
        return q.mean @ a + down * b @ b + (1 - size * down) * (q.direction @ b).square()

    expected = torch.autograd.functional.jacobian(exact, params)
    copies = params.expand(200_000, size + 1).clone().requires_grad_()
    z = family(copies).rsample()
    (each,) = torch.autograd.grad((z @ a + (z @ b).square()).sum(), copies)
    z_score = (each.mean(0) - expected) / each.std(0).clamp_min(1e-12) * math.sqrt(len(each))
    assert float(z_score.abs().max()) < 6
    assert float(expected[-1].abs()) > 6 * float(each[:, -1].std()) / math.sqrt(len(each))  # or nothing was tested


def test_the_uniform_prior_and_masks() -> None:
    p = HypersphericalUniform((2, 2))(None, None)
    draws = p.sample((100_000,))
    torch.testing.assert_close(draws.flatten(1).norm(dim=1), torch.ones(100_000))
    assert float(draws.mean(0).abs().max()) < 6 * 0.5 / math.sqrt(100_000)
    torch.testing.assert_close(draws.var(0), p.variance, rtol=0.05, atol=0)
    assert float(p.centre.norm()) == 1
    torch.testing.assert_close(p.log_prob(draws[:3]), torch.full((3,), -math.log(2 * math.pi**2)))
    for distribution in (p, VonMisesFisher((2, 2))(torch.randn(5))):
        with pytest.raises(UsageError, match="in part"):
            distribution.log_prob(draws[0], torch.ones(2, 2))
    with pytest.raises(UsageError, match="no sphere"):
        VonMisesFisher((1,))


def test_it_starts_near_a_resultant() -> None:
    family = VonMisesFisher((4,))
    mean = torch.tensor([0.1, -0.5, 0.3, 0.4], dtype=torch.float64)
    q = family(family.bias_for(mean, mean))
    torch.testing.assert_close(q.mean, mean, rtol=0.02, atol=0)
