"""The doctor on models that are known to be well or ill, and on all kinds of models and data."""

import json
import shlex
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lowerbound import fit, fit_prior, from_arrays, load, load_data, recipes
from lowerbound.cli.common import own_data
from lowerbound.cli.doctor import command, commands_of
from lowerbound.core.errors import DataError, UsageError
from lowerbound.evaluation.code_usage import code_usage
from lowerbound.evaluation.doctor import Commands, _findings, doctor
from lowerbound.evaluation.number import Number
from lowerbound.priors import MixtureOfNormals

SMALL = {"draws": 60, "simulations": 300, "gap_rows": 10, "gap_steps": 60}
TINY = {"draws": 10, "simulations": 100, "gap_rows": 2, "gap_steps": 2, "rows": 60}


@cache
def trained(name, epochs=20, **options):
    """Return a model of digits."""
    data = load_data("digits")
    recipe = getattr(recipes, name)(data.spec, latent_dim=6, hidden=(32,), **options)
    return fit(recipe, data, epochs=epochs, lr=6e-3, seed=0, progress=False).model


@cache
def examined(name, **options):
    return doctor(trained(name, **options), load_data("digits"), **SMALL)


def names(findings):
    return [finding.name for finding in findings]


def test_a_healthy_model_has_nothing_wrong():
    found = examined("vae")
    assert found.wrong == ()
    assert names(found.findings) == ["collapse", "autoencoder", "prior", "calibration", "gaps"]
    assert found.left_out == {}
    assert "nothing wrong was found" in str(found)
    assert found.shuffled.value > 10 * found.shuffled.se
    assert sum(found.rate_each) == pytest.approx(found.rate.value, rel=1e-4)
    assert found.rate.value > found.aggregate.mutual_information.value > 1
    assert found.aggregate.ceiling > found.aggregate.mutual_information.value
    assert all(finding.command is None for finding in found.findings)


def test_a_collapsed_model_is_told_that_its_decoder_ignores_z():
    found = examined("beta_vae", epochs=5, beta=50.0)
    assert names(found.wrong) == ["collapse"]
    assert found.rate.value < 0.1
    assert abs(found.shuffled.value) < 6 * found.shuffled.se + 0.1
    assert found.active == 0
    assert found.wrong[0].command == "lowerbound train vae --data digits --latent-dim 6 --objective free_bits"


def test_a_vae_without_kl_is_an_autoencoder_in_disguise():
    found = examined("vae_no_kl", epochs=20)
    assert found.wrong[0].name == "autoencoder"
    assert max(found.ratio_each) < 0.05
    assert found.wrong[0].command == "lowerbound train vae --data digits --latent-dim 6"
    assert {"calibration", "gaps"} <= set(names(found.wrong))
    later = [finding for finding in found.wrong if finding.name in ("calibration", "gaps")]
    assert all(finding.command is None and "what stands above first" in finding.remedy for finding in later)
    # all rows are told apart: the estimate stands at its ceiling and says so
    assert found.aggregate.mutual_information.value == pytest.approx(found.aggregate.ceiling, abs=0.05)
    assert "which it has reached: there may be far more" in str(found)


def test_an_autoencoder_has_a_prior_where_no_codes_are_and_another_prior_repairs_it():
    data, model = load_data("digits"), trained("ae")
    found = examined("ae")
    assert names(found.wrong) == ["prior"]
    assert found.wrong[0].command == "lowerbound fit-prior RUN --prior mixture"
    assert found.rate.value is None
    assert "a Delta posterior is a point" in found.rate.reason
    assert set(found.left_out) == {"rate of each dimension", "aggregate posterior", "calibration", "gaps"}
    repaired = doctor(fit_prior(model, MixtureOfNormals((6,), 20), data, epochs=10), data, **SMALL)
    assert repaired.wrong == ()
    assert repaired.match.classifier.accuracy < 0.65 < found.match.classifier.accuracy


def test_what_comes_first_is_what_is_wrong():
    for finding in (examined("ae"), examined("vae_no_kl", epochs=20)):
        kinds = [one.severity for one in finding.findings]
        assert kinds == sorted(kinds, reverse=True)
        assert "wrong" in kinds
        assert "fine" in kinds


def test_the_text_and_the_json_hold_every_number():
    found = examined("vae")
    text, values = str(found), json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["aggregate"]["ceiling"] == found.aggregate.ceiling
    assert values["match"]["classifier"]["accuracy"] == found.match.classifier.accuracy
    assert values["calibration"]["verdicts"] == list(found.calibration.verdicts)
    assert values["gaps"]["amortisation"]["value"] == found.gaps.amortisation.value
    assert [finding["sentence"] for finding in values["findings"]] == [one.sentence for one in found.findings]
    for number in (found.distortion, found.rate, found.shuffled, found.aggregate.total_correlation, found.gaps.log_px):
        assert f"{number.value:.3f}" in text
    assert f"log N = {found.aggregate.ceiling:.2f}" in text
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("dimension ") and "sd(mu)" in line)
    rates = [float(line.split()[1]) for line in lines[head + 1 : head + 7]]
    assert rates == sorted(rates, reverse=True)
    assert sum(rates) == pytest.approx(found.rate.value, abs=0.01)
    assert all(finding.sentence in text for finding in found.findings)


def test_it_depends_on_the_seed_alone():
    data, model = load_data("digits"), trained("vae")
    first = doctor(model.train(), data, **TINY)
    assert doctor(model.eval(), data, **TINY) == first
    assert doctor(model, data, **TINY, seed=1) != first


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("cvae", set()),
        ("denoising_vae", set()),
        ("vamp", {"rate of each dimension"}),
        ("joint_vae", {"gaps"}),
        ("vae_iaf", {"rate of each dimension", "aggregate posterior", "gaps"}),
        ("hyperspherical_vae", {"spread", "rate of each dimension", "aggregate posterior", "gaps"}),
        ("gumbel_vae", {"spread", "rate of each dimension", "aggregate posterior", "gaps"}),
        ("m2", {"spread", "rate of each dimension", "aggregate posterior", "prior", "calibration", "gaps"}),
        ("mnist_vae_2017", {"calibration"}),
    ],
)
def test_what_means_nothing_for_a_model_is_left_out_with_the_reason(name, left_out):
    data = load_data("digits")
    options = {"pseudo_inputs": 4} if name == "vamp" else {}
    hidden = 5 if name == "mnist_vae_2017" else (5,)
    model = getattr(recipes, name)(data.spec, latent_dim=3, hidden=hidden, **options).build(0)[0]
    found = doctor(model, data, **TINY)
    assert set(found.left_out) == left_out
    assert all(reason and "\n" not in reason for reason in found.left_out.values())
    said = " ".join(line for line in str(found).splitlines() if line.startswith("left out: "))
    assert all(name in said and f"({reason})" in said for name, reason in found.left_out.items())
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("label", [True, False])
def test_a_table_with_missing_cells_weights_and_labels(label):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 5)) * [1, 10, 100, 1, 1]
    x[rng.random(x.shape) < 0.2] = np.nan
    y = rng.integers(0, 3, 240) if label else None
    data = from_arrays(x, y, weight=rng.integers(1, 4, 240), standardize=True, missing="keep", name="people")
    recipe = (recipes.cvae if label else recipes.vae)(data.spec, latent_dim=2, hidden=(8,))
    found = doctor(fit(recipe, data, epochs=1, progress=False).model, data, **TINY)
    assert found.left_out == {}
    assert found.rows == len(data.test)
    train = " --data PATH --latent-dim 2"
    assert all(train in finding.command for finding in found.wrong if finding.command)


def test_held_out_rows_are_needed():
    x = np.random.default_rng(0).normal(size=(40, 3))
    data = from_arrays(x, test_fraction=0.0, valid_fraction=0.0, name="all")
    model = recipes.vae(data.spec, latent_dim=2, hidden=(4,)).build(0)[0]
    with pytest.raises(DataError, match="all has 0 held-out rows\n  expected 2 test or validation rows"):
        doctor(model, data)
    with pytest.raises(UsageError, match="cannot be examined on 1 rows"):
        doctor(model, load_data("digits"), rows=1)
    part = from_arrays(x, test_fraction=0.0, valid_fraction=0.25, name="part")
    few = doctor(model, part, **TINY)
    assert few.split == "valid"
    assert few.left_out == {"prior": "a sample has 10 rows"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of digits that is ill, and one that is well."""
    folder, data = tmp_path_factory.mktemp("doctor"), load_data("digits")
    small = {"latent_dim": 4, "hidden": (24,)}
    for name, recipe in (
        ("ill", recipes.beta_vae(data.spec, beta=60.0, **small)),
        ("well", recipes.vae(data.spec, **small)),
    ):
        epochs = 4 if name == "ill" else 15
        fit(recipe, data, epochs=epochs, out=folder / "runs" / name, progress=False, report=False)
    return folder


@pytest.fixture
def runs(folder, monkeypatch):
    """Stand in that folder."""
    monkeypatch.chdir(folder)
    return folder / "runs"


def test_what_was_not_trained_is_to_be_trained(runs):
    data = load_data("digits")
    run = fit(recipes.vae(data.spec, latent_dim=2), data, epochs=0, out=runs / "none", progress=False, report=False)
    found = commands_of(runs / "none", run.model, data, "none")
    assert found.train == "lowerbound train vae --data digits --latent-dim 2"


def test_the_command_says_writes_and_names_the_remedy(runs, capsys, told):
    assert command(["ill"]) == 0
    out, err = capsys.readouterr()
    assert "wrong  the posterior has collapsed, the decoder ignores z" in out
    assert "179 test rows of digits, binarisation dynamic, seed 0\n" in out
    remedy = "lowerbound train vae --data digits --latent-dim 4 --hidden 24 --epochs 4 --objective free_bits"
    assert f"       {remedy}\n" in out
    assert err.splitlines()[-2:] == [
        f"saved: {runs.relative_to(runs.parent) / 'ill' / 'eval' / 'doctor.json'}",
        f"next:  {remedy}",
    ]
    saved = json.loads((runs / "ill" / "eval" / "doctor.json").read_text())
    assert saved["findings"][0]["command"] == remedy
    assert saved["rows"] == 179
    code, out, err = told(*shlex.split(remedy)[1:], "--dry-run")
    assert code == 0, err

    assert command(["well", "--rows", "150", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == 150
    assert json.loads(out)["distortion"]["binarisation"] == "dynamic"
    assert err.splitlines()[-1] == "next:  lowerbound sample well"


@pytest.mark.parametrize(
    ("coverage", "approximation", "amortisation", "recipe", "wanted"),
    [
        (0.4, 0.1, 0.1, "vae", [("calibration", "q is too narrow", "--posterior iaf")]),
        (0.99, 0.1, 0.1, "vae", [("calibration", "q is too wide", "--posterior iaf")]),
        (0.9, 9.0, 2.0, "vae", [("gaps", "9.00", "--posterior iaf")]),
        (0.9, 0.5, 7.0, "vae", [("gaps", "7.00", "--hidden 1024 512")]),
        (0.9, 0.5, 7.0, "conv_vae", [("gaps", "7.00", "--channels 64 128")]),
        (0.9, 0.5, 0.9, "vae", []),  # more than a quarter of a small rate, but less than a nat
    ],
)
def test_what_q_lacks_is_said_with_a_command_that_runs(coverage, approximation, amortisation, recipe, wanted, told):
    found = examined("vae")
    lost = replace(found.gaps, approximation=Number(approximation), amortisation=Number(amortisation))
    covered = replace(found.calibration, coverage=(coverage,) * 6)
    small = "--channels 4 8" if recipe == "conv_vae" else "--hidden 24"
    commands = Commands("RUN", f"lowerbound train {recipe} --data digits {small} --latent-dim 6", by_elbo=True)
    ill = replace(found, gaps=lost, calibration=covered, rate=Number(2.0))
    wrong = [one for one in _findings(ill, trained("vae"), commands) if one.severity == "wrong"]
    assert names(wrong) == [name for name, _, _ in wanted]
    for finding, (_, said, option) in zip(wrong, wanted, strict=True):
        assert said in finding.sentence
        assert finding.command.endswith(option)
        assert finding.command.count(option.split()[0]) == 1
        code, _, err = told(*shlex.split(finding.command)[1:], "--dry-run")
        assert code == 0, err


def test_every_remedy_is_a_command_that_runs(runs, told):
    """Each remedy for each kind of model: those that train are only planned, that of the prior is done."""
    data, said = load_data("digits"), set()
    for name, options in (("beta_vae", {"epochs": 5, "beta": 50.0}), ("vae_no_kl", {"epochs": 20}), ("ae", {})):
        said |= {finding.command for finding in examined(name, **options).wrong if finding.command}
    own = Commands("well", "lowerbound train gaussian_vae --data digits --latent-dim 6 --hidden 48", by_elbo=True)
    said |= {
        one.command for one in doctor(trained("vae_no_kl", epochs=20), data, **SMALL, commands=own).wrong if one.command
    }
    assert len(said) >= 5
    for line in sorted(said):
        words = shlex.split(line.replace("RUN", "well"))[1:]
        code, _, err = told(*words, *(("--epochs", "1") if words[0] == "fit-prior" else ("--dry-run",)))
        assert code == 0, (line, err)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("poincare_vae", ["--latent-dim", "2", "--hidden", "8"]),
        ("vq_vae", ["--channels", "4"]),
        ("cvae", ["--latent-dim", "3", "--hidden", "8"]),
        ("mvae", ["--latent-dim", "3", "--hidden", "8", "--with-label"]),
        ("sequence_vae", ["--latent-dim", "3", "--width", "8"]),
    ],
)
def test_no_remedy_is_refused_for_a_kind_of_model_with_everything_wrong(name, words, tmp_path, monkeypatch, told):
    """Hyperbolic z, discrete codes, a condition, labels in x, sequences: what is printed is run, or planned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(f"{a}{b}" for a in "kmrs" for b in ("un", "tel", "ix")) * 2)
    source = "lines:names.txt" if name == "sequence_vae" else "digits"
    assert told("train", name, "--data", source, *words, "--epochs", "0", "--no-report", "--out", "runs/it")[0] == 0
    model, folder = load("runs/it"), tmp_path / "runs" / "it"
    commands = commands_of(folder, model, own_data(folder, model.spec), "it")
    found = examined("vae")
    causes = replace(
        found, shuffled=Number(0.0), ratio_each=(1e-3,) * 6, match=replace(found.match, holes=0.9), rate=Number(2.0)
    )
    effects = replace(
        found, calibration=replace(found.calibration, coverage=(0.1,) * 6), rate=Number(2.0),
        gaps=replace(found.gaps, approximation=Number(1.0), amortisation=Number(9.0)),
    )  # fmt: skip
    if name == "vq_vae":
        causes = replace(causes, codes=code_usage(model, load_data("digits").test.matching(model.spec)))
        causes = replace(causes, codes=tuple(replace(usage, used=3, codes=10_000) for usage in causes.codes))
    wrong = [one for ill in (causes, effects) for one in _findings(ill, model, commands) if one.severity == "wrong"]
    assert {"collapse", "prior", "calibration", "gaps"} <= set(names(wrong))
    assert all(finding.remedy for finding in wrong)
    said = {finding.command for finding in wrong if finding.command}
    assert said
    for line in sorted(said):
        kind, *rest = shlex.split(line)[1:]
        code, _, err = told(kind, *rest, *(("--epochs", "1") if kind == "fit-prior" else ("--dry-run",)))
        assert code == 0, (line, err)
    fitted = any(line.startswith("lowerbound fit-prior") for line in said)
    assert fitted == (name in ("mvae", "sequence_vae"))  # the others have no normal z, or no prior of its own
