"""A run written by an older version of the code is still loaded, gives the numbers it gave, and serves all commands.

`format-1/` was written before data sets had columns, labels, layouts and forms, and training an augmentation: none of
these fields stands in its files. `expected.json` holds what that version said about it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lowerbound import DataSpec, evaluate, load, load_data

OLD = Path(__file__).parent / "format-1"
NEWER = {"columns", "label", "layout", "form"}


@pytest.fixture(scope="module")
def expected():
    return json.loads((OLD / "expected.json").read_text())


@pytest.fixture
def runs(tmp_path):
    """A folder to work in, with the old run as runs/old."""
    shutil.copytree(OLD, tmp_path / "runs" / "old")
    return tmp_path


def command(folder, *words):
    words = (sys.executable, "-m", "lowerbound", *words)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_fixture_is_old():
    # Without this, saving it anew would make the tests below say nothing.
    config = json.loads((OLD / "model" / "config.json").read_text())
    assert config["format"] == 1
    assert not NEWER & config["model"]["args"]["spec"]["args"].keys()
    assert "augment" not in json.loads((OLD / "recipe.json").read_text())["training"]["args"]
    assert "fingerprint" not in json.loads((OLD / "data.json").read_text())


def test_fields_it_does_not_know_have_their_defaults():
    fresh = DataSpec("digits", (1, 8, 8), "image", "unit", 1457)
    spec = load(OLD).spec
    assert {name: getattr(spec, name) for name in NEWER} == {name: getattr(fresh, name) for name in NEWER}


def test_it_reconstructs_as_it_did(expected):
    x = torch.tensor(expected["input"], dtype=torch.float32).reshape(1, 1, 8, 8)
    made = load(OLD).reconstruct(x, show="mean")
    torch.testing.assert_close(made[0, 0], torch.tensor(expected["reconstruction"]), rtol=0, atol=1e-5)


def test_it_is_evaluated_as_it_was(expected):
    model = load(OLD)
    rows = load_data("digits").test.matching(model.spec)
    numbers = evaluate(model, rows, num_samples=20)
    assert numbers.nll.value == pytest.approx(expected["nll"], abs=1e-3)
    assert numbers.elbo.value == pytest.approx(expected["elbo"], abs=1e-3)


def test_the_command_line_evaluates_it(runs, expected):
    numbers = json.loads(command(runs, "evaluate", "old", "--num-samples", "20", "--json"))
    assert numbers["nll"]["value"] == pytest.approx(expected["nll"], abs=1e-3)
    assert numbers["nll"]["n"] == 179


def test_the_command_line_samples_it(runs):
    path = runs / command(runs, "sample", "last", "--num", "4")
    with Image.open(path) as picture:
        assert min(picture.size) > 8


def test_the_command_line_lists_it(runs):
    assert command(runs, "runs").splitlines()[1].split()[:4] == ["old", "vae", "digits", "done"]


def test_training_goes_on_from_its_weights(runs):
    command(
        *(runs, "train", "vae", "--data", "digits", "--init-from", "old", "--out", "new"),
        *("--latent-dim", "2", "--hidden", "3", "--epochs", "0"),
    )
    old, new = load(OLD).state_dict(), load(runs / "new").state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
