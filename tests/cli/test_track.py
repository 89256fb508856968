"""`lowerbound track`, and trackers that follow a training: they are told all of it and change nothing of it."""

import sys

import pytest

from lowerbound.cli.track import Follower

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
TRAIN = "train vae --data digits --hidden 8 --latent-dim 2 --epochs 2 --no-report --out"


def steps(run):
    """Return the steps at which TensorBoard has the training ELBO."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [event.step for event in EventAccumulator(str(run / "tensorboard")).Reload().Scalars("train/elbo")]


def test_a_tracker_follows_a_training_and_changes_nothing(server, told, tmp_path, monkeypatch):
    out, err = tmp_path / "out", tmp_path / "err"
    assert server.run([*TRAIN.split(), "plain"], tmp_path, out, err) == 0, err.read_text()
    code = server.run([*TRAIN.split(), "run", "--track", "tensorboard"], tmp_path, out, err)
    assert code == 0 and "warning" not in err.read_text(), err.read_text()
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("plain", "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert steps(tmp_path / "run") == [12, 24]
    monkeypatch.chdir(tmp_path)
    code, _, said = told("track", "run", "--to", "tensorboard")
    assert code == 0 and "sent 0 rows" in said  # all was sent while it trained
    code, _, said = told("track", "plain", "--to", "tensorboard")
    assert code == 0 and "sent 4 rows" in said and said.splitlines()[-1] == "next:  tensorboard --logdir plain"
    assert steps(tmp_path / "plain") == [12, 24]


def test_a_tracker_that_fails_is_a_warning(tmp_path, capsys):
    follower = Follower("tensorboard", tmp_path / "nothing")
    follower.event({"event": "start"})
    follower.wait()
    assert "warning: tensorboard was not told all of this run: there is no run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["track", "run", "--to", "wandb"], [*TRAIN.split(), "new", "--track", "wandb"]])
def test_a_tracker_that_is_not_installed(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, said = told(*words)
    assert code == 2
    assert "wandb is not installed here" in said and 'pip install "lowerbound[wandb]"' in said
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_not_there(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = told("track", "nosuch", "--to", "tensorboard")
    assert code == 2 and "there is no run 'nosuch'" in said
