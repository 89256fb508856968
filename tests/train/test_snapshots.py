"""Watchers see the model after each epoch and change nothing; snapshots keep what it made, and survive no damage."""

import pytest
import torch
from training_parts import data, recipe, weights

from lowerbound import fit, from_arrays, load_data, recipes, resume
from lowerbound.core.errors import CorruptArtifact
from lowerbound.train.snapshots import MOST_VALUES, ROWS, is_kept, read_snapshots


def test_watchers_see_each_epoch_and_change_nothing():
    seen = []

    def watch(model, epoch):
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.randn(3)  # what a watcher draws must not reach the training
        seen.append((epoch, float(model.sample(1, seed=0).sum())))

    of = data()
    watched = fit(recipe(of), of, epochs=3, seed=2, progress=False, watchers=(watch,))
    alone = fit(recipe(of), of, epochs=3, seed=2, progress=False)
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert len({value for _, value in seen}) == 4
    assert weights(watched.model) == weights(alone.model)


def test_the_last_watched_model_is_the_trained_one():
    held = {}
    of = data(valid_fraction=0.0)
    run = fit(recipe(of), of, epochs=2, progress=False, watchers=(lambda m, e: held.update({e: weights(m)}),))
    assert held[2] == weights(run.model)
    assert held[0] == weights(recipe(of).build(0)[0]) or held[0] != held[1]


def test_snapshots_hold_what_the_model_made_then(tmp_path):
    of, made = data(), {}

    def watch(model, epoch):
        rows = of.valid.matching(recipe(of).spec).take(ROWS)
        made[epoch] = (rows.values(), model.reconstruct(rows.values(), seed=0), model.sample(len(rows), seed=0))

    fit(recipe(of), of, epochs=6, out=tmp_path / "run", progress=False, watchers=(watch,), report=False)
    kept = read_snapshots(tmp_path / "run" / "snapshots")
    assert list(kept) == [0, 1, 2, 5]
    for epoch, held in kept.items():
        for name, wanted in zip(("originals", "reconstructions", "samples"), made[epoch], strict=True):
            assert held[name].shape == (ROWS, 1, 5, 7)
            assert (held[name] - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_real_values_are_kept_as_they_are(tmp_path):
    x = torch.randn(40, 1, 5, 7).mul(3).numpy()
    of = from_arrays(x, kind="image")
    fit(recipes.vae(of.spec, latent_dim=2, hidden=(4,)), of, epochs=0, out=tmp_path / "r", progress=False, report=False)
    [held] = read_snapshots(tmp_path / "r" / "snapshots").values()
    assert float(held["originals"].min()) < -1
    assert torch.allclose(held["originals"], of.valid.values(slice(len(held["originals"]))), rtol=1e-3)


def test_tables_and_points_have_none(tmp_path):
    of = load_data("ring")
    fit(recipes.vae(of.spec, latent_dim=1, hidden=(4,)), of, epochs=0, out=tmp_path / "r", progress=False, report=False)
    assert not (tmp_path / "r" / "snapshots").exists()
    assert read_snapshots(tmp_path / "r" / "snapshots") == {}


def test_large_images_are_kept_in_smaller_numbers(tmp_path):
    side = 400
    of = from_arrays(torch.zeros(20, side, side, dtype=torch.uint8).numpy(), valid_fraction=0.5)
    made = recipes.vae(of.spec, latent_dim=1, hidden=(2,))
    fit(made, of, epochs=0, out=tmp_path / "r", progress=False, report=False)
    [held] = read_snapshots(tmp_path / "r" / "snapshots").values()
    assert len(held["samples"]) == MOST_VALUES // side**2 < ROWS


def test_a_resumed_run_goes_on_with_its_snapshots(tmp_path):
    of = data()
    fit(recipe(of, epochs=1), of, out=tmp_path / "run", progress=False, report=False)
    first = (tmp_path / "run" / "snapshots" / "epoch-00001.safetensors").read_bytes()
    resume(tmp_path / "run", of, epochs=2, progress=False, report=False)
    assert list(read_snapshots(tmp_path / "run" / "snapshots")) == [0, 1, 2]
    assert (tmp_path / "run" / "snapshots" / "epoch-00001.safetensors").read_bytes() == first


def test_without_validation_rows_the_same_pixels_are_shown_each_time(tmp_path):
    of = data(valid_fraction=0.0)
    fit(recipe(of, augment=("shift",)), of, epochs=2, out=tmp_path / "r", progress=False, report=False)
    first, *later = [held["originals"] for held in read_snapshots(tmp_path / "r" / "snapshots").values()]
    assert len(later) == 2
    assert all(torch.equal(first, x) for x in later)


def test_pictures_that_cannot_be_written_do_not_end_the_training(tmp_path, monkeypatch):
    from lowerbound.train import snapshots

    written, said = [], []

    def full(tensors, path):
        written.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "save_tensors", full)
    quiet = {"event": lambda *_: None, "tick": lambda *_: None}
    ear = type("Ear", (), {**quiet, "say": lambda _, line: said.append(line)})()
    of = data()
    run = fit(recipe(of), of, epochs=2, out=tmp_path / "r", progress=False, listeners=(ear,), report=False)
    assert run.status == "done"
    assert len(written) == 1
    assert [line for line in said if "no further pictures" in line and "No space left" in line]
    assert not list((tmp_path / "r" / "snapshots").iterdir())


def test_what_was_learned_is_saved_before_a_watcher_s_error_ends_the_training(tmp_path):
    def watch(model, epoch):
        if epoch == 2:
            raise ZeroDivisionError("a watcher's own mistake")

    of = data()
    with pytest.raises(ZeroDivisionError):
        fit(recipe(of), of, epochs=3, seed=5, out=tmp_path / "r", progress=False, watchers=(watch,), report=False)
    whole = fit(recipe(of), of, epochs=3, seed=5, progress=False)
    going_on = resume(tmp_path / "r", of, progress=False, report=False)
    assert [row["epoch"] for row in going_on.history] == [3, 3]
    assert weights(going_on.model) == weights(whole.model)


def test_other_tensors_are_no_pictures(tmp_path):
    from safetensors.torch import save_file

    save_file({"originals": torch.zeros(2, 1, 3, 3)}, tmp_path / "epoch-00001.safetensors")
    with pytest.raises(CorruptArtifact, match="other things than pictures"):
        read_snapshots(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_damage_is_named(tmp_path, damage):
    (tmp_path / "epoch-00003.safetensors").write_bytes(damage)
    with pytest.raises(CorruptArtifact, match="epoch-00003"):
        read_snapshots(tmp_path)


def test_the_epochs_kept_grow_as_the_logarithm():
    kept = [epoch for epoch in range(1001) if is_kept(epoch)]
    assert kept == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
