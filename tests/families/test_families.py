"""One set of tests for all families: each must be a distribution, whatever its parameters are."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from family_cases import (
    CASES,
    ELSEWHERE,
    Case,
    cellwise,
    every_case,
    every_value,
    inside,
    line_of,
    outcomes_of,
    values_of,
)
from torch import Tensor
from torch.func import functional_call

import lowerbound.families
from lowerbound.core.distribution import Distribution
from lowerbound.core.model import Family


def test_every_family_is_tested() -> None:
    here = {type(case.make((2,))).__name__ for case in CASES}
    assert here | set(ELSEWHERE) == set(lowerbound.families.__all__)
    for name, file in ELSEWHERE.items():
        assert name in (Path(__file__).parent / file).read_text()


def integral(family: Family, px: Distribution, function: Callable[[Tensor], Tensor]) -> float:
    """E[function(x)] for one cell: a sum over all values, or adaptive quadrature over the real line."""
    if family.discrete:
        x = every_value(family, px)
        return float((px.log_prob(x[:, None]).exp() * function(x)).sum())
    line = line_of(family, px)

    def integrand(t: float) -> float:
        point = torch.tensor([[t]], dtype=torch.float64)
        return float(line.log_density(px, point).exp() * function(line.to_x(point)[0, 0]))

    middle, spread = 0.5 * (line.low + line.high), (line.high - line.low) / 18
    if family.support == "real":  # all of it, in units of the standard deviation, so that quad meets the mass
        halves = ((lambda s, sign=sign: spread * integrand(middle + sign * spread * s)) for sign in (-1, 1))
        return sum(scipy.integrate.quad(half, 0, math.inf, limit=200, epsabs=1e-11)[0] for half in halves)
    ends = itertools.pairwise([line.low, middle, line.high])
    return sum(scipy.integrate.quad(integrand, a, b, limit=200, epsabs=1e-11)[0] for a, b in ends)


@cellwise
def test_it_integrates_to_one_with_the_moments_it_states(case: Case) -> None:
    for _ in range(2):
        family, params = case.draw((1,))
        with torch.no_grad():
            px = family(params)
            assert integral(family, px, torch.ones_like) == pytest.approx(1.0, abs=1e-8)
            if not case.moments:
                continue
            mean = integral(family, px, lambda x: x)
            assert float(px.mean) == pytest.approx(mean, abs=1e-7, rel=1e-7)
            square = integral(family, px, lambda x, mean=mean: (x - mean).square())
            assert float(px.variance) == pytest.approx(square, rel=1e-6)


@cellwise
def test_events_are_sums_of_their_cells(case: Case) -> None:
    family, params = case.draw((2, 5))
    px, x = family(params), values_of(family)
    cells = torch.stack([px.log_prob(x, mask=cell.reshape(2, 5)) for cell in torch.eye(10)])
    torch.testing.assert_close(px.log_prob(x), cells.sum())
    each = px.elements()
    assert each is not None or not (family.factorised and family.reparameterised)
    if each is not None:
        assert (tuple(each.batch_shape), tuple(each.event_shape)) == ((2, 5), ())
        torch.testing.assert_close(each.log_prob(x).flatten(), cells)


@every_case
def test_shapes_broadcast(case: Case) -> None:
    """x `[B, *event]` is scored under parameters `[K, B, *params]` without copies: K = 3, B = 4, event 2 x 5."""
    family, params = case.draw((2, 5), 3, 4)
    px, x, event = family(params), values_of(family, 4), family.event_shape
    assert (tuple(px.batch_shape), tuple(px.event_shape)) == ((3, 4), event)
    assert px.mean.shape == px.variance.shape == px.centre.shape == (3, 4, *event)
    assert px.sample((6,)).shape == (6, 3, 4, *event)
    assert px.sample((6, 2)).shape == (6, 2, 3, 4, *event)
    log_px = px.log_prob(x)
    assert log_px.shape == (3, 4)
    assert px.log_prob(values_of(family, 6, 3, 4)).shape == (6, 3, 4)
    for k, b in itertools.product(range(3), range(4)):
        torch.testing.assert_close(log_px[k, b], family(params[k, b]).log_prob(x[b]))


def cdf_distance(family: Family, px: Distribution, draws: Tensor) -> float:
    """Kolmogorov-Smirnov distance between draws of one cell and the integral of exp(log_prob)."""
    line = line_of(family, px)
    grid = torch.linspace(line.low, line.high, 20001, dtype=torch.float64)[:, None]
    mass = line.log_density(px, grid).exp() * (grid[1, 0] - grid[0, 0])
    ordered = line.from_x(draws.flatten()).sort().values.numpy()
    cdf = np.interp(ordered, grid[:, 0].numpy(), (mass.cumsum(0) - 0.5 * mass).numpy())
    ranks = np.arange(len(draws) + 1) / len(draws)
    return float(max(np.abs(cdf - ranks[1:]).max(), np.abs(cdf - ranks[:-1]).max()))


def rejected(family: Family, px: Distribution, draws: Tensor) -> bool:
    """Say whether `draws` `[N, *event]` are not of `px`, with a false-fail rate of 1e-7.

    Discrete events: chi-squared over all outcomes expected 5 times and the rest together. Others, of one cell: the
    Dvoretzky-Kiefer-Wolfowitz bound.
    """
    if not family.discrete:
        bound = math.sqrt(math.log(2 / 1e-7) / (2 * len(draws)))
        return cdf_distance(family, px, draws) > bound
    outcomes = outcomes_of(family, px)
    expected = px.log_prob(outcomes).exp().numpy() * len(draws)
    often = expected >= 5
    counts = np.array([int((draws == outcome).all(1).sum()) for outcome in outcomes[torch.from_numpy(often)]])
    counts, expected = (np.append(a, len(draws) - a.sum()) for a in (counts, expected[often]))
    if expected[-1] < 5:  # too few for a bin of their own
        counts[-2], expected[-2] = counts[-2:].sum(), expected[-2:].sum()
        counts, expected = counts[:-1], expected[:-1]
    return scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue < 1e-7


@cellwise
def test_draws_have_the_density(case: Case) -> None:
    """20,000 draws. A density with other parameters must be rejected, or the test could not fail."""
    discrete = case.make((1,)).discrete
    few = case.make((1,)).support in ("binary", "levels")
    family, params = case.draw((2,) if discrete and few else (1,))
    other = params + 0.3 * torch.linspace(1, 2, params.numel()).reshape(params.shape)
    with torch.no_grad():
        px = family(params)
        draws = px.sample((20_000,))
        assert not rejected(family, px, draws)
        assert rejected(family, family(other), draws)


@cellwise
def test_draws_are_independent_over_samples_batch_and_event(case: Case) -> None:
    """Correlations of 20,000 draws of 2 x 3 cells, also with the draw before: 51 z-scores, false-fail rate 1e-7.

    Noise that is shared between cells, rows or samples would have a correlation of 1. Continuous draws are ranked, as
    heavy tails would decide over a plain correlation.
    """
    family, params = case.draw((3,), 2)
    with torch.no_grad():
        draws = family(params).sample((20_000,)).flatten(1)
    if not family.discrete:
        draws = draws.argsort(0).argsort(0).double()
    scaled = (draws - draws.mean(0)) / draws.std(0)
    at_once = scaled.T @ scaled / len(scaled) - torch.eye(6, dtype=torch.float64)
    in_turn = scaled[1:].T @ scaled[:-1] / len(scaled)
    assert float(at_once.abs().max()) < 6 / math.sqrt(len(scaled))
    assert float(in_turn.abs().max()) < 6 / math.sqrt(len(scaled))


@every_case
def test_draws_lie_in_the_support_and_come_with_their_density(case: Case) -> None:
    family, params = case.draw((5,), 4)
    torch.manual_seed(3)
    z, log_q = family(params).rsample_and_log_prob((3,))
    torch.testing.assert_close(log_q, family(params).log_prob(z))
    torch.manual_seed(3)
    torch.testing.assert_close(family(params).sample((3,)), z.detach())
    px = family(params)
    assert px.sample().shape == (4, *family.event_shape)
    assert not family(params.requires_grad_()).sample((3,)).requires_grad
    assert inside(family, z)
    assert inside(family, values_of(family, 4))
    assert inside(family, px.centre) or family.support == "binary"  # a mean of 0/1 pixels is shown as grey
    assert px.has_rsample == family.reparameterised
    if not family.discrete:
        assert z.unique().numel() == z.numel()


@every_case
def test_gradients_agree_with_finite_differences(case: Case) -> None:
    """Of the density, in its parameters (also the family's own) and its value; and of a draw with its noise held."""
    family, params = case.draw((2,), 3)
    own = {name: p.detach().clone().requires_grad_() for name, p in family.named_parameters()}
    free = not family.discrete and family.support not in ("sphere", "simplex")
    x = values_of(family, 3).requires_grad_(free)

    def density(params: Tensor, x: Tensor, *rest: Tensor) -> Tensor:
        return functional_call(family, dict(zip(own, rest, strict=True)), (params,)).log_prob(x)

    def draw(params: Tensor, *rest: Tensor) -> Tensor:
        torch.manual_seed(6)
        return functional_call(family, dict(zip(own, rest, strict=True)), (params,)).rsample((4,))

    assert torch.autograd.gradcheck(density, (params.requires_grad_(), x, *own.values()))
    if family(params).has_rsample and case.smooth:
        assert torch.autograd.gradcheck(draw, (params, *own.values()))


@every_case
def test_single_precision_is_near_double(case: Case) -> None:
    family, params = case.draw((5,), 4)
    params, x = 3 * params, values_of(family, 4)
    with torch.no_grad():
        exact = family(params).log_prob(x)
        found = family.float()(params.float()).log_prob(x.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=2e-4)


NORMALS = [
    c for c in CASES if c.name.partition(",")[0] in ("Normal", "FixedNormal", "SharedNormal", "PerDimensionNormal")
]


@pytest.mark.parametrize("case", NORMALS, ids=lambda case: case.name)
def test_normals_agree_with_torch(case: Case) -> None:
    family, params = case.draw((3,), 4)
    with torch.no_grad():
        px, x = family(params), values_of(family, 4)
        theirs = torch.distributions.Independent(torch.distributions.Normal(px.mean, px.stddev), 1)
        torch.testing.assert_close(px.log_prob(x), theirs.log_prob(x))
        torch.testing.assert_close(px.entropy(), theirs.entropy())
        torch.testing.assert_close(px.mode, theirs.mode)
