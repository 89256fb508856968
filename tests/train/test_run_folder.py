"""The run folder: what it holds, that nothing is overwritten, and how a run ends that is stopped from outside."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
from training_parts import Ear, data, recipe, weights

from lowerbound import from_arrays, load, recipes
from lowerbound.core.errors import DataError, OutOfResource, ShapeError, UsageError
from lowerbound.train import find_run, open_run
from lowerbound.train.fit import fit
from lowerbound.train.log import MetricsFile

EPOCH = {"event", "epoch", "step", "split", "elbo", "distortion", "rate", "seconds"}


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def trained(tmp_path):
    of = data()
    return fit(recipe(of), of, epochs=2, seed=11, out=tmp_path / "runs" / "first", progress=False, report=False)


def test_everything_a_reader_needs_is_there(trained):
    assert {p.name for p in trained.folder.iterdir()} == {
        "recipe.json", "data.json", "env.json", "command.txt", "status.json", "metrics.jsonl", "log.txt", "model",
        "checkpoints", "snapshots", ".lock",
    }  # fmt: skip
    written = {name: json.loads((trained.folder / f"{name}.json").read_text()) for name in ("recipe", "data", "env")}
    about = written["recipe"].pop("about")
    assert about.startswith("Variational autoencoder with MLPs")
    assert written["recipe"] == json.loads(json.dumps(trained.recipe.describe()))
    assert written["recipe"]["name"] == "vae"
    assert written["recipe"]["options"]["latent_dim"] == 2
    assert written["data"]["spec"]["binarize"] == "dynamic"
    assert written["env"]["seed"] == 11
    assert not [p for p in trained.folder.rglob("*") if p.name.startswith((".tmp", ".old")) or p.suffix == ".tmp"]


def test_the_model_in_the_folder_is_the_model_returned(trained):
    assert weights(load(trained.folder)) == weights(trained.model)
    assert not trained.model.training
    assert open_run(trained.folder)[1].spec == trained.model.spec


def test_the_events_and_their_fields(trained):
    found = events(trained.folder)
    assert [e["event"] for e in found] == ["start", "epoch", "epoch", "epoch", "epoch", "checkpoint", "end"]
    epochs = [e for e in found if e["event"] == "epoch"]
    assert [(e["epoch"], e["step"], e["split"]) for e in epochs] == [
        (1, 5, "train"), (1, 5, "valid"), (2, 10, "train"), (2, 10, "valid")
    ]  # fmt: skip
    for event in epochs:
        assert set(event) == EPOCH
        assert event["elbo"] == pytest.approx(-(event["distortion"] + event["rate"]))
        assert event["seconds"] >= 0
    assert [{k: v for k, v in e.items() if k != "event"} for e in epochs] == trained.history
    assert {k: found[0][k] for k in ("recipe", "data", "binarisation", "seed", "epochs", "steps_per_epoch")} == {
        "recipe": "vae", "data": "arrays", "binarisation": "dynamic", "seed": 11, "epochs": 2, "steps_per_epoch": 5
    }  # fmt: skip
    assert (found[-1]["status"], found[-1]["epoch"], found[-1]["step"]) == ("done", 2, 10)
    status = json.loads((trained.folder / "status.json").read_text())
    assert (status["status"], status["epoch"], status["step"], status["pid"]) == ("done", 2, 10, os.getpid())


def test_a_model_without_density_reports_no_elbo(tmp_path):
    of = data()
    made = recipes.ae(of.spec, latent_dim=2, hidden=(6,))
    fit(made, of, epochs=1, out=tmp_path / "run", progress=False, report=False)
    for event in (e for e in events(tmp_path / "run") if e["event"] == "epoch"):
        assert set(event) == EPOCH
        assert event["elbo"] is None
        assert event["rate"] is None
        assert event["distortion"] > 0


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    MetricsFile(tmp_path / "m").event({"event": "epoch", "a": math.nan, "b": {"c": -math.inf, "d": 1.5}, "e": None})
    assert (tmp_path / "m").read_text() == '{"event": "epoch", "a": null, "b": {"c": null, "d": 1.5}, "e": null}\n'


def test_the_scale_of_each_term_is_said_at_the_first_step():
    of, ear = data(), Ear()
    fit(recipe(of), of, epochs=1, listeners=(ear,), progress=False)
    scales = [line for line in ear.lines if line.startswith("step 0")]
    assert len(scales) == 1
    assert "(35 dims)" in scales[0]
    assert "(2 dims)" in scales[0]


def test_progress_goes_to_standard_error_and_quiet_is_quiet(capfd):
    of = data()
    fit(recipe(of), of, epochs=1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "elbo" in err
    fit(recipe(of), of, epochs=1, progress=False)
    assert capfd.readouterr() == ("", "")


def test_an_existing_folder_is_never_overwritten(trained):
    before = {p: p.read_bytes() for p in trained.folder.rglob("*") if p.is_file()}
    of = data()
    with pytest.raises(UsageError, match="exists already"):
        fit(recipe(of), of, epochs=1, out=trained.folder, progress=False, report=False)
    assert {p: p.read_bytes() for p in trained.folder.rglob("*") if p.is_file()} == before


def test_a_folder_that_cannot_be_created_is_found_before_training(tmp_path):
    of = data()
    (tmp_path / "file").write_text("")
    with pytest.raises((OutOfResource, UsageError)) as caught:
        fit(recipe(of), of, out=tmp_path / "file" / "run", progress=False, report=False)
    assert str(tmp_path / "file") in str(caught.value)
    assert "--out" in str(caught.value)


def test_a_fit_that_is_refused_leaves_no_folder(tmp_path):
    of = data()
    other = from_arrays(of.test.x.repeat(9, 1, 1, 2))
    for given, options, error in ((other, {}, ShapeError), (of, {"device": "abacus"}, UsageError)):
        with pytest.raises(error):
            fit(recipe(of), given, out=tmp_path / "run", progress=False, report=False, **options)
        assert not (tmp_path / "run").exists()


def test_a_run_is_found_by_path_by_name_and_as_the_last(trained, monkeypatch):
    monkeypatch.chdir(trained.folder.parent.parent)
    of = data()
    second = fit(recipe(of), of, epochs=0, out="runs/second", progress=False, report=False)
    assert find_run(trained.folder) == trained.folder
    assert find_run("first") == Path("runs/first")
    assert find_run("last") == second.folder
    with pytest.raises(DataError, match="first, second"):
        find_run("third")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_its_step_with_everything_saved(number, code, tmp_path):
    of = data()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def stop_in_epoch_two(event):
        if event.get("epoch") == 2 and event.get("split") == "valid":
            os.kill(os.getpid(), number)

    out = tmp_path / "run"
    run = fit(recipe(of), of, epochs=9, out=out, listeners=(Ear(stop_in_epoch_two),), progress=False, report=False)
    assert (run.status, run.exit_code) == ("stopped", code)
    assert [(row["epoch"], row["split"]) for row in run.history] == [
        (1, "train"), (1, "valid"), (2, "train"), (2, "valid")
    ]  # fmt: skip
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    status = json.loads((out / "status.json").read_text())
    assert status["status"] == "stopped"
    assert status["step"] in (10, 11)
    assert events(out)[-1]["status"] == "stopped"
    assert weights(load(out)) == weights(run.model)
    assert len(list((out / "checkpoints").iterdir())) == 1
    best = max((1, 2), key=lambda epoch: run.history[2 * epoch - 1]["elbo"])
    assert weights(run.model) == weights(fit(recipe(of), of, epochs=best, progress=False).model)


def test_a_signal_in_the_first_step_saves_that_step(tmp_path):
    of = data()
    stop = Ear(on_tick=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    run = fit(recipe(of), of, epochs=3, out=tmp_path / "run", listeners=(stop,), progress=False, report=False)
    assert (run.status, run.exit_code, run.history) == ("stopped", 130, [])
    assert weights(load(tmp_path / "run")) == weights(run.model)
    assert weights(run.model) != weights(fit(recipe(of), of, epochs=0, progress=False).model)


def test_a_second_interrupt_leaves_at_once(tmp_path):
    of, before = data(), signal.getsignal(signal.SIGINT)

    def twice(*_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(
            recipe(of),
            of,
            epochs=3,
            out=tmp_path / "run",
            listeners=(Ear(on_tick=twice),),
            progress=False,
            report=False,
        )
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] != "running"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_ends_the_run_with_its_own_exit_code_and_says_so(tmp_path, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    of = data()
    monkeypatch.setattr("lowerbound.ship.files.save_file", full)
    with pytest.raises(OutOfResource) as caught:
        fit(recipe(of), of, epochs=1, out=tmp_path / "run", progress=False, report=False)
    assert caught.value.exit_code == 5
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"
