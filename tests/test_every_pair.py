"""Every two parts of different kinds together: they train, or they are refused by name.

The parts are those of the command line, put into the recipe `vae` as the command line does it. The decisions are in
every_pair.json, so that a new refusal, or a new pair that trains, is seen in review. After a change that is meant,
write it anew and read the difference:

    REGENERATE_PAIRS=1 pytest tests/test_every_pair.py && git diff tests/every_pair.json
"""

import itertools
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lowerbound import from_arrays, recipes
from lowerbound.cli.parts import KINDS, Chosen, maker, names_of, with_parts
from lowerbound.core.distribution import contains
from lowerbound.core.errors import Incompatible
from lowerbound.core.model import Starting
from lowerbound.train.update import Guard, make_optimizers, update

MATRIX = Path(__file__).with_name("every_pair.json")
PAIRS = tuple(itertools.combinations(KINDS, 2))
ROWS, SIDE = 16, (9, 10)
# The prior that lies where these posteriors do; without it every other part would be refused for the same reason.
PRIOR_OF = {
    "finite_scalar": Chosen("uniform_codes"),
    "lookup_free": Chosen("uniform_codes"),
    "one_hot": Chosen("uniform_one_hot"),
    "relaxed_bernoulli": Chosen("relaxed_uniform", {"binary": True}),
    "relaxed_categorical": Chosen("relaxed_uniform"),
    "vector_quantizer": Chosen("uniform_codes"),
    "von_mises_fisher": Chosen("hyperspherical_uniform"),
    "wrapped_normal": Chosen("wrapped_normal"),
}
# Small parts, for the test's speed.
SMALL = {"flow_matching": {"steps": 2}, "vamp": {"pseudo_inputs": 5}, "exemplar": {"exemplars": 7}}
OPTIONS = {"test_fraction": 0.0, "valid_fraction": 0.0}


@cache
def images(support):
    """Return labelled images of one channel whose values are binary, levels or anything between 0 and 1."""
    draw, labels = np.random.default_rng(3), np.arange(ROWS) % 3
    unit = draw.random((ROWS, *SIDE), np.float32) * 0.98 + 0.01
    grey = (255 * unit).astype(np.uint8)
    x = {"binary": grey % 2, "levels": grey, "unit": unit}[support]
    return from_arrays(x, labels, binarize="auto" if support == "binary" else "none", **OPTIONS)


@cache
def points(support):
    """Return labelled rows of counts, of positive or of real values."""
    draw, labels = np.random.default_rng(4), np.arange(ROWS) % 3
    normal = draw.normal(size=(ROWS, 6))
    x = {"count": draw.poisson(2.0, (ROWS, 6)) + (np.arange(6) == 0) * 2, "positive": np.exp(normal), "real": normal}
    return from_arrays(x[support], labels, standardize=support == "real", **OPTIONS)


def data_for(parts):
    """Return data that the likelihood can score: images if that can be."""
    likelihood = parts.get("likelihood")
    if likelihood is None:
        return images("binary")
    support = getattr(maker("likelihood", likelihood.name), "support", "levels")
    for data in (images("binary"), images("levels"), images("unit"), points("count")):
        if contains(support, data.spec.scored_support):
            return data
    return images("binary")


def step(recipe, data):
    """Take one step and return what is wrong with it, "" if nothing is."""
    model, objective = recipe.build()
    rows = data.train.matching(recipe.spec)
    for module in (*model.modules(), *objective.modules()):
        if isinstance(module, Starting):
            with torch.no_grad():
                module.start_from(rows.batch(slice(module.wants)))
    batch = rows.batch(slice(None))
    players, guard = objective.players(model), Guard(torch.device("cpu"))
    moved = update(objective, model.train(), make_optimizers(players, recipe.training), batch, torch.zeros(()), guard)
    if guard.failed():
        return f"{guard.failed()[0]} not finite"
    # A part whose gradient is lost would stay as it is for ever while the numbers look well.
    moving = {id(p) for player in moved.losses for p in players[player]}
    named = [*model.named_parameters(), *objective.named_parameters()]
    unowned = [n for n, p in named if id(p) not in {id(p) for player in players.values() for p in player}]
    lost = [n for n, p in named if id(p) in moving and (p.grad is None or not bool(p.grad.any()))]
    return f"no gradient for {', '.join(lost + unowned)}" if lost or unowned else ""


def outcome(parts):
    """Return "trains", "refused", or what is neither."""
    torch.manual_seed(0)
    data = data_for(parts)
    try:
        made = with_parts(recipes.vae(data.spec, latent_dim=4, hidden=(7,)), data.spec, parts)
    except Incompatible as error:
        return "refused" if "  where " in str(error) else f"refused without naming the rule: {error}"
    except Exception as error:
        return f"neither refused nor built: {type(error).__name__}: {str(error).splitlines()[0]}"
    try:
        wrong = step(made, data)
    except Exception as error:
        wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"neither refused nor trained: {wrong}" if wrong else "trains"


def both(kinds, names):
    """Return the two parts, and a prior for the posterior if none is asked for."""
    parts = {kind: Chosen(name, SMALL.get(name, {})) for kind, name in zip(kinds, names, strict=True)}
    posterior = parts.get("posterior")
    if posterior is not None and "prior" not in parts and posterior.name in PRIOR_OF:
        parts["prior"] = PRIOR_OF[posterior.name]
    return parts


@cache
def found(kinds, first):
    return {second: outcome(both(kinds, (first, second))) for second in names_of(kinds[1])}


@pytest.fixture(scope="module")
def matrix():
    if os.environ.get("REGENERATE_PAIRS"):
        whole = {" x ".join(kinds): {name: found(kinds, name) for name in names_of(kinds[0])} for kinds in PAIRS}
        MATRIX.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return json.loads(MATRIX.read_text())


def test_the_matrix_has_a_cell_for_every_pair_and_no_other(matrix):
    cells = {(pair, one, two) for pair, rows in matrix.items() for one, row in rows.items() for two in row}
    assert cells == {
        (" x ".join(kinds), one, two) for kinds in PAIRS for one in names_of(kinds[0]) for two in names_of(kinds[1])
    }
    assert {v for rows in matrix.values() for row in rows.values() for v in row.values()} == {"trains", "refused"}


@pytest.mark.parametrize(
    ("kinds", "first"),
    [(kinds, first) for kinds in PAIRS for first in names_of(kinds[0])],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_each_pair_does_what_was_decided(kinds, first, matrix):
    assert found(kinds, first) == matrix[" x ".join(kinds)][first]
