"""Recorded parts: written as JSON, rebuilt through a closed registry, never by running what a file says."""

import inspect
import json
import os
import subprocess
import sys

import pytest
from torch import nn

from lowerbound import recipes
from lowerbound.core.errors import CorruptArtifact, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder, Network
from lowerbound.core.recipe import RECIPES
from lowerbound.core.record import describe, rebuild, recorded
from lowerbound.families import Bernoulli, Normal
from lowerbound.networks import MLP
from recipe_data import digits_for


@recorded
class Shelf:
    """A part that holds plain values and parts."""

    def __init__(self, sizes, note=None, *, parts=()):
        self.sizes, self.note, self.parts = sizes, note, parts


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_model_and_objective_of_every_recipe_survive_json(name):
    small = {"latent_dim": 3} if "latent_dim" in inspect.signature(RECIPES[name]).parameters else {}
    model, objective = RECIPES[name](digits_for(name).spec, **small).build()
    for part in (model, objective):
        again = rebuild(json.loads(json.dumps(describe(part))))
        assert type(again) is type(part)
        assert describe(again) == describe(part)
        assert shapes(again) == shapes(part)
    assert rebuild(describe(model)).spec == model.spec


def test_arguments_are_recorded_with_their_defaults_and_lists_come_back_as_tuples():
    description = describe(Shelf([3, (5, 7)], parts=(Bernoulli((2,)),)))
    assert description == {
        "part": "Shelf",
        "args": {"sizes": [3, [5, 7]], "note": None, "parts": [{"part": "Bernoulli", "args": {"event_shape": [2]}}]},
    }
    again = rebuild(description)
    assert again.sizes == (3, (5, 7))
    assert isinstance(again.parts[0], Bernoulli)


def test_dictionaries_are_plain_values_even_with_one_key_of_a_part():
    value = Shelf({"part": "Bernoulli", "n": [1.5, True, None]})
    assert rebuild(describe(value)).sizes == {"part": "Bernoulli", "n": (1.5, True, None)}


@pytest.mark.parametrize("name", ["Nothing", "os.system", "builtins.eval", "this", "torch.load", "", 7, None, ["MLP"]])
def test_an_unknown_part_is_a_corrupt_artifact(name):
    with pytest.raises(CorruptArtifact, match="unknown part") as caught:
        rebuild({"part": name, "args": {}})
    assert caught.value.exit_code == 4
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "args"),
    [
        ("os.system", {"command": "touch {marker}"}),
        ("subprocess.Popen", {"args": ["touch", "{marker}"]}),
        ("open", {"file": "{marker}", "mode": "w"}),
        ("builtins.exec", {"source": "open('{marker}', 'w')"}),
    ],
)
def test_nothing_that_a_file_names_is_run(part, args, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    ran = []
    for module, name in ((os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(module, name, lambda *a, **k: ran.append(a))
    text = json.dumps({"part": "Shelf", "args": {"sizes": {"part": part, "args": args}}})
    with pytest.raises(CorruptArtifact):
        rebuild(json.loads(text.replace("{marker}", str(marker))))
    assert not ran
    assert not marker.exists()


def test_nothing_that_a_file_names_is_imported():
    before = set(sys.modules)
    assert "antigravity" not in before
    for name in ("antigravity.geohash", "antigravity"):
        with pytest.raises(CorruptArtifact):
            rebuild({"part": name, "args": {}})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "args", [{"event_shape": [2], "extra": 1}, {}, {"__class__": 1}, [], "x", None, {"event_shape": [2], "self": 1}]
)
def test_arguments_that_the_constructor_does_not_take_are_a_corrupt_artifact(args):
    with pytest.raises(CorruptArtifact, match="Bernoulli"):
        rebuild({"part": "Bernoulli", "args": args})


@pytest.mark.parametrize("hidden", [[-5], [0], [2.5], [10**10, 10**10]])
def test_arguments_out_of_range_are_a_corrupt_artifact(hidden):
    # Not a UsageError: whoever loads a file has set no option. Rebuilt without weights, so nothing is allocated.
    from torch import device

    description = {"part": "MLP", "args": {"in_shape": [3], "out_shape": [2], "hidden": hidden}}
    with device("meta"), pytest.raises(CorruptArtifact, match="MLP"):
        rebuild(description)


def test_an_unrecorded_part_is_refused_by_name_when_it_is_described():
    class Homemade(Network):
        in_shape, out_shape = (3,), (2, 2)

    with pytest.raises(UsageError, match=r"Homemade.*not recorded"):
        describe(Homemade())
    spec_less = VAE(Encoder([Homemade()]), [], Conditional(MLP((2,), (3,)), Bernoulli((3,))))
    with pytest.raises(UsageError, match="Homemade"):
        describe(spec_less)


def test_an_unrecorded_class_does_not_pass_for_its_recorded_namesake():
    namesake = type("Normal", (Normal,), {})
    with pytest.raises(UsageError, match="not recorded"):
        describe(namesake((2,)))


def test_two_parts_of_one_name_are_refused_and_the_first_keeps_it():
    impostor = type("MLP", (nn.Module,), {"__module__": "elsewhere"})
    with pytest.raises(UsageError, match="two parts are called MLP"):
        recorded(impostor)
    assert type(rebuild(describe(MLP((3,), (2,))))) is MLP


def test_a_recipe_is_found_by_name_and_a_misspelled_one_gets_a_hint():
    assert recipes.find("beta_vae") is RECIPES["beta_vae"]
    with pytest.raises(UsageError, match="did you mean beta_vae"):
        recipes.find("beta-vea")
