"""Weights divided among two processes train as whole ones do, and what cannot be divided is refused by name."""

import json
import re
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from test_processes import ENVIRONMENT, HERE, TRAIN, Command, digest
from training_parts import data, recipe

import lowerbound as lb
from lowerbound.core.errors import UsageError
from lowerbound.core.recipe import RECIPES
from lowerbound.train.checkpoint import checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have done what sharded.py says."""
    return worked(tmp_path_factory.mktemp("sharded"))


def worked(folder, *words):
    """Return the folder once two processes have done their work in it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, HERE / "sharded.py", folder, *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


def test_steps_are_those_of_one_process_and_of_whole_copies(found):
    cases = found["agree"]["cases"]
    assert len(cases) == 15
    for other in ("alone", "together"):
        assert {name: case[other] for name, case in cases.items() if case[other] > 1e-6} == {}


def test_an_average_that_forgets_the_number_of_rows_would_be_seen(found):
    assert found["agree"]["careless"] > 1e-4


def test_each_process_holds_half_of_the_weights_and_of_the_moments(found):
    for name, case in found["agree"]["cases"].items():
        whole, part = case["counts"]
        for what in ("here", "moments"):
            assert 0.5 * whole[what] <= part[what] <= 0.55 * whole[what], name
    assert found["agree"]["cases"]["adam"]["counts"][1]["moments"] > 0


def test_steps_with_large_gradients_are_left_out(found):
    assert [counts["left_out"] for counts in found["agree"]["cases"]["left out"]["counts"]] == [3, 3]


def test_metrics_are_those_of_one_process(found):
    scores = found["validated"]
    assert scores["rows"] == 10
    assert scores["together"] == pytest.approx(scores["alone"], rel=1e-6)


def test_a_training_ends_with_a_whole_model_that_was_saved(found):
    done = found["trained"]
    assert done["same"]
    assert done["wrote"]
    assert done["plain"]
    assert done["loaded"]


def test_a_training_is_that_of_whole_copies(found):
    done = found["trained"]
    assert max(done["apart"].values()) < 1e-3
    assert done["scores"][0] == pytest.approx(done["scores"][1], rel=1e-5)


def test_a_run_that_goes_on_ends_with_the_same_bytes(found, folder):
    assert found["trained"]["equal"]
    assert digest(folder / "halves") == digest(folder / "divided")


def test_the_files_are_those_of_whole_weights(folder):
    shapes, plain = {}, {}
    for name in ("divided", "whole"):
        path = checkpoints(folder / name / "checkpoints")[-1]
        shapes[name] = {key: tensor.shape for key, tensor in load_file(path / "state.safetensors").items()}
        plain[name] = json.loads((path / "state.json").read_text())["optimizers"]
    assert shapes["divided"] == shapes["whole"]
    assert plain["divided"] == plain["whole"]


def test_env_json_says_whether_weights_were_divided(folder):
    said = [json.loads((folder / name / "env.json").read_text()) for name in ("divided", "whole")]
    assert [(of["sharded"], of["kernels"], of["processes"]) for of in said] == [(True, "eager", 2), (False, "eager", 2)]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("players", "Rivals has 2 players \\(model, critic\\)"),
        ("rescores", "STL passes once more under frozen weights"),
        ("moves", "Hamiltonian moves z"),
        ("batch", "MMD compares .* not divided among processes"),
        ("stateful", "SpectralNorm reads whole weights"),
        ("ema", "moving average"),
        ("compiled", "compiled kernels"),
        ("watchers", "watchers look at a whole model"),
        ("weights outside", "RAE, or a part of the model, needs some of them whole"),
        ("a jacobian", "RAE, or a part of the model, needs some of them whole"),
    ],
)
def test_what_cannot_be_divided_is_refused_by_name(found, case, message):
    assert re.match(f"Incompatible: .*{message}", found["refused"][case]), found["refused"][case]


def test_a_full_memory_is_said_and_no_piece_is_cut_in_one_process_alone(found):
    assert re.match(r"OutOfResource: .*(\n.*)*--micro-batch", found["refused"]["memory"])


def test_one_process_has_nobody_to_divide_with(capsys):
    from lowerbound.cli.main import main

    of = data()
    with pytest.raises(UsageError, match="--devices 2 --shard"):
        lb.fit(recipe(of), of, shard=True, progress=False)
    with pytest.raises(SystemExit) as raised:
        main([*TRAIN.split(), "--shard"])
    assert raised.value.code == 2
    assert "--devices 2 --shard" in capsys.readouterr().err


def test_the_command_refuses_before_it_starts_processes(capsys):
    from lowerbound.cli.main import main

    with pytest.raises(SystemExit) as raised:
        main([*TRAIN.replace("vae", "aae").split(), "--shard", "--devices", "2"])
    assert raised.value.code == 2
    assert "AAE has 2 players" in capsys.readouterr().err


@pytest.mark.slow
def test_each_recipe_is_trained_as_with_whole_weights_or_refused_by_name(tmp_path):
    found = json.loads((worked(tmp_path, "recipes") / "found.json").read_text())["recipes"]
    trained = {name: case for name, case in found.items() if "said" not in case}
    assert found.keys() == RECIPES.keys()
    assert len(trained) > len(found) / 2
    assert {name: case for name, case in trained.items() if case["apart"] > 1e-3 * case["moved"]} == {}
    assert min(case["moved"] for case in trained.values()) > 1e-4
    assert all("divided" in case["said"] for case in found.values() if "said" in case)


@pytest.mark.slow
def test_a_killed_process_ends_in_a_resumed_run_with_the_same_weights(tmp_path):
    options = "--epochs 3 --devices 2 --shard"
    code, said = Command(f"{TRAIN} {options} --out whole", tmp_path).ended()
    assert code == 0, said
    command = Command(f"{TRAIN} {options} --max-restarts 1 --save-every 3steps --out run", tmp_path)
    command.strike(tmp_path / "run", signal.SIGKILL)
    code, said = command.ended()
    assert code == 0, said
    assert "going on after step" in said
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
