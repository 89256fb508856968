"""What a training that was cut off is taken up by: its lock decides, and what it was asked for is asked for again."""

import json
import os

from filelock import FileLock

from lowerbound.cli.launching import going_on


def test_the_number_of_another_process_does_not_keep_a_run_from_going_on(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "train vae --data digits --hidden 8 --latent-dim 2 --epochs 1 --no-report --out run"
    assert told(*words.split())[0] == 0
    status = tmp_path / "run" / "status.json"
    # as after a restart of the machine or of a container: the number is another process's now
    status.write_text(json.dumps({**json.loads(status.read_text()), "status": "running", "pid": os.getpid()}))
    with FileLock(tmp_path / "run" / ".lock"):
        code, _, said = told("resume", "run", "--no-report")
        assert code == 2 and "is being trained by another process" in said
    assert told("resume", "run", "--no-report")[0] == 0
    assert json.loads(status.read_text())["status"] == "done"


def test_a_restart_goes_on_telling_the_tracker(tmp_path):
    chosen = {"devices": 2, "device": "cpu", "process_timeout": 5.0, "save_every": None, "track": "tensorboard"}
    words = going_on(tmp_path, {**chosen, "report": False})
    assert words[-3:] == ["--track", "tensorboard", "--no-report"]
    assert "--track" not in going_on(tmp_path, {**chosen, "track": None, "report": True})
