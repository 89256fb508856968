"""Parts chosen by name on the command line, listed by `parts`, kept in the run and read again from files."""

import inspect
import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from lowerbound import fit, load, load_data
from lowerbound.cli.parts import BOUND, KINDS, maker, names_of, part_options
from lowerbound.cli.train import train_options
from lowerbound.core.recipe import RECIPES

SMALL = ("--data", "digits", "--latent-dim", "3", "--hidden", "7", "--epochs", "1", "--no-report")
EVERY = [(kind, name) for kind in KINDS for name in names_of(kind)]


@pytest.fixture
def lowerbound(tmp_path, monkeypatch, told):
    """Run a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    return told


def test_the_parts_of_a_run_are_the_ones_asked_for_and_it_is_trained_again_from_its_options(lowerbound):
    words = ("--likelihood", "normal", "--likelihood.floor", "0.2", "--objective=elbo", "--objective.num-samples=5")
    assert lowerbound("train", "vae", *SMALL, *words, "--out", "one")[0] == 0
    model = load("one")
    assert type(model.decoder.family).__name__ == "Normal"
    assert model.decoder.family.floor == 0.2
    options = json.loads(Path("one/recipe.json").read_text())["options"]
    assert options["likelihood.floor"] == 0.2
    assert options["objective.num_samples"] == 5
    assert lowerbound("export-config", "one", "--out", "again.yaml")[0] == 0
    assert lowerbound("train", "--config", "again.yaml", "--out", "two")[0] == 0
    weights = [(Path(p) / "model" / "model.safetensors").read_bytes() for p in ("one", "two")]
    assert weights[0] == weights[1]
    assert lowerbound("resume", "one", "--epochs", "2", "--no-report")[0] == 0


def test_printed_options_hold_the_parts(lowerbound):
    code, out, _ = lowerbound("train", "vae", *SMALL, "--prior", "standard_normal", "--print-config")
    assert code == 0
    assert yaml.safe_load(out)["prior"] == "standard_normal"
    assert "objective" not in yaml.safe_load(out)


def test_a_likelihood_brings_what_follows_from_the_data(lowerbound):
    assert lowerbound("train", "vae", *SMALL, "--likelihood", "shared_normal", "--out", "run")[0] == 0
    # digits have 17 levels: no sigma below that of rounding
    assert load("run").decoder.family.floor == pytest.approx(1 / 16 / 12**0.5)
    assert json.loads(Path("run/data.json").read_text())["spec"]["binarize"] == "none"


WRONG = {
    "option without its part": (("--prior.components", "3"), ("option of a prior that was not chosen", "--prior NAME")),
    "unknown option": (("--likelihood", "normal", "--likelihood.flor", "1"), ("--likelihood.flor", "did you mean")),
    "wrong value": (("--likelihood", "normal", "--likelihood.floor", "x"), ("--likelihood.floor cannot be 'x'",)),
    "no value": (("--likelihood", "normal", "--likelihood.floor"), ("--likelihood.floor was given no value",)),
    "unknown name": (("--likelihood", "norml"), ("--likelihood cannot be 'norml'", "did you mean normal?")),
    "refused": (("--posterior", "delta"), ("cannot be used with a Delta posterior", "point posterior x bound")),
    "out of range": (("--objective", "elbo", "--objective.num-samples", "0"), ("number of samples cannot be 0",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_parts_are_said_as_every_mistake_is(lowerbound, case):
    words, said = WRONG[case]
    code, _, err = lowerbound("train", "vae", *SMALL, *words)
    assert code == 2
    assert all(text in err for text in said), err
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_parts_are_listed_and_shown(lowerbound):
    code, out, _ = lowerbound("parts")
    assert code == 0
    assert all(f"  {name} " in out for _, name in EVERY)
    code, out, _ = lowerbound("parts", "likelihood", "fixed_normal")
    assert code == 0
    assert "--likelihood.scale  (default 1.0)" in out
    assert ">>>" not in out
    code, out, _ = lowerbound("parts", "prior", "--json")
    assert [row["name"] for row in json.loads(out)] == list(names_of("prior"))
    code, _, err = lowerbound("parts", "prior", "standard_norml")
    assert code == 2
    assert "did you mean standard_normal?" in err


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: str(value))
def test_what_is_advised_after_a_part_is_not_refused(lowerbound, kind, name):
    plain = ["train", "vae", "--data", "digits", f"--{kind}", name]
    _, _, err = lowerbound("parts", kind, name)
    advice = err.strip().splitlines()[-1].removeprefix("next:  lowerbound ").split()
    code = lowerbound(*plain, "--dry-run")[0]
    assert code == (0 if advice == plain else 2)
    others = (["fit-prior", "RUN", "--prior", name], ["train", "RECIPE", "--data", "NAME|PATH", f"--{kind}", name])
    assert advice == (plain if code == 0 else others[kind != "prior"])


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: str(value))
def test_every_option_of_a_part_has_a_default_and_a_text(kind, name):
    doc = inspect.getdoc(maker(kind, name)) or ""
    for option in part_options(kind, name).__dataclass_fields__.values():
        assert f"{option.name}:" in doc, f"{option.name} of {name} is not described"
    for parameter in inspect.signature(maker(kind, name)).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):  # a class without a constructor
            continue
        assert parameter.name in BOUND or parameter.default is not parameter.empty, parameter.name


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_no_option_of_a_recipe_has_a_name_that_train_gives_another_meaning(name):
    options = {option for option in inspect.signature(RECIPES[name]).parameters if option != "spec"}
    others = {option for taken in (load_data, fit) for option in inspect.signature(taken).parameters}
    others |= {"data_seed", "init_from", "config", "print_config", "dry_run", "track", "max_restarts", *KINDS}
    assert not options & others
    every = {field.name for field in fields(train_options(name, RECIPES[name]))}
    assert options | (others - {"like", "source", "recipe", "init", "listeners", "progress", "watchers"}) == every
