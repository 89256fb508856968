"""Two processes train as one does: gradients, state, metrics, what stops them, and what happens when one is lost."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from training_parts import parts, take

import lowerbound
from lowerbound.core.errors import Incompatible, OutOfResource, UsageError
from lowerbound.objectives import ELBO, GECO, IWAE, MMD
from lowerbound.train import launch
from lowerbound.train.checkpoint import checkpoints
from lowerbound.train.processes import ALONE, Processes, join
from lowerbound.train.update import Pieces

HERE = Path(__file__).parent
PATHS = (HERE, HERE.parent, Path(lowerbound.__file__).parent.parent)
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONFAULTHANDLER": "1",  # one that aborts says where
    "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
}
TRAIN = "train vae --data digits --latent-dim 3 --hidden 24 --batch-size 64 --seed 4 --no-report --device cpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have done what joined.py says."""
    made = tmp_path_factory.mktemp("joined")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launcher, HERE / "joined.py", made], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


def test_gradients_of_two_processes_are_those_of_one(found):
    assert found["processes"] == 2
    assert len(found["gradients"]["apart"]) == 10
    assert {name: apart for name, apart in found["gradients"]["apart"].items() if apart > 1e-6} == {}


def test_both_close_the_connection_before_the_interpreter_is_taken_down(folder, found):
    assert [(folder / f"at-the-end-{rank}.txt").read_text() for rank in range(2)] == ["closed", "closed"]


def test_an_average_that_forgets_the_number_of_rows_would_be_seen(found):
    assert found["gradients"]["unweighted"] > 1e-3


def test_state_learns_from_the_rows_of_all_processes(found):
    assert found["states"].keys() == {"multiplier", "rows", "one row", "variance", "count"}
    assert all(apart < 1e-6 for apart in found["states"].values())


def test_a_number_that_is_not_finite_in_one_process_stops_all(found):
    assert found["stopped"] == {"failed": ["distortion", 0], "moved": False}


def test_metrics_of_1001_rows_are_exact(found):
    scores = found["validated"]
    assert scores["rows"] == 1001
    assert scores["together"] == pytest.approx(scores["alone"], rel=1e-13)


def test_an_epochs_number_is_the_mean_over_the_rows_of_all_processes(found):
    """One process passes a row that does not count when the last batch has one row."""
    assert found["counted"] == pytest.approx([sum(i**2 for i in range(45)) / 45] * 2, rel=1e-12)


def test_each_step_has_noise_of_its_own_in_each_process(found):
    assert found["noise"] == [10, 10]


def test_a_checkpoint_is_of_processes_that_cut_their_batches_alike(found):
    assert found["pieces"] == [[None, None], [None, 3], [3, 3]]


def test_objectives_that_couple_the_batch_are_refused(found):
    assert re.search(r"MMD compares .* not divided among processes", found["refused"])


def test_all_processes_end_with_the_same_weights_and_one_writes(found):
    assert found["trained"] == {"same": True, "wrote": [True, False]}


def digest(run):
    """Return digests of the model and of the last state of training."""
    files = (run / "model" / "model.safetensors", checkpoints(run / "checkpoints")[-1] / "state.safetensors")
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def children(pid):
    """Return the processes that a process started, in order."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Command:
    """A `lowerbound` command in processes of its own."""

    def __init__(self, words, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lowerbound", *words.split()],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def waited(self):
        """Return the exit code if the command ends within a fiftieth of a second; the processor is free meanwhile."""
        try:
            return self.process.wait(0.02)
        except subprocess.TimeoutExpired:
            return None

    def strike(self, run, number):
        """Send a signal to the second process once the run has a checkpoint."""
        until = time.monotonic() + 120
        while not checkpoints(run / "checkpoints"):
            assert self.waited() is None
            assert time.monotonic() < until
        os.kill(children(self.process.pid)[1], number)

    def ended(self):
        """Return the exit code and what was said."""
        said = self.process.communicate(timeout=240)[1]
        return self.process.returncode, said


def test_a_killed_process_ends_in_a_resumed_run_with_the_same_weights(folder, tmp_path):
    options = "--epochs 3 --devices 2 --max-restarts 1 --save-every 3steps --out run"
    command = Command(f"{TRAIN} {options}", tmp_path)
    command.strike(tmp_path / "run", signal.SIGABRT)
    code, said = command.ended()
    assert code == 0, said
    assert "process 1 was ended by SIGABRT" in said
    assert re.search(r"^process 1: .*\bextension\b", said, re.M | re.I)  # the end of what it said as it was aborted
    assert "going on after step" in said
    assert digest(tmp_path / "run") == digest(folder / "run")
    assert json.loads((tmp_path / "run" / "env.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_held_for_lost(tmp_path):
    command = Command(f"{TRAIN} --epochs 9999 --devices 2 --process-timeout 8 --save-every 3steps --out run", tmp_path)
    command.strike(tmp_path / "run", signal.SIGSTOP)
    code, said = command.ended()
    assert code == 6, said
    assert "did not answer within 8 seconds" in said


@pytest.mark.slow
def test_a_signal_to_the_command_saves_and_stops_all(tmp_path):
    command = Command(f"{TRAIN} --epochs 9999 --devices 2 --save-every 3steps --out run", tmp_path)
    until = time.monotonic() + 120
    while not checkpoints(tmp_path / "run" / "checkpoints"):
        assert command.waited() is None
        assert time.monotonic() < until
    command.process.send_signal(signal.SIGTERM)
    code, said = command.ended()
    assert code == 143, said
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_an_error_that_would_come_again_is_not_tried_again(tmp_path):
    command = Command(f"{TRAIN} --epochs 2 --lr 1e30 --devices 2 --max-restarts 3 --out run", tmp_path)
    code, said = command.ended()
    assert code == 3, said
    assert len(re.findall(r"(was|were) not finite at step", said)) == 1
    assert "started again" not in said


@pytest.mark.parametrize(
    ("codes", "whole"),
    [
        ([-9, 6], 6),  # killed; the other one missed it
        ([6, -9], 6),
        ([6, -15], 6),  # did not answer, and was ended
        ([3, 3], 3),  # training failed in both
        ([6, 5], 5),  # one found the disk full, and the other missed it
        ([2, -15], 2),  # bad usage in one, and the other was ended before it could say so
        ([143, 143], 143),
        ([-11, 143], 6),  # a crash
    ],
)
def test_the_exit_code_of_a_launch_says_whether_it_would_come_again(codes, whole):
    failures = [ProcessFailure(rank, 1, code, "no file") for rank, code in enumerate(codes)]
    assert launch._judged(failures) == whole


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ([3, 3], [0]),
        ([3, -15], [0]),
        ([3, 5], [0, 1]),
        ([-9, -9], [0, 1]),
        ([6, 3], [0, 1]),
        ([6, -15], [0, 1]),
        ([0, 3], [1]),
    ],
)
def test_the_same_error_of_all_processes_is_said_once(codes, told):
    failures = [ProcessFailure(rank, 1, code, "no file") for rank, code in enumerate(codes) if code]
    assert [failure.local_rank for failure in launch._unlike_the_first(failures)] == told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--devices 0", "there cannot be 0 devices"),
        ("--devices 2 --max-restarts -1", "there cannot be -1 restarts"),
        ("--max-restarts 2", "--max-restarts is for trainings in processes of their own"),
    ],
)
def test_impossible_launches_are_refused(words, message, capsys):
    from lowerbound.cli.main import main

    with pytest.raises(SystemExit) as raised:
        main([*TRAIN.split(), *words.split()])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_refuses_coupled_objectives_before_it_starts_processes(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("train", "sweep"):
        code, out, err = told(
            *TRAIN.replace("train vae", f"{command} info_vae").replace("--seed 4 --no-report", "").split(),
            "--devices",
            "2",
        )
        assert (code, out) == (2, "")
        assert "MMD compares the codes of a whole batch" in err
    assert not list(tmp_path.rglob("status.json"))


def test_a_script_is_told_how_to_start_several_processes():
    with pytest.raises(UsageError, match="torchrun --nproc-per-node=3"):
        join(3, "cpu", 60.0)
    with pytest.raises(UsageError, match="wait 0"):
        join(None, "cpu", 0.0)
    assert join(1, "cpu", 60.0) is ALONE


@pytest.mark.parametrize(("rows", "size"), [(9, 2), (7, 3), (2, 5), (1, 4)])
def test_each_row_counts_in_one_process(rows, size):
    seen, index = [], torch.arange(10, 10 + rows)
    for rank in range(size):
        of = Processes()
        of.rank, of.size = rank, size
        mine, counting = of.part(index)
        assert len(mine) >= 1
        seen += mine[:counting].tolist()
    assert seen == index.tolist()


NOISE = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(2))


def stepped(objective, monkeypatch, pieces, compute=None):
    """Return model, objective and outcome after a step with noise that belongs to the rows."""
    model, built, batch, optimizers = parts(objective)
    start = [0]

    def randn(size, **options):
        first, start[0] = start[0] % len(batch.x), start[0] + size[1]
        return NOISE[: size[0], first : first + size[1]].expand(size).to(**options)

    monkeypatch.setattr(torch, "randn", randn)
    outcome = take(model, built, batch, optimizers, pieces=pieces, compute=compute)
    return model, built, outcome


@pytest.mark.parametrize("make", [ELBO, lambda: IWAE(3), lambda: GECO(0.2)], ids=["elbo", "iwae", "geco"])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_pieces_of_a_batch_make_the_step_of_the_batch(make, rows, monkeypatch):
    whole = stepped(make(), monkeypatch, None)
    cut = stepped(make(), monkeypatch, Pieces(rows))
    for one, other in zip(whole[:2], cut[:2], strict=True):
        for (name, value), (_, same) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
            torch.testing.assert_close(same, value, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(cut[2].losses["model"], whole[2].losses["model"].detach())
    for name in ("distortion", "rate", "elbo"):
        torch.testing.assert_close(cut[2].terms[name], whole[2].terms[name].detach())


def test_a_batch_that_does_not_fit_is_passed_in_pieces_with_the_same_noise(monkeypatch):
    passed = []

    def small(objective, model, batch, step):
        passed.append(len(batch.x))
        outcome = objective(model, batch, step)
        if len(batch.x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return outcome

    made = parts(ELBO())
    take(*made, pieces=(pieces := Pieces()), compute=small)
    assert passed == [9, 5, 3, 3, 3]
    assert pieces.rows == 3
    twin = parts(ELBO())
    take(*twin, pieces=Pieces(3))
    for one, other in zip(made[0].parameters(), twin[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_cut_says_that_the_memory_is_full():
    def full(objective, model, batch, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = parts(MMD())
    with pytest.raises(OutOfResource, match="batch-size"):
        take(*made, pieces=Pieces(divides=False), compute=full)
    with pytest.raises(OutOfResource, match="one example"):
        take(*parts(ELBO()), pieces=Pieces(), compute=full)


def test_another_error_is_not_taken_for_a_full_memory():
    def broken(objective, model, batch, step):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        take(*parts(ELBO()), pieces=Pieces(), compute=broken)


def test_an_objective_that_couples_the_batch_refuses_micro_batches():
    from training_parts import data, recipe

    from lowerbound.train.fit import fit

    of = data()
    with pytest.raises(Incompatible, match="not divided into micro-batches"):
        fit(recipe(of, MMD(), micro_batch=4), of, progress=False)
