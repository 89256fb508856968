"""AAE and VAE-GAN: each player's loss and gradient by hand, and no gradient in another player's weights."""

import pytest
import torch
import torch.nn.functional as F

from lowerbound import VAE, Batch, load_data, recipes
from lowerbound.core.errors import Incompatible, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step
from lowerbound.families import Delta, FixedNormal, Normal, SharedNormal
from lowerbound.groups import Conditioned, Flat
from lowerbound.networks import MLP
from lowerbound.objectives import AAE, VAEGAN
from lowerbound.objectives.critics import Critic, made_loss, real_loss
from lowerbound.priors import StandardNormal

B, D, L, H = 5, 3, 2, 4
LOG_2PI = 1.8378770664093453


def tiny(posterior, likelihood):
    """Return a float64 VAE with a linear encoder and a linear decoder."""
    encoder, decoder = MLP((D,), posterior.params, ()), MLP((L,), likelihood.params, ())
    group = Flat(posterior, StandardNormal((L,)))
    return VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood)).double()


def affine(network):
    return lambda v: v @ network.out.weight.T + network.out.bias


def critic_by_hand(critic):
    """Return features and log-odds written out for a critic with one hidden layer."""
    hidden = critic.body[1]

    def features(v):
        h = v @ hidden.weight.T + hidden.bias
        return torch.where(h > 0, h, 0.2 * h)

    return features, lambda v: features(v) @ critic.head.weight[0] + critic.head.bias[0]


def rows(weight=None):
    return Batch(torch.randn(B, D, dtype=torch.float64), weight=weight)


def gradients(loss, parameters):
    return torch.autograd.grad(loss, parameters, retain_graph=True)


def untouched(loss, parameters):
    return all(g is None for g in torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.25, 1.25]])
def test_the_two_players_of_an_aae_by_hand(weights):
    given = rows(None if weights is None else torch.tensor(weights, dtype=torch.float64))
    share = torch.ones(B, dtype=torch.float64) if given.weight is None else given.weight
    model, objective = tiny(Delta((L,)), FixedNormal((D,), 0.7)), AAE((L,), weight=3.0, hidden=(H,)).double()
    torch.manual_seed(8)
    outcome = objective(model, given, first_step())
    torch.manual_seed(8)
    real = torch.randn(B, L, dtype=torch.float64)
    z = affine(model.encoder.networks[0])(given.x)
    error = (given.x - affine(model.decoder.network)(z)).square().sum(1)
    distortion = error / (2 * 0.49) + D / 2 * (LOG_2PI + torch.log(torch.tensor(0.49)))
    _, odds = critic_by_hand(objective.critic)
    expected = {
        "model": (share * (distortion - 3 * F.logsigmoid(odds(z)))).mean(),
        "critic": -(share * (F.logsigmoid(odds(real)) + F.logsigmoid(-odds(z.detach())))).mean(),
    }
    players = objective.players(model)
    for name, loss in expected.items():
        torch.testing.assert_close(outcome.losses[name], loss)
        torch.testing.assert_close(gradients(outcome.losses[name], players[name]), gradients(loss, players[name]))
    assert untouched(outcome.losses["critic"], players["model"])
    assert set(outcome.terms) == {"distortion", "fooling", "critic"}, "a point posterior has no elbo"


def test_an_aae_with_a_normal_posterior_reports_its_elbo_but_does_not_optimise_it():
    model, given = tiny(Normal((L,)), FixedNormal((D,), 0.7)), rows()
    objective = AAE((L,), weight=0.0, hidden=(H,)).double()
    outcome = objective(model, given, first_step())
    assert {"distortion", "rate", "elbo"} <= set(outcome.terms)
    assert objective.monitor == "distortion"
    torch.testing.assert_close(outcome.losses["model"], outcome.terms["distortion"].mean())


def vae_gan_by_hand(model, objective, given):
    """Return the losses of the three players of a VAE-GAN from the same noise."""
    torch.manual_seed(8)
    noise, new = (torch.randn(B, L, dtype=torch.float64) for _ in range(2))
    out = affine(model.encoder.networks[0])(given.x).unflatten(1, (2, L))
    mean, log_variance = out[:, 0], out[:, 1]
    rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    decode = affine(model.decoder.network)
    again, made = decode(mean + (log_variance / 2).exp() * noise), decode(new)
    features, odds = critic_by_hand(objective.critic)
    apart = 2.5 * 0.5 * (features(given.x).detach() - features(again)).square().sum(1)
    fooling = -F.logsigmoid(odds(again)) - F.logsigmoid(odds(made))
    fakes = F.logsigmoid(-odds(again.detach())) + F.logsigmoid(-odds(made.detach()))
    return {
        "encoder": (rate + apart).mean(),
        "decoder": (0.3 * apart + fooling).mean(),
        "critic": -(F.logsigmoid(odds(given.x)) + fakes).mean(),
    }


def test_the_players_of_a_vae_gan_by_hand():
    model, given = tiny(Normal((L,)), SharedNormal((D,), 0.1)), rows()
    objective = VAEGAN((D,), weight=2.5, gamma=0.3, hidden=(H,)).double()
    torch.manual_seed(8)
    outcome = objective(model, given, first_step())
    expected = vae_gan_by_hand(model, objective, given)
    players = objective.players(model)
    for name, loss in expected.items():
        # sigma = sqrt(exp(h) + 1e-12): the hand-written posterior has no floor
        got, wanted = (gradients(value, players[name]) for value in (outcome.losses[name], loss))
        torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(outcome.losses["critic"], expected["critic"])
    torch.testing.assert_close(outcome.losses["likelihood"], outcome.terms["distortion"].mean())
    torch.testing.assert_close(outcome.terms["elbo"], -(outcome.terms["distortion"] + outcome.terms["rate"]))
    assert objective.monitor == "distortion"


def test_no_player_of_a_vae_gan_can_leak_into_another():
    model = tiny(Normal((L,)), SharedNormal((D,), 0.1))
    objective = VAEGAN((D,), hidden=(H,)).double()
    players, outcome = objective.players(model), objective(model, rows(), first_step())
    assert list(players) == ["encoder", "decoder", "critic", "likelihood"]
    held = [id(p) for parameters in players.values() for p in parameters]
    assert sorted(held) == sorted(id(p) for part in (model, objective) for p in part.parameters())
    assert untouched(outcome.losses["critic"], players["encoder"] + players["decoder"] + players["likelihood"])
    assert untouched(outcome.losses["encoder"], players["likelihood"])
    # The encoder's loss does reach the critic (its features are read): only `inputs=` keeps it from moving it.
    assert not untouched(outcome.losses["encoder"], players["critic"])


def test_the_networks_of_a_lower_posterior_move_with_the_encoder():
    top, low, likelihood = Normal((L,)), Normal((L,)), FixedNormal((D,))
    below = Conditioned(MLP((H + L,), low.params, ()), low, StandardNormal((L,)), keeps_state=True)
    encoder = Encoder([MLP((D,), top.params, ()), MLP((D,), (H,), ())])
    groups = [Flat(top, StandardNormal((L,))), below]
    model = VAE(encoder, groups, Conditional(MLP((2 * L,), likelihood.params, ()), likelihood))
    players = {name: {id(p) for p in mine} for name, mine in VAEGAN((D,)).players(model).items()}
    assert {id(p) for p in below.network.parameters()} <= players["encoder"]
    assert players["decoder"] == {id(p) for p in model.decoder.parameters()}


def test_a_likelihood_without_weights_is_no_player():
    objective = VAEGAN((D,), hidden=(H,))
    assert list(objective.players(tiny(Normal((L,)), FixedNormal((D,))))) == ["encoder", "decoder", "critic"]


def test_missing_cells_of_a_vae_gan_may_hold_anything():
    model, objective = tiny(Normal((L,)), FixedNormal((D,), 0.7)), VAEGAN((D,), hidden=(H,)).double()
    mask = torch.ones(B, D, dtype=torch.float64)
    mask[:, 1] = 0
    losses = []
    for filling in (0.0, 1e3):
        torch.manual_seed(4)
        x = torch.where(mask.bool(), torch.randn(B, D, dtype=torch.float64), filling)
        torch.manual_seed(5)
        losses.append(objective(model, Batch(x, mask=mask), first_step()).losses)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (2, 1, 5)])
def test_a_convolutional_critic_reads_images_of_any_size_one_by_one(shape):
    critic, x = Critic(shape, (6,), (4, 5)), torch.randn(7, *shape)
    assert critic.features(x).shape == (7, 6)
    torch.testing.assert_close(critic(x)[2:5], critic(x[2:5]))
    torch.testing.assert_close(critic(x), critic.head(critic.features(x))[:, 0])


def test_the_critics_optimum_tells_the_ratio_of_the_densities():
    # One code of 8 values with known probabilities p (prior) and q (data): the optimum is log p / q for each.
    p, q = torch.softmax(torch.randn(2, 8), 1)
    odds = torch.zeros(8, requires_grad=True)
    loss = (p * real_loss(odds) + q * made_loss(odds)).sum()
    best = (p / q).log()
    (slope,) = torch.autograd.grad((p * real_loss(best + odds) + q * made_loss(best + odds)).sum(), odds)
    torch.testing.assert_close(slope, torch.zeros(8), atol=1e-6, rtol=0)
    assert loss.item() == pytest.approx(2 * 0.6931472, abs=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="weight cannot be -1"):
        AAE((2,), weight=-1.0)
    with pytest.raises(UsageError, match="gamma=-1"):
        VAEGAN((2,), gamma=-1.0)
    with pytest.raises(UsageError, match="at least one hidden layer"):
        Critic((2,), ())
    with pytest.raises(ShapeError, match="channels, height, width"):
        VAEGAN((5,), channels=(4,))
    with pytest.raises(ShapeError, match=r"expected +\(4,\)"):
        recipes.aae(load_data("digits").spec).replace(objective=AAE((4,)))
    with pytest.raises(Incompatible, match="point has no density"):
        recipes.aae(load_data("digits").spec).replace(objective=VAEGAN((1, 8, 8)))
