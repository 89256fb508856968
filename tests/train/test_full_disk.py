"""A disk that is full at any moment of a training: no checkpoint is lost, and it goes on to the same end."""

import hashlib
import json
import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from full_disk import Disk

from lowerbound.core.errors import CorruptArtifact
from lowerbound.ship.files import check_folder, newest, put_back
from lowerbound.train.checkpoint import checkpoints

SMALL = ("--hidden", "4", "--latent-dim", "2", "--batch-size", "16", "--ema", "0.9")
OFTEN = ("--no-report", "--save-every", "2 steps")
TRAIN = ("train", "vae", "--data", "x.npy", *SMALL, *OFTEN, "--epochs", "2", "--out", "run")
RESUME = ("resume", "run", *OFTEN, "--epochs", "3")
STEPS = 3  # an epoch


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with data of 48 training images."""
    folder = tmp_path_factory.mktemp("home")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 5, 7), dtype=np.uint8))
    return folder


@pytest.fixture
def here(home, monkeypatch, told):
    """That folder, and before and after each test no run."""
    monkeypatch.chdir(home)
    shutil.rmtree("run", ignore_errors=True)
    return Path("run")


def is_whole(folder):
    try:
        check_folder(folder)
    except CorruptArtifact:
        return False
    return True


def sums(run):
    """Return digests of the model and of the last state of training."""
    paths = (newest(run / "model"), checkpoints(run / "checkpoints")[-1])
    return [hashlib.sha256(p.read_bytes()).hexdigest() for path in paths for p in sorted(path.glob("*.safetensors"))]


def kept(run):
    """Return the newest checkpoint that is whole, and whether there is a whole model."""
    whole = [path for path in checkpoints(run / "checkpoints") if is_whole(path)]
    return (whole[-1].name if whole else "", is_whole(newest(run / "model")))


def prepared(command, told, run):
    """Make what a command starts from, and return digests of what it ends with if nothing comes between."""
    if command == RESUME:
        assert told(*TRAIN)[0] == 0
        shutil.copytree(run, "before")
    assert told(*command)[0] == 0
    return sums(run)


def ended(run):
    """Let a run that could not say how it ended be one of a process that is gone, as it is outside of this test."""
    status = json.loads((run / "status.json").read_text())
    with subprocess.Popen(["true"]) as process:
        process.wait()
    (run / "status.json").write_text(json.dumps({**status, "pid": process.pid}))


def start_again(command, run):
    shutil.rmtree(run, ignore_errors=True)
    if command == RESUME:
        shutil.copytree("before", run)


def one_failure(command, told, run, at, stays, wanted):
    """Run a command whose `at`-th call fails, judge what it left, and go on; returns what failed, "" if nothing did."""
    was = []
    disk = Disk(run, at, stays=stays, look=lambda: was.append(kept(run)))
    with pytest.MonkeyPatch.context() as patch:
        disk.install(patch)
        code, _, said = told(*command)
    assert "Traceback" not in said, disk.failed
    if not disk.failed:
        assert (code, sums(run)) == (0, wanted)
        return ""
    assert code in (0, 5), f"{disk.failed}: {said}"
    assert any(line.startswith("error: ") for line in said.splitlines()) == (code == 5), f"{disk.failed}: {said}"
    assert code == 0 or "disk is full" in said or "No space left" in said, f"{disk.failed}: {said}"
    checkpoint, model = map(max, zip(*was, strict=True))
    left = [p for p in run.rglob("*") if p.name.startswith((".tmp-", ".old-")) or ".tmp." in p.name]
    # between two renames that are both refused the only copy keeps its temporary name
    alone = len(left) == 1 and stays and "rename" in disk.failed and ".old-" in left[0].name
    assert not left or alone or disk.failed.startswith("delete"), f"{disk.failed}: {left} are left"
    put_back(run / "checkpoints")  # as `resume` does first
    after, model_after = kept(run)
    assert after >= checkpoint, f"{disk.failed}: {checkpoint} was whole, now the newest is {after or 'none'}"
    assert model_after or not model, f"{disk.failed}: the model is lost"
    if not run.exists():  # it had not begun
        assert not after and code == 5, disk.failed
    else:
        if code:
            ended(run)
            code, _, said = told(*(RESUME if command == RESUME else ("resume", "run", *OFTEN)))
            # a run that failed when all was saved but its status has nothing left to do
            assert code == 0 or "epochs already" in said, f"{disk.failed}: {said}"
        assert sums(run) == wanted, disk.failed
    return disk.failed


@pytest.mark.parametrize("stays", [True, False], ids=["stays full", "once"])
@pytest.mark.parametrize("command", [TRAIN, RESUME], ids=["train", "resume"])
@pytest.mark.parametrize(("first", "step"), [(None, 41), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_at_any_call(first, step, command, stays, here, told):
    """The usual tests take every 41st call, each with another first one; the slow ones all."""
    wanted = prepared(command, told, here)
    failed = []
    for at in count(first or 1 + 5 * (2 * stays + (command == RESUME)), step):
        start_again(command, here)
        what = one_failure(command, told, here, at, stays, wanted)
        if not what:
            break
        failed.append(what.split()[0])
    assert len(failed) > (100 if step == 1 else 2)
    shutil.rmtree("before", ignore_errors=True)
    if step == 1:
        kinds = {"open", "write", "tensors", "fsync", "rename", "replace", "mkdir"}
        assert set(failed) >= (kinds if stays else kinds | {"delete"})


@pytest.fixture
def disk(small_disk):
    """A real disk of 1 MB."""
    return small_disk("1m")


def test_a_real_disk_that_fills_up(disk, home, server, tmp_path):
    """With more and more space left a training gets further and further; then it goes on to the same end."""
    out, err = tmp_path / "out", tmp_path / "err"
    train = [*TRAIN[:-1], str(disk / "run")]
    train[train.index("x.npy")] = str(home / "x.npy")
    reached, wanted = [], None
    for left in (None, *range(10 << 10, 130 << 10, 20 << 10)):
        if left is not None:
            space = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(space.f_bavail * space.f_frsize - left))
        code, said = server.run(train, tmp_path, out, err), err.read_text()
        (disk / "filler").unlink(missing_ok=True)
        if wanted is None:
            assert code == 0, said
            wanted = sums(disk / "run")
        elif code:
            assert code == 5 and "Traceback" not in said and ("disk is full" in said or "No space left" in said), said
            reached.append(kept(disk / "run")[0])
            if (disk / "run").exists():
                assert server.run(["resume", str(disk / "run"), *OFTEN], tmp_path, out, err) == 0, err.read_text()
                assert sums(disk / "run") == wanted
        else:
            break
        shutil.rmtree(disk / "run", ignore_errors=True)
    assert reached == sorted(reached) and len(set(reached)) >= 3, "the space that was left made no difference"
