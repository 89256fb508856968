"""Outlier scores: against densities in closed form, PNG's own bytes, and a model that likes strangers better."""

import io
import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import multivariate_normal

import lowerbound as lb
from lowerbound.cli.outliers import command
from lowerbound.core.errors import DataError, Incompatible, NoDensity, ShapeError, UsageError
from lowerbound.core.model import Conditional, Encoder
from lowerbound.evaluation.outliers import (
    FORMULAS,
    code_length,
    mean_nll,
    mutated,
    no_code_reason,
    outlier_scores,
    outliers,
)
from lowerbound.families import FixedNormal, Normal
from lowerbound.groups import Flat
from lowerbound.networks import MLP
from lowerbound.priors import StandardNormal

DIMS = 8


def table(rows, seed, *, spread=1.0, classes=0):
    """Return normal rows as data whose test split holds all but two."""
    draws = np.random.default_rng(seed)
    x = spread * draws.normal(size=(rows, DIMS)).astype(np.float32)
    y = draws.integers(0, classes, rows) if classes else None
    return lb.from_arrays(x, y, kind="points", valid_fraction=0.0, test_fraction=0.9)


def linear(spec, seed, noise=0.6):
    """Return a model z -> W z + b + noise with the exact posterior, and its log p(x) in closed form."""
    draws = np.random.default_rng(seed)
    w, b = draws.normal(size=DIMS), 0.1 * draws.normal(size=DIMS)
    posterior, likelihood = Normal((1,)), FixedNormal((DIMS,), noise)
    encoder, decoder = MLP((DIMS,), posterior.params, hidden=()), MLP((1,), likelihood.params, hidden=())
    group = Flat(posterior, StandardNormal((1,)))
    model = lb.VAE(Encoder([encoder]), [group], Conditional(decoder, likelihood), spec)
    precision = 1 + w @ w / noise**2
    gain = torch.tensor(w / noise**2 / precision, dtype=torch.float32)
    start = posterior.bias_for(torch.tensor([-float(gain.double() @ torch.tensor(b))]), torch.tensor([1 / precision]))
    with torch.no_grad():
        decoder.out.weight.copy_(torch.tensor(w)[:, None])
        decoder.out.bias.copy_(torch.tensor(b))
        encoder.out.weight.copy_(torch.stack([gain, torch.zeros(DIMS)]))
        encoder.out.bias.copy_(start.flatten())
    return model, multivariate_normal(b, np.outer(w, w) + noise**2 * np.eye(DIMS)).logpdf


@pytest.fixture(scope="module")
def data():
    return table(61, 1)


@pytest.fixture(scope="module")
def models(data):
    return [linear(data.spec, seed, noise) for seed, noise in ((1, 0.6), (2, 0.9), (3, 0.7), (4, 0.8))]


def equals(found, wanted):
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.as_tensor(np.asarray(wanted)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_samples", [1, 7])
def test_scores_are_their_formulas_in_closed_form(data, models, num_samples):
    (model, log_p), (background, log_b), *rest = models
    x = data.test.x.numpy()
    each = np.stack([log_p(x), *(log_m(x) for _, log_m in rest)])
    found = outlier_scores(
        model, data.test, entropy=9.5, background=background, ensemble=[m for m, _ in rest], num_samples=num_samples
    )
    equals(found["log_px"], -log_p(x))
    equals(found["ratio"], log_b(x) - log_p(x))
    equals(found["typicality"], abs(-log_p(x) - 9.5))
    equals(found["waic"], each.var(0, ddof=1) - each.mean(0))
    assert set(found) == {"elbo", "log_px", "ratio", "typicality", "waic"}


def test_the_elbo_is_that_of_many_draws(data, models):
    # q is exact, so that -ELBO = -log p(x) in expectation: with 2000 draws the error is one of thousandths.
    model, log_p = models[0]
    found = outlier_scores(model, data.test, num_samples=2000)
    assert float((found["elbo"] + torch.as_tensor(log_p(data.test.x.numpy()))).abs().max()) < 0.5
    assert not torch.equal(found["elbo"], found["log_px"])


def test_h_is_the_mean_over_the_reference_rows(data, models):
    model, log_p = models[0]
    assert mean_nll(model, data.train, num_samples=3) == pytest.approx(-log_p(data.train.x.numpy()).mean(), abs=1e-4)
    report = outliers(model, data.test, data.test, reference=data.train, num_samples=3, resamples=2)
    assert report.entropy == mean_nll(model, data.train, num_samples=3)
    wanted = abs(-log_p(data.test.x.numpy()) - report.entropy).mean()
    assert report["typicality"].inside.value == pytest.approx(wanted, abs=1e-3)


@pytest.fixture(scope="module")
def likelier():
    """A report on rows near the middle of a normal: each is likelier than any of the model's own."""
    own, calm = table(401, 5), table(203, 6, spread=0.05)
    model, _ = linear(own.spec, 9, noise=1.0)
    with torch.no_grad():
        model.decoder.network.out.weight.zero_()
    return outliers(model, own.test, calm.test, reference=own.train, num_samples=3, resamples=100)


def test_strangers_that_are_likelier_are_told_and_what_repairs_it(likelier):
    assert likelier["log_px"].inverted
    assert likelier["typicality"].finds
    first, *rest = likelier.verdict()
    assert "likelier than its own" in first
    assert "Nalisnick" in first
    assert [line.split(":")[0] for line in rest] == ["upside down", "repaired by"]
    assert "log_px" in rest[0]
    assert "typicality" in rest[1]


def test_strangers_that_are_found_need_no_repair(data, models):
    far = table(50, 7, spread=9.0)
    report = outliers(models[0][0], data.test, far.test, num_samples=3, resamples=50)
    assert report["log_px"].finds
    assert [line.split(":")[0] for line in report.verdict()] == ["found by"]
    same = outliers(models[0][0], data.test, data.test, num_samples=3, resamples=50)
    assert same["log_px"].ranking.auroc.value == 0.5
    assert same.verdict()[0].startswith("no score here tells")


def test_rows_that_miss_cells_are_scored_by_the_cells_they_have_and_that_is_said(data, models):
    model = models[0][0]
    gaps = replace(data.test, mask=torch.ones(len(data.test), DIMS).index_fill(1, torch.tensor([2, 5]), 0.0))
    found = outliers(model, data.test, gaps, num_samples=2, resamples=2)
    assert found.target == "log p(x_observed)"
    assert "some rows miss cells" in str(found)
    whole = outliers(model, data.test, data.test, num_samples=2, resamples=2)
    assert whole.target == "log p(x)"
    assert "miss cells" not in str(whole)


def test_a_report_reads_as_a_table_and_as_json(likelier):
    made = json.loads(json.dumps(likelier.to_json()))
    assert made["scores"]["log_px"]["auroc"]["high"] < 0.5
    assert made["scores"]["log_px"]["mean"]["inside"] == {
        "value": pytest.approx(likelier["log_px"].inside.value),
        "se": pytest.approx(likelier["log_px"].inside.se),
        "kind": "bound", "side": "upper", "n": 360, "binarisation": "none", "seed": 0,
    }  # fmt: skip
    assert (made["target"], made["num_samples"], made["seed"]) == ("log p(x)", 3, 0)
    assert set(made["scores"]) | set(made["left_out"]) == set(FORMULAS) - {"distortion"}
    head, *lines = str(likelier).splitlines()
    assert head.split() == ["score", "AUROC", "AUPRC", "FPR95", "inside", "outside"]
    assert [line.split()[0] for line in lines[:3]] == ["elbo", "log_px", "typicality"]
    place = head.index("AUROC")
    values = [float(line[place:].split()[0]) for line in lines[:3]]
    assert values == [round(s.ranking.auroc.value, 3) for s in likelier.scores]
    assert "no ratio: it needs a background model" in str(likelier)
    assert "outside: 182 test examples of" in str(likelier)
    with pytest.raises(UsageError, match="no score 'ratio': it needs a background model"):
        likelier["ratio"]


def test_neither_the_mode_nor_other_labels_change_a_score(data, models):
    model = models[0][0]
    labelled, strange = table(61, 1, classes=3), table(43, 8, classes=5)
    known = lb.VAE(model.encoder, list(model.groups), model.decoder, labelled.spec)
    plain = outlier_scores(model, strange.test, num_samples=5)
    for training in (True, False):
        found = outlier_scores(known.train(training), strange.test, num_samples=5)
        assert known.training is training
        assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_a_model_without_density_has_its_distortion(data):
    model = lb.recipes.ae(lb.load_data("digits").spec, hidden=(7,), latent_dim=2).build(0)[0]
    rows = lb.load_data("digits").test
    found = outliers(model, rows, rows.take(50), num_samples=3, resamples=50, background=model)
    assert [s.name for s in found.scores] == ["distortion"]
    assert found.left_out["log_px"] == "a Delta posterior is a point: there is no bound on log p(x)"
    assert found.scores[0].inside.kind == "exact"
    assert found.target is None
    assert "no elbo, log_px, ratio, typicality, complexity, code, waic: a Delta posterior" in str(found)


def png_payload(file):
    """Return the bytes of a PNG's data chunks, read by the format's own rules."""
    place, size = 8, 0
    while place < len(file):
        length, kind = struct.unpack(">I4s", file[place : place + 8])
        size += length if kind == b"IDAT" else 0
        place += 12 + length
    return size


@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_is_as_long_as_the_data_of_the_png(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 14, channels), dtype=np.uint8)
    pixels[0] = 7
    data = lb.from_arrays(pixels, kind="image", layout="hwc", valid_fraction=0.2, test_fraction=0.6)
    found = code_length(data.test, "png")
    for length, place in zip(found.tolist(), data.test.places.tolist(), strict=True):
        file = io.BytesIO()
        image = pixels[place]
        Image.fromarray(image[..., 0] if channels == 1 else image).save(file, "PNG", optimize=True)
        assert length == pytest.approx(png_payload(file.getvalue()) * 8 * math.log(2))


@pytest.mark.parametrize("compressor", ["png", "zlib", "lzma", None])
def test_a_flat_image_is_shorter_than_noise(compressor):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (20, 12, 13), dtype=np.uint8)
    pixels[::2] = rng.integers(0, 256, (10, 1, 1), dtype=np.uint8)
    rows = lb.from_arrays(pixels, kind="image", layout="hw", valid_fraction=0.2, test_fraction=0.7).test
    length, flat = code_length(rows, compressor), rows.places % 2 == 0
    assert 0 < float(length[flat].max()) < 0.3 * float(length[~flat].min())
    # 156 bytes of noise cannot be pressed together, and nothing of a format's own is counted twice
    assert 156 * 8 * math.log(2) <= float(length[~flat].min()) < 190 * 8 * math.log(2)


def test_the_shortest_code_counts():
    rows = lb.load_data("digits").test.take(17)
    each = torch.stack([code_length(rows, name) for name in ("png", "zlib", "lzma")])
    assert torch.equal(code_length(rows), each.amin(0))


def test_a_binarised_model_codes_the_pixels_it_scores():
    data = lb.load_data("digits")
    model = lb.recipes.vae(data.spec, hidden=(7,), latent_dim=2).build(0)[0]
    rows = data.test.take(11).matching(model.spec)
    found = outlier_scores(model, data.test.take(11), num_samples=2)
    torch.testing.assert_close(found["log_px"] - found["complexity"], code_length(rows))
    torch.testing.assert_close(found["code"], -code_length(rows))
    assert not torch.equal(code_length(rows), code_length(data.test.take(11)))


def test_what_has_no_code_says_why(data):
    assert no_code_reason(data.test) == "its rows are points"
    with pytest.raises(Incompatible, match="has no lossless code: its rows are points"):
        code_length(data.test)
    floats = lb.from_arrays(np.random.default_rng(0).random((9, 1, 4, 5), dtype=np.float32), kind="image")
    assert no_code_reason(floats.test) == "its pixels are no whole levels"
    assert no_code_reason(lb.from_sequences(["ab", "a"] * 9).test) == "its rows are sequences"
    two = lb.from_arrays(np.zeros((9, 4, 5, 2), dtype=np.uint8), kind="image", layout="hwc").test
    with pytest.raises(UsageError, match="PNG has no images of 2 channels"):
        code_length(two, "png")
    assert torch.equal(code_length(two), code_length(two, "zlib").minimum(code_length(two, "lzma")))


def test_mutated_pixels_are_replaced_as_often_as_asked():
    data = lb.load_data("digits")
    noisy = mutated(data, 0.3, seed=2)
    changed = (noisy.train.x != data.train.x).double()
    n = changed.numel()  # 17 levels: one draw of 17 is the old value; beyond 5.5 sd in 4 of 1e8 tests
    assert abs(float(changed.mean()) - 0.3 * 16 / 17) < 5.5 * math.sqrt(0.3 * 0.7 / n)
    assert (noisy.train.x.min(), noisy.train.x.max()) == (0, 16)
    assert torch.equal(noisy.test.x, mutated(data, 0.3, seed=2).test.x)
    assert not torch.equal(noisy.test.x, mutated(data, 0.3, seed=3).test.x)
    with pytest.raises(UsageError, match=r"share of 1\.5"):
        mutated(data, 1.5)
    with pytest.raises(UsageError, match="cannot be replaced"):
        mutated(table(9, 0))


def test_models_whose_log_p_is_about_something_else_are_refused(data, models):
    digits = lb.load_data("digits")
    binary = lb.recipes.vae(digits.spec, hidden=(7,)).build(0)[0]
    grey = lb.recipes.discretized_logistic_vae(digits.spec, hidden=(7,)).build(0)[0]
    labelled = lb.recipes.cvae(digits.spec, hidden=(7,)).build(0)[0]
    code = lb.recipes.ae(digits.spec, hidden=(7,)).build(0)[0]
    for rows in (digits.test, digits.test.matching(binary.spec)):  # rows in the model's form hide what others were
        with pytest.raises(Incompatible, match=r"background .*: it scores values that are 'levels', not 'binary'"):
            outlier_scores(binary, rows, background=grey, num_samples=1)
    normal = lb.recipes.gaussian_vae(digits.spec, hidden=(7,)).build(0)[0]
    with pytest.raises(Incompatible, match=r"background model .*: it gives 'densities', not 'probabilities'"):
        outlier_scores(grey, digits.test, background=normal, num_samples=1)
    with pytest.raises(Incompatible, match=r"of the ensemble .* it is about 'log p\(x\|y\)', not 'log p\(x\)'"):
        outlier_scores(binary, digits.test, ensemble=[labelled], num_samples=1)
    with pytest.raises(NoDensity, match="the background model has none: a Delta posterior"):
        outlier_scores(binary, digits.test, background=code, num_samples=1)
    with pytest.raises(ShapeError, match="shape"):
        outliers(binary, digits.test, data.test)
    with pytest.raises(DataError, match="has 0 valid examples"):
        outliers(models[0][0], data.test, data.valid)
    with pytest.raises(UsageError, match="number of samples"):
        outliers(models[0][0], data.test, data.test, num_samples=0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a short run on digits, one of another seed, a background, and noise as other data."""
    folder = tmp_path_factory.mktemp("home")
    digits = lb.load_data("digits")
    recipe = lb.recipes.vae(digits.spec, hidden=(9,), latent_dim=3)
    quiet = {"epochs": 1, "report": False, "progress": False}
    lb.fit(recipe, digits, out=folder / "runs" / "one", **quiet)
    lb.fit(recipe, digits, out=folder / "runs" / "two", seed=2, **quiet)
    lb.fit(recipe, mutated(digits), out=folder / "runs" / "noisy", **quiet)
    np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 17, (45, 8, 8)).astype(np.uint8))
    return folder


def test_the_command_writes_what_it_prints(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    words = ["one", "--against", "noise.npy", "--num-samples", "2", "--rows", "40"]
    assert command([*words, "--background", "noisy", "--ensemble", "two", "--json"]) == 0
    out, err = capsys.readouterr()
    printed, written = json.loads(out), json.loads((home / "runs/one/eval/outliers-noise.json").read_text())
    assert written.pop("text").startswith("score")  # what the report shows
    assert written == {"run": "one", "against": "noise.npy", **printed}
    assert list(printed["scores"]) == [
        "elbo", "log_px", "ratio", "typicality", "complexity", "code", "waic",
    ]  # fmt: skip
    assert printed["scores"]["log_px"]["inside"] == printed["scores"]["log_px"]["outside"] == 40
    assert err.splitlines()[-2].endswith("outliers-noise.json")
    assert err.splitlines()[-1] == "next:  lowerbound score one --data noise.npy"
    assert command(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("score")
    assert "no waic: it needs runs like this one of other seeds" in out


def test_the_command_refuses_what_makes_no_sense(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(UsageError, match="--against is missing"):
        command(["one"])
    with pytest.raises(UsageError, match="one is given twice"):
        command(["one", "--against", "noise.npy", "--ensemble", "runs/one"])
    with pytest.raises(UsageError, match="1 rows cannot be ranked"):
        command(["one", "--against", "noise.npy", "--rows", "1"])
    with pytest.raises(DataError, match="no data called 'nois'"):
        command(["one", "--against", "nois"])
    with pytest.raises(ShapeError, match=r"ring has examples of shape \(2,\)"):
        command(["one", "--against", "ring"])


def test_labels_that_are_a_part_of_x_are_hidden_in_both_groups(tmp_path, monkeypatch, capsys):
    """The test rows against themselves: with the labels of one side alone seen, they would seem unlike."""
    monkeypatch.chdir(tmp_path)
    digits = lb.load_data("digits", with_label=True)
    made = lb.recipes.mvae(digits.spec, latent_dim=2, hidden=(4,))
    lb.fit(made, digits, epochs=1, out="runs/joint", progress=False, report=False)
    np.savez("bare.npz", x=(lb.load_data("digits").test.values().numpy() * 16).round().astype(np.uint8))
    for against in ("digits", "bare.npz"):
        assert command(["joint", "--against", against, "--num-samples", "2", "--json"]) == 0
        told = capsys.readouterr()
        assert "the label is hidden in the rows of both" in told.err
        scores = json.loads(told.out)["scores"]
        if against == "digits":
            assert scores["elbo"]["auroc"]["value"] == 0.5
    gap = scores["elbo"]["mean"]["inside"]["value"] - scores["elbo"]["mean"]["outside"]["value"]
    assert abs(gap) < 0.7  # the same images, 0/1 pixels drawn anew; the label alone would be log 10 = 2.3 nats
    with pytest.raises(ShapeError, match="28, 28") as refused:
        command(["joint", "--against", "mnist"])
    assert "the image of digits-label" in str(refused.value)


def test_data_that_are_joined_in_python_are_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    both = lb.joined({"a": draws.normal(size=(30, 2)), "b": draws.normal(size=(30, 1))})
    lb.fit(lb.recipes.mvae(both.spec, latent_dim=1, hidden=(3,)), both, epochs=0, out="runs/ab", progress=False)
    with pytest.raises(DataError, match="joins a, b") as refused:
        command(["ab", "--against", "x.npz"])
    assert all(part in str(refused.value) for part in ("--against x.npz", "expected", "lowerbound.joined"))
