"""Two players: each follows the gradient of its own bound, and they share out the parameters without overlap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from replicas import DATUM, LATENT, Pseudo, X, model
from torch import nn

import lowerbound as lb
from lowerbound import from_arrays, recipes
from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Conditional, Encoder
from lowerbound.core.objective import first_step, inference_parameters
from lowerbound.core.record import recorded
from lowerbound.core.rules import check_rules
from lowerbound.families import Normal, SharedNormal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.objectives import IWAE, MIWAE, PIWAE, Corrupt, DReG
from lowerbound.priors import ConditionalPrior
from lowerbound.train.update import Guard, update

ROWS, M, K = 5, 3, 4


@recorded
class OwnNetwork(Flat):
    """A group with a network of its own between the feature and q."""

    def __init__(self, posterior_family, prior_part):
        super().__init__(posterior_family, prior_part)
        self.between = nn.Linear(X, 2 * LATENT)

    def posterior(self, state, feature, p):
        return self.posterior_family(self.between(feature).unflatten(-1, (2, LATENT)))

    def posterior_parts(self):
        return (self.posterior_family, self.between)


def with_parts_everywhere():
    """Parameters in the encoder, the group's own network, a learned prior, the decoder and the likelihood."""
    family, likelihood = Normal((LATENT,)), SharedNormal((X,))
    prior = ConditionalPrior(Conditional(MLP((2,), family.params, hidden=()), family))
    decoder = Conditional(MLP((LATENT,), likelihood.params, hidden=(6,)), likelihood)
    return lb.VAE(Encoder([MLP((X,), (X,), hidden=(7,))]), [OwnNetwork(family, prior)], decoder)


def test_the_players_share_out_all_parameters() -> None:
    made = with_parts_everywhere()
    names = {id(p): name for name, p in made.named_parameters()}
    players = PIWAE().players(made)
    inference, generative = ({names[id(p)] for p in players[n]} for n in ("inference", "generative"))
    assert inference == {n for n in names.values() if n.startswith("encoder") or "between" in n}
    assert inference | generative == set(names.values())
    assert not inference & generative
    assert len(players["inference"]) == len(inference_parameters(made)) == len(inference)


def gradients_of(objective, made, batch, player, parameters):
    torch.manual_seed(4)
    return torch.autograd.grad(objective(made, batch, first_step()).losses[player], parameters)


def test_each_player_has_the_gradient_of_its_own_bound() -> None:
    made, batch = with_parts_everywhere(), lb.Batch(torch.randn(ROWS, X), y=torch.eye(2)[[0, 1, 1, 0, 1]])
    players = PIWAE(M, K).players(made)
    for player, bound in (("inference", MIWAE(M, K)), ("generative", IWAE(M * K))):
        found = gradients_of(PIWAE(M, K), made, batch, player, players[player])
        torch.testing.assert_close(found, gradients_of(bound, made, batch, "model", players[player]))
    # a negative control: the other's bound has another gradient
    other = gradients_of(IWAE(M * K), made, batch, "model", players["inference"])
    found = gradients_of(PIWAE(M, K), made, batch, "inference", players["inference"])
    assert max(float((a - b).abs().max()) for a, b in zip(found, other, strict=True)) > 1e-3


def test_an_update_moves_each_player_by_its_own_bound() -> None:
    made, batch = with_parts_everywhere(), lb.Batch(torch.randn(ROWS, X), y=torch.eye(2)[[0, 1, 1, 0, 1]])
    objective = PIWAE(M, K)
    players = objective.players(made)
    wanted = {
        player: [
            (p - 0.1 * g).detach() for p, g in zip(ps, gradients_of(objective, made, batch, player, ps), strict=True)
        ]
        for player, ps in players.items()
    }
    optimizers = {name: torch.optim.SGD(ps, lr=0.1) for name, ps in players.items()}
    torch.manual_seed(4)
    update(objective, made, optimizers, batch, first_step(), Guard(torch.device("cpu")))
    for player, ps in players.items():
        torch.testing.assert_close([p.detach() for p in ps], wanted[player])


def test_a_prior_made_of_posteriors_is_refused_by_piwae_and_by_no_other() -> None:
    made = model(ROWS, Pseudo(ROWS))
    spec = from_arrays(np.random.default_rng(0).normal(size=(20, X)).astype("float32")).spec
    with pytest.raises(Incompatible, match="two players x shared weights"):
        check_rules(made, PIWAE(), spec)
    with pytest.raises(Incompatible, match="two players x shared weights"):
        check_rules(made, Corrupt(PIWAE(), nn.Identity()), spec)
    for objective in (IWAE(), MIWAE(), DReG(), Corrupt(DReG(), nn.Identity())):
        check_rules(made, objective, spec)


def test_a_posterior_that_scores_only_its_draws_is_refused_where_they_are_scored_again() -> None:
    made = model(ROWS)
    made.groups[0].posterior_family.rescorable = False
    spec = from_arrays(np.random.default_rng(0).normal(size=(20, X)).astype("float32")).spec
    for objective in (DReG(), Corrupt(DReG(), nn.Identity())):
        with pytest.raises(Incompatible, match="scores only its draws"):
            check_rules(made, objective, spec)
    check_rules(made, IWAE(), spec)


def test_dreg_sees_what_the_encoder_sees_and_scores_the_clean_rows() -> None:
    made = model(ROWS)
    rows, noisy = DATUM.expand(ROWS, X), DATUM.expand(ROWS, X) + 0.5
    corrupt = Corrupt(DReG(3), SimpleNoise())
    torch.manual_seed(5)
    found = corrupt(made, lb.Batch(rows), first_step()).losses["model"]
    torch.manual_seed(5)
    torch.testing.assert_close(found, IWAE(3)(made, lb.Batch(rows, seen=noisy), first_step()).losses["model"])


class SimpleNoise(nn.Module):
    def forward(self, x):
        return x + 0.5


def with_holes(rows=200):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 1)) @ rng.normal(size=(1, 4)) + 0.1 * rng.normal(size=(rows, 4))
    x[rng.random(x.shape) < 0.3] = np.nan
    return from_arrays(x.astype("float32"), standardize=True, missing="keep")


def test_missing_cells_are_neither_seen_nor_scored() -> None:
    data = with_holes()
    recipe = recipes.miwae_missing(data.spec, latent_dim=2, hidden=(8,), num_samples=6)
    assert type(recipe.build()[0].decoder.family).__name__ == "StudentT"
    made, objective = recipe.build()
    batch = data.train.matching(recipe.spec).batch(slice(0, 30))
    assert float(batch.mask.mean()) < 0.9
    torch.manual_seed(6)
    found = objective(made, batch, first_step())
    torch.manual_seed(6)
    other = lb.Batch(torch.where(batch.mask.bool(), batch.x, 77.0), mask=batch.mask)
    torch.testing.assert_close(objective(made, other, first_step()).terms, found.terms)
    torch.manual_seed(6)
    unmasked = objective(made, lb.Batch(batch.x), first_step())
    assert not torch.allclose(unmasked.terms["iw_bound"], found.terms["iw_bound"])


def test_training_on_missing_cells_raises_the_bound() -> None:
    data = with_holes()
    recipe = recipes.miwae_missing(data.spec, latent_dim=2, hidden=(16,), num_samples=6)
    recipe = recipe.replace(training=replace(recipe.training, lr=0.02))
    run = lb.fit(recipe, data, epochs=15, seed=2, progress=False)
    values = [row["iw_bound"] for row in run.history if row["split"] == "valid"]
    assert values[-1] > values[0] + 0.2
