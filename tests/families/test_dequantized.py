"""Dequantized densities, against the integral over each cell that they bound."""

import math

import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.families import Bernoulli, Beta, Dequantized, FixedNormal, Normal, PerDimensionNormal
from lowerbound.objectives import ELBO
from lowerbound.recipes.parts import mlp_recipe

LEVELS = 5


def cells(family: Dequantized, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log of the integral of the density over each cell, and the mean of its log, by the midpoint rule."""
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    v = (torch.arange(LEVELS, dtype=torch.float64)[:, None] + u) / LEVELS
    log_p = family.family(params).log_prob(v[..., None])
    exact = log_p.logsumexp(1) - math.log(len(u)) - math.log(LEVELS)
    return exact, log_p.mean(1) - math.log(LEVELS)


def test_it_is_in_expectation_the_mean_log_density_and_below_the_probability() -> None:
    """20,000 draws of u a level; |z| < 5.5 for five levels has a false-fail rate of 2e-7."""
    family = Dequantized((1,), FixedNormal((1,), 0.2), LEVELS)
    params = torch.tensor([0.35], dtype=torch.float64)
    exact, bound = cells(family, params)
    x = (torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1))[:, None]
    draws = family(params).log_prob(x.expand(20_000, LEVELS, 1))
    z = (draws.mean(0) - bound) / draws.std(0) * math.sqrt(len(draws))
    assert float(z.abs().max()) < 5.5
    assert bool((bound < exact - 1e-3).all())  # Jensen: strictly below where the density bends
    assert float(exact.exp().sum()) <= 1
    weighed = draws.logsumexp(0) - math.log(len(draws))  # many draws inside the logarithm close the gap
    torch.testing.assert_close(weighed, exact, rtol=0, atol=0.05)


def test_it_is_exact_where_the_density_is_constant() -> None:
    """Beta(1, 1) is uniform: each of n levels has probability 1/n whatever u is, D log n in all."""
    base = Beta((2, 3))
    family = Dequantized((2, 3), base, LEVELS)
    uniform = base.bias_for(torch.full((2, 3), 0.5), torch.full((2, 3), 1 / 12))
    px, x = family(uniform), torch.randint(LEVELS, (7, 2, 3)) / (LEVELS - 1)
    torch.testing.assert_close(base(uniform).log_prob(torch.rand(2, 3)), torch.zeros(()), rtol=0, atol=1e-4)
    torch.testing.assert_close(px.log_prob(x), torch.full((7,), -6 * math.log(LEVELS)), rtol=0, atol=1e-4)
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    torch.testing.assert_close(px.log_prob(x, mask), torch.full((7,), -3 * math.log(LEVELS)), rtol=0, atol=1e-4)


def test_noise_is_anew_for_each_cell_row_and_call() -> None:
    px = Dequantized((1,), FixedNormal((1,), 0.2), LEVELS)(torch.zeros(1))
    x = torch.zeros(50, 1)
    first, second = px.log_prob(x), px.log_prob(x)
    assert first.unique().numel() == 50
    assert not torch.equal(first, second)


def test_draws_and_means_are_levels() -> None:
    """Draws have each cell's integral as their share: |z| < 5.5 of 20,000 draws; the mean within a hundredth."""
    family = Dequantized((1,), FixedNormal((1,), 0.1), LEVELS)
    params = torch.tensor([0.55], dtype=torch.float64)
    px = family(params)
    exact, _ = cells(family, params)
    draws = px.sample((20_000,))
    for k in range(LEVELS):
        share = float(exact[k].exp())
        found = float((draws == k / (LEVELS - 1)).double().mean())
        assert abs(found - share) < 5.5 * math.sqrt(share * (1 - share) / 20_000) + 1e-4
    assert float(px.mean) == pytest.approx(float(draws.mean()), abs=0.02)
    assert float(px.centre) == 0.5
    fine = Dequantized((1,), FixedNormal((1,), 0.1), 32)(params)
    assert float(fine.variance) == pytest.approx(float(fine.sample((20_000,)).var()), rel=0.1)


def test_it_starts_at_the_data_and_refuses_what_is_no_density() -> None:
    mean, variance = torch.tensor([0.3, 0.8]), torch.tensor([0.02, 0.05])
    family = Dequantized((2,), PerDimensionNormal((2,)), 256)
    with torch.no_grad():
        px = family(family.bias_for(mean, variance))
    torch.testing.assert_close(px.mean, mean)
    torch.testing.assert_close(px.variance, variance)
    with pytest.raises(UsageError, match="cannot be dequantised"):
        Dequantized((2,), Bernoulli((2,)))
    with pytest.raises(UsageError, match="cannot be dequantised"):
        Dequantized((2,), FixedNormal((3,)))


def test_each_sample_has_noise_of_its_own() -> None:
    """Noise that K samples shared would not be averaged in the bound of many, nor seen in its error."""
    px = Dequantized((2,), FixedNormal((2,), 0.2), LEVELS)(torch.zeros(50, 3, 2))
    assert px.log_prob(torch.zeros(3, 2)).unique().numel() == 150


def test_a_model_is_scored_alike_each_time() -> None:
    data = lb.from_arrays(torch.randint(5, (40, 1, 3, 4), dtype=torch.uint8).numpy(), binarize="none")
    likelihood = Dequantized(data.spec.shape, levels=256)
    model, _ = mlp_recipe(data.spec, Normal((2,)), ELBO(), (7,), "silu", likelihood).build()
    first, second = (lb.score(model, data.test, num_samples=3) for _ in range(2))
    assert torch.equal(first.log_px, second.log_px)
    assert torch.equal(first.distortion, second.distortion)
