"""Checkpoints: going on from one equals going on, damage is found, and a full disk costs nothing that was there."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from training_parts import Rivals, parts, take

from lowerbound.core.errors import CorruptArtifact, OutOfResource
from lowerbound.objectives import ELBO
from lowerbound.train import checkpoint
from lowerbound.train.checkpoint import State, checkpoints, load_checkpoint, save_checkpoint

OPTIMIZERS = ["adam", "adamw", "sgd", "adamax"]


def state_of(optimizer="adam", steps=0, objective=None):
    """Return a state of training after some steps, and the batch it was trained on."""
    model, objective, batch, optimizers = parts(objective or Rivals(), optimizer=optimizer, lr=1e-2)
    state = State(model, objective, optimizers, {"step": 0, "epoch": 0, "seed": 3})
    go_on(state, batch, steps)
    return state, batch


def go_on(state, batch, steps):
    for _ in range(steps):
        take(state.model, state.objective, batch, state.optimizers, step=state.progress["step"])
        state.progress["step"] += 1


def tensors(state):
    """Return every tensor of a state, flat and by name."""
    found = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    found |= {f"objective/{k}": v for k, v in state.objective.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            found |= {f"{name}/{index}/{k}": v for k, v in values.items() if torch.is_tensor(v)}
    return {k: v.detach().clone() for k, v in found.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_on_from_a_checkpoint_equals_going_on(optimizer, tmp_path):
    state, batch = state_of(optimizer, steps=3)
    path = save_checkpoint(tmp_path, state)
    go_on(state, batch, 4)
    fresh, _ = state_of(optimizer)
    assert not same(tensors(fresh), tensors(state))
    load_checkpoint(path, fresh)
    assert fresh.progress == {"step": 3, "epoch": 0, "seed": 3}
    go_on(fresh, batch, 4)
    assert same(tensors(fresh), tensors(state))


def test_saving_changes_nothing():
    state, _ = state_of(steps=2)
    before, rng = tensors(state), torch.get_rng_state()
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), state)
    assert same(tensors(state), before)
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("steps", [(5, 10, 15, 20), (8, 9, 10, 11), (999_998, 999_999, 1_000_000, 1_000_001)])
def test_only_the_newest_two_are_kept(steps, tmp_path):
    state, _ = state_of()
    for step in steps:
        state.progress["step"] = step
        path = save_checkpoint(tmp_path, state)
        assert path.is_dir(), "the checkpoint just written was removed as an old one"
    assert [int(p.name.removeprefix("step-")) for p in checkpoints(tmp_path)] == list(steps[-2:])


def test_a_checkpoint_of_the_same_step_replaces_the_first(tmp_path):
    state, batch = state_of(steps=2)
    save_checkpoint(tmp_path, state)
    go_on(state, batch, 1)
    state.progress["step"] = 2
    path = save_checkpoint(tmp_path, state)
    assert checkpoints(tmp_path) == [path]
    fresh, _ = state_of()
    load_checkpoint(path, fresh)
    assert same(tensors(fresh), tensors(state))


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "removed"])
def test_damage_is_found_and_the_file_is_named(name, damage, tmp_path):
    state, _ = state_of(steps=2)
    path = save_checkpoint(tmp_path, state)
    file = path / name
    content = bytearray(file.read_bytes())
    if damage == "removed":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes({"truncated": content[: len(content) // 2], "emptied": b"", "flipped": bytes(content)}[damage])
    fresh, _ = state_of()
    before = tensors(fresh)
    with pytest.raises(CorruptArtifact) as caught:
        load_checkpoint(path, fresh)
    assert caught.value.exit_code == 4
    assert name in str(caught.value) or name == "MANIFEST.json"
    assert str(path) in str(caught.value)
    assert same(tensors(fresh), before)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.safetensors", b""),
        ("state.safetensors", b"no tensors"),
        ("state.json", b"[]"),
        ("state.json", b'{"optimizers": null, "progress": {}}'),
    ],
)
def test_signed_files_of_another_kind_are_refused(name, content, tmp_path):
    path = save_checkpoint(tmp_path, state_of()[0])
    (path / name).write_bytes(content)
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.iterdir() if p.name != "MANIFEST.json"}
    (path / "MANIFEST.json").write_text(json.dumps({"files": sums}))
    with pytest.raises(CorruptArtifact) as caught:
        load_checkpoint(path, state_of()[0])
    assert str(path) in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, state_of("adam", 2)[0])
    with pytest.raises(CorruptArtifact, match="does not fit"):
        load_checkpoint(path, state_of("adam", objective=ELBO())[0])


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_in_the_middle(contents, path, *_, **__):
    """Write a part, as a disk that fills up does, and raise what safetensors raises then."""
    save_file(contents, path)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 3])
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "failure"),
    [
        ("lowerbound.ship.files.save_file", full),
        ("lowerbound.ship.files.save_file", full_in_the_middle),
        ("lowerbound.train.checkpoint.write_json", full),
        ("lowerbound.ship.files.os.fsync", full),
        ("lowerbound.ship.files._sha256", full),
    ],
)
def test_a_disk_that_fills_up_keeps_what_was_there(where, failure, tmp_path, monkeypatch):
    state, batch = state_of(steps=2)
    path = save_checkpoint(tmp_path, state)
    kept = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    go_on(state, batch, 1)
    for step in (2, 3):  # over the old one, and beside it
        state.progress["step"] = step
        with monkeypatch.context() as patch:
            patch.setattr(where, failure)
            with pytest.raises(OutOfResource, match="disk is full") as caught:
                save_checkpoint(tmp_path, state)
        assert caught.value.exit_code == 5
        assert {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept
        assert list(tmp_path.iterdir()) == [path]
    load_checkpoint(path, state)


def test_an_interruption_between_the_two_renames_does_not_lose_the_old_folder(tmp_path, monkeypatch):
    # A second Ctrl-C may come at any moment, also when the old folder has been moved away and the new one not yet in.
    state, batch = state_of(steps=2)
    path = save_checkpoint(tmp_path, state)
    before = tensors(state)
    go_on(state, batch, 1)
    state.progress["step"] = 2
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, state)
    assert path.is_dir(), "neither the old checkpoint nor the new one is there"
    fresh, _ = state_of()
    load_checkpoint(path, fresh)
    assert same(tensors(fresh), before) or same(tensors(fresh), tensors(state))


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert checkpoints(tmp_path) == []
    assert checkpoints(tmp_path / "missing") == []
    assert checkpoint.KEEP == 2
