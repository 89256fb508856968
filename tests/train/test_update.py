"""One update for any number of players: whose gradient moves what, clipping, and the state behind it."""

import copy
import json

import pytest
import torch
from torch import nn
from training_parts import LR, SEEN, Counted, Rivals, data, parts, recipe, take, weights

from lowerbound import recipes
from lowerbound.core.errors import UsageError
from lowerbound.core.noise import reseed
from lowerbound.core.recipe import Training
from lowerbound.objectives import ELBO
from lowerbound.train.fit import fit
from lowerbound.train.log import Listeners
from lowerbound.train.loop import Loop
from lowerbound.train.run import stoppable
from lowerbound.train.update import Guard, make_optimizers, set_lr, update


def gradients(model, objective, batch, player, parameters):
    reseed(5, 0)
    return torch.autograd.grad(objective(model, batch, torch.zeros(())).losses[player], parameters)


@pytest.mark.parametrize("player", ["model", "critic"])
def test_each_player_moves_along_the_gradient_of_its_own_loss_alone(player):
    model, objective, batch, optimizers = parts(Rivals())
    mine = objective.players(model)[player]
    expected = gradients(model, objective, batch, player, mine)
    before = [p.detach().clone() for p in mine]
    take(model, objective, batch, optimizers)
    for old, new, gradient in zip(before, mine, expected, strict=True):
        torch.testing.assert_close(new.detach(), old - LR * gradient, rtol=1e-5, atol=1e-7)


def test_the_losses_do_share_a_graph():
    # Otherwise the test above could not catch a leak: the model's loss must pull at the critic, and the reverse.
    model, objective, batch, _ = parts(Rivals())
    leak = gradients(model, objective, batch, "model", [objective.critic.weight])[0]
    back = gradients(model, objective, batch, "critic", [model.encoder.networks[0].out.weight])[0]
    assert float(leak.abs().max()) > 1e-3
    assert float(back.abs().max()) > 1e-3


def test_all_backward_passes_come_before_all_steps():
    # If the critic were moved first, the model's gradient would be taken at the moved critic, or refused by autograd.
    model, objective, batch, optimizers = parts(Rivals())
    twin = copy.deepcopy((model, objective))
    reversed_players = make_optimizers(
        dict(reversed(twin[1].players(twin[0]).items())), Training(optimizer="sgd", lr=LR)
    )
    take(model, objective, batch, optimizers)
    take(*twin, batch, reversed_players)
    for one, other in zip(model.parameters(), twin[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(objective.critic.weight, twin[1].critic.weight)


def norm(parameters):
    return float(torch.stack([p.grad.square().sum() for p in parameters]).sum().sqrt())


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_each_player_is_clipped_by_its_own_norm(limit):
    model, objective, batch, optimizers = parts(Rivals())
    free = {name: gradients(model, objective, batch, name, mine) for name, mine in objective.players(model).items()}
    take(model, objective, batch, optimizers, clip=limit)
    for name, mine in objective.players(model).items():
        unclipped = float(torch.stack([g.square().sum() for g in free[name]]).sum().sqrt())
        assert unclipped > 0.5
        assert norm(mine) == pytest.approx(min(limit, unclipped), rel=1e-4)
        for p, gradient in zip(mine, free[name], strict=True):  # shorter, in the same direction
            torch.testing.assert_close(p.grad, gradient * min(1, limit / unclipped), rtol=1e-4, atol=1e-7)


def test_gradients_do_not_pile_up_from_step_to_step():
    model, objective, batch, optimizers = parts(ELBO(), lr=1e-9)
    norms = []
    for _ in range(3):
        take(model, objective, batch, optimizers)
        norms.append(norm(model.parameters()))
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert norms[2] == pytest.approx(norms[0], rel=1e-4)


def test_after_step_is_called_once_for_each_step_and_not_by_validation():
    SEEN.clear()
    of = data()
    fit(recipe(of, Counted()), of, epochs=3, progress=False)
    assert SEEN["count"] == 3 * 5


def test_the_forward_pass_of_an_objective_changes_no_state():
    model, objective, batch, _ = parts(Counted())
    before = copy.deepcopy((model.state_dict(), objective.state_dict()))
    objective(model, batch, torch.zeros(()))
    for old, module in zip(before, (model, objective), strict=True):
        assert all(torch.equal(old[name], tensor) for name, tensor in module.state_dict().items())


def test_a_run_with_two_players_is_reproducible_and_moves_both():
    of = data()
    loops = [Loop(recipe(of, Rivals(), epochs=2, lr=1e-3), of, 0, torch.device("cpu"), "float32") for _ in range(2)]
    before = [weights(loops[0].learner.model), weights(loops[0].learner.objective)]
    with stoppable() as stop:
        for loop in loops:
            loop.run(stop, None, Listeners([]))
    after = [[weights(loop.learner.model), weights(loop.learner.objective)] for loop in loops]
    assert after[0] == after[1]
    for old, new in zip(before, after[0], strict=True):
        assert old.keys() == new.keys()
        assert all(old[name] != new[name] for name in old)


@pytest.mark.parametrize(
    ("optimizer", "lr", "factor"), [("adam", 0.001, 30), ("adamw", 0.3, 1), ("adamax", 0.01, 3), ("sgd", 0.001, 1)]
)
def test_scales_of_likelihoods_learn_faster_than_networks(optimizer, lr, factor):
    of = data()
    model, objective = recipes.gaussian_vae(of.spec, latent_dim=2, hidden=(3,)).build()
    made = make_optimizers(objective.players(model), Training(optimizer=optimizer, lr=lr))
    set_lr(made, lr / 2)
    found = {id(p): group["lr"] for group in made["model"].param_groups for p in group["params"]}
    assert found.keys() == {id(p) for p in model.parameters()}
    scale = model.decoder.family.log_variance
    assert found[id(scale)] == pytest.approx(lr / 2 * factor)
    assert {v for k, v in found.items() if k != id(scale)} == {lr / 2}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamax"])
def test_a_step_with_a_gradient_too_large_is_left_out_and_counted(optimizer):
    """The second player's gradient is the larger one: neither moves."""
    model, objective, batch, optimizers = parts(Rivals(), optimizer=optimizer)
    before, guard = (weights(model), weights(objective)), Guard(torch.device("cpu"))
    reseed(5, 0)
    losses = objective(model, batch, torch.zeros(())).losses
    players = objective.players(model)
    norms = [
        float(nn.utils.get_total_norm(torch.autograd.grad(loss, players[name], retain_graph=True, allow_unused=True)))
        for name, loss in losses.items()
    ]
    for skip_above in (min(norms), max(norms) * 0.999):
        reseed(5, 0)
        update(objective, model, optimizers, batch, torch.zeros(()), guard, skip_above=skip_above)
        assert (weights(model), weights(objective)) == before
    assert int(guard.left_out) == 2
    reseed(5, 0)
    update(objective, model, optimizers, batch, torch.zeros(()), guard, skip_above=max(norms) * 1.001)
    again, same, _, _ = parts(Rivals(), optimizer=optimizer)
    take(again, same, batch, make_optimizers(same.players(again), Training(optimizer=optimizer, lr=LR)))
    assert (weights(model), weights(objective)) == (weights(again), weights(same))
    assert int(guard.left_out) == 2
    assert guard.failed() is None


def test_steps_left_out_are_told(tmp_path):
    of = data()
    fit(recipe(of, epochs=2, skip_above=1e-6), of, progress=False, report=False, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["steps"]) for line in lines if line["event"] == "skipped"] == [(1, 5), (2, 5)]
    assert "epoch 2: 5 steps were left out: a gradient's norm was above 1e-06" in (tmp_path / "run/log.txt").read_text()
    with pytest.raises(UsageError, match="norm above which"):
        Training(skip_above=0.0)
