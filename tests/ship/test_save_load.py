"""Saving and loading: the same bytes, the same numbers, nothing else touched."""

import json

import numpy as np
import pytest
import torch
from model_files import forge_config, saved, small_model
from safetensors.torch import load_file

from lowerbound import evaluate, load, load_data, save
from lowerbound.core.errors import DataError, UsageError
from lowerbound.core.model import VAE, Conditional, Encoder, Network
from lowerbound.core.record import describe
from lowerbound.families import Bernoulli, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal


def bytes_of(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {}),
        ("ae", {}),
        ("cvae", {}),
        ("gaussian_vae", {"variance": "per_dim"}),
        ("gaussian_vae", {"variance": "network"}),
        ("mnist_vae_2017", {"hidden": 7, "dropout": 0.25}),
        ("vae", {"activation": "tanh", "hidden": (5, 4, 3)}),
    ],
)
def test_a_model_comes_back_with_the_same_bytes_and_the_same_outputs(name, options, tmp_path):
    model = small_model(name, **options)
    again = load(save(model, tmp_path / "m", recipe=name, options=options))
    assert bytes_of(again) == bytes_of(model)
    assert describe(again) == describe(model)
    assert again.spec == model.spec
    data = load_data("digits").test
    x = data.matching(model.spec).values()
    y = torch.eye(10)[torch.arange(len(x)) % 10] if model.conditional else None
    assert torch.equal(again.encode(x, y), model.encode(x, y))
    assert torch.equal(again.reconstruct(x, y), model.reconstruct(x, y))
    draws = [m.sample(len(x), y, show="draw", seed=2) for m in (model, again)]
    assert torch.equal(*draws)
    assert evaluate(again, data, num_samples=2) == evaluate(model, data, num_samples=2)


def test_a_loaded_model_is_ready_for_use_and_saving_leaves_the_model_as_it_was(tmp_path):
    model = small_model("mnist_vae_2017", hidden=7).train()
    assert not load(save(model, tmp_path / "m")).training
    assert model.training


def test_saving_and_loading_touch_no_random_generator(tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    model = small_model()
    load(save(model, tmp_path / "m"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_saving_twice_gives_the_same_files(tmp_path):
    model = small_model()
    one, other = save(model, tmp_path / "a"), save(load(save(model, tmp_path / "b")), tmp_path / "c")
    for name in ("model.safetensors", "config.json", "MANIFEST.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_saved_folder_is_replaced_whole(tmp_path):
    folder = saved(tmp_path)
    other = small_model("ae")
    save(other, folder)
    assert bytes_of(load(folder)) == bytes_of(other)
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "config.json", "MANIFEST.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    folder = saved(tmp_path)
    (folder / "thesis.txt").write_text("three years")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("1,2")
    (tmp_path / "file").write_text("1,2")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for name in ("model", "other", "file"):
        with pytest.raises(UsageError, match="holds something else"):
            save(small_model(), tmp_path / name)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_a_process_killed_between_two_renames_left_still_loads(tmp_path):
    folder = saved(tmp_path)
    folder.rename(tmp_path / ".old-model-123-0a1b2c3d")
    assert bytes_of(load(tmp_path)) == bytes_of(small_model())


def test_a_loaded_model_can_be_saved_over_the_files_it_came_from(tmp_path):
    folder = saved(tmp_path)
    model = load(folder)
    before = bytes_of(model)
    save(model, folder)
    assert bytes_of(model) == before
    assert bytes_of(load(folder)) == before


def test_the_files_are_what_they_are_called(tmp_path):
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert (config["format"], config["recipe"], config["options"]) == (1, "vae", {"latent_dim": 3, "hidden": [7]})
    weights = load_file(folder / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        name: tuple(tensor.shape) for name, tensor in small_model().state_dict().items()
    }


def test_a_run_folder_and_its_model_folder_load_alike(tmp_path):
    saved(tmp_path)
    assert bytes_of(load(tmp_path)) == bytes_of(load(tmp_path / "model")) == bytes_of(load(str(tmp_path)))


def test_a_note_that_a_later_version_added_does_no_harm(tmp_path):
    folder = saved(tmp_path)
    forge_config(folder, lambda config: config.update(note="from the future"))
    assert bytes_of(load(folder)) == bytes_of(small_model())


def test_a_file_that_a_file_manager_left_does_no_harm(tmp_path):
    # Finder writes .DS_Store into every folder it shows; nothing reads it.
    folder = saved(tmp_path)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert bytes_of(load(folder)) == bytes_of(small_model())


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="there is no model"):
        load(tmp_path / "nowhere")


def test_a_model_with_an_unrecorded_part_is_refused_before_anything_is_written(tmp_path):
    class Homemade(Network):
        in_shape, out_shape = (5,), (2, 3)

        def forward(self, x, y=None):
            return x.new_zeros(len(x), 2, 3)

    decoder = Conditional(MLP((3,), (5,)), Bernoulli((5,)))
    model = VAE(Encoder([Homemade()]), [Flat(Normal((3,)), StandardNormal((3,)))], decoder)
    with pytest.raises(UsageError, match="Homemade"):
        save(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())
