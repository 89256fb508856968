"""A diffusion as the prior: its bound and its draws against a closed form, and what it refuses."""

import math

import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.priors import Diffusion


def silent(**options):
    """Return a diffusion whose network finds no noise: v stays where it is but for the noise of each step."""
    prior = Diffusion((2,), hidden=(4,), steps=4, least=-1.0, most=0.5, **options).double()
    with torch.no_grad():
        prior.network[-1].weight.zero_()
        prior.network[-1].bias.zero_()
    return prior


def variance_of(prior):
    """Return the variance of z: that of v_T / a_T, of each step, and of p(z|v_0)."""
    n = prior.noise
    steps = (n[:-1] * n.diff() / n[1:]).sum()
    return float(1 + n[-1] + steps + n[0])


def test_the_estimate_is_unbiased_and_a_bound_on_average():
    """60,000 chains, 6 standard errors: false alarm below 1e-8."""
    torch.manual_seed(2)
    prior = silent()
    prior.start_from_codes(torch.tensor([[1.0, -2.0], [5.0, 2.0]], dtype=torch.float64))
    z = torch.tensor([[3.0, 0.5], [6.0, -1.0]], dtype=torch.float64)
    scale = prior.scaling.scale * math.sqrt(variance_of(prior))
    exact = torch.distributions.Normal(prior.scaling.loc, scale).log_prob(z).sum(-1)
    with torch.no_grad():
        found = prior(None, None).log_prob(z.expand(60_000, 2, 2))
    ratio = (found - exact).exp()
    assert bool(((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / math.sqrt(60_000)).all())
    assert bool((found.mean(0) < exact).all())
    assert prior.bound


def test_draws_have_the_density_that_is_scored():
    """The mean weight of draws of another chain is 1, whatever the network finds; 40,000 draws, 6 standard errors."""
    torch.manual_seed(4)
    prior = silent()
    draws = prior(None, None).sample((40_000,))
    # a variance of n normal draws has relative error sqrt(2 / n)
    assert bool(((draws.var(0) / variance_of(prior) - 1).abs() < 6 * math.sqrt(2 / 40_000)).all())
    learned = Diffusion((1,), hidden=(6,), steps=3, least=-1.0, most=1.0).double()
    with torch.no_grad():
        learned.network[-1].weight.mul_(10)
        learned.network[-1].bias.fill_(0.4)
        axis = torch.linspace(-12, 12, 481, dtype=torch.float64)[:, None]
        mass = learned(None, None).log_prob(axis.expand(3000, 481, 1)).exp().mean(0) * 0.05
        draws = learned(None, None).sample((40_000,))
    assert float(mass.sum()) == pytest.approx(1, abs=0.02)  # each node has its own noise: 0.3 % of the sum
    assert float(draws.mean()) == pytest.approx(float((mass * axis[:, 0]).sum()), abs=0.08)
    assert abs(float(draws.mean())) > 0.2


def test_minus_the_loss_is_the_bound_and_parts_are_the_whole(monkeypatch):
    prior, z = Diffusion((2, 2), hidden=(5,), steps=3), torch.randn(6, 2, 2)
    torch.manual_seed(1)
    loss = prior.fit_loss(z)
    torch.manual_seed(1)
    torch.testing.assert_close(-loss, prior(None, None).log_prob(z))
    monkeypatch.setattr("lowerbound.priors.diffusion._AT_ONCE", 3 * 5 * 2)
    assert prior(None, None).log_prob(z.expand(7, 6, 2, 2)).shape == (7, 6)
    assert prior(None, None).mean.shape == prior(None, None).variance.shape == (2, 2)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"least": 2.0, "most": 1.0}, {"most": 40.0}, {"hidden": (0,)}])
def test_sizes_are_checked(wrong):
    with pytest.raises(UsageError, match="cannot"):
        Diffusion((2,), **wrong)
