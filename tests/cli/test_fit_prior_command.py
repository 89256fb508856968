"""`lowerbound fit-prior`: a new run with another prior, which every command that reads a run accepts."""

import json
import shutil
from pathlib import Path

import pytest

from lowerbound import fit, from_arrays, load, load_data, recipes, save
from lowerbound.train import prior_score


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of one short training; the tests copy it."""
    folder, data = tmp_path_factory.mktemp("trained") / "one", load_data("digits")
    made = recipes.vae(data.spec, latent_dim=3, hidden=(24,))
    fit(made, data, epochs=12, lr=1e-2, seed=1, out=folder, progress=False, report=False)
    return folder


@pytest.fixture
def lowerbound(tmp_path, monkeypatch, told, trained):
    """Run a command in a folder with the run runs/one; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs/one")
    return told


READING = [
    ("evaluate", "--num-samples", "2"),
    ("score", "--num-samples", "2", "--out", "scores.csv"),
    ("sample", "--out", "samples.png"),
    ("encode", "--out", "codes.csv"),
    ("report",),
    ("cite",),
    ("compare", "one"),
    ("export-config",),
    ("fit-prior", "--prior", "learned_normal"),
]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_a_prior_is_fitted_into_a_run_of_its_own_that_every_command_reads(lowerbound):
    before = contents("runs/one")
    words = ("--prior", "mixture", "--prior.components", "6", "--epochs", "8", "--lr", "0.01", "--seed", "3")
    code, out, err = lowerbound("fit-prior", "one", *words)
    assert code == 0
    assert contents("runs/one") == before
    assert "saved: runs/one-prior" in err
    assert "next:  lowerbound evaluate one-prior" in err
    scored, total, rate = out.splitlines()
    model, old = load("runs/one-prior"), load("runs/one")
    assert len(model.groups[0].prior_part.logits) == 6
    rows = load_data("digits").valid.matching(model.spec)
    numbers = [prior_score(m, rows, seed=3) for m in (old, model)]
    assert scored == f"MixtureOfNormals: mean log p(z) of validation codes {numbers[1]:.3f} nats"
    assert f"{numbers[0]:.3f} nats before (StandardNormal), {numbers[1]:.3f} after" in total
    assert rate.startswith("rate of 179 test examples: ")
    was, now = (float(part.split()[0]) for part in rate.split(": ")[1].split("before, "))
    assert 0 < now < was
    assert was - now == pytest.approx(numbers[1] - numbers[0], abs=0.3)
    written = json.loads(Path("runs/one-prior/recipe.json").read_text())
    assert written["after"][0]["args"]["epochs"] == 8
    assert Path("runs/one-prior/command.txt").read_text().count("\n") == 2
    assert scored in Path("runs/one-prior/log.txt").read_text()
    for command, *more in READING:
        code, out, _ = lowerbound(command, "one-prior", *more)
        assert code == 0, command
        if command == "compare":
            rows = [line.split() for line in out.splitlines()]
            assert ["fitted", "prior", "MixtureOfNormals", "-"] in rows
    assert Path("runs/one-prior-prior/model").is_dir()
    assert len(json.loads(Path("runs/one-prior-prior/recipe.json").read_text())["after"]) == 2
    code, _, err = lowerbound("resume", "one-prior", "--epochs", "6")
    assert code == 2
    assert "no checkpoint" in err


def test_the_best_of_several_is_kept_and_json_says_the_same(lowerbound):
    words = ("--prior", "standard_normal", "mixture", "--epochs", "3", "--out", "best", "--json")
    code, out, err = lowerbound("fit-prior", "runs/one", *words)
    assert code == 0
    found = json.loads(out)
    assert found["path"] == "best"
    assert f"kept: {found['prior']}" in err
    assert found["log_pz"]["after"] >= found["log_pz"]["before"] - 1e-6  # N(0, I) is one of those to choose from
    assert set(found["rate"]) == {"before", "after"}
    assert type(load("best").groups[0].prior_part).__name__ == found["prior"]


def test_a_worse_prior_is_said_to_be_worse(lowerbound):
    code, _, err = lowerbound("fit-prior", "one", "--prior", "exemplar", "--prior.exemplars", "2", "--epochs", "1")
    assert code == 0
    assert "warning: ExemplarPrior is worse than the run's own prior" in err


def test_a_plain_autoencoder_has_no_rate(lowerbound):
    made = recipes.ae(load_data("digits").spec, latent_dim=2, hidden=(9,))
    fit(made, load_data("digits"), epochs=1, out="runs/plain", progress=False, report=False)
    code, out, _ = lowerbound("fit-prior", "plain", "--prior", "learned_normal", "--epochs", "1")
    assert code == 0
    assert "rate" not in out
    assert not load("runs/plain-prior").has_density


WRONG = {
    "no such prior": (("--prior", "mixtur"), ("--prior cannot be 'mixtur'", "did you mean mixture?")),
    "none": ((), ("--prior is missing",)),
    "no value": (("--prior",), ("--prior was given no value",)),
    "options of one of two": (("--prior", "mixture", "flow", "--prior.steps", "2"), ("--prior.steps", "2 priors")),
    "unknown option": (("--prior", "mixture", "--prior.component", "2"), ("--prior.component", "did you mean")),
    "option of another part": (("--prior", "mixture", "--posterior.steps", "2"), ("posterior that was not chosen",)),
    "no epochs": (("--prior", "mixture", "--epochs", "0"), ("numbers above 0",)),
    "a prior on other values": (("--prior", "hyperspherical_uniform"), ("support of posterior x prior",)),
    "an existing folder": (("--prior", "mixture", "--out", "runs/one"), ("exists already", "never overwritten")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_in_plain_words_and_nothing_is_written(lowerbound, case):
    words, expected = WRONG[case]
    before = contents("runs")
    code, _, err = lowerbound("fit-prior", "one", *words)
    assert code == 2
    assert all(part in err for part in expected), err
    assert contents("runs") == before


def test_what_has_no_data_or_no_recipe_is_refused(lowerbound):
    save(load("runs/one"), "model")
    code, _, err = lowerbound("fit-prior", "model", "--prior", "mixture")
    assert (code, "no run" in err) == (2, True)
    rows = from_arrays(load_data("digits").train.values().numpy()[:50])
    fit(recipes.vae(rows.spec, latent_dim=2, hidden=(5,)), rows, epochs=0, out="arrays", progress=False, report=False)
    code, _, err = lowerbound("fit-prior", "arrays", "--prior", "mixture")
    assert (code, "was not trained on data with a name" in err) == (2, True)
