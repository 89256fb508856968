"""Wrapped normals on hyperbolic space, and products of spaces: quadrature, textbook maps, draws."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from lowerbound.core.errors import UsageError
from lowerbound.core.kl import kl_divergence
from lowerbound.families import Normal, OneHot, Product, VonMisesFisher, WrappedNormal
from lowerbound.families.hyperbolic import HyperbolicNormal, log_sinhc, moved, to_ball
from lowerbound.families.normal import DiagonalNormal
from lowerbound.priors import (
    HypersphericalUniform,
    ProductPrior,
    StandardNormal,
    UniformOneHot,
    WrappedNormalPrior,
)

CURVATURES = [-0.25, -1.0, -3.0]


def points(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


def on_hyperboloid(z: Tensor, curvature: float) -> Tensor:
    """Return the point of normal coordinates z on the hyperboloid of -K: the textbook's exponential map."""
    root = math.sqrt(-curvature)
    length = z.norm(dim=-1, keepdim=True)
    return torch.cat([torch.cosh(root * length), torch.sinh(root * length) * z / length], -1) / root


def distance(a: Tensor, b: Tensor, curvature: float) -> Tensor:
    """Return the distance of two points by the Lorentz product."""
    x, y = on_hyperboloid(a, curvature), on_hyperboloid(b, curvature)
    lorentz = x[..., 0] * y[..., 0] - (x[..., 1:] * y[..., 1:]).sum(-1)
    return torch.acosh((-curvature * lorentz).clamp_min(1)) / math.sqrt(-curvature)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_step_goes_as_far_as_it_is_long_and_its_inverse_finds_it(curvature: float) -> None:
    start, step = points(500, 3, scale=1.5), points(500, 3, scale=1.5)
    there = moved(start, step, curvature)
    torch.testing.assert_close(distance(start, there, curvature), step.norm(dim=-1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved(-start, there, curvature), step, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved(torch.zeros(3).double(), step, curvature), step)
    torch.testing.assert_close(moved(start, torch.zeros(3).double(), curvature), start)
    # an isometry: what is moved from one start keeps its distances
    other = points(500, 3)
    torch.testing.assert_close(
        distance(there, moved(start, other, curvature), curvature),
        distance(step, other, curvature),
        rtol=1e-6,
        atol=1e-6,
    )


def test_it_is_the_addition_of_the_ball() -> None:
    """In the ball's coordinates a step along a line is the addition of Moebius (Mathieu et al. 2019)."""
    c, start, step = 0.7, points(200, 2), points(200, 2)
    x, y = to_ball(start, -c), to_ball(step, -c)
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    moebius = ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy)
    torch.testing.assert_close(to_ball(moved(start, step, -c), -c), moebius)
    assert float(to_ball(points(50, 2, scale=5), -c).norm(dim=-1).max()) < 1 / math.sqrt(c)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("loc", [(0.0, 0.0), (0.9, -0.4), (-2.0, 1.0)])
def test_it_integrates_to_one_over_the_volume(curvature: float, loc: tuple[float, float]) -> None:
    """In polar coordinates around the origin the volume is sinh(k r) / k dr d angle."""
    q = HyperbolicNormal(torch.tensor(loc).double(), torch.tensor([0.5, 0.3]).double(), curvature, (2,))
    root, reach = math.sqrt(-curvature), math.hypot(*loc) + 4.0
    (nodes, weights), angles = np.polynomial.legendre.leggauss(400), np.arange(2000) * 2 * math.pi / 2000
    r = torch.from_numpy(0.5 * reach * (nodes + 1))[:, None]
    around = torch.from_numpy(angles)
    z = torch.stack([r * around.cos(), r * around.sin()], -1)
    volume = torch.sinh(root * r) / root * torch.from_numpy(0.5 * reach * weights)[:, None] * (2 * math.pi / 2000)
    density = q.log_prob(z).exp() * volume
    assert float(density.sum()) == pytest.approx(1, abs=1e-6)
    # the location is where the mean squared distance is least: its gradient, -2 E[log_mu(z)], is zero there
    steps = moved(-q.loc, z, curvature)
    torch.testing.assert_close((steps * density[..., None]).sum((0, 1)), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        (steps.square() * density[..., None]).sum((0, 1)), q.scale.square(), rtol=1e-5, atol=1e-6
    )


def test_without_curvature_it_is_the_normal() -> None:
    loc, scale, z = points(7, 4), points(7, 4).exp(), points(7, 4)
    near = HyperbolicNormal(loc, scale, -1e-7, (4,))
    flat = DiagonalNormal(loc, scale, 1)
    torch.testing.assert_close(near.log_prob(z), flat.log_prob(z), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(near.variance, flat.variance, rtol=1e-5, atol=0)
    torch.manual_seed(1)
    one = near.rsample()
    torch.manual_seed(1)
    torch.testing.assert_close(one, flat.rsample(), rtol=1e-5, atol=1e-5)


def test_around_the_origin_it_is_symmetric() -> None:
    """The density depends on the distance alone, and is that of the radius over the area of the sphere of it."""
    p = WrappedNormalPrior((3,), -2.0)(None, None)
    z = points(5, 3)
    turned = z @ torch.linalg.qr(points(3, 3)).Q
    torch.testing.assert_close(p.log_prob(z), p.log_prob(turned), check_dtype=False)
    root, r = math.sqrt(2), z.norm(dim=-1)
    area = 4 * math.pi * (torch.sinh(root * r) / root).square()
    chi = torch.from_numpy(scipy.stats.chi(3).logpdf(r.numpy()))
    torch.testing.assert_close(p.log_prob(z).double(), chi - area.log())
    torch.testing.assert_close(WrappedNormal((3,), -2.0)(torch.zeros(2, 3).double()).log_prob(z), p.log_prob(z))


@pytest.mark.parametrize("curvature", [-0.25, -2.0])
def test_draws_have_the_density(curvature: float) -> None:
    """20,000 draws, by their distance from the origin: Kolmogorov-Smirnov, false-fail rate 1e-7."""
    loc, scale = torch.tensor([0.8, -0.5]).double(), torch.tensor([0.4, 0.7]).double()
    draws = HyperbolicNormal(loc, scale, curvature, (2,)).sample((20_000,))
    ordered = draws.norm(dim=-1).sort().values.numpy()
    bound, ranks = math.sqrt(math.log(2 / 1e-7) / (2 * len(ordered))), np.arange(len(ordered) + 1) / len(ordered)
    radii, angles = np.linspace(0, 7, 1001), torch.arange(200).double() * 2 * math.pi / 200
    grid = torch.from_numpy(radii)[:, None, None] * torch.stack([angles.cos(), angles.sin()], -1)

    def gap(scale: Tensor) -> float:
        q, root = HyperbolicNormal(loc, scale, curvature, (2,)), math.sqrt(-curvature)
        density = q.log_prob(grid).exp().mean(1).numpy() * 2 * math.pi * np.sinh(root * radii) / root
        cdf = np.interp(ordered, radii, scipy.integrate.cumulative_trapezoid(density, radii, initial=0))
        return max(np.abs(cdf - ranks[1:]).max(), np.abs(cdf - ranks[:-1]).max())

    assert gap(scale) < bound
    assert gap(1.1 * scale) > bound


def test_gradients_are_those_of_finite_differences_and_far_out_they_are_finite() -> None:
    family = WrappedNormal((3,), -1.3)
    params, z = points(4, 2, 3).requires_grad_(), points(4, 3).requires_grad_()

    def drawn(params: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(2)
        return family(params).rsample_and_log_prob((2,))

    assert torch.autograd.gradcheck(lambda p, v: family(p).log_prob(v), (params, z))
    assert torch.autograd.gradcheck(drawn, (params,))
    for far in (0.0, 1e-20, 30.0, 1e4):  # in single precision the ball's boundary is at 17
        given = torch.stack([torch.full((3,), far), torch.tensor([0.0, 3.0, 9.0])]).requires_grad_()
        z, log_q = family(given).rsample_and_log_prob((5,))
        log_p = WrappedNormalPrior((3,), -1.3)(None, None).log_prob(z)
        (gradient,) = torch.autograd.grad((log_q - log_p).sum() + z.sum(), given)
        assert bool(torch.cat([z.flatten(), log_q, log_p, gradient.flatten()]).isfinite().all())
        assert family(given).log_prob(z).isfinite().all()


def test_in_single_precision_a_draw_comes_with_its_density() -> None:
    """Also at a distance of 14, where 1 - |z|^2 of the ball's coordinates is below the rounding of 1."""
    family = WrappedNormal((3,))
    params = torch.tensor([[8.0, -8.0, 8.0], [-1.0, 0.0, -2.0]])
    torch.manual_seed(5)
    z, log_q = family(params).rsample_and_log_prob((50,))
    torch.manual_seed(5)
    noise = torch.randn(50, 3)
    exact = family(params.double())
    step = exact.scale * noise.double()
    expected = DiagonalNormal(torch.zeros(3).double(), exact.scale, 1).log_prob(step) - 2 * log_sinhc(
        step.square().sum(-1)
    )
    torch.testing.assert_close(log_q.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(z.double(), moved(exact.loc, step, -1.0), rtol=1e-6, atol=1e-6)


def test_a_scale_of_the_prior_is_a_curvature() -> None:
    """In units of the scale: log q - log p of curvature -1 and scale s is that of curvature -s^2 and scale 1."""
    s, loc, scale, z = 0.6, points(5, 4), points(5, 4).exp(), points(5, 4)
    prior = WrappedNormalPrior((4,), -1.0, learned=True).double()
    assert prior.log_scale is not None
    torch.nn.init.constant_(prior.log_scale, math.log(s))
    other = WrappedNormalPrior((4,), -s * s).double()
    one = HyperbolicNormal(loc, scale, -1.0, (4,)).log_prob(z) - prior(None, None).log_prob(z)
    two = HyperbolicNormal(loc / s, scale / s, -s * s, (4,)).log_prob(z / s) - other(None, None).log_prob(z / s)
    torch.testing.assert_close(one, two)
    assert prior.learned_curvature.item() == pytest.approx(-s * s)
    assert other.learned_curvature.item() == pytest.approx(-s * s)


def test_a_product_is_the_sum_of_its_factors() -> None:
    families = (WrappedNormal((2,)), Normal((1, 2)), VonMisesFisher((3,)))
    family = Product(families)
    assert (family.event_shape, family.params) == ((7,), (4 + 4 + 4,))
    params, sizes = points(3, 6, 12), [4, 4, 4]
    pieces = [p.unflatten(-1, f.params) for p, f in zip(params.split(sizes, -1), families, strict=True)]
    parts = [f(p) for f, p in zip(families, pieces, strict=True)]
    q = family(params)
    z, log_q = q.rsample_and_log_prob((4,))
    assert (q.batch_shape, z.shape, log_q.shape) == ((3, 6), (4, 3, 6, 7), (4, 3, 6))
    split = [v.unflatten(-1, f.event_shape) for v, f in zip(z.split([2, 2, 3], -1), families, strict=True)]
    expected = sum(part.log_prob(v) for part, v in zip(parts, split, strict=True))
    torch.testing.assert_close(q.log_prob(z), expected)
    torch.testing.assert_close(log_q, expected)
    for name in ("mean", "variance", "centre"):
        joined = torch.cat([getattr(part, name).flatten(2) for part in parts], -1)
        torch.testing.assert_close(getattr(q, name), joined)
    p = ProductPrior((StandardNormal((1, 2)), HypersphericalUniform((3,)))).double()(None, None)
    flat = Product(families[1:])(params[..., 4:])
    closed = kl_divergence(flat, p)
    assert closed is not None
    draws, log_flat = flat.rsample_and_log_prob((20_000,))
    each = (log_flat - p.log_prob(draws)).flatten(1)
    error = each.std(0) / math.sqrt(len(each))
    assert float(((each.mean(0) - closed.flatten()) / error).abs().max()) < 6  # false-fail rate 18 * 2e-9
    hyperbolic = ProductPrior((WrappedNormalPrior((2,)), StandardNormal((1, 2)), HypersphericalUniform((3,))))
    assert kl_divergence(q, hyperbolic.double()(None, None)) is None
    assert hyperbolic(None, None).sample((5, 2)).shape == (5, 2, 7)


def test_what_is_no_space_is_refused() -> None:
    for curvature in (0.0, 1.0, -math.inf, math.nan):
        with pytest.raises(UsageError, match="cannot have the curvature"):
            WrappedNormal((2,), curvature)
    for wrong in ((), (OneHot((3,)),)):
        with pytest.raises(UsageError, match="product cannot be made"):
            Product(wrong)
    with pytest.raises(UsageError, match="product cannot be made"):
        ProductPrior((UniformOneHot((3,)),))
    for q in (WrappedNormal((2,))(torch.zeros(2, 2)), Product((Normal((2,)),))(torch.zeros(4))):
        with pytest.raises(UsageError, match="in part"):
            q.log_prob(torch.zeros(2), torch.ones(2))
