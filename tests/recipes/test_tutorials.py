"""The two tutorials' models are theirs: networks, losses, and the shape of the printed numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowerbound as lb
from lowerbound.core.types import Batch
from lowerbound.core.walk import replay

PRINTED_2025 = (1714.95, 1573.30, 1531.82, 1504.18, 1480.47, 1458.20, 1441.60, 1429.94, 1420.56, 1411.36)
BATCH_2025 = 32


@pytest.fixture(scope="module")
def mnist():
    return lb.load_data("mnist")


def test_2025_loss_is_squared_error_plus_three_kl(mnist):
    """SSE + 3 KL, written out by hand from the same weights, is -3 ELBO less a constant."""
    model, objective = lb.recipes.workshop_vae_2025(mnist.spec).build(seed=1)
    x = mnist.test.matching(model.spec).take(7).batch(slice(None)).x
    encoder, decoder = model.encoder.networks[0], model.decoder.network
    mu, log_var = encoder.out(encoder.body(x.flatten(1))).chunk(2, 1)
    eps = torch.randn(7, 8)
    decoded = decoder.out(decoder.body(mu + eps * (0.5 * log_var).exp())).sigmoid()
    squared = (x.flatten(1) - decoded).square().sum(1)
    kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(1)
    trace = model(Batch(x), 1, replay({0: (mu + eps * (0.5 * log_var).exp())[None]}))
    distortion = -trace.log_px[0] - 784 / 2 * math.log(3 * math.pi)
    rate = objective(model, Batch(x), torch.zeros(())).terms["rate"]
    torch.testing.assert_close(3 * distortion + 3 * rate, squared + 3 * kl, rtol=1e-4, atol=1e-3)


def test_2025_network(mnist):
    model, _ = lb.recipes.workshop_vae_2025(mnist.spec).build()
    linears = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)]
    assert linears == [(256, 784), (8, 256), (16, 8), (256, 8), (784, 256)]


@pytest.mark.slow
def test_2025_losses_have_the_printed_shape(mnist):
    """The tutorial printed sums over 32 images; ours start a little lower, at the mean image."""
    run = lb.fit(lb.recipes.workshop_vae_2025(mnist.spec), mnist, progress=False)
    constant = 784 / 2 * math.log(3 * math.pi)
    train = [e for e in run.history if e["split"] == "train"]
    losses = [3 * (e["distortion"] - constant + e["rate"]) for e in train]
    assert losses == sorted(losses, reverse=True)
    for ours, printed in zip(losses, PRINTED_2025, strict=True):
        assert ours == pytest.approx(printed / BATCH_2025, rel=0.08)


def test_2017_network_and_loss(mnist):
    """Cross-entropy of grey pixels + KL with sigma = 1e-6 + softplus, written out by hand from the same weights."""
    model, objective = lb.recipes.mnist_vae_2017(mnist.spec, latent_dim=3).build(seed=2)
    model.eval()
    batch = mnist.test.matching(model.spec).take(5).batch(slice(None))
    x = batch.x.flatten(1)
    encoder, decoder = model.encoder.networks[0], model.decoder.network
    first, _, _, second, _, _ = encoder.body
    hidden = second(F.elu(first(x))).tanh()
    mu, raw = encoder.out(hidden).chunk(2, 1)
    sigma = 1e-6 + F.softplus(raw)
    z = mu + sigma * torch.randn(5, 3)
    first, _, _, second, _, _ = decoder.body
    y = torch.sigmoid(decoder.out(F.elu(second(first(z).tanh()))))
    cross_entropy = -(x * y.log() + (1 - x) * (1 - y).log()).sum(1)
    kl = 0.5 * (mu.square() + sigma.square() - sigma.square().log() - 1).sum(1)
    trace = model(batch, 1, replay({0: z[None]}))
    torch.testing.assert_close(-trace.log_px[0], cross_entropy, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(objective(model, batch, torch.zeros(())).terms["rate"], kl, rtol=1e-4, atol=1e-4)
    assert encoder.body[0].weight.shape == (500, 784)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_2017_sees_grey_or_noise(mnist):
    recipe = lb.recipes.mnist_vae_2017(mnist.spec, add_noise=True)
    assert recipe.spec.binarize == "none"
    _, objective = recipe.build()
    seen = objective.corruption(torch.full((64, 1, 28, 28), 0.5))
    assert set(seen.unique().tolist()) == {0.0, 0.5, 1.0, 1.5}
