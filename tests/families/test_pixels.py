"""Images pixel by pixel: probabilities sum to one, and draws come as often as they are probable."""

import itertools
import math

import pytest
import torch

from lowerbound.core.errors import ShapeError
from lowerbound.families import AutoregressivePixels, Bernoulli, Categorical, DiscretizedLogistic
from lowerbound.networks import PixelCNN

CONTEXT = 3
FAMILIES = {
    "bernoulli": (lambda: Bernoulli((1, 2, 2)), 2),
    "categorical": (lambda: Categorical((1, 2, 2), 3), 3),
    "logistic": (lambda: DiscretizedLogistic((1, 2, 2), 4), 4),
    "two channels": (lambda: Bernoulli((2, 2, 2)), 2),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def pixels(name, blocks=2):
    base, levels = FAMILIES[name][0](), FAMILIES[name][1]
    values = math.prod(base.params[:-2])
    network = PixelCNN(base.event_shape, (values, 2, 2), 5, blocks, CONTEXT)
    for parameter in network.parameters():  # so that pixels tell much of each other
        parameter.data.mul_(2)
    made = AutoregressivePixels(base, network).double()
    count = math.prod(base.event_shape)
    x = torch.tensor(list(itertools.product(range(levels), repeat=count)), dtype=torch.float64) / (levels - 1)
    return made, made(torch.randn(*made.params, dtype=torch.float64)), x.reshape(-1, *base.event_shape)


@every_family
@torch.no_grad()
def test_all_images_have_probability_one(name):
    _, px, x = pixels(name)
    p = px.log_prob(x).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    independent = px.family.pixels(px.params).log_prob(x)
    assert not torch.allclose(independent, px.log_prob(x), atol=0.01), "pixels tell nothing of each other"


@torch.no_grad()
def test_draws_come_as_often_as_they_are_probable():
    """Each of 16 frequencies lies within 5 of its standard errors: fails by chance less than once in 100,000 seeds."""
    _, px, x = pixels("bernoulli")
    draws = px.sample((40_000,))
    for image in x:
        p = float(px.log_prob(image).exp())
        share = float((draws == image).flatten(1).all(1).double().mean())
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 40_000)


@torch.no_grad()
def test_drawing_reads_the_rows_that_matter():
    """One draw, scored pixel by pixel by whole passes on what was drawn before, is as likely as the walk took it."""
    base = Bernoulli((1, 9, 3))
    made = AutoregressivePixels(base, PixelCNN((1, 9, 3), (1, 9, 3), 5, 1, CONTEXT)).double()
    px = made(5 * torch.randn(2, *made.params, dtype=torch.float64))
    mean = px.mean
    seen = made.level_near(mean)
    torch.testing.assert_close(px._given(seen, px.params, px.context).mean, mean)


@every_family
def test_samples_of_each_data_point_share_one_pass_of_shapes(name):
    made, _, x = pixels(name)
    params = torch.randn(2, 5, *made.params, dtype=torch.float64)
    px = made(params)
    assert px.batch_shape == (2, 5)
    whole = px.log_prob(x[:5])
    assert whole.shape == (2, 5)
    torch.testing.assert_close(whole[1, 3], made(params[1, 3]).log_prob(x[3]))
    assert px.mean.shape == px.sample().shape == (2, 5, *made.event_shape)
    assert px.sample((3,)).shape == (3, 2, 5, *made.event_shape)


def test_a_start_at_the_data_is_that_of_the_other_family():
    base = Categorical((1, 2, 2), 3)
    made = AutoregressivePixels(base, PixelCNN((1, 2, 2), (3, 2, 2), 5, 1, CONTEXT))
    mean, variance = torch.rand(1, 2, 2), torch.full((1, 2, 2), 0.1)
    bias = made.bias_for(mean, variance)
    torch.testing.assert_close(bias[:3].reshape(base.params), base.bias_for(mean, variance))
    assert not bool(bias[3:].any())


def test_what_means_nothing_is_refused():
    made, px, x = pixels("bernoulli")
    with pytest.raises(ShapeError, match="pixels are missing"):
        px.log_prob(x[:1], torch.tensor([1.0, 1, 0, 1]).reshape(1, 1, 2, 2))
    assert px.log_prob(x, torch.ones_like(x)).shape == (16,)
    with pytest.raises(ShapeError, match="images, and a network"):
        AutoregressivePixels(Categorical((1, 2, 2), 3), made.network)
    with pytest.raises(ShapeError, match="images, and a network"):
        AutoregressivePixels(Bernoulli((4,)), made.network)
