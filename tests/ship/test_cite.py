"""BibTeX of what was used: every paper that a recipe or a part names has an entry; those in use are printed."""

import inspect
import re

import pytest

from lowerbound import families, groups, load_data, networks, objectives, posteriors, priors, recipes
from lowerbound.core.recipe import RECIPES
from lowerbound.ship.cite import cite, references
from recipe_data import digits_for

NAMED = re.compile(r"arXiv \d{4}\.\d{4,5}")
PACKAGES = (families, groups, networks, objectives, posteriors, priors)
PARTS = [getattr(package, name) for package in PACKAGES for name in package.__all__]
DOCUMENTED = [thing for thing in [*RECIPES.values(), *PARTS] if inspect.getdoc(thing)]
# Papers that no part stands on: they are named beside it, for comparison.
BESIDE = {"arXiv 1502.01852"}  # He et al.: initial weights


def said(thing):
    return " ".join((inspect.getdoc(thing) or "").split())


def test_entries_are_complete_and_their_keys_differ():
    keys = [reference.key for reference in references()]
    assert len(keys) == len(set(keys))
    for reference in references():
        assert re.search(r"title = \{.+\}", reference.text)
        assert re.search(r"author = \{.+\}", reference.text)
        assert "called" not in reference.text
        assert reference.text.count("{") == reference.text.count("}")
    assert [r.key for r in references() if not r.signs] == ["lowerbound"]


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_every_paper_that_a_docstring_names_has_an_entry(thing):
    known = {sign for reference in references() for sign in reference.signs}
    assert set(NAMED.findall(said(thing))) - BESIDE <= known


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_something_to_cite_but_the_counter_examples_of_tutorials(name):
    entries = cite(RECIPES[name](digits_for(name).spec).describe())
    assert entries.startswith("@software{lowerbound")
    assert entries.count("@") >= 2


def test_only_what_is_used_is_cited():
    spec = load_data("digits").spec
    plain = cite(recipes.vae(spec).describe())
    assert "kingma2014auto" in plain
    assert "higgins2017beta" not in plain
    assert "higgins2017beta" in cite(recipes.beta_vae(spec).describe())
    assert "im2017denoising" in cite(recipes.denoising_vae(spec).describe())


def test_the_command_prints_it_for_a_run_and_for_a_recipe(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    small = ("--data", "digits", "--latent-dim", "2", "--hidden", "7", "--epochs", "0", "--no-report")
    assert told("train", "cvae", *small)[0] == 0
    code, out, _ = told("cite", "last")
    assert code == 0
    assert out.strip() == told("cite", "cvae")[1].strip()
    assert "Learning Structured Output Representation" in out
    code, _, err = told("cite", "no-such-run")
    assert code == 2
    assert "no-such-run" in err
