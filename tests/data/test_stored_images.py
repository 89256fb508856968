"""Folders of images that stay on disk: the pictures, labels and splits that they have when all are read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError
from lowerbound.data.stored import Stored


def write(folder, count, *, classes=("cat", "dog"), color=False, seed=0):
    draws = np.random.default_rng(seed)
    for i in range(count):
        path = folder / classes[i % len(classes)] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (6, 5, 3) if color else (6, 5), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "pets", 60)
    return tmp_path / "pets"


@pytest.mark.parametrize("kind", ["classes", "splits", "resized"])
def test_a_folder_on_disk_has_the_rows_labels_and_splits_it_has_in_memory(kind, tmp_path):
    options = {"image_size": (4,)} if kind == "resized" else {}
    for name, count in {"train": 40, "valid": 7, "test": 9}.items() if kind == "splits" else [("", 60)]:
        write(tmp_path / "pets" / name, count, color=kind == "splits", seed=count)
    disk, held = (load_data(tmp_path / "pets", memory=memory, **options) for memory in ("map", "hold"))
    assert isinstance(disk.train.x, Stored)
    for one, other in zip((disk.train, disk.valid, disk.test), (held.train, held.valid, held.test), strict=True):
        assert len(one) > 3
        assert torch.equal(one.x[:], other.x)
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.places, other.places)
        assert one.file_names() == other.file_names()
        assert one.spec == other.spec
    assert set(held.notes) - {n for n in held.notes if "joined" in n} <= set(disk.notes)


def test_training_from_files_ends_with_the_weights_it_ends_with_in_memory(folder, tmp_path):
    options = {"valid_fraction": 0.0, "test_fraction": 0.0}  # held-out pixels are drawn in another way
    disk, held = (load_data(folder, memory=memory, **options) for memory in ("map", "hold"))
    assert weights(trained(disk, batch_size=16)) == weights(trained(held, batch_size=16))
    split = load_data(folder, memory="map")
    assert weights(trained(split, batch_size=16)) == weights(trained(in_memory(split), batch_size=16))


def test_a_run_from_files_that_stopped_inside_an_epoch_ends_as_if_it_had_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    augment = {"batch_size": 16, "augment": ("shift",)}
    whole = trained(load_data(folder, memory="map"), **augment)
    options = {"out": tmp_path / "run", "listeners": (StopAt(2, 1),)}
    assert trained(load_data(folder, memory="map"), **augment, **options).status == "stopped"
    run = resume(tmp_path / "run", load_data(folder, memory="map"), progress=False, report=False)
    assert weights(run) == weights(whole)


def test_a_damaged_file_is_found_before_training_or_left_out(folder):
    path = folder / "dog" / "017.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"017\.png: it is damaged"):
        load_data(folder, memory="map")
    data = load_data(folder, memory="map", skip_bad=True)
    assert len(data.split("all")) == 59
    assert any("skipped dog/017.png" in note for note in data.notes)


def test_a_file_damaged_in_the_middle_of_a_training_is_named_and_the_run_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    data = load_data(folder, memory="map", valid_fraction=0.0, test_fraction=0.0)

    class Damage(StopAt):
        def tick(self, epoch, step, steps):
            if (epoch, step) == self.at:
                (folder / "cat" / "004.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"004\.png: it is no PNG"):
        trained(data, batch_size=16, epochs=3, out=tmp_path / "run", listeners=(Damage(1, 4),), save_every="1 steps")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
