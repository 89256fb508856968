"""What trackers hold of real runs is what the runs' files say: each number once, also of runs that were cut off."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from lowerbound import from_arrays, recipes
from lowerbound.core.errors import UsageError
from lowerbound.explore.run_files import read_run
from lowerbound.trackers.trackers import NAMES
from lowerbound.trackers.tracking import Tracking
from lowerbound.train.fit import fit, resume

ENOUGH = {"progress": False, "report": False, "save_every": "2 epochs"}
# of those that are no part of the development environment these warnings are not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class CutOff(Exception):
    """In place of a kill."""


class Cutter:
    """A listener that ends a training once the events of its third epoch are written."""

    def event(self, event):
        if event.get("epoch") == 4:
            raise CutOff

    def say(self, line):
        pass

    def tick(self, epoch, step, steps):
        pass


@pytest.fixture(scope="module")
def of():
    return from_arrays(np.random.default_rng(7).integers(0, 256, (60, 5, 7), dtype=np.uint8), valid_fraction=0.2)


def recipe(of, **training):
    made = recipes.vae(of.spec, latent_dim=2, hidden=(6,))
    return made.replace(training=type(made.training)(**{"batch_size": 9, **training}))


def half_a_run(of, out):
    """Train, and be cut off in the third epoch, after a checkpoint at the second."""
    with pytest.raises(CutOff):
        fit(recipe(of, epochs=5), of, out=out, listeners=(Cutter(),), **ENOUGH)


def send(run, name, **options):
    tracking = Tracking(run, name, "p", **{"anew": False, **options})
    rows = tracking.update(read_run(run))
    tracking.close(read_run(run).state)
    return rows


# --- what a tracker holds: the numbers of each name as (step, value), and its options ---------------------------------


def in_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    values = {name: [(e.step, e.value) for e in held.Scalars(name)] for name in held.Tags()["scalars"]}
    plugin = held.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return values, b"recipe.latent_dim" in plugin and b"env.torch" in plugin


def in_mlflow(run):
    from mlflow import MlflowClient

    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    names = found.data.metrics
    values = {name: [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)] for name in names}
    assert found.info.status == "FINISHED" and found.data.tags["lowerbound.status"] == "done"
    return values, found.data.params["recipe.latent_dim"] == "2" and "env.torch" in found.data.params


def in_trackio(run):
    with sqlite3.connect(next(Path("trackio").glob("*.db"))) as held:
        rows = [(step, json.loads(text)) for step, text in held.execute("SELECT step, metrics FROM metrics")]
        (config,) = [json.loads(text) for (text,) in held.execute("SELECT config FROM configs")]
    assert [values["status"] for _, values in rows if "status" in values][-1] == "done"
    values = {}
    for step, row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append((step, value))
    values.pop("status")
    return values, config["recipe.latent_dim"] == 2 and "env.torch" in config


def records(path):
    """Return the records of a W&B file: a log of LevelDB's kind behind a head of 7 bytes."""
    text, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(text):
        if 32768 - place % 32768 < 7:  # the rest of a block that has no room for a head
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(text[place + 4 : place + 6], "little"), text[place + 6]
        whole += text[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def in_wandb(run):
    from wandb.proto.wandb_internal_pb2 import Record

    values, summary, options = {}, {}, {}
    paths = sorted(Path("wandb").glob("offline-run-*/*.wandb"))
    assert len(paths) == 2 and len({path.name for path in paths}) == 1  # two sendings of one run
    for record in (Record.FromString(held) for path in paths for held in records(path)):
        options |= {item.key: item.value_json for item in record.run.config.update}
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for name in row:
            values.setdefault(name, []).append((record.history.step.num, json.loads(row[name])))
    assert summary["status"] == "done"
    last = values["epoch"][-1][0]
    values |= {name: [(last, v)] for name, v in summary.items() if name.startswith(("eval/", "best/"))}
    return values, options["recipe.latent_dim"] == "2" and "env.torch" in options


HELD = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "trackio": in_trackio, "wandb": in_wandb}


@pytest.fixture(params=NAMES)
def name(request, tmp_path, monkeypatch):
    """Each tracker that is installed; TensorBoard always is. None of them may use a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    if request.param != "tensorboard":
        pytest.importorskip(request.param)
    return request.param


def test_a_run_that_was_cut_off_and_resumed_is_held_once(name, of, tmp_path):
    run = tmp_path / "run"
    half_a_run(of, run)
    assert send(run, name) == 6
    assert send(run, name) == 0
    resume(run, of, **ENOUGH)
    (run / "eval").mkdir()
    (run / "eval" / "test.json").write_text(json.dumps({"nll": {"value": 12.5}}))
    again = [e["epoch"] for e in read_run(run).events if e["event"] == "epoch" and e["split"] == "train"]
    assert again == [1, 2, 3, 3, 4, 5]
    assert send(run, name) == 4
    assert send(run, name) == 0
    values, options = HELD[name](run)
    assert options
    epochs = read_run(run).epochs
    for split in ("train", "valid"):
        for term in ("elbo", "distortion", "rate"):
            wanted = [(event["step"], pytest.approx(event[term], rel=1e-6)) for event in epochs[split].values()]
            assert values[f"{split}/{term}"] == wanted
            assert len(wanted) == 5
    assert [value for _, value in values["epoch"]] == [1, 2, 3, 4, 5]
    assert values["eval/test/nll"] == [(25, 12.5)]
    # the run that was cut off had a best epoch, too
    assert values["best/elbo"][-1][1] == pytest.approx(read_run(run).best[0], rel=1e-6)


def test_a_run_without_a_density_is_sent_without_it(of, tmp_path):
    fit(recipes.ae(of.spec, latent_dim=2, hidden=(6,)), of, epochs=1, out=tmp_path / "run", **ENOUGH)
    assert send(tmp_path / "run", "tensorboard") == 2
    values, _ = in_tensorboard(tmp_path / "run")
    assert "train/distortion" in values and "train/elbo" not in values


def test_everything_can_be_sent_again_as_another_run(of, tmp_path):
    fit(recipe(of), of, epochs=1, out=tmp_path / "run", **ENOUGH)
    assert send(tmp_path / "run", "tensorboard") == 2
    assert send(tmp_path / "run", "tensorboard", anew=True) == 2
    assert {path.name for path in tmp_path.glob("run/tensorboard*")} == {"tensorboard", "tensorboard-2"}
    assert len(in_tensorboard(tmp_path / "run")[0]["train/elbo"]) == 1


def test_two_processes_do_not_tell_one_run_at_once(of, tmp_path):
    fit(recipe(of), of, epochs=1, out=tmp_path / "run", **ENOUGH)
    first = Tracking(tmp_path / "run", "tensorboard", "p", anew=False)
    with pytest.raises(UsageError, match="another process"):
        Tracking(tmp_path / "run", "tensorboard", "p", anew=False)
    first.close("done")
    assert send(tmp_path / "run", "tensorboard") == 2
