"""Normals with a covariance, against torch's own, scipy's, and their marginals."""

import math

import pytest
import torch
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal
from torch.distributions import kl_divergence as torch_kl

from lowerbound.core.errors import UsageError
from lowerbound.core.kl import kl_divergence
from lowerbound.families import FullNormal, LowRankNormal
from lowerbound.families.covariance import CholeskyNormal, DiagonalPlusNormal
from lowerbound.families.normal import DiagonalNormal

SHAPE = (2, 3)


def drawn(kind: type) -> CholeskyNormal | DiagonalPlusNormal:
    family = kind(SHAPE)
    return family(torch.randn(4, 5, *family.params, dtype=torch.float64))


def theirs(q: CholeskyNormal | DiagonalPlusNormal) -> MultivariateNormal | LowRankMultivariateNormal:
    if isinstance(q, CholeskyNormal):
        return MultivariateNormal(q.loc, scale_tril=q.factor)
    return LowRankMultivariateNormal(q.loc, q.directions, q.scale.square())


both = pytest.mark.parametrize("kind", [FullNormal, LowRankNormal])


@both
def test_density_entropy_and_moments_are_torchs(kind: type) -> None:
    q, z = drawn(kind), torch.randn(5, *SHAPE, dtype=torch.float64)
    p = theirs(q)
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z.flatten(1)))
    torch.testing.assert_close(q.entropy(), p.entropy())
    torch.testing.assert_close(q.variance.flatten(2), p.variance)


@both
def test_draws_have_the_covariance(kind: type) -> None:
    """100,000 draws: every entry within 6 standard errors of itself (false-fail rate 4e-8 for 21 entries)."""
    family = kind((2, 3))
    q = family(torch.randn(*family.params, dtype=torch.float64))
    draws = q.sample((100_000,)).flatten(1)
    exact = theirs(q).covariance_matrix
    variance = exact.diagonal()
    error = ((variance[:, None] * variance + exact.square()) / len(draws)).sqrt()
    assert float(((draws.T.cov() - exact) / error).abs().max()) < 6
    assert float(((draws.mean(0) - q.loc) / (variance / len(draws)).sqrt()).abs().max()) < 6
    assert float((exact - exact.diagonal().diag()).abs().max()) > 0.1  # or nothing was tested


@both
def test_masked_cells_are_integrated_out(kind: type) -> None:
    """The marginal has the rows and columns of the covariance that are observed."""
    q, z = drawn(kind), torch.randn(5, *SHAPE, dtype=torch.float64)
    mask = torch.tensor([[1.0, 0, 1], [1, 0, 0]])
    kept = mask.flatten().bool()
    p = MultivariateNormal(q.loc[..., kept], theirs(q).covariance_matrix[..., kept, :][..., kept])
    holed = torch.where(mask.bool(), z, torch.nan)
    torch.testing.assert_close(q.log_prob(holed, mask), p.log_prob(z.flatten(1)[:, kept]))
    torch.testing.assert_close(q.log_prob(z, torch.ones(SHAPE)), q.log_prob(z))
    torch.testing.assert_close(q.log_prob(z, torch.zeros(SHAPE)), torch.zeros(4, 5, dtype=torch.float64))


@both
def test_kl_to_a_diagonal_normal_is_torchs(kind: type) -> None:
    q = drawn(kind)
    p = DiagonalNormal(torch.randn(SHAPE, dtype=torch.float64), torch.rand(SHAPE, dtype=torch.float64) + 0.3, 2)
    full = MultivariateNormal(q.loc, theirs(q).covariance_matrix)
    diagonal = MultivariateNormal(p.loc.flatten(), torch.diag(p.scale.flatten().square()))
    torch.testing.assert_close(kl_divergence(q, p), torch_kl(full, diagonal))


def test_kl_of_two_full_normals_is_the_golden_value_and_torchs() -> None:
    def of(loc: list[float], factor: list[list[float]]) -> CholeskyNormal:
        return CholeskyNormal(torch.tensor(loc).double(), torch.tensor(factor).double(), (2,))

    q, p = of([1, -1], [[1, 0], [0.5, 2]]), of([0, 0.5], [[2, 0], [-0.3, 1]])
    assert float(kl_divergence(q, p)) == pytest.approx(2.3725, rel=1e-6)
    q, p = drawn(FullNormal), drawn(FullNormal)
    torch.testing.assert_close(kl_divergence(q, p), torch_kl(theirs(q), theirs(p)))


def test_a_large_direction_over_a_small_noise_keeps_its_digits_in_single_precision() -> None:
    """Woodbury's difference of squares would lose them all at a ratio of 10^5."""
    direction = torch.full((6, 1), 100.0)
    q = DiagonalPlusNormal(torch.zeros(6), torch.full((6,), 1e-3), direction, (6,))
    z = direction[:, 0] * 0.5
    exact = DiagonalPlusNormal(*(t.double() for t in (q.loc, q.scale, direction)), (6,)).log_prob(z.double())
    assert float(q.log_prob(z)) == pytest.approx(float(exact), rel=1e-3)


def test_they_start_at_the_data_and_refuse_impossible_arguments() -> None:
    mean, variance = torch.randn(SHAPE), torch.rand(SHAPE) + 0.1
    for kind in (FullNormal, LowRankNormal):
        px = kind(SHAPE)(kind(SHAPE).bias_for(mean, variance))
        torch.testing.assert_close(px.mean, mean)
        torch.testing.assert_close(px.variance, variance)
    with pytest.raises(UsageError, match="rank"):
        LowRankNormal((2,), rank=0)
    with pytest.raises(UsageError, match="floor"):
        FullNormal((2,), floor=0.0)


def test_the_inverse_of_a_fresh_factor_stays_small_whatever_the_dimensions() -> None:
    """That of a triangle with random entries grows exponentially with its size: of 90 values, beyond float32."""
    family = FullNormal((9, 10))
    params = torch.randn(7, *family.params, requires_grad=True)
    q, z = family(params), torch.randn(7, 9, 10)
    log_q = q.log_prob(z)
    (gradient,) = torch.autograd.grad(log_q.sum(), params)
    assert bool(gradient.isfinite().all())
    standard = -0.5 * ((z.flatten(1) - q.loc) / q.factor.diagonal(dim1=-2, dim2=-1)).square().sum(1)
    assert bool((log_q + q.factor.diagonal(dim1=-2, dim2=-1).log().sum(1) > 10 * standard).all())


def test_the_factor_has_the_entries_of_the_docstring() -> None:
    family, h = FullNormal((2,), floor=0.5), torch.tensor([3.0, 4.0, 0.0, 0.0, 1.5])
    diagonal = math.log(2) + 0.5
    expected = torch.tensor([[diagonal, 0.0], [diagonal * 1.5 / 2, diagonal]])
    torch.testing.assert_close(family(h).factor, expected)
    torch.testing.assert_close(family(h).loc, h[:2])


def test_two_equal_directions_are_one_of_twice_the_square() -> None:
    """In float32 I + W^T W is singular for them: its Cholesky factor does not exist."""
    one = torch.linspace(10, 50, 5)[:, None]
    scale, z = torch.full((5,), 1e-3), torch.randn(3, 5)
    q = DiagonalPlusNormal(torch.zeros(5), scale, one.expand(5, 2), (5,))
    p = DiagonalPlusNormal(torch.zeros(5).double(), scale.double(), 2**0.5 * one.double(), (5,))
    torch.testing.assert_close(q.log_prob(z).double(), p.log_prob(z.double()), rtol=1e-4, atol=0)
    torch.testing.assert_close(q.entropy().double(), p.entropy(), rtol=1e-4, atol=0)


def test_a_marginal_keeps_small_pivots_in_single_precision() -> None:
    """Two values that are nearly equal: the square of the second pivot is 1e-10 beside 1."""
    q = CholeskyNormal(torch.zeros(3), torch.tensor([[1.0, 0, 0], [1, 1e-5, 0], [0, 0, 1]]), (3,))
    mask, z = torch.tensor([1.0, 1, 0]), torch.tensor([0.4, 0.4, 9.0])
    exact = CholeskyNormal(q.loc.double(), q.factor.double(), (3,)).log_prob(z.double(), mask)
    assert float(q.log_prob(z, mask)) == pytest.approx(float(exact), rel=1e-3)
