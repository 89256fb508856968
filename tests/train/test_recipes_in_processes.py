"""Each recipe takes the same step in two processes as in one, or refuses by name before anything is read or built."""

from functools import cache
from inspect import signature

import pytest
import torch
from joint_parts import CPU
from row_noise import LOCK, RowNoise, both

from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Stateful
from lowerbound.core.objective import Objective
from lowerbound.core.recipe import RECIPES, Training
from lowerbound.core.record import recorded
from lowerbound.objectives import ELBO
from lowerbound.train.loop import Loop
from lowerbound.train.processes import ALONE, Processes
from lowerbound.train.update import Guard, make_optimizers, update
from recipe_data import digits_for

PARTS = (37, 29)  # rows of two processes; no size in a model is a multiple of one of these, or of their sum
# State that is not a sum over rows, each with the reason.
OF_PARTS = {
    "lagging_vae": "the mutual information is that of rows passed together, and at most the log of their number"
}
SMALL = {"latent_dim": 2, "pseudo_inputs": 7, "components": 3, "hidden": (6,)}


@cache
def made(name):
    known = signature(RECIPES[name]).parameters
    options = {k: v for k, v in SMALL.items() if k in known and isinstance(v, type(known[k].default))}
    return RECIPES[name](digits_for(name).spec, **options)


def one_step(recipe, processes):
    """Return gradients, and state learned from sums over rows, after a step on this process's part of a batch."""
    first, rows = (0, sum(PARTS)) if processes is ALONE else (processes.rank * PARTS[0], PARTS[processes.rank])
    with LOCK:
        model, objective = recipe.build(3)
        batch = (
            digits_for(recipe.name)
            .train.matching(recipe.spec)
            .batch(slice(0, sum(PARTS)))
            .rows(slice(first, first + rows))
        )
    optimizers = make_optimizers(objective.players(model), Training(optimizer="sgd", lr=1e-9))
    with RowNoise(first, rows):
        update(objective, model, optimizers, batch, torch.zeros(()), Guard(CPU), processes=processes)
    modules = {"model": model, "objective": objective}
    found = {f"{n}.{k}": p.grad for n, m in modules.items() for k, p in m.named_parameters() if p.grad is not None}
    if recipe.name in OF_PARTS:
        return found
    stateful = [m for module in modules.values() for m in module.modules() if isinstance(m, Stateful)]
    return found | {f"state {i}.{k}": v.double() for i, m in enumerate(stateful) for k, v in m.named_buffers()}


def apart(recipe):
    """Return how far the steps of two processes are from that of one, relative to the largest gradient."""
    alone, each = one_step(recipe, ALONE), both(lambda processes: one_step(recipe, processes))
    assert each[0].keys() == each[1].keys() == alone.keys()
    scale = max(float(value.abs().max()) for value in alone.values())
    assert scale > 1e-3
    return max(float((of[name] - value).abs().max()) for of in each for name, value in alone.items()) / scale


class Two(Processes):
    """Two processes, of which nothing but their number is known."""

    size = 2


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_takes_the_step_of_one_process_or_refuses(name):
    recipe = made(name)
    if not recipe.objective.couples_batch:
        assert apart(recipe) < 2e-5
        return
    kind = type(recipe.objective).__name__
    with pytest.raises(Incompatible, match=f"{kind} compares the codes of a whole batch .* among processes"):
        Loop(recipe, digits_for(name), 0, CPU, processes=Two())


def test_most_recipes_can_be_trained_by_several_processes_and_some_refuse():
    refusing = [name for name in RECIPES if made(name).objective.couples_batch]
    assert 5 <= len(refusing) < len(RECIPES) / 4


@recorded
class Coupled(Objective):
    """The ELBO and the variance of codes in the batch, which it does not say."""

    def __init__(self):
        super().__init__()
        self.inner = ELBO()

    def forward(self, model, batch, step):
        outcome = self.inner(model, batch, step)
        outcome.losses["model"] = outcome.losses["model"] + outcome.trace.latents[0].z.var(1).sum()
        return outcome


def test_an_objective_that_couples_the_batch_without_saying_so_would_be_seen():
    assert apart(made("vae").replace(objective=Coupled())) > 1e-3
