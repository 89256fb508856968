"""A run that is killed at any moment, again and again, ends with the weights of the run that was not."""

import hashlib
import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from forks import Server
from lowerbound.train.checkpoint import checkpoints

OPTIONS = "--data digits --hidden 24 --latent-dim 3 --epochs 2 --batch-size 64 --seed 4 --ema 0.9 --lr-schedule cosine"
STEPS = 46  # in all


class Trainer:
    """Trains and resumes runs in one folder by commands of their own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def command(self, *words: str, **kill: Any) -> int:
        out, err = (self.folder / f"{name}.txt" for name in ("out", "err"))
        return self.server.run([*words, "--no-report"], self.folder, out, err, **kill)

    def train(self, name: str, **kill: Any) -> int:
        words = ["train", "vae", *OPTIONS.split(), "--save-every", "3 steps", "--out", f"runs/{name}"]
        return self.command(*words, **kill)

    def resume(self, name: str, **kill: Any) -> int:
        return self.command("resume", f"runs/{name}", "--save-every", "3 steps", **kill)

    def status(self, name: str) -> str | None:
        """Return what the run says of itself; None if it says nothing yet."""
        file = self.folder / "runs" / name / "status.json"
        return json.loads(file.read_text())["status"] if file.exists() else None

    def sums(self, name: str) -> list[str]:
        """Return digests of the model and of the last state of training."""
        run = self.folder / "runs" / name
        files = (run / "model" / "model.safetensors", checkpoints(run / "checkpoints")[-1] / "state.safetensors")
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_bit_equal(kills, server, tmp_path):
    trainer, draws = Trainer(server, tmp_path), random.Random(kills)
    trainer.train("warm")
    started = time.monotonic()
    assert trainer.train("whole") == 0, (tmp_path / "err.txt").read_text()
    seconds, whole = time.monotonic() - started, trainer.sums("whole")
    killed, finished, steps, name = 0, 0, set(), "run-0"
    for _ in range(30 * kills):
        status = trainer.status(name)
        if killed == kills and status is None:
            break
        # some time after the start, or a little after a checkpoint, so that the kills are spread over the training
        step = draws.choice([None, *range(3, STEPS, 3)])
        after = draws.uniform(0, seconds if step is None else seconds * 3 / STEPS)
        kill = {"kill_after": after, "kill_from": step and f"step-{step:06d}"} if killed < kills else {}
        code = (trainer.train if status is None else trainer.resume)(name, **kill)
        assert code in (0, -signal.SIGALRM), (tmp_path / "err.txt").read_text()
        left = trainer.status(name)
        if left == "done":  # it may have been killed after that
            assert trainer.sums(name) == whole
            finished += 1
            name = f"run-{finished}"
        elif left is None:  # killed before it began
            shutil.rmtree(tmp_path / "runs" / name, ignore_errors=True)
        else:
            assert (code, left) == (-signal.SIGALRM, "running")
            steps.add(json.loads((tmp_path / "runs" / name / "status.json").read_text())["step"])
            killed += 1
    assert killed == kills
    assert finished >= 1
    assert len(steps) > 3, "all kills came at one step"
