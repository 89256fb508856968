"""Recipes of several modalities in use: missing ones, translation, coherence, what is said and what is refused."""

import csv
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, Incompatible, UsageError
from lowerbound.core.modalities import cells, together
from lowerbound.core.walk import from_posterior
from lowerbound.evaluation import score
from lowerbound.objectives import IWAE
from lowerbound.posteriors import IAF
from lowerbound.priors import MixtureOfNormals
from recipe_data import OF_MODALITIES, digits_for

SMALL = {"latent_dim": 6, "hidden": (48,)}
every = pytest.mark.parametrize("name", OF_MODALITIES)


@cache
def trained(name):
    return lb.fit(getattr(lb.recipes, name)(digits_for(name).spec, **SMALL), digits_for(name), epochs=4, progress=False)


@cache
def rows(name="mvae"):
    return digits_for(name).test.matching(trained(name).model.spec)


@every
def test_data_of_one_kind_are_refused_with_the_way_out(name):
    with pytest.raises(Incompatible, match=r"digits is of one kind(.|\n)*--with-label") as error:
        getattr(lb.recipes, name)(lb.load_data("digits").spec)
    assert "lowerbound.joined" in str(error.value)


@every
def test_a_missing_modality_changes_no_score_whatever_its_cells_hold(name):
    model, batch = trained(name).model, rows(name).batch(slice(9))
    for given in (("image",), ("label",), ()):
        mask = cells(model.spec, given).expand_as(batch.x)
        found = []
        for filler in (0.0, math.nan, 1e30):
            torch.manual_seed(2)
            with torch.no_grad():
                trace = model(lb.Batch(torch.where(mask.bool(), batch.x, filler), mask=mask), 5)
            found.append(torch.stack([trace.log_w, trace.log_px]))
        assert bool(found[0].isfinite().all())
        assert all(torch.equal(found[0], other) for other in found[1:])
        if not given:  # nothing is observed: q is the prior, and log p of nothing is 0
            torch.testing.assert_close(found[0], torch.zeros_like(found[0]), atol=1e-5, rtol=0)


@every
def test_rows_that_lack_a_modality_train_and_are_scored(name):
    of, label = lb.load_data("digits"), np.arange(300) % 3 > 0
    x, y = (of.train.x[:300, 0] * 15).numpy(), of.train.y[:300].numpy()
    data = lb.joined(
        {"image": x, "label": y, "mean": np.where(~label, x.mean((1, 2)) / 100, np.nan)}, observed={"label": label}
    )
    recipe = getattr(lb.recipes, name)(data.spec, **SMALL)
    said = []
    run = lb.fit(recipe, data, epochs=2, progress=False, listeners=(Heard(said),))
    assert run.history[-1]["elbo"] > run.history[0]["elbo"]
    evaluation = lb.evaluate(run.model, data.test, num_samples=3)
    assert evaluation.nll.target == "log p(x_observed)"
    assert evaluation.bits_per_dim.value is None
    text = "\n".join(said)
    assert "the loss weighs the nats of the modalities: image x 1, label x 6.4, mean x 64" in text
    assert "which is masked: label in 100, mean in 200" in text


class Heard:
    """Keeps what a training says."""

    def __init__(self, lines):
        self.lines = lines

    def say(self, line):
        self.lines.append(line)

    def event(self, event):
        pass

    def tick(self, epoch, done, steps):
        pass


@every
def test_reported_numbers_do_not_depend_on_the_balance(name):
    one, other = (getattr(lb.recipes, name)(digits_for(name).spec, balance=b, **SMALL) for b in ("dims", "none"))
    batch, found = digits_for(name).train.matching(one.spec).batch(slice(20)), []
    for recipe in (one, other):
        model, objective = recipe.build(1)
        torch.manual_seed(0)
        found.append(objective(model, batch, torch.zeros(())))
    for term in ("elbo", "distortion", "rate"):
        assert torch.equal(found[0].terms[term], found[1].terms[term])
    assert float(found[0].losses["model"].detach()) > float(found[1].losses["model"].detach()) + 1
    assert one.objective.remarks(one.spec)
    assert not other.objective.remarks(other.spec)


@every
def test_translation_looks_at_nothing_but_what_is_given(name):
    model, x = trained(name).model, rows(name).batch(slice(11)).x
    changed = x.clone()
    changed[:, :64] = math.nan
    made = lb.translate(model, x, given=["label"], to="image")
    assert made.shape == (11, 1, 8, 8)
    assert torch.equal(made, lb.translate(model, changed, given=["label"], to="image"))
    draw = {"given": ["label"], "to": "image", "source": from_posterior, "show": "draw"}
    one, other = (lb.translate(model, changed, **draw, seed=seed) for seed in (1, 2))
    assert set(one.unique().tolist()) == {0, 1}
    assert torch.equal(one, lb.translate(model, x, **draw, seed=1))
    assert not torch.equal(one, other)
    back = lb.translate(model, x, given=["image"], to="label")
    torch.testing.assert_close(back.sum(1), torch.ones(11))
    alone, mask = together(model.spec, {"label": x[:, 64:]})
    assert torch.equal(made, lb.translate(model, alone, given=["image", "label"], to="image", mask=mask))
    for wrong in (
        {"given": ["sound"], "to": "image"},
        {"given": ["label"], "to": "sound"},
        {"given": [], "to": "image"},
    ):
        with pytest.raises(UsageError):
            lb.translate(model, x, **wrong)


def test_coherence_counts_what_agrees():
    """A judge that reads what was given tells the data's own pairs; a model that learned nothing is near chance."""
    model, data = trained("mopoe").model, rows("mopoe")
    exact = {tuple(image.flatten().tolist()): label for image, label in zip(data.values()[:, :64], data.y, strict=True)}

    def known(images):
        return torch.stack([exact.get(tuple(i.flatten().tolist()), torch.tensor(-1)) for i in images])

    agree = lb.same_class({"image": known, "label": lambda values: values.argmax(1)})
    found = lb.coherence(model, data, agree, seed=1)
    assert set(found.pairs) == {(("label",), "image"), (("image",), "label")}
    assert all(number.value == 1 for number in found.data.values())
    assert found.pairs[("label",), "image"].value == 0  # no image that is made is one of the data
    share, count = found.pairs[("image",), "label"].value, len(data)
    made = [lb.translate(model, data.batch(slice(None)).x, given=["image"], to="label", source=from_posterior, seed=s)
            for s in range(8)]  # fmt: skip
    wanted = torch.stack([(m.argmax(1) == data.y).double() for m in made]).mean(1)
    assert abs(share - float(wanted.mean())) < 5 * float(wanted.std()) + 1 / count
    assert 0 < share < 1
    assert "image -> label" in str(found)
    assert found.to_json()["pairs"]["image -> label"]["value"] == share
    with pytest.raises(UsageError, match="made of"):
        lb.coherence(model, data, agree, pairs=[(("label",), "label")])


def test_coherence_leaves_out_rows_that_lack_a_modality():
    model, data = trained("mvae").model, rows()
    some = torch.arange(len(data)) < 5
    mask = torch.ones(len(data), 74, dtype=torch.bool)
    mask[5:, 64:] = False
    part = replace(data, mask=mask)
    found = lb.coherence(model, part, lambda parts: torch.ones(len(next(iter(parts.values()))), dtype=torch.bool))
    assert found.pairs[("image",), "label"].n == int(some.sum())
    mask[:, 64:] = False
    with pytest.raises(DataError, match="no row"):
        lb.coherence(model, part, lambda parts: torch.ones(1, dtype=torch.bool))


def test_other_parts_fit_or_are_refused_by_name():
    spec = digits_for("mmvae").spec
    recipe = lb.recipes.mmvae(spec, **SMALL)
    mixed = lb.composed(recipe, prior=MixtureOfNormals((6,), 3), objective=IWAE(4), spec=spec)
    assert isinstance(mixed.objective, IWAE)
    batch = digits_for("mmvae").train.matching(mixed.spec).batch(slice(8))
    model, objective = mixed.build()
    assert bool(objective(model, batch, torch.zeros(())).losses["model"].isfinite())
    for parts in ({"posterior": IAF((6,))}, {"likelihood": lb.families.Bernoulli(spec.shape)}):
        with pytest.raises(Incompatible, match="made for its modalities"):
            lb.composed(recipe, **parts, spec=spec)
    with pytest.raises(Incompatible, match="categories"):
        lb.recipes.denoising_vae(spec)
    with pytest.raises(Incompatible, match="categories"):
        lb.recipes.vamp(spec)


def test_a_plain_vae_of_all_modalities_at_once_is_the_baseline():
    data = digits_for("mvae")
    run = lb.fit(lb.recipes.vae(data.spec, **SMALL), data, epochs=1, progress=False)
    scores = score(run.model, data.test.matching(run.model.spec), num_samples=2)
    assert bool(scores.log_px.isfinite().all())
    label = np.arange(300) % 3 > 0
    missing = lb.joined(
        {"image": np.zeros((300, 2, 2), np.uint8), "label": np.arange(300) % 7}, observed={"label": label}
    )
    with pytest.raises(Incompatible, match="does not read which cells are missing"):
        lb.recipes.vae(missing.spec)


def test_the_commands_train_translate_and_score_images_without_labels(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = told("train", "mvae", "--data", "digits")
    assert code == 2
    assert "--with-label" in err
    small = ("--latent-dim", "5", "--hidden", "24", "--epochs", "1", "--no-report")
    code, _, err = told("train", "mvae", "--data", "digits", "--with-label", *small)
    assert code == 0
    assert "image x 1, label x 6.4" in err
    code, out, _ = told("translate", "last", "--given", "label", "--to", "image", "--json")
    facts = json.loads(out)
    assert (code, facts["num"]) == (0, 20)
    assert Path(facts["path"]).read_bytes().startswith(b"\x89PNG")
    assert told("translate", "last", "--given", "image", "--to", "label", "--num", "7", "--out", "found.csv")[0] == 0
    with Path("found.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 7
    for row in found:
        p = [float(row[f"p{i}"]) for i in range(10)]
        assert row["made"] == str(int(np.argmax(p)))
        assert sum(p) == pytest.approx(1, abs=1e-5)
    draw = ("--show", "draw", "--out", "drawn.csv")
    assert told("translate", "last", "--given", "image", "--to", "label", "--num", "7", *draw)[0] == 0
    with Path("drawn.csv").open() as file:  # what is drawn has the same probabilities
        for row, other in zip(csv.DictReader(file), found, strict=True):
            assert [row[f"p{i}"] for i in range(10)] == [other[f"p{i}"] for i in range(10)]
            assert row["data"] == other["data"]
    np.save("new.npy", lb.load_data("digits").test.x[:9, 0].numpy())
    code, out, err = told("score", "last", "--data", "new.npy", "--num-samples", "3", "--json")
    assert code == 0, err
    assert told("sample", "last", "--num", "3", "--out", "some.npz")[0] == 0
    for command, *more in (("sample",), ("reconstruct",), ("traverse", "--steps", "3"), ("report",)):
        code, out, err = told(command, "last", *more)
        assert code == 0, err
        assert command == "report" or Path(out.strip()).read_bytes().startswith(b"\x89PNG")
    page = Path(out.strip()).read_text(encoding="utf-8")
    assert page.count("<img") >= 2 + 6  # of training; samples, reconstructions, codes twice, traversals, a way
    for words, said in (
        (("denoise", "last", "--noise", "gaussian", "--amount", "0.1"), "lowerbound translate"),
        (("sample", "last", "--label", "3"), "lowerbound translate"),
    ):
        code, _, err = told(*words)
        assert (code, said in err) == (2, True)
    for words in (("--given", "sound", "--to", "label"), ("--given", "label", "--to", "label")):
        code, _, err = told("translate", "last", *words)
        assert (code, "Traceback" in err) == (2, False)


def test_a_table_and_its_label_keep_columns_units_and_types(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    lines = [f"{150 + i % 40},{('Oslo', 'Rome')[i % 2]},{i % 3:02d}" for i in range(80)]
    Path("people.csv").write_text("height,city,plan\n" + "\n".join(lines) + "\n")
    small = ("--latent-dim", "2", "--hidden", "7", "--epochs", "1")
    code, _, err = told("train", "mopoe", "--data", "people.csv", "--label", "plan", "--with-label", *small)
    assert code == 0, err
    Path("new.csv").write_text("height,city,plan\n" + "\n".join(lines[:6]) + "\n")
    for command, *more in (("sample", "--num", "6"), ("reconstruct", "--data", "new.csv")):
        code, _, err = told(command, "last", *more, "--out", f"{command}.csv")
        assert code == 0, err
        assert "ignored" not in err
        with Path(f"{command}.csv").open() as file:
            found = list(csv.DictReader(file))
        assert list(found[0]) == ["height", "city", "plan"]
        assert all(130 < int(row["height"]) < 210 for row in found)
        assert {row["city"] for row in found} <= {"Oslo", "Rome"}
        assert {row["plan"] for row in found} <= {"00", "01", "02"}
    assert told("reconstruct", "last", "--data", "new.csv", "--out", "r.npz")[0] == 0
    held = dict(np.load("r.npz"))
    assert held["original_height"].tolist() == [150, 151, 152, 153, 154, 155]
    assert told("score", "last", "--data", "new.csv", "--num-samples", "3", "--out", "s.csv")[0] == 0
    with Path("s.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["00", "01", "02"] * 2


def test_what_the_data_lack_is_not_made_up(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    small = ("--latent-dim", "2", "--hidden", "7", "--epochs", "1", "--no-report")
    assert told("train", "mvae", "--data", "digits", "--with-label", *small)[0] == 0
    np.save("new.npy", lb.load_data("digits").test.x[:5, 0].numpy())
    words = ("translate", "last", "--given", "image", "--to", "label", "--data", "new.npy")
    assert told(*words, "--out", "l.csv")[0] == 0
    with Path("l.csv").open() as file:
        assert [row["data"] for row in csv.DictReader(file)] == [""] * 5


def test_a_comparison_shows_the_pictures_of_several_modalities(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    small = ("--data", "digits", "--with-label", "--latent-dim", "2", "--hidden", "7", "--epochs", "1", "--no-report")
    for name in ("mvae", "mopoe"):
        code, _, err = told("train", name, *small, "--out", name)
        assert code == 0, err
    code, _, err = told("compare", "mvae", "mopoe", "--num-samples", "3", "--html", "both.html")
    assert code == 0, err
    page = Path("both.html").read_text(encoding="utf-8")
    assert "these data are no images" not in page
    assert page.count("<img") == 2 + 1 + 2 + 1  # of training; reconstructions, samples of each, what dimensions cost
