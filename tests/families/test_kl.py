"""Closed-form divergences, each against a definition that does not know it: quadrature, torch, finite differences."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from lowerbound.core.distribution import Distribution
from lowerbound.core.kl import kl_divergence, register_kl, registered_pairs
from lowerbound.families import Bernoulli, FixedNormal, Normal
from lowerbound.families.beta import CellwiseBeta
from lowerbound.families.laplace import CellwiseLaplace
from lowerbound.families.lognormal import CellwiseLogNormal
from lowerbound.families.normal import DiagonalNormal


def f64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(loc: list[float], variance: list[float]) -> DiagonalNormal:
    return DiagonalNormal(f64(loc), f64(variance).sqrt(), 1)


def laplace(loc: float, variance: float) -> CellwiseLaplace:
    return CellwiseLaplace(f64([loc]), f64([variance]).div(2).sqrt(), event_dims=1)


def lognormal(loc: float, variance: float) -> CellwiseLogNormal:
    return CellwiseLogNormal(f64([loc]), f64([variance]).sqrt(), event_dims=1)


def beta(loc: float, variance: float) -> CellwiseBeta:
    return CellwiseBeta(f64([1 + math.exp(loc)]), f64([1 + variance]), event_dims=1)


# For each kind of distribution of one cell: how to make it from two numbers, with event size 1.
MAKERS: dict[type, Callable[[float, float], Distribution]] = {
    DiagonalNormal: lambda m, v: normal([m], [v]),
    CellwiseLaplace: laplace,
    CellwiseLogNormal: lognormal,
    CellwiseBeta: beta,
}
# Kinds whose cells depend on each other or are discrete, and where their divergences are tested.
ELSEWHERE = {
    "CholeskyNormal": "test_covariance.py",
    "DiagonalPlusNormal": "test_covariance.py",
    "OneHotCategorical": "test_relaxed_onehot.py",
    "ProductDistribution": "test_hyperbolic.py",
    "VonMisesFisherDirection": "test_sphere.py",
}
HERE = [pair for pair in registered_pairs() if set(pair) <= set(MAKERS)]
POINTS = [
    ((0.5, math.exp(-1)), (0.0, 1.0)),
    ((1.0, 4.0), (-1.0, 0.25)),
    ((-2.0, 0.01), (0.3, 9.0)),
    ((3.0, 5.0), (2.0, 6.0)),
]


def test_every_registered_pair_is_tested() -> None:
    for q, p in registered_pairs():
        assert (q, p) in HERE or q.__name__ in ELSEWHERE


@pytest.mark.parametrize("pair", HERE, ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
@pytest.mark.parametrize(("of_q", "of_p"), POINTS)
def test_closed_form_is_the_integral(
    pair: tuple[type, type], of_q: tuple[float, float], of_p: tuple[float, float]
) -> None:
    """Adaptive quadrature between the places where a density has an edge, on the scale where the support is R."""
    q, p = MAKERS[pair[0]](*of_q), MAKERS[pair[1]](*of_p)
    assert (type(q), type(p)) == pair
    inner, positive = isinstance(q, CellwiseBeta), isinstance(q, CellwiseLogNormal)

    def integrand(t: float) -> float:
        point = f64([t])
        x = point.sigmoid() if inner else point.exp() if positive else point
        slope = float(x * (1 - x)) if inner else float(x) if positive else 1.0
        log_q = float(q.log_prob(x))
        return math.exp(log_q) * (log_q - float(p.log_prob(x))) * slope

    middle, spread = (of_q[0], 3.0 * of_q[1] ** 0.5) if not inner else (0.0, 12.0)
    edges = sorted({middle - 15 * spread, middle - spread, middle, middle + spread, middle + 15 * spread, of_p[0]})
    edges = [max(min(e, 35.0), -35.0) for e in edges] if inner else edges
    parts = [quad(integrand, a, b, limit=200, epsabs=1e-12)[0] for a, b in pairwise(edges) if a < b]
    assert float(kl_divergence(q, p)) == pytest.approx(sum(parts), rel=1e-7, abs=1e-9)


def test_golden_values_of_laplaces() -> None:
    """log(b_p / b_q) + (b_q exp(-d / b_q) + d) / b_p - 1 at d = 1, b_q = 2, b_p = 1 and by the integral above."""
    q, p = (CellwiseLaplace(f64([m]), f64([b]), event_dims=1) for m, b in ((1.0, 2.0), (0.0, 1.0)))
    assert float(kl_divergence(q, p)) == pytest.approx(-math.log(2) + 2 * math.exp(-0.5), rel=1e-12)
    assert float(kl_divergence(q, p)) == pytest.approx(0.519914138865, rel=1e-11)


@pytest.mark.parametrize(
    ("q", "p", "golden"),
    [
        (normal([0.5], [math.exp(-1)]), normal([0.0], [1.0]), 0.30893972058572117),
        (normal([1.0], [4.0]), normal([-1.0], [0.25]), 14.11370563888011),
        (normal([1.0], [4.0]), normal([0.0], [1.0]), 1.306852819440055),
        (normal([0.5], [0.09]), normal([-1.0], [4.0]), 1.6896199848855607),
    ],
)
def test_golden_values(q: DiagonalNormal, p: DiagonalNormal, golden: float) -> None:
    assert float(kl_divergence(q, p)) == pytest.approx(golden, rel=1e-11)


def random_normals(batch: int, dims: int) -> tuple[DiagonalNormal, DiagonalNormal]:
    loc, log_scale = 2 * torch.randn(2, batch, dims, dtype=torch.float64)
    other_loc, other_log_scale = torch.randn(2, dims, dtype=torch.float64)
    return DiagonalNormal(loc, (0.5 * log_scale).exp(), 1), DiagonalNormal(other_loc, other_log_scale.exp(), 1)


def test_closed_form_agrees_with_torch_and_adds_over_dimensions() -> None:
    """A batch of q `[7, 3]` against one p `[3]`, both ways round: q and p are not exchanged."""
    q, p = random_normals(7, 3)
    for a, b in ((q, p), (p, q)):
        theirs = torch.distributions.kl_divergence(
            torch.distributions.Normal(a.loc, a.scale), torch.distributions.Normal(b.loc, b.scale)
        )
        torch.testing.assert_close(kl_divergence(a, b), theirs.sum(-1))
    parts = [kl_divergence(normal([m], [v]), normal([0.3], [2.0])) for m, v in ((0.1, 0.5), (1.0, 3.0))]
    both = kl_divergence(normal([0.1, 1.0], [0.5, 3.0]), normal([0.3, 0.3], [2.0, 2.0]))
    torch.testing.assert_close(both, parts[0] + parts[1])


def test_a_divergence_is_positive_and_zero_only_between_equals() -> None:
    q, p = random_normals(1000, 2)
    assert float(kl_divergence(q, p).min()) > 0
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(1000, dtype=torch.float64), rtol=0, atol=1e-14)
    nearly = DiagonalNormal(q.loc + 1e-3 * q.scale, q.scale, 1)
    torch.testing.assert_close(
        kl_divergence(nearly, q), torch.full((1000,), 2 * 0.5e-6, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_a_common_shift_and_scale_changes_nothing() -> None:
    q, p = random_normals(7, 3)
    moved = [DiagonalNormal(3 * d.loc - 1, 3 * d.scale, 1) for d in (q, p)]
    torch.testing.assert_close(kl_divergence(*moved), kl_divergence(q, p))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head", ["log_variance", "softplus"])
def test_finite_in_low_precision_for_log_variances_from_minus_to_plus_30(dtype: torch.dtype, head: str) -> None:
    """exp(30) does not fit float16: the head must widen before it exponentiates."""
    raw = torch.stack([torch.linspace(-3, 3, 61), torch.linspace(-30, 30, 61)], -1)[..., None].to(dtype)
    raw.requires_grad_()
    q, p = Normal((1,), head=head)(raw), FixedNormal((1,))(torch.zeros(1))
    divergence = kl_divergence(q, p)
    assert divergence.dtype == torch.float32
    assert bool(torch.isfinite(divergence).all())
    assert float(divergence.detach().min()) >= 0
    if dtype != torch.float16:  # the gradient, exp(30), does not fit it either
        (gradient,) = torch.autograd.grad(divergence.sum(), raw)
        assert bool(torch.isfinite(gradient).all())
    exact = kl_divergence(Normal((1,), head=head)(raw.detach().double()), FixedNormal((1,))(torch.zeros(1).double()))
    torch.testing.assert_close(divergence.detach().double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "log_variances", [(-30.0, 0.0), (30.0, 0.0), (0.0, -30.0), (0.0, 30.0), (-30.0, 30.0), (30.0, -30.0)]
)
def test_finite_in_float32_between_extreme_variances(log_variances: tuple[float, float]) -> None:
    q, p = (DiagonalNormal(torch.tensor([0.5]), torch.tensor([0.5 * h]).exp(), 1) for h in log_variances)
    wide = (normal([0.5], [math.exp(h)]) for h in log_variances)
    assert float(kl_divergence(q, p)) == pytest.approx(float(kl_divergence(*wide)), rel=1e-4)


def test_gradients_agree_with_finite_differences() -> None:
    parameters = [torch.randn(5, 2, dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def divergence(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return kl_divergence(DiagonalNormal(a, b.exp(), 1), DiagonalNormal(c, d.exp(), 1))

    assert torch.autograd.gradcheck(divergence, parameters)


def test_draws_agree_with_the_closed_form() -> None:
    """Mean of log q - log p over 200,000 draws of q; |z| < 5.5 has a false-fail rate of 4e-8."""
    q, p = normal([0.5, -1.0], [0.4, 2.0]), normal([0.0, 0.3], [1.0, 1.5])
    z, log_q = q.rsample_and_log_prob((200_000,))
    draws = log_q - p.log_prob(z)
    assert abs(float((draws.mean() - kl_divergence(q, p)) / (draws.std() / len(draws) ** 0.5))) < 5.5


def test_a_pair_without_closed_form_gives_none() -> None:
    q, p = normal([0.0], [1.0]), Bernoulli((1,))(torch.zeros(1))
    assert kl_divergence(q, p) is None
    assert kl_divergence(p, q) is None


def test_a_subclass_does_not_borrow_its_parents_closed_form() -> None:
    """The dictionary is asked for exact types: a subclass may have another density."""

    class Other(DiagonalNormal):
        pass

    q = Other(f64([0.0]), f64([1.0]), 1)
    assert kl_divergence(q, normal([0.0], [1.0])) is None


def test_registering_adds_a_pair(monkeypatch) -> None:
    monkeypatch.setattr("lowerbound.core.kl._FORMULAS", {})

    @register_kl(DiagonalNormal, Distribution)
    def formula(q: DiagonalNormal, p: Distribution) -> Tensor:
        return q.loc.sum()

    assert registered_pairs() == ((DiagonalNormal, Distribution),)
    assert kl_divergence(normal([0.0], [1.0]), normal([0.0], [1.0])) is None
