"""The low frequencies of an image as the top of a ladder: the transform, its bound, and images of any size."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from lowerbound import from_arrays, recipes
from lowerbound.core.errors import ShapeError, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder
from lowerbound.core.types import Batch
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import LowFrequencies
from lowerbound.networks import MLP, Passing, Unchanged
from lowerbound.priors import StandardNormal


def group(shape, k, seen, sigma=0.05):
    u = FixedNormal((shape[0], *k), sigma)
    return LowFrequencies(u, StandardNormal(u.event_shape), shape, Unchanged((shape[0], *seen)))


@pytest.mark.parametrize(("shape", "k"), [((1, 8, 8), (2, 2)), ((3, 9, 14), (4, 5)), ((2, 1, 5), (1, 5))])
def test_the_coefficients_are_those_of_scipy(shape, k):
    x = torch.rand(6, *shape)
    expected = dctn(x.double().numpy(), axes=(-2, -1), norm="ortho")[..., : k[0], : k[1]]
    made = group(shape, k, shape[1:])
    np.testing.assert_allclose(made.coefficients(x).numpy(), expected, atol=1e-5)
    made.start_from(Batch(x))
    u = made.posterior(None, x, None).mean
    torch.testing.assert_close(u.abs().amax(0), torch.ones(shape[0], *k))
    torch.testing.assert_close(made.posterior(None, x, None).stddev, torch.full_like(u, 0.05))


def test_with_all_frequencies_the_image_is_the_image_and_a_smaller_one_has_its_mean():
    x = torch.rand(4, 2, 6, 8)
    whole, small = group((2, 6, 8), (6, 8), (6, 8)), group((2, 6, 8), (1, 1), (3, 5))
    for made in (whole, small):
        made.start_from(Batch(x))
    torch.testing.assert_close(whole.merge(None, whole.posterior(None, x, None).mean[None])[0], x, atol=1e-5, rtol=1e-5)
    seen = small.merge(None, small.posterior(None, x, None).mean[None])[0]
    torch.testing.assert_close(seen, x.mean((-2, -1), keepdim=True).expand(-1, -1, 3, 5), atol=1e-5, rtol=1e-5)


def test_the_weights_average_to_the_exact_density():
    """x = 1/2 + n, u ~ N(0, 1) of one frequency: p(x) is a normal, and the weights of q(u|x) are unbiased for it.

    20,000 weights, 6 standard errors: false alarm below 1e-8.
    """
    torch.manual_seed(1)
    made, family = group((1, 2, 2), (1, 1), (2, 2), 0.8), FixedNormal((1, 2, 2), 0.7)
    network = MLP((1, 2, 2), family.params, ())
    with torch.no_grad():
        network.out.weight.copy_(torch.eye(4))
        network.out.bias.zero_()
    model = VAE(Encoder([Unchanged((1, 2, 2))], uses=(0,)), [made], Conditional(network, family)).double()
    x = 0.4 * torch.randn(3, 1, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        trace = model(Batch(x), 20_000)
    # the image of u is u / 2 everywhere: x = u / 2 + 0.7 n
    covariance = torch.full((4, 4), 0.25, dtype=torch.float64) + 0.49 * torch.eye(4, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance).log_prob(
        x.flatten(1)
    )
    ratio = (trace.log_w - exact).exp()
    assert bool(((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / math.sqrt(20_000)).all())
    assert bool((trace.log_w.mean(0) < exact).all())


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 17, 8), (2, 5, 5)])
def test_dvp_vae_takes_images_of_any_size(shape):
    data = from_arrays((torch.rand(20, *shape) < 0.4).numpy().astype("uint8") * 255, binarize="threshold")
    recipe = recipes.dvp_vae(data.spec, levels=(1, 2), channels=5, latent_channels=3, diffusion_hidden=(8,))
    model, objective = recipe.build()
    batch = data.train.matching(recipe.spec).batch(slice(0, 4))
    assert len(model(batch, 2).latents) == 4
    assert model.sample(3).shape == (3, *shape)
    assert bool(objective(model, batch, torch.zeros(())).losses["model"].isfinite())


def test_every_level_reads_the_image_of_the_frequencies():
    data = from_arrays((torch.rand(20, 1, 8, 8) < 0.4).numpy().astype("uint8") * 255, binarize="threshold")
    model, _ = recipes.dvp_vae(data.spec, levels=(1, 1), channels=5, latent_channels=3).build()
    u = torch.randn(1, 4, 1, 2, 2)
    state = model.groups[0].merge(None, u)
    shown = state[:, :, -1:]
    torch.testing.assert_close(shown, model.groups[0].image(u))
    for level in list(model.groups)[1:]:
        state = level.merge(state, torch.randn(1, 4, *level.posterior_family.event_shape))
        shown = torch.nn.functional.interpolate(shown[0], state.shape[-2:], mode="bilinear")[None]
        torch.testing.assert_close(state[:, :, -1:], shown)


def test_misfits_are_named():
    u, prior = FixedNormal((1, 2, 2)), StandardNormal((1, 2, 2))
    with pytest.raises(ShapeError, match="frequencies"):
        LowFrequencies(Normal((1, 2, 2)), prior, (1, 8, 8), Unchanged((1, 4, 4)))
    with pytest.raises(UsageError, match="do not have 2 x 2 frequencies"):
        LowFrequencies(u, prior, (1, 1, 8), Unchanged((1, 4, 4)))
    with pytest.raises(ShapeError, match="`down` reads"):
        LowFrequencies(u, prior, (1, 8, 8), Unchanged((2, 4, 4)))
    with pytest.raises(ShapeError, match="cannot pass"):
        Passing(MLP((3,), (3,), ()), 1)
