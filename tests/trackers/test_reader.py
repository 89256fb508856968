"""What trackers are told of a metrics.jsonl: every epoch once, whatever was killed, resumed or half written."""

import json

import pytest

from lowerbound.explore.run_files import read_run
from lowerbound.trackers.reader import Reader, Row, options_of, results_of


def epoch(number, split="train", elbo=-1.0, **more):
    return {
        "event": "epoch",
        "epoch": number,
        "step": 10 * number,
        "split": split,
        "elbo": elbo,
        "seconds": 0.5,
        **more,
    }


def write(path, *events):
    with path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def steps(rows):
    return [(row.step, row.split) for row in rows]


def test_each_epoch_comes_once_while_the_file_grows(path):
    reader = Reader(path, {})
    assert reader.new() == []  # no file yet
    write(path, {"event": "start", "epochs": 2}, epoch(1, elbo=-3.5), epoch(1, "valid", elbo=-4.0))
    assert reader.new() == [
        Row(10, "train", {"train/elbo": -3.5, "epoch": 1.0, "seconds": 0.5}),
        Row(10, "valid", {"valid/elbo": -4.0}),
    ]
    assert reader.new() == []
    write(path, {"event": "checkpoint", "step": 10}, epoch(2), epoch(2, "valid"), {"event": "end", "status": "done"})
    assert steps(reader.new()) == [(20, "train"), (20, "valid")]
    assert steps(Reader(path, {}).new()) == [(10, "train"), (10, "valid"), (20, "train"), (20, "valid")]
    assert steps(Reader(path, {"train": 20, "valid": 10}).new()) == [(20, "valid")]


def test_null_values_are_left_out_and_what_is_no_epoch_too(path):
    write(path, epoch(1, elbo=None, distortion=2.0, rate=None), {"event": "epoch", "epoch": 2}, [1], "epoch", None)
    with path.open("a") as file:
        file.write('no json\n{"event": "epoch", "step": "a", "split": "train"}\n\n')
    write(path, epoch(3, elbo=-7.0))
    first, second = Reader(path, {}).new()
    assert first.values == {"train/distortion": 2.0, "epoch": 1.0, "seconds": 0.5}
    assert second.values["train/elbo"] == -7.0


def test_a_last_line_that_is_torn_is_read_once_it_is_whole_or_never(path):
    line = json.dumps(epoch(2)) + "\n"
    write(path, epoch(1))
    reader = Reader(path, {})
    with path.open("a") as file:
        file.write(line[:30])
    assert steps(reader.new()) == [(10, "train")]
    assert reader.new() == []
    with path.open("a") as file:
        file.write(line[30:])
    assert steps(reader.new()) == [(20, "train")]
    with path.open("a") as file:  # a kill; `resume` cuts the line off and goes on
        file.write(line[:30])
    assert reader.new() == []
    whole = path.read_text()
    path.write_text(whole[: whole.rfind("\n") + 1])
    write(path, {"event": "resume"}, epoch(3))
    assert steps(reader.new()) == [(30, "train")]


@pytest.mark.parametrize("looks", [(1, 2), (2,)], ids=["before and after", "after"])
def test_epochs_that_are_taken_again_come_once(path, looks):
    reader, found = Reader(path, {}), []
    write(path, *(epoch(n, split) for n in (1, 2, 3) for split in ("train", "valid")))
    if 1 in looks:
        found += reader.new()
    write(path, {"event": "resume"}, epoch(2, seconds=9.0), epoch(2, "valid"))
    if 2 in looks:
        found += reader.new()
    write(path, epoch(3), epoch(3, "valid"), epoch(4), epoch(4, "valid"))
    found += reader.new()
    assert steps(found) == [(10 * n, split) for n in (1, 2, 3, 4) for split in ("train", "valid")]
    assert not reader.changed


def test_what_was_not_sent_yet_is_read_as_it_was_written_last(path):
    write(path, epoch(1), epoch(2, elbo=-5.0), epoch(3, elbo=-6.0), {"event": "resume"}, epoch(2, elbo=-4.0))
    rows = Reader(path, {}).new()
    assert [(row.step, row.values["train/elbo"]) for row in rows] == [(10, -1.0), (20, -4.0)]
    sent = Reader(path, {"train": 30})  # as another process did before the run was resumed with other options
    assert sent.new() == []
    assert sent.changed


def test_options_and_results_of_a_run(tmp_path):
    files = {
        "recipe.json": {
            "name": "vae",
            "options": {"latent_dim": 2, "hidden": [8, 4]},
            "training": {"part": "Training", "args": {"lr": 0.5, "clip": None}},
            "objective": {"part": "ELBO", "args": {}},
        },
        "data.json": {"spec": {"name": "digits"}},
        "env.json": {"torch": "2.13.0", "seed": 3},
        "eval/test.json": {"nll": {"value": 2.5, "se": 0.1}, "bits_per_dim": {"value": None}, "split": "test"},
        "eval/test-samples.json": {"fd": {"samples": {"value": 4.0}, "held out": {"value": 3.0}}, "text": "x"},
    }
    (tmp_path / "eval").mkdir()
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    write(tmp_path / "metrics.jsonl", *(epoch(n, "valid", elbo=-abs(n - 2.0)) for n in (1, 2, 3)))
    run = read_run(tmp_path)
    assert options_of(run) == {
        "recipe": "vae", "data": "digits", "recipe.latent_dim": 2, "recipe.hidden": "[8, 4]", "training.lr": 0.5,
        "env.torch": "2.13.0", "env.seed": 3,
    }  # fmt: skip
    assert results_of(run) == {
        "eval/test/nll": 2.5, "eval/test-samples/fd/samples": 4.0, "eval/test-samples/fd/held out": 3.0,
        "best/elbo": 0.0, "best/epoch": 2.0,
    }  # fmt: skip
