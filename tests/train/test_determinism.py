"""The same seed gives the same bytes, whatever else happens in between."""

import importlib
import json

import numpy as np
import pytest
import torch
from training_parts import SEEN, Ear, Watched, data, hear_every_tick, recipe, weights

from lowerbound import evaluate, fit, recipes
from lowerbound.core.noise import kept_generators


def metrics(folder):
    """Return the events of a run without what a clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "adamax"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(optimizer, tmp_path):
    of = data()
    options = {"optimizer": optimizer, "epochs": 2, "progress": False, "report": False}
    a, b, c = (fit(recipe(of), of, seed=s, out=tmp_path / n, **options) for n, s in (("a", 4), ("b", 4), ("c", 5)))
    assert weights(a.model) == weights(b.model)
    for file in ("model/model.safetensors", "checkpoints/step-000010/state.safetensors", "model/config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert weights(a.model) != weights(c.model)
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


@pytest.mark.parametrize("name", ["vae", "mnist_vae_2017", "denoising_vae"])
def test_pictures_and_evaluations_between_steps_change_no_weight(name, monkeypatch):
    # Dropout, corruption and dynamic binarisation all draw from the default generator.
    of = data()
    sizes = {"hidden": 6} if name == "mnist_vae_2017" else {"hidden": (6,)}
    made = getattr(recipes, name)(of.spec, latent_dim=2, **sizes)
    options = {"epochs": 2, "batch_size": 9, "progress": False}
    undisturbed = fit(made, of, **options)
    hear_every_tick(monkeypatch)
    seen = {}

    def disturb(*_):
        model = seen["model"]
        model.sample(3)
        model.sample(2, show="draw", seed=1)
        model.reconstruct(of.test.values())
        evaluate(model, of.test, num_samples=3)
        torch.randn(5)
        np.random.rand(3)
        seen["times"] = seen.get("times", 0) + 1

    class Wrapped(type(made)):
        """Hands the model in training to the test."""

        def build(self, seed=0):
            model, objective = super().build(seed)
            seen["model"] = model
            return model, objective

    wrapped = Wrapped(**vars(made))
    ear = Ear(on_event=disturb, on_tick=disturb)
    disturbed = fit(wrapped, of, listeners=(ear,), **options)
    assert len(ear.ticks) == 2 * 5
    assert seen["times"] == len(ear.ticks) + len(ear.events)
    assert weights(disturbed.model) == weights(undisturbed.model)
    assert [{**row, "seconds": 0} for row in disturbed.history] == [
        {**row, "seconds": 0} for row in undisturbed.history
    ]


@pytest.mark.parametrize("epochs", [0, 1])
def test_fit_leaves_the_callers_generators_as_they_were(epochs):
    of = data()
    made = recipe(of)
    torch.manual_seed(12)
    np.random.seed(12)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    fit(made, of, epochs=epochs, progress=False)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_fit_does_not_read_the_callers_generator():
    of = data()
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(weights(fit(recipe(of), of, epochs=1, progress=False).model))
    assert runs[0] == runs[1]


def test_order_and_binarisation_change_from_epoch_to_epoch():
    SEEN.clear()
    of = data()
    fit(recipe(of, Watched()), of, epochs=2, progress=False)
    batches = [batch.x for batch in SEEN["batches"]]
    first, second = torch.cat(batches[:5]), torch.cat(batches[5:])
    assert first.shape == second.shape == (44, 1, 5, 7)
    assert not torch.equal(first, second)


def test_each_step_has_noise_of_its_own(monkeypatch):
    """Two batches of equal size in one epoch, and the same batch in two epochs, meet different noise."""
    module = importlib.import_module("lowerbound.train.learner")
    original, drawn = module.update, []

    def noted(*arguments):
        with kept_generators():
            drawn.append(float(torch.rand(())))
        return original(*arguments)

    monkeypatch.setattr(module, "update", noted)
    of = data()
    fit(recipe(of), of, epochs=2, progress=False)
    assert len(drawn) == len(set(drawn)) == 10


def test_a_recipe_builds_the_same_weights_from_the_same_seed_and_keeps_its_own():
    of = data()
    made = recipe(of)
    own = weights(made.decoder)
    one, other, third = (made.build(seed)[0] for seed in (3, 3, 4))
    assert weights(one) == weights(other)
    assert weights(one) != weights(third)
    fit(made, of, epochs=1, progress=False)
    assert weights(made.decoder) == own
