"""One set of tests for all families: each must be a distribution, whatever its parameters are."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from family_cases import CASES, NO_DENSITY, OF_COLUMNS, Case, every_case, values_of
from torch import Tensor
from torch.func import functional_call

import lowerbound.families
from lowerbound.core.distribution import Distribution


def test_every_family_is_tested() -> None:
    assert {type(case.make((2,))).__name__ for case in CASES} | NO_DENSITY | OF_COLUMNS == set(
        lowerbound.families.__all__
    )


def integral(px: Distribution, function: Callable[[float], float]) -> float:
    """E[function(x)] for one value: a sum over 0 and 1, or adaptive quadrature."""

    def integrand(x: float) -> float:
        return math.exp(float(px.log_prob(torch.tensor([x], dtype=torch.float64)))) * function(x)

    if isinstance(px.mean, Tensor) and px.has_rsample:
        centre, spread = float(px.mean), float(px.stddev)
        return scipy.integrate.quad(integrand, centre - 12 * spread, centre + 12 * spread, limit=200)[0]
    return sum(integrand(x) for x in (0.0, 1.0))


@every_case
def test_it_integrates_to_one_with_the_moments_it_states(case: Case) -> None:
    for _ in range(2):
        family, params = case.draw((1,))
        px = family(params.detach())
        with torch.no_grad():
            assert integral(px, lambda x: 1.0) == pytest.approx(1.0, abs=1e-8)
            mean, square = integral(px, lambda x: x), integral(px, lambda x: x * x)
            assert float(px.mean) == pytest.approx(mean, abs=1e-7)
            assert float(px.variance) == pytest.approx(square - mean**2, rel=1e-6)


@every_case
def test_events_are_sums_of_their_cells_and_shapes_broadcast(case: Case) -> None:
    """x `[B, *event]` is scored under parameters `[K, B, *params]` without copies: K = 3, B = 4, event 2 x 5."""
    family, params = case.draw((2, 5), 3, 4)
    px, x = family(params), values_of(family, 4)
    assert (tuple(px.batch_shape), tuple(px.event_shape)) == ((3, 4), (2, 5))
    assert px.mean.shape == px.variance.shape == (3, 4, 2, 5)
    assert px.sample((6,)).shape == (6, 3, 4, 2, 5)
    log_px = px.log_prob(x)
    assert log_px.shape == (3, 4)
    for k, b in itertools.product(range(3), range(4)):
        alone = family(params[k, b])
        torch.testing.assert_close(log_px[k, b], alone.log_prob(x[b]))
        cells = [alone.log_prob(x[b], mask=cell.reshape(2, 5)) for cell in torch.eye(10)]
        torch.testing.assert_close(log_px[k, b], torch.stack(cells).sum())


def cdf_distance(px: Distribution, draws: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance between draws of one value and the integral of exp(log_prob)."""
    grid = px.mean + px.stddev * torch.linspace(-9, 9, 20001, dtype=torch.float64)[:, None]
    mass = px.log_prob(grid).exp() * (grid[1, 0] - grid[0, 0])
    cdf = np.interp(np.sort(draws), grid[:, 0].numpy(), (mass.cumsum(0) - 0.5 * mass).numpy())
    ranks = np.arange(len(draws) + 1) / len(draws)
    return float(max(np.abs(cdf - ranks[1:]).max(), np.abs(cdf - ranks[:-1]).max()))


def rejected(px: Distribution, draws: Tensor) -> bool:
    """Say whether `draws` `[N, *event]` are not of `px`, with a false-fail rate of 1e-7.

    0/1 events: chi-squared over all outcomes. Others, of one value: the Dvoretzky-Kiefer-Wolfowitz bound.
    """
    if px.has_rsample:
        bound = math.sqrt(math.log(2 / 1e-7) / (2 * len(draws)))
        return cdf_distance(px, draws.flatten().numpy()) > bound
    outcomes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=draws.shape[1])), dtype=torch.float64)
    counts = (draws[:, None] == outcomes).all(2).sum(0).numpy()
    expected = px.log_prob(outcomes).exp().numpy() * len(draws)
    return scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue < 1e-7


@every_case
def test_draws_have_the_density(case: Case) -> None:
    """20,000 draws. A density with other parameters must be rejected, or the test could not fail."""
    event = (3,) if case.name == "Bernoulli" else (1,)
    family, params = case.draw(event)
    with torch.no_grad():
        px = family(params)
        draws = px.sample((20_000,))
        assert not rejected(px, draws)
        assert rejected(family(params + 0.25), draws)


@every_case
def test_draws_are_independent_over_samples_batch_and_event(case: Case) -> None:
    """Correlations of 20,000 draws of 2 x 3 cells, also with the draw before: 51 z-scores, false-fail rate 1e-7.

    Noise that is shared between cells, rows or samples would have a correlation of 1.
    """
    family, params = case.draw((3,), 2)
    with torch.no_grad():
        draws = family(params).sample((20_000,)).flatten(1)
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
    assert family(params).sample().shape == (4, 5)
    assert not family(params.requires_grad_()).sample((3,)).requires_grad
    if family.support == "binary":
        assert set(z.unique().tolist()) == {0.0, 1.0}
        assert not family(params).has_rsample
    else:
        assert z.unique().numel() == 60


@every_case
def test_gradients_agree_with_finite_differences(case: Case) -> None:
    """Of the density, in its parameters (also the family's own) and its value; and of a draw with its noise held."""
    family, params = case.draw((2,), 3)
    own = {name: p.detach().clone().requires_grad_() for name, p in family.named_parameters()}
    x = values_of(family, 3).requires_grad_(family.support == "real")

    def density(params: Tensor, x: Tensor, *rest: Tensor) -> Tensor:
        return functional_call(family, dict(zip(own, rest, strict=True)), (params,)).log_prob(x)

    def draw(params: Tensor, *rest: Tensor) -> Tensor:
        torch.manual_seed(6)
        return functional_call(family, dict(zip(own, rest, strict=True)), (params,)).rsample((4,))

    assert torch.autograd.gradcheck(density, (params.requires_grad_(), x, *own.values()))
    if family(params).has_rsample:
        assert torch.autograd.gradcheck(draw, (params, *own.values()))


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "Bernoulli"], ids=lambda case: case.name)
def test_normals_agree_with_torch(case: Case) -> None:
    family, params = case.draw((3,), 4)
    with torch.no_grad():
        px, x = family(params), values_of(family, 4)
        theirs = torch.distributions.Independent(torch.distributions.Normal(px.mean, px.stddev), 1)
        torch.testing.assert_close(px.log_prob(x), theirs.log_prob(x))
        torch.testing.assert_close(px.entropy(), theirs.entropy())
        torch.testing.assert_close(px.mode, theirs.mode)
