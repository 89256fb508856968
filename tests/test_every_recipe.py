"""What every recipe must do; a new one is found in the table and needs no new test."""

import copy
import functools
import inspect
import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from lowerbound import fit, load, recipes, save
from lowerbound.core.objective import first_step
from lowerbound.core.recipe import RECIPES
from lowerbound.core.record import describe, rebuild
from lowerbound.core.types import Batch
from lowerbound.core.walk import mode
from lowerbound.train.update import Guard, make_optimizers, update
from recipe_data import digits_for

NAMES = sorted(RECIPES)
K, B = 3, 7
HERE = Path(__file__).parent
every_recipe = pytest.mark.parametrize("name", NAMES)
# Recipes whose objective cannot become one graph, each with the reason.
NOT_ONE_GRAPH: dict[str, str] = {
    "lagging_vae": "the step decides in Python which player moves: a player that rests must have no loss",
}


@cache
def made(name):
    """Return the recipe with its defaults, on the digits."""
    return RECIPES[name](digits_for(name).spec)


def batch(name, rows=B):
    return digits_for(name).train.matching(made(name).spec).batch(slice(0, rows))


@cache
def trained(name):
    """Return a short run; the tests share it and must not change it."""
    some = replace(digits_for(name), train=digits_for(name).train.take(800))
    return fit(made(name), some, epochs=3, seed=2, progress=False)


def weights(model):
    return {key: tensor.numpy().tobytes() for key, tensor in model.state_dict().items()}


def test_the_package_offers_the_recipes_of_the_table_and_no_others():
    assert set(recipes.__all__) == set(NAMES)
    assert all(getattr(recipes, name) is RECIPES[name] for name in NAMES)


@every_recipe
def test_the_docstring_names_its_source_and_every_option(name):
    doc = inspect.getdoc(RECIPES[name])
    assert re.search(r"arXiv \d{4}\.\d{4,5}|eq\. \d|\b(19|20)\d\d\b", doc), "no paper, no equation"
    arguments = doc.split("Args:")[1]
    for option, parameter in inspect.signature(RECIPES[name]).parameters.items():
        assert re.search(rf"^ +{option}: \S", arguments, re.M), f"{option} is not described"
        if option != "spec":
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is not parameter.empty


@every_recipe
def test_a_recipe_knows_its_name_and_options_and_comes_back_from_json(name):
    assert made(name).name == name
    options = inspect.signature(RECIPES[name]).parameters
    assert list(made(name).options) == [option for option in options if option != "spec"]
    written = json.loads(json.dumps(made(name).describe()))
    again = rebuild(written["model"]), rebuild(written["objective"]), rebuild(written["training"])
    assert [describe(part) for part in again] == [written[key] for key in ("model", "objective", "training")]
    assert again[2] == made(name).training


@every_recipe
def test_every_density_of_a_pass_is_K_by_B(name):
    model, _ = made(name).build()
    trace = model(batch(name), K)
    for value in (trace.log_px, trace.log_w, trace.kl, trace.log_share):
        assert value.shape == (K, B)
    for latent in trace.latents:
        assert latent.z.shape[:2] == (K, B)
        assert latent.log_q.shape == latent.log_p.shape == (K, B)
    assert trace.px.batch_shape == (K, B)
    assert trace.px.event_shape == made(name).spec.shape
    assert trace.px.mean.shape == (K, B, *made(name).spec.shape)


@every_recipe
def test_every_parameter_gets_a_finite_gradient(name):
    model, objective = made(name).build()
    outcome = objective(model.train(), batch(name, 40), torch.tensor(1e6))  # past every warm-up
    players = objective.players(model)
    assert set(outcome.losses) == set(players)
    for player, loss in outcome.losses.items():
        assert loss.shape == ()
        for gradient in torch.autograd.grad(loss, players[player], retain_graph=True):
            assert bool(gradient.isfinite().all())
            assert bool((gradient != 0).any())
    own = {id(p) for parameters in players.values() for p in parameters}
    assert own == {id(p) for module in (model, objective) for p in module.parameters()}
    for term in outcome.terms.values():
        assert term.shape == (40,)
    assert objective.monitor in outcome.terms


@every_recipe
def test_a_few_epochs_make_it_better(name):
    run = trained(name)
    objective, rows = run.recipe.objective, [row for row in run.history if row["split"] == "valid"]
    assert len(rows) == 3
    monitor, maximize = objective.monitor, objective.maximize
    if objective.settled and monitor == "elbo":  # a schedule has only begun: so far it is the distortion that counts
        monitor, maximize = "distortion", False
    first, last = rows[0][monitor], rows[-1][monitor]
    assert last > first if maximize else last < first


@every_recipe
def test_the_same_seed_gives_the_same_bytes(name):
    of = digits_for(name)
    few = replace(of, train=of.train.take(100), valid=of.valid.take(50))
    one, other = (fit(made(name), few, epochs=2, seed=2, progress=False).model for _ in range(2))
    assert weights(one) == weights(other)


@every_recipe
def test_a_trained_model_is_the_same_after_saving_and_loading(name, tmp_path):
    model = trained(name).model
    again = load(save(model, tmp_path / "model", recipe=name, options=made(name).options))
    assert weights(again) == weights(model)
    assert again.spec == model.spec
    x, y = batch(name).x, batch(name).y
    assert torch.equal(again.reconstruct(x, y), model.reconstruct(x, y))
    assert torch.equal(again.sample(B, y, show="draw", seed=4), model.sample(B, y, show="draw", seed=4))


@every_recipe
def test_samples_lie_where_the_likelihood_lives(name):
    model, y = trained(name).model, batch(name).y
    mean, draw = (model.sample(B, y, show=show, seed=1) for show in ("mean", "draw"))
    assert mean.shape == draw.shape == (B, *made(name).spec.shape)
    assert bool(mean.isfinite().all() & draw.isfinite().all())
    if model.decoder.family.support in ("binary", "levels", "unit"):
        assert float(mean.min()) >= 0
        assert float(mean.max()) <= 1
    if model.decoder.family.support == "binary":
        assert draw.unique().tolist() == [0, 1]
    if model.decoder.family.support == "levels":
        assert bool((16 * draw == (16 * draw).round()).all())
    assert torch.equal(model.sample(B, y, seed=1), mean)
    assert not torch.equal(model.sample(B, y, seed=2), mean)
    assert model.decode(model.encode(batch(name).x, y), y).shape == mean.shape


@every_recipe
def test_single_precision_is_near_double(name):
    given = batch(name)
    single = trained(name).model
    double = copy.deepcopy(single).double()
    wide = Batch(given.x.double(), y=given.y.double())
    with torch.no_grad():
        torch.manual_seed(4)  # a prior may itself be estimated from draws
        one = single(given, K, mode)
        torch.manual_seed(4)
        other = double(wide, K, mode)
    assert other.log_px.dtype == torch.float64
    torch.testing.assert_close(one.log_px.double(), other.log_px, rtol=2e-5, atol=1e-3)
    if single.has_density:
        torch.testing.assert_close(one.log_w.double(), other.log_w, rtol=2e-5, atol=1e-3)


@every_recipe
def test_a_pass_changes_neither_model_nor_objective(name):
    model, objective = made(name).build()
    before = [weights(model), weights(objective)]
    objective(model.train(), batch(name), first_step())
    assert [weights(model), weights(objective)] == before


@every_recipe
def test_densities_stay_in_single_precision_where_networks_run_in_half(name):
    model, objective = made(name).build()
    optimizers, guard = make_optimizers(objective.players(model), made(name).training), Guard(torch.device("cpu"))
    half = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    outcome = update(objective, model.train(), optimizers, batch(name), first_step(), guard, None, half)
    assert guard.failed() is None
    assert {term.dtype for term in outcome.terms.values()} == {torch.float32}


ONE_GRAPH = """
    import json, sys, torch
    import lowerbound as lb
    from lowerbound.core.noise import reseed
    from lowerbound.core.recipe import RECIPES

    sys.path.insert(0, sys.argv[3])
    from recipe_data import digits_for

    torch.set_num_threads(1)
    lb.recipes  # naming the package fills the table
    for name in json.loads(sys.argv[2]):
        data = digits_for(name)
        recipe = RECIPES[name](data.spec)
        model, objective = recipe.build()
        batch = data.train.matching(recipe.spec).batch(slice(0, 7))
        parameters = list(model.parameters())

        def loss_and_gradients(call):
            reseed(3)
            outcome = call(model, batch, torch.tensor(5.0))
            losses = torch.stack(list(outcome.losses.values()))
            return losses.detach(), torch.autograd.grad(losses.sum(), parameters)

        torch._dynamo.reset()
        try:
            eager = loss_and_gradients(objective)
            graph = loss_and_gradients(torch.compile(objective, fullgraph=True, backend=sys.argv[1]))
            torch.testing.assert_close(graph, eager, rtol=1e-4, atol=1e-5)
            said = "one graph"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:2000]
        print(json.dumps([name, said]), flush=True)
"""


@pytest.fixture(scope="module")
def compiled(request):
    """Compile the objectives of the recipes to be tested in one process: annotations that run cannot be traced here."""
    asked = [item.callspec.params for item in request.session.items if "becomes_one_graph" in item.name]

    @cache
    def by(backend):
        here = json.dumps([params["name"] for params in asked if params["backend"] == backend])
        words = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(ONE_GRAPH), backend, here, str(HERE)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(line) for line in done.stdout.splitlines())

    return by


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])  # forward; and back
@every_recipe
def test_the_whole_objective_becomes_one_graph(name, backend, compiled):
    if name in NOT_ONE_GRAPH:
        assert compiled(backend)[name] != "one graph", f"{name} becomes one graph now: take it off the list"
    else:
        assert compiled(backend)[name] == "one graph"
