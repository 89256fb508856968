"""Balanced levels: plain where nothing is to balance, and the weights of the paper's formula elsewhere."""

import pytest
import torch

from lowerbound import load_data, recipes
from lowerbound.core.errors import Incompatible, UsageError
from lowerbound.objectives import ELBO, Balanced
from lowerbound.train.schedules import Linear


def parts():
    data = load_data("digits")
    recipe = recipes.ladder_vae(data.spec, latent_dims=(2, 3, 5), hidden=9)
    return recipe.build()[0], data.train.matching(recipe.spec).batch(slice(0, 6))


def outcome(objective, model, batch, step=0.0):
    torch.manual_seed(3)
    return objective(model, batch, torch.tensor(step))


def after_a_step(made, model, batch):
    """Let it learn from a batch as a training does, in two pieces."""
    sums = {}
    for piece in (batch.rows(slice(0, 2)), batch.rows(slice(2, 6))):
        for name, value in made.statistics(outcome(made, model, piece).trace, piece).items():
            sums[name] = sums.get(name, 0) + value.detach()
    made.after_step(sums)


def test_once_the_rate_has_its_whole_weight_it_is_the_elbo():
    model, batch = parts()
    made = Balanced(3, Linear(0.0, 1.0, 10))
    after_a_step(made, model, batch)
    for step, same in ((10.0, True), (5.0, False)):
        found, plain = (outcome(o, model, batch, step).losses["model"] for o in (made, ELBO(beta=made.beta)))
        assert bool((found - plain).abs() < 1e-5) is same
    assert made.settled == 10


def test_the_weights_are_the_kl_for_each_dimension_and_one_on_average():
    model, batch = parts()
    made = Balanced(3, 0.5)
    plain = outcome(ELBO(beta=0.5), model, batch)
    torch.testing.assert_close(outcome(made, model, batch).losses["model"], plain.losses["model"])  # before any step
    with torch.no_grad():
        after_a_step(made, model, batch)
        torch.manual_seed(3)
        halves = [outcome(made, model, piece).trace for piece in (batch.rows(slice(0, 2)), batch.rows(slice(2, 6)))]
    kl = torch.tensor([[float(half.latents[g].kl[0].sum()) for g in range(3)] for half in halves]).sum(0) / 6
    each = (kl + 0.01) / torch.tensor([2.0, 3.0, 5.0])
    torch.testing.assert_close(made.weights, each / each.mean(), rtol=1e-4, atol=1e-5)
    found = outcome(made, model, batch)
    rates = torch.stack([latent.kl[0] for latent in found.trace.latents], 1)
    torch.testing.assert_close(found.terms["balanced"], rates @ made.weights)
    torch.testing.assert_close(found.terms["elbo"], plain.terms["elbo"])
    expected = (found.terms["distortion"] + 0.5 * rates @ made.weights).mean()
    torch.testing.assert_close(found.losses["model"], expected)


def test_equal_levels_weigh_one():
    made = Balanced(2)
    made.after_step({"rates": torch.tensor([6.0, 6.0]), "sizes": torch.tensor([8.0, 8.0]), "rows": torch.tensor(2.0)})
    assert made.weights.tolist() == [1.0, 1.0]
    made.after_step({"rates": torch.zeros(2), "sizes": torch.tensor([8.0, 8.0]), "rows": torch.tensor(2.0)})
    assert made.weights.tolist() == [1.0, 1.0]


def test_what_cannot_be_balanced_is_refused():
    model, _ = parts()
    with pytest.raises(Incompatible, match="2 weights cannot balance 3 latent groups"):
        Balanced(2).players(model)
    for wrong in ({"groups": 0}, {"groups": 2, "beta": -1.0}):
        with pytest.raises(UsageError, match="cannot be"):
            Balanced(**wrong)
