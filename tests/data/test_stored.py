"""Rows on disk: the same rows, in the order, with the draws and to the weights that they have in memory."""

import json
import signal
import threading

import numpy as np
import pytest
import torch

from lowerbound import fit, load_data, recipes, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data import stored
from lowerbound.data.ahead import ahead
from lowerbound.data.dataset import Data
from lowerbound.data.inspect import inspect
from lowerbound.data.order import Order
from lowerbound.data.stored import Blocks, Spans, even_bounds


def images(count=600, shape=(6, 5), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def small(monkeypatch):
    """Blocks of 16 images and windows of 4 blocks, so that small data have many."""
    monkeypatch.setattr("lowerbound.data.stored_arrays.BLOCK_BYTES", 16 * 30)
    monkeypatch.setattr(stored, "WINDOW_BYTES", 64 * 30)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 30)


@pytest.fixture
def saved(tmp_path, small):
    x = images()
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy", x


def in_memory(data):
    """Return the same rows and splits, held in memory."""
    return Data(data.train.in_memory(), data.valid.in_memory(), data.test.in_memory(), warnings=data.warnings)


def weights(run):
    return {name: t.numpy().tobytes() for name, t in run.model.state_dict().items()}


def trained(data, *, epochs=2, out=None, **options):
    recipe = recipes.vae(data.spec, latent_dim=2, hidden=(6,))
    made = {"batch_size": 50, "progress": False, "report": False, "kernels": "eager", **options}
    return fit(recipe, data, epochs=epochs, seed=5, out=out, **made)


def test_the_rows_on_disk_are_those_of_the_file_each_in_one_split(saved):
    path, x = saved
    data = load_data(path, memory="map")
    seen = []
    for rows in (data.train, data.valid, data.test):
        np.testing.assert_array_equal(rows.x[:][:, 0].numpy(), x[rows.places.numpy()])
        np.testing.assert_allclose(rows.batch(slice(None)).x[:, 0].numpy(), rows.values()[:, 0].numpy())
        seen += rows.places.tolist()
    assert sorted(seen) == list(range(len(x)))
    assert isinstance(data.train.x, stored.Stored)
    assert (len(data.test), len(data.valid)) == (48, 48)  # 3 of 38 units of 16 rows, then 3 of the 35 that are left


def test_training_from_disk_ends_with_the_weights_of_the_same_rows_in_memory(saved):
    data = load_data(saved[0], memory="map")
    assert weights(trained(data)) == weights(trained(in_memory(data)))


def test_fixed_pixels_from_disk_are_those_in_memory_whatever_is_read_together(saved):
    data = load_data(saved[0], memory="map", binarize="static-seed")
    disk = data.train.matching(data.spec)
    held = data.train.in_memory().matching(data.spec)
    assert torch.equal(disk.x[:], held.x)
    for index in (torch.tensor([7, 3, 400, 3]), slice(20, 45)):
        assert torch.equal(disk.batch(index).x, held.batch(index).x)
        assert torch.equal(disk.rows(index).batch(slice(None)).x, held.batch(index).x)
    assert weights(trained(data)) == weights(trained(in_memory(data)))


def test_fixed_pixels_are_draws_with_the_grey_value_as_chance(tmp_path):
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    np.save(tmp_path / "x.npy", np.tile(levels, (400, 60, 1)))
    data = load_data(tmp_path / "x.npy", memory="map", binarize="static-seed", valid_fraction=0.0, test_fraction=0.0)
    rows = data.train.matching(data.spec)
    grey, drawn = data.train.values().flatten(), rows.x[:].flatten().float()
    for level in grey.unique():
        here = drawn[grey == level]
        error = float((level * (1 - level) / len(here)).sqrt())
        assert abs(float(here.mean() - level)) <= 4 * error
    middle = rows.x[:].flatten(1).float()[:, (data.train.values()[0] == 0.4).flatten()]
    for pairs in (middle, middle.T):  # rows have draws of their own, and so have pixels
        close = torch.corrcoef(pairs)[0, 1:].abs().max() * pairs.shape[1] ** 0.5
        assert float(close) < 4.5


@pytest.fixture
def every_step_ticks(monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)


class StopAt:
    """Sends an interrupt at a step of an epoch."""

    def __init__(self, epoch, step):
        self.at = epoch, step

    def event(self, event):
        pass

    def say(self, line):
        pass

    def tick(self, epoch, step, steps):
        if (epoch, step) == self.at:
            signal.raise_signal(signal.SIGINT)


def test_a_run_from_disk_that_stopped_inside_an_epoch_ends_as_if_it_had_not(saved, tmp_path, every_step_ticks):
    whole = trained(load_data(saved[0], memory="map"))
    stopped = trained(load_data(saved[0], memory="map"), out=tmp_path / "run", listeners=(StopAt(2, 4),))
    assert stopped.status == "stopped"
    run = resume(tmp_path / "run", load_data(saved[0], memory="map"), progress=False, report=False)
    assert run.status == "done"
    assert weights(run) == weights(whole)


def test_other_rows_in_the_file_are_noticed_before_a_run_goes_on(saved, tmp_path):
    path, x = saved
    trained(load_data(path, memory="map"), epochs=1, out=tmp_path / "run")
    x[0, 0, 0] += 1
    np.save(path, x)
    with pytest.raises(DataError, match="is not what run was trained on"):
        resume(tmp_path / "run", load_data(path, memory="map"), epochs=2, progress=False)


def test_the_command_line_goes_on_with_a_run_from_disk(saved, tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--latent-dim", "2", "--hidden", "6", "--no-report", "--out", "runs/a"]
    assert told("train", "vae", "--data", str(saved[0]), "--memory", "map", "--epochs", "1", *words)[0] == 0
    code, _, err = told("resume", "runs/a", "--epochs", "2", "--no-report")
    assert code == 0
    assert "stays on disk" in err
    assert json.loads((tmp_path / "runs/a/data.json").read_text())["origin"]["memory"] == "map"
    assert told("evaluate", "runs/a", "--num-samples", "10")[0] == 0
    assert told("evaluate", "runs/a", "--num-samples", "10", "--split", "all")[0] == 0


def test_of_rows_on_disk_some_are_inspected_and_that_is_said(saved, monkeypatch):
    monkeypatch.setattr("lowerbound.data.inspect.LOOKED_AT", 50)
    facts = inspect(load_data(saved[0], memory="map"))
    assert facts.rows == {"train": 504, "valid": 48, "test": 48}
    assert (facts.low, facts.high) == (saved[1][:50].min() / 255, saved[1][:50].max() / 255)
    assert "of 600 rows on disk the first 50 were looked at" in facts.notes


def test_a_file_cut_short_while_it_is_read_is_an_error_and_the_state_is_saved(saved, tmp_path, every_step_ticks):
    path, _ = saved
    data = load_data(path, memory="map")

    class Cut(StopAt):
        def tick(self, epoch, step, steps):
            if (epoch, step) == self.at:
                with path.open("r+b") as file:
                    file.truncate(1000)

    with pytest.raises(DataError, match=r"x\.npy has 1,000 bytes"):
        trained(data, out=tmp_path / "run", listeners=(Cut(1, 2),))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("layout", ["fortran", "swapped", "colour", "float64"])
def test_any_array_on_disk_gives_the_values_it_gives_in_memory(layout, tmp_path, small):
    x = images(200, (6, 5, 3) if layout == "colour" else (6, 5))
    made = {
        "fortran": np.asfortranarray(x),
        "swapped": (x / 7).astype(">f4"),
        "colour": x,
        "float64": x / 255,
    }[layout]
    np.save(tmp_path / "x.npy", made)
    disk, held = (load_data(tmp_path / "x.npy", memory=memory).split("all") for memory in ("map", "hold"))
    assert disk.spec.support == held.spec.support
    assert disk.spec.shape == held.spec.shape
    assert torch.equal(disk.values(), held.values())


@pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (1e20, "values up to 1e"), (-1.0, "-1 and 1")])
def test_values_no_model_can_take_are_refused_on_disk_as_in_memory(value, message, tmp_path, small):
    x = np.full((100, 4, 4), 1.0, np.float32)
    x[70] = value
    np.save(tmp_path / "x.npy", x)
    for memory in ("map", "hold"):
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / "x.npy", memory=memory)


def test_what_cannot_stay_on_disk_is_refused_by_name(tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "notes.txt").write_text("nothing to train on")
    (tmp_path / "odd" / "more.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(UsageError, match=r"odd cannot stay on disk"):
        load_data(tmp_path / "odd", memory="map")
    with pytest.raises(UsageError, match="--memory"):
        load_data("digits", memory="map")


def test_large_data_stay_on_disk_unless_they_are_to_be_held(saved, monkeypatch):
    monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4 * 600 * 30 - 4)
    assert isinstance(load_data(saved[0]).train.x, stored.Stored)
    assert isinstance(load_data(saved[0], memory="hold").train.x, torch.Tensor)
    monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4 * 600 * 30)
    assert isinstance(load_data(saved[0]).train.x, torch.Tensor)


def test_an_epoch_reads_whole_blocks_and_each_once():
    bounds = even_bounds(1000, 30)
    order = Order(1000, torch.from_numpy(bounds), 150)
    reads = []

    def read(block):
        reads.append(block)
        return np.arange(bounds[block], bounds[block + 1])

    for epoch in (1, 2):
        blocks, visited = Blocks(bounds, 150 + 30, read), []
        for index in order.batches(7, epoch, 64):
            rows = blocks.gather(index.numpy())
            assert (rows == index.numpy()).all()
            visited += rows.tolist()
        assert sorted(visited) == list(range(1000))
        assert sorted(reads) == list(range(34))
        reads.clear()


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def visits(seed, epoch):
        bounds = torch.from_numpy(even_bounds(500, 20))
        return torch.cat(list(Order(500, bounds, 100).batches(seed, epoch, 33))).tolist()

    before = visits(1, 1)
    torch.manual_seed(99)
    assert visits(1, 1) == before
    assert visits(1, 2) != before
    assert visits(2, 1) != before
    assert sorted(visits(1, 2)) == sorted(before) == list(range(500))


def test_batches_have_their_size_and_the_last_what_is_left():
    bounds = torch.from_numpy(even_bounds(500, 20))
    for size in (1, 7, 99, 100, 250, 499, 500, 1000):
        sizes = [len(index) for index in Order(500, bounds, 60).batches(0, 1, size)]
        assert set(sizes[:-1]) <= {size}
        assert sum(sizes) == 500
        assert len(sizes) == -(-500 // size)


@pytest.mark.parametrize("seed", range(5))
def test_spans_find_places_and_blocks_as_a_list_of_places_would(seed):
    draws = np.random.default_rng(seed)
    cuts = np.sort(draws.choice(200, 20, replace=False))
    spans = Spans(cuts[::2], np.diff(cuts)[::2])
    places = np.concatenate([np.arange(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=True)])
    assert (spans.at(np.arange(len(spans))) == places).all()
    bounds = even_bounds(200, 13)
    blocks = np.searchsorted(bounds, places, "right") - 1
    starts = [0, *(np.flatnonzero(np.diff(blocks)) + 1), len(places)]
    assert spans.blocks(bounds)[0].tolist() == starts
    assert (spans.blocks(bounds)[1] == blocks[starts[:-1]]).all()
    start, stop = sorted(draws.choice(len(places) + 1, 2, replace=False).tolist())
    assert (spans.cut(start, stop).at(np.arange(stop - start)) == places[start:stop]).all()


def test_rows_are_read_ahead_in_order_and_the_thread_ends(saved):
    data = load_data(saved[0], memory="map").train
    batches = list(data.batches(0, 1, 50))
    before = threading.active_count()
    reader = ahead(data, batches)
    made = [rows.batch(index) for rows, index in reader]
    assert len(made) == len(batches)
    for batch, index in zip(made, batches, strict=True):
        assert torch.equal(batch.x, data.in_memory().batch(index).x)
        assert torch.equal(batch.index, data.places[index])
    early = ahead(data, batches)
    next(early)
    assert threading.active_count() == before + 1
    early.close()
    assert threading.active_count() == before


def test_what_goes_wrong_while_reading_ahead_is_raised_where_the_batch_is_used(saved):
    data, path = load_data(saved[0], memory="map").train, saved[0]
    before = threading.active_count()
    reader = ahead(data, data.batches(0, 1, 50))
    path.unlink()
    with pytest.raises(DataError, match=r"x\.npy cannot be read: No such file"):
        list(reader)
    assert threading.active_count() == before
