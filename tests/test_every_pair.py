"""Every posterior family with every decoder family under every objective: it trains, or it is refused by name.

The decisions are in every_pair.json, so that a new refusal, or a new pair that trains, is seen in review. After a
change that is meant, write it anew and read the difference:

    REGENERATE_PAIRS=1 pytest tests/test_every_pair.py && git diff tests/every_pair.json
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lowerbound import families, from_arrays, objectives
from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Conditional, Encoder, Family
from lowerbound.core.objective import Objective
from lowerbound.core.recipe import Recipe
from lowerbound.data.corruptions import Mask
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal
from lowerbound.train.update import Guard, make_optimizers, update

MATRIX = Path(__file__).with_name("every_pair.json")
LATENT, SHAPE, ROWS = 2, (1, 3, 5), 16
# How to make an objective that needs arguments; the others are made without any.
ARGUMENTS = {"Corrupt": lambda: (objectives.ELBO(), Mask(0.3))}


def concrete(package, base):
    """Return the names of the classes below `base` that a package offers."""
    offered = [(name, getattr(package, name)) for name in sorted(package.__all__)]
    return [name for name, value in offered if isinstance(value, type) and issubclass(value, base)]


FAMILIES = concrete(families, Family)
OBJECTIVES = concrete(objectives, Objective)


@cache
def data():
    """Return binary images, whose values lie in the support of every family."""
    return from_arrays(np.random.default_rng(3).integers(0, 2, (ROWS, *SHAPE)), test_fraction=0.0, valid_fraction=0.0)


def build(posterior, decoder, objective):
    """Return the recipe of the three, with a prior N(0, I)."""
    q, px = getattr(families, posterior)((LATENT,)), getattr(families, decoder)(SHAPE)
    encoder, network = MLP(SHAPE, q.params, (7,)), MLP((LATENT,), px.params, (7,))
    made = getattr(objectives, objective)(*ARGUMENTS.get(objective, tuple)())
    group = Flat(q, StandardNormal((LATENT,)))
    return Recipe(data().spec.settle(px.support), Encoder([encoder]), (group,), Conditional(network, px), made)


def step(recipe):
    """Take one step and return what is wrong with it, "" if nothing is."""
    model, objective = recipe.build()
    batch = data().train.matching(recipe.spec).batch(slice(None))
    optimizers, guard = make_optimizers(objective.players(model), recipe.training), Guard(torch.device("cpu"))
    update(objective, model.train(), optimizers, batch, torch.zeros(()), guard)
    if guard.failed():
        return f"{guard.failed()[0]} not finite"
    # A part whose gradient is lost would stay as it is for ever while the numbers look well.
    lost = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    return f"no gradient for {', '.join(lost)}" if lost else ""


def outcome(posterior, decoder, objective):
    """Return "trains", "refused", or what is neither."""
    torch.manual_seed(0)
    try:
        recipe = build(posterior, decoder, objective)
    except Incompatible as error:
        return "refused" if "  where " in str(error) else f"refused without naming the rule: {error}"
    try:
        wrong = step(recipe)
    except Exception as error:
        wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"neither refused nor trained: {wrong}" if wrong else "trains"


@cache
def found(posterior, decoder):
    return {objective: outcome(posterior, decoder, objective) for objective in OBJECTIVES}


@pytest.fixture(scope="module")
def matrix():
    if os.environ.get("REGENERATE_PAIRS"):
        whole = {p: {d: found(p, d) for d in FAMILIES} for p in FAMILIES}
        MATRIX.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return json.loads(MATRIX.read_text())


def test_the_matrix_has_a_cell_for_every_combination_and_no_other(matrix):
    cells = {(p, d, o) for p, row in matrix.items() for d, column in row.items() for o in column}
    assert cells == {(p, d, o) for p in FAMILIES for d in FAMILIES for o in OBJECTIVES}
    assert {v for row in matrix.values() for column in row.values() for v in column.values()} == {"trains", "refused"}


@pytest.mark.parametrize("decoder", FAMILIES)
@pytest.mark.parametrize("posterior", FAMILIES)
def test_each_pair_does_under_each_objective_what_was_decided(posterior, decoder, matrix):
    assert found(posterior, decoder) == matrix[posterior][decoder]
