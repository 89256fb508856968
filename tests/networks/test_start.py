"""Starting at the data: the output of an untrained decoder at z = 0 has the training data's mean and variance."""

import numpy as np
import pytest
import torch

from lowerbound import from_arrays, recipes
from lowerbound.core.model import Conditional
from lowerbound.families import Bernoulli, FixedNormal, GreyBernoulli, Normal, PerDimensionNormal, SharedNormal
from lowerbound.networks import MLP, ConvDecoder
from lowerbound.train.fit import fit

LATENT, SHAPE = 2, (1, 5, 7)
MEAN = torch.linspace(0.05, 0.95, 35).reshape(SHAPE)
VARIANCE = torch.linspace(0.3, 2.0, 35).reshape(SHAPE)
FAMILIES = [Bernoulli, GreyBernoulli, FixedNormal, SharedNormal, PerDimensionNormal, Normal]
# an activation with f(0) = 0 gives a hidden layer of zeros at z = 0, as biases start at 0
ZERO_AT_ZERO = ["relu", "gelu", "silu", "elu", "tanh", "leaky_relu", "none"]


def at_zero(network, family, mean=MEAN, variance=VARIANCE):
    conditional = Conditional(network, family)
    conditional.start_at(mean, variance)
    return conditional(torch.zeros(3, LATENT))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ZERO_AT_ZERO)
def test_an_mlp_starts_exactly_at_the_mean(family, activation):
    family = family(SHAPE)
    px = at_zero(MLP((LATENT,), family.params, (11, 6), activation), family)
    torch.testing.assert_close(px.mean, MEAN.expand(3, *SHAPE), rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("channels", [(4,), (6, 4)])
def test_a_convolutional_decoder_starts_at_its_bias(family, channels):
    # One layer: exact. More: the inner biases are drawn, so the output at z = 0 is near the mean, not at it.
    family = family(SHAPE)
    px = at_zero(ConvDecoder((LATENT,), family.params, channels), family)
    torch.testing.assert_close(px.mean, MEAN.expand(3, *SHAPE), rtol=0, atol=2e-6 if len(channels) == 1 else 0.3)


@pytest.mark.parametrize("head", ["log_variance", "softplus"])
def test_a_normal_from_the_network_starts_at_mean_and_variance(head):
    family = Normal(SHAPE, head)
    px = at_zero(MLP((LATENT,), family.params, (11,)), family)
    torch.testing.assert_close(px.variance, VARIANCE.expand(3, *SHAPE), rtol=1e-4, atol=1e-6)


def test_learned_variances_start_at_the_datas():
    px = at_zero(MLP((LATENT,), SHAPE, (11,)), PerDimensionNormal(SHAPE))
    torch.testing.assert_close(px.variance, VARIANCE.expand(3, *SHAPE), rtol=1e-5, atol=0)
    px = at_zero(MLP((LATENT,), SHAPE, (11,)), SharedNormal(SHAPE))
    torch.testing.assert_close(px.variance, VARIANCE.mean().expand(3, *SHAPE), rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", [Bernoulli, GreyBernoulli])
def test_pixels_that_never_change_are_kept_away_from_certainty(family):
    mean = torch.zeros(SHAPE)
    mean[..., 2:] = 1
    px = at_zero(MLP((LATENT,), SHAPE, (11,)), family(SHAPE), mean)
    torch.testing.assert_close(px.mean, mean.clamp(1e-4, 1 - 1e-4).expand(3, *SHAPE), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", [SharedNormal, PerDimensionNormal, Normal])
def test_constant_data_start_at_a_finite_density(family):
    family = family(SHAPE)
    px = at_zero(MLP((LATENT,), family.params, (11,)), family, MEAN, torch.zeros(SHAPE))
    assert bool(px.log_prob(MEAN.expand(3, *SHAPE)).isfinite().all())


def test_a_squashed_mean_starts_at_the_mean():
    px = at_zero(MLP((LATENT,), SHAPE, (11,), squash=True), FixedNormal(SHAPE))
    torch.testing.assert_close(px.mean, MEAN.expand(3, *SHAPE), rtol=0, atol=2e-6)


@pytest.mark.parametrize("binarize", ["dynamic", "none", "threshold"])
def test_fit_starts_every_model_at_the_mean_of_its_training_split(binarize):
    x = np.random.default_rng(4).integers(0, 256, (60, 5, 7), dtype=np.uint8)
    data = from_arrays(x, binarize=binarize)
    name = "gaussian_vae" if binarize == "none" else "vae"
    model = fit(getattr(recipes, name)(data.spec, latent_dim=LATENT, hidden=(6,)), data, epochs=0, progress=False).model
    expected = data.train.values() if binarize != "threshold" else (data.train.values() >= 0.5).float()
    with torch.no_grad():
        px = model.decoder(torch.zeros(1, LATENT))
    torch.testing.assert_close(px.mean[0], expected.mean(0), rtol=0, atol=2e-4)
