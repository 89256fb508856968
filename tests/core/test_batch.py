"""Weights of rows, and masks of values."""

import pytest
import torch

from lowerbound import from_arrays, recipes
from lowerbound.core.model import VAE, Conditional, Encoder, inference
from lowerbound.core.objective import first_step
from lowerbound.core.types import Batch
from lowerbound.data.corruptions import SaltAndPepper
from lowerbound.families import Bernoulli, FixedNormal, GreyBernoulli, Normal, PerDimensionNormal, SharedNormal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import ELBO, Corrupt
from lowerbound.priors import StandardNormal

K, B, LATENT, SHAPE = 3, 7, 2, (1, 5, 4)
DECODERS = [Bernoulli, GreyBernoulli, FixedNormal, SharedNormal, PerDimensionNormal, Normal]


def small_vae(family):
    likelihood, posterior = family(SHAPE), Normal((LATENT,))
    encoder = Encoder([MLP(SHAPE, posterior.params, (11,))])
    decoder = Conditional(MLP((LATENT,), likelihood.params, (13,)), likelihood)
    return VAE(encoder, [Flat(posterior, StandardNormal((LATENT,)))], decoder)


def test_the_mean_over_rows_follows_their_weights():
    values = torch.tensor([1.0, 2.0, 40.0])
    x = torch.zeros(3, 2)
    assert float(Batch(x).mean(values)) == pytest.approx(43 / 3)
    weighted = Batch(x, weight=torch.tensor([3.0, 1.0, 0.0])).mean(values)
    assert float(weighted) == pytest.approx((3 * 1 + 2) / 3)  # weights are 1 on average over the data, not the batch
    assert float(Batch(x, weight=torch.zeros(3)).mean(values)) == 0


@pytest.mark.parametrize("name", ["vae", "ae", "vae_simple_reg"])
def test_a_row_of_weight_zero_moves_neither_loss_nor_gradient(name):
    data = from_arrays(torch.rand(20, 1, 5, 4))
    recipe = getattr(recipes, name)(data.spec, latent_dim=LATENT, hidden=(11,))
    model, objective = recipe.build()
    x = torch.rand(B, *SHAPE).round()
    changed = torch.cat([x[:-2], 1 - x[-2:]])
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 0.0, 0.0])

    def loss_and_gradients(rows):
        torch.manual_seed(5)
        loss = objective(model, Batch(rows, weight=weight), first_step()).losses["model"]
        return loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))

    for one, other in zip(loss_and_gradients(x), loss_and_gradients(changed), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("hidden_value", [float("nan"), float("inf"), -1e30, 255.0])
@pytest.mark.parametrize("family", DECODERS)
def test_masked_values_change_nothing_whatever_they_hold(family, hidden_value):
    model = small_vae(family)
    x = torch.rand(B, *SHAPE).round()
    mask = (torch.rand(B, *SHAPE) < 0.6).float()
    filled = torch.where(mask.bool(), x, hidden_value)
    traces = []
    for rows in (x, filled):
        torch.manual_seed(5)
        traces.append(model(Batch(rows, mask=mask), K))
    for name in ("log_px", "log_w", "kl"):
        assert torch.equal(getattr(traces[0], name), getattr(traces[1], name))
    gradients = torch.autograd.grad(traces[1].log_w.mean(), list(model.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("family", DECODERS)
def test_the_likelihood_sums_over_observed_values_alone(family):
    model = small_vae(family)
    x = torch.rand(B, *SHAPE).round()
    top, bottom = torch.ones(B, *SHAPE), torch.zeros(B, *SHAPE)
    top[:, :, 2:], bottom[:, :, 2:] = 0, 1
    state = torch.randn(K, B, LATENT)
    px = model.decoder(state)
    torch.testing.assert_close(px.log_prob(x, top) + px.log_prob(x, bottom), px.log_prob(x))
    assert torch.equal(px.log_prob(x, torch.zeros_like(x)), torch.zeros(K, B))


def test_the_encoder_sees_masked_values_as_zero_even_after_a_corruption():
    model = small_vae(Bernoulli)
    x = torch.rand(B, *SHAPE).round()
    mask = torch.ones(B, *SHAPE)
    mask[:, :, 0] = 0
    filled = torch.where(mask.bool(), x, torch.nan)
    results = []
    for rows in (torch.where(mask.bool(), x, 0.0), filled):
        torch.manual_seed(5)
        results.append(Corrupt(ELBO(K), SaltAndPepper(0.4))(model, Batch(rows, mask=mask), first_step()).terms)
    for term in ("elbo", "rate", "distortion"):
        assert torch.equal(results[0][term], results[1][term])


def test_inference_restores_each_modules_own_mode():
    model = small_vae(Bernoulli)
    model.train()
    model.decoder.eval()
    with inference(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert model.training
    assert model.encoder.training
    assert not model.decoder.training
    assert torch.is_grad_enabled()
