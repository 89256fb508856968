"""Perceptual and SSIM losses: against torchmetrics and by hand, and never as a bound."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

from lowerbound import VAE, Batch, from_arrays, load_data, recipes
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.core.record import recorded
from lowerbound.families import Normal, SharedNormal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import SSIM, Perceptual
from lowerbound.objectives.ssim import SCALE_WEIGHTS, similarity
from lowerbound.priors import StandardNormal

SHAPE, L, B = (2, 7, 9), 3, 4


@recorded
class TwoLayers(nn.Module):
    """Features of two layers, with dropout and weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(126, 5), nn.Dropout(0.5), nn.Linear(5, 3)

    def forward(self, x):
        one = torch.tanh(self.drop(self.first(x.flatten(1))))
        return one, self.second(one)


def tiny():
    """Return a float64 VAE of small images with means in [0, 1]."""
    posterior, likelihood = Normal((L,)), SharedNormal(SHAPE, 0.1)
    encoder, decoder = MLP(SHAPE, posterior.params, ()), MLP((L,), likelihood.params, (), squash=True)
    group = Flat(posterior, StandardNormal((L,)))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood)).double()


def images(*shape):
    """Return two sets of smooth images in [0, 1], and noise on the second."""
    x = torch.rand(*shape, dtype=torch.float64)
    return x, (0.7 * x + 0.3 * torch.rand_like(x)).clamp(0, 1)


def oracle(x, y, window):
    """Return torchmetrics' SSIM and its contrast part, of the windows that lie within the image alone."""
    options = {"sigma": 1.5 * window / 11, "data_range": 1.0, "reduction": "none"}
    _, whole = structural_similarity_index_measure(x, y, return_full_image=True, **options)
    _, contrast = structural_similarity_index_measure(x, y, return_contrast_sensitivity=True, **options)
    edge = window // 2  # torchmetrics reflects the image at its border there
    return whole[..., edge:-edge, edge:-edge].flatten(1).mean(1), contrast


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11])
def test_one_scale_is_that_of_torchmetrics(window):
    x, y = images(5, 3, 14, 17)
    wanted, _ = oracle(x, y, window)
    torch.testing.assert_close(similarity(x, y, window), wanted)
    assert float(wanted.max() - wanted.min()) > 0.005, "the images differ in how similar they are"


@pytest.mark.parametrize(("window", "levels"), [(3, 2), (5, 2), (3, 3), (11, 2)])
def test_several_scales_are_those_of_torchmetrics(window, levels):
    x, y = images(4, 2, 45, 38)
    powers = [w / sum(SCALE_WEIGHTS[:levels]) for w in SCALE_WEIGHTS[:levels]]
    wanted, (a, b) = torch.ones(4, dtype=torch.float64), (x, y)
    for level, power in enumerate(powers):
        whole, contrast = oracle(a, b, window)
        wanted = wanted * (whole if level + 1 == levels else contrast) ** power
        a, b = (avg_pool2d(v, 2) for v in (a, b))
    torch.testing.assert_close(similarity(x, y, window, levels), wanted)


def test_an_image_is_like_itself_and_nothing_breaks_where_it_is_flat():
    x = torch.zeros(2, 1, 8, 8)
    x[1] = 1.0
    torch.testing.assert_close(similarity(x, x, 7), torch.ones(2))
    for levels in (1, 2):
        mean = x.flip(0).clone().requires_grad_()
        loss = SSIM(3, levels).distance(x, mean)
        loss.sum().backward()
        assert bool(loss.isfinite().all() & mean.grad.isfinite().all())


def test_its_gradient_is_that_of_finite_differences():
    x, y = images(2, 1, 6, 7)
    assert torch.autograd.gradcheck(lambda v: similarity(x, v, 3, 2), y.requires_grad_())


def by_hand(model, given, distance):
    """Return weight * distance + KL at weight 1.5, from the same noise."""
    torch.manual_seed(8)
    noise = torch.randn(B, L, dtype=torch.float64)
    encoder, decoder = model.encoder.networks[0].out, model.decoder.network.out
    mean, log_variance = encoder(given.x.flatten(1)).chunk(2, 1)
    rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    again = decoder(mean + (log_variance / 2).exp() * noise).sigmoid().unflatten(1, SHAPE)
    return (1.5 * distance(given.x, again) + rate).mean()


def ssim_distance(x, y):
    return 126 * (1 - oracle(x, y, 5)[0])


def two_layers(features):
    first, second = features.first, features.second

    def distance(x, y):
        one = [torch.tanh(v.flatten(1) @ first.weight.T + first.bias) for v in (x, y)]
        two = [v @ second.weight.T + second.bias for v in one]
        return 0.5 * ((one[0] - one[1]) ** 2).sum(1) + 0.5 * ((two[0] - two[1]) ** 2).sum(1)

    return distance


@pytest.mark.parametrize("kind", ["ssim", "perceptual"])
def test_loss_and_gradients_by_hand(kind):
    model, given = tiny(), Batch(images(B, *SHAPE)[0])
    objective = (SSIM(5, weight=1.5) if kind == "ssim" else Perceptual(TwoLayers(), weight=1.5)).double().train()
    torch.manual_seed(8)
    outcome = objective(model, given, first_step())
    wanted = by_hand(model, given, ssim_distance if kind == "ssim" else two_layers(objective.features))
    players = objective.players(model)
    torch.testing.assert_close(outcome.losses["model"], wanted)
    got, expected = (
        torch.autograd.grad(v, players["model"], retain_graph=True) for v in (outcome.losses["model"], wanted)
    )
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(outcome.terms[objective.monitor].mean(), wanted)


def test_the_likelihoods_own_weight_follows_the_distortion_and_nothing_else_does():
    model, objective = tiny(), SSIM(5).double()
    outcome, players = objective(model, Batch(images(B, *SHAPE)[0]), first_step()), objective.players(model)
    assert players["likelihood"] == [model.decoder.family.log_variance]
    held = sorted(id(p) for parameters in players.values() for p in parameters)
    assert held == sorted(id(p) for p in model.parameters())
    torch.testing.assert_close(outcome.losses["likelihood"], outcome.terms["distortion"].mean())
    options = {"retain_graph": True, "allow_unused": True}
    assert torch.autograd.grad(outcome.losses["model"], players["likelihood"], **options) == (None,)


@pytest.mark.parametrize("objective", [SSIM(5), Perceptual(TwoLayers())], ids=["SSIM", "Perceptual"])
def test_the_elbo_is_reported_and_is_not_what_is_optimised(objective):
    model, given = tiny(), Batch(images(B, *SHAPE)[0])
    terms = objective.double()(model, given, first_step()).terms
    torch.testing.assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]))
    assert not objective.maximize
    assert objective.monitor not in ("elbo", "distortion")


def test_features_never_learn_and_are_saved():
    objective = Perceptual(TwoLayers())
    assert list(objective.parameters()) == []
    assert {k.split(".", 1)[1] for k in objective.state_dict()} == set(TwoLayers().state_dict())
    objective.train()
    x, y = images(B, *SHAPE)
    assert torch.equal(objective.double().distance(x, y), objective.distance(x, y)), "dropout is off"


def test_what_does_not_fit_is_refused_when_the_recipe_is_built():
    digits = load_data("digits").spec
    with pytest.raises(ShapeError, match="at most 4 pixels"):
        recipes.ssim_vae(digits, window=5, levels=2)
    with pytest.raises(ShapeError, match=r"expected +images"):
        recipes.ssim_vae(load_data("moons").spec)
    real = from_arrays(np.random.default_rng(0).normal(size=(20, 1, 9, 9)).astype("float32")).spec
    with pytest.raises(Incompatible, match="its values are real"):
        recipes.ssim_vae(real)
    recipes.perceptual_vae(real)
    for window, levels in ((4, 1), (1, 1), (3, 0), (3, 6)):
        with pytest.raises(UsageError):
            SSIM(window, levels)
    with pytest.raises(UsageError, match="weight cannot be -1"):
        SSIM(weight=-1.0)
