"""The families that are no densities, and what they promise instead: grey cross-entropy, and a point."""

import itertools
import math

import pytest
import torch

import lowerbound as lb
from lowerbound.families import Bernoulli, Delta, GreyBernoulli


def test_grey_cross_entropy_is_an_expectation_over_binarisations() -> None:
    logits, grey = 3 * torch.randn(4, 5, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)[:, None]
    chance = torch.where(images == 1, grey, 1 - grey).prod(2)
    expected = (chance * Bernoulli((5,))(logits).log_prob(images)).sum(0)
    torch.testing.assert_close(GreyBernoulli((5,))(logits).log_prob(grey), expected)
    torch.testing.assert_close(
        GreyBernoulli((5,))(logits).log_prob(grey.round()), Bernoulli((5,))(logits).log_prob(grey.round())
    )


def test_grey_cross_entropy_is_no_density_of_grey_values() -> None:
    """Its integral over [0, 1] is below 1 (a density would have 1), and its target says what it bounds."""
    grey = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None]
    family = GreyBernoulli((1,))
    mass = family(torch.tensor([1.5], dtype=torch.float64)).log_prob(grey).exp().mean()
    assert float(mass) < 0.6
    assert family.support == "unit"
    assert family.target != Bernoulli((1,)).target
    assert "Bernoulli(grey)" in family.target


def test_grey_draws_are_binary_images_and_masks_hold() -> None:
    px = GreyBernoulli((2, 3))(torch.randn(4, 2, 3))
    assert set(px.sample((5,)).unique().tolist()) == {0.0, 1.0}
    grey, mask = torch.rand(4, 2, 3), (torch.rand(4, 2, 3) < 0.5).float()
    holed = torch.where(mask.bool(), grey, math.nan)
    torch.testing.assert_close(px.log_prob(holed, mask), px.log_prob(grey, mask))
    with torch.no_grad():
        start = GreyBernoulli((2, 3)).bias_for(torch.full((2, 3), 0.3), torch.ones(2, 3))
    torch.testing.assert_close(GreyBernoulli((2, 3))(start).mean, torch.full((2, 3), 0.3))


def test_a_point_gives_itself_with_a_path_for_the_gradient() -> None:
    code = torch.randn(4, 5, requires_grad=True)
    q = Delta((5,))(code)
    draws = q.rsample((3,))
    torch.testing.assert_close(draws, code.expand(3, 4, 5))
    (gradient,) = torch.autograd.grad(draws.sum(), code)
    torch.testing.assert_close(gradient, torch.full((4, 5), 3.0))
    assert not q.sample((3,)).requires_grad
    torch.testing.assert_close(q.mean, code)
    assert float(q.variance.abs().max()) == 0
    assert (tuple(q.batch_shape), tuple(q.event_shape)) == ((4,), (5,))


def test_a_point_has_no_density() -> None:
    """Infinite where it is, zero elsewhere; and everything that asks is told so before it computes with it."""
    code = torch.randn(4, 5)
    q = Delta((5,))(code)
    other = code.clone()
    other[2, 3] += 1e-3
    assert q.log_prob(code).tolist() == [math.inf] * 4
    assert q.log_prob(other).tolist() == [math.inf, math.inf, -math.inf, math.inf]
    mask = torch.ones(4, 5)
    mask[2, 3] = 0
    assert q.log_prob(other, mask).tolist() == [math.inf] * 4
    assert not q.has_density
    assert not Delta((5,)).has_density
    z, log_q = q.rsample_and_log_prob((2,))
    torch.testing.assert_close(z, code.expand(2, 4, 5))
    assert bool((log_q == math.inf).all())


def test_a_point_starts_at_the_mean() -> None:
    mean = torch.randn(5)
    torch.testing.assert_close(Delta((5,))(Delta((5,)).bias_for(mean, torch.ones(5))).mean, mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_point_is_widened_like_every_family(dtype: torch.dtype) -> None:
    assert Delta((5,))(torch.randn(4, 5).to(dtype)).rsample().dtype == torch.float32


def test_an_autoencoder_reports_no_bound_and_says_why() -> None:
    data = lb.from_arrays(torch.randn(30, 4), valid_fraction=0.0, test_fraction=0.0)
    model, _ = lb.recipes.ae(data.spec, latent_dim=3, hidden=(7,)).build()
    assert not model.has_density
    found = lb.evaluate(model, data.train)
    for number in (found.elbo, found.rate, found.nll, found.bits_per_dim):
        assert number.value is None
        assert "Delta" in number.reason
    with torch.no_grad():
        expected = -model.decoder(model.encoder(data.train.values())[0]).log_prob(data.train.values()).double()
    assert found.distortion.value == pytest.approx(float(expected.mean()), rel=1e-5)
    with pytest.raises(lb.LowerboundError, match="Delta"):
        lb.score(model, data.train)
