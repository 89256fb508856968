"""`score`, `denoise` and `data`: against the library called directly, and every mistake with its message."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lowerbound import load_data
from lowerbound.cli.main import main
from lowerbound.core.recipe import RECIPES
from lowerbound.data import load_rows
from lowerbound.data.corruptions import GaussianNoise, Haze
from lowerbound.evaluation import evaluate, score
from lowerbound.evaluation.restoration import corrupted, denoised, restoration
from lowerbound.train import open_run

SMALL = ("--epochs", "2", "--hidden", "24", "--latent-dim", "3", "--no-report")
RUNS = {
    "vae": ("vae", "digits", *SMALL),
    "cvae": ("cvae", "digits", *SMALL),
    "ae": ("ae", "digits", *SMALL),
    "noisy": ("denoising_vae", "digits", *SMALL, "--amount", "0.4"),
    "table": ("vae", "mixed.csv", *SMALL, "--label", "kind"),
    "plain": ("denoising_vae", "plain.csv", *SMALL, "--amount", "0.4"),
    "pairs": ("conv_vae", "clean", "--seen", "hazy", "--epochs", "2", "--channels", "4", "--latent-dim", "3"),
}


def write_tables():
    r = np.random.default_rng(5)
    with Path("mixed.csv").open("w", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["height", "colour", "sold", "kind"])
        for i in range(71):
            height = "" if i % 9 == 2 else f"{170 + 8 * r.standard_normal():.1f}"
            writer.writerow([height, "" if i % 13 == 1 else "rgb"[r.integers(3)], r.integers(2), "xyz"[r.integers(3)]])
    np.savetxt("plain.csv", 50 + 9 * r.standard_normal((67, 4)), "%.3f", delimiter=",", header="a,b,c,d", comments="")


def write_pairs():
    x = torch.rand(37, 3, 1, 1).expand(37, 3, 12, 14) * torch.rand(37, 1, 12, 14)
    for name, images in (("clean", x), ("hazy", Haze(1.0)(x))):
        Path(name).mkdir()
        for i, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(f"{name}/{i:02d}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the runs of RUNS and the data they were trained on."""
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        write_tables()
        write_pairs()
        for name, (recipe, data, *words) in RUNS.items():
            with pytest.raises(SystemExit) as left:
                main(["train", recipe, "--data", data, "--out", f"runs/{name}", *words])
            assert left.value.code == 0
    return folder


@pytest.fixture
def lowerbound(trained, tmp_path, monkeypatch, told):
    """Run a command beside a copy of the runs; returns exit code, standard output and standard error."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    for name in ("mixed.csv", "plain.csv", "clean", "hazy"):
        (tmp_path / name).symlink_to(trained / name)
    monkeypatch.chdir(tmp_path)
    return told


def columns(path):
    with Path(path).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


# score


@pytest.mark.parametrize("name", ["vae", "cvae", "table"])
def test_scores_are_those_of_the_library(lowerbound, name):
    code, out, err = lowerbound("score", name, "--num-samples", "7", "--seed", "2")
    assert code == 0, err
    assert out.strip() == f"runs/{name}/samples/scores.csv"
    found = columns(out.strip())
    _, model = open_run(name)
    source = "digits" if name != "table" else "mixed.csv"
    rows = load_data(source, label=None if name != "table" else "kind").test.matching(model.spec)
    wanted = score(model, rows, num_samples=7, seed=2)
    expected = {"distortion": wanted.distortion, "rate": wanted.rate, "log_px": wanted.log_px}
    expected["elbo"] = -(wanted.distortion + wanted.rate)
    assert list(found) == ["index", "elbo", "distortion", "rate", "log_px", "label"]
    for key, values in expected.items():
        np.testing.assert_allclose(np.array(found[key], float), values, rtol=1e-12)
    assert [int(i) for i in found["index"]] == rows.places.tolist()
    assert found["label"] == [rows.spec.classes[i] for i in rows.y.tolist()]


def test_the_summary_is_that_of_evaluate(lowerbound):
    _, out, err = lowerbound("score", "vae", "--num-samples", "5", "--json")
    summary = json.loads(out)
    _, model = open_run("vae")
    data = load_data("digits")
    assert summary["mean_log_px"] == pytest.approx(-evaluate(model, data.test, num_samples=5).nll.value, rel=1e-9)
    rows = data.test.matching(model.spec)
    order = score(model, rows, num_samples=5).log_px.argsort()
    assert summary["lowest"] == rows.places[order[:5]].tolist()
    assert (summary["num"], summary["num_samples"], summary["target"], summary["units"]) == (179, 5, "log p(x)", "data")
    assert (summary["kind"], summary["side"], summary["weighted"]) == ("bound", "lower", False)
    assert (summary["split"], summary["binarisation"], summary["seed"]) == ("test", "dynamic", 0)
    assert "K = 5" in err


def test_scores_of_rows_with_missing_cells_say_what_they_are_about(lowerbound):
    code, out, err = lowerbound(
        "score", "table", "--data", "mixed.csv", "--split", "all", "--num-samples", "2", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["target"] == "log p(x_observed)"
    assert json.loads(out)["num"] == 71


def test_units_move_log_px_by_the_scale_of_the_columns(lowerbound):
    means = []
    for units in ("data", "model"):
        _, out, _ = lowerbound("score", "plain", "--units", units, "--num-samples", "3", "--json")
        means.append(json.loads(out)["mean_log_px"])
    _, model = open_run("plain")
    assert means[0] - means[1] == pytest.approx(-float(model.spec.log_scale.sum()), rel=1e-9)


def test_a_model_without_density_gives_the_distortion_alone(lowerbound):
    code, out, err = lowerbound("score", "ae", "--out", "s.npz", "--json")
    assert code == 0
    assert "no density" in err
    summary = json.loads(out)
    assert summary["mean_log_px"] is summary["num_samples"] is summary["target"] is None
    assert (summary["kind"], summary["split"], "side" in summary) == ("exact", "test", False)
    _, model = open_run("ae")
    wanted = evaluate(model, load_data("digits").test).distortion.value
    assert summary["mean_distortion"] == pytest.approx(wanted, rel=1e-9)
    with np.load("s.npz") as held:
        assert sorted(held) == ["distortion", "index", "label"]
        assert held["distortion"].mean() == pytest.approx(wanted, rel=1e-9)
        assert held["index"][held["distortion"].argmax()] == summary["lowest"][0]


# denoise


def test_own_rows_are_corrupted_as_in_training(lowerbound):
    code, out, err = lowerbound("denoise", "noisy", "--json", "--seed", "4", "--out", "d.npz")
    assert code == 0, err
    found = json.loads(out)
    assert found["corruption"] == "made 0/1 as in training, corrupted by GaussianNoise(scale=0.4)"
    _, model = open_run("noisy")
    grey = load_data("digits").test
    rows = corrupted(grey.matching(model.spec), GaussianNoise(0.4), seed=4)
    made = denoised(model, rows)
    for what, images in (("input", rows.seen), ("output", made)):
        wanted = restoration(images, grey.values()).to_json()
        assert found[what] == wanted
    assert found["input"]["window"] == 7
    with np.load("d.npz") as held:
        np.testing.assert_array_equal(held["x"], (made.squeeze(1) * 16).round().numpy())
        np.testing.assert_array_equal(held["clean"], grey.x.squeeze(1).numpy())


def test_noise_depends_on_seed_and_place_alone(lowerbound):
    inputs = []
    for num, seed in (("9", "1"), ("150", "1"), ("9", "2")):
        assert lowerbound("denoise", "noisy", "--num", num, "--seed", seed, "--out", "d.npz")[0] == 0
        with np.load("d.npz") as held:
            inputs.append(held["input"][:9])
    np.testing.assert_array_equal(inputs[0], inputs[1])
    assert (inputs[0] != inputs[2]).any()


def test_another_noise_than_in_training(lowerbound):
    code, out, _ = lowerbound("denoise", "vae", "--noise", "mask", "--amount", "0.5", "--num", "5", "--json")
    assert code == 0
    assert json.loads(out)["corruption"].endswith("corrupted by Mask(share=0.5)")
    with Image.open("runs/vae/samples/denoised.png") as sheet:
        assert sheet.size[1] > 3 * 56


def test_given_pairs_are_paired_by_name(lowerbound):
    code, out, err = lowerbound("denoise", "pairs", "--data", "hazy", "--clean", "clean", "--json", "--out", "d.npz")
    assert code == 0, err
    _, model = open_run("pairs")
    rows, _ = load_rows("clean", model.spec, seen="hazy")
    made = denoised(model, rows.matching(model.spec))
    found = json.loads(out)
    assert found["num"] == 37
    assert found["input"] == restoration(rows.seen_values(), rows.values()).to_json()
    after = restoration(made, rows.values())
    assert found["output"] == after.to_json()
    before = restoration(rows.seen_values(), rows.values())
    assert found["gain"]["ssim"]["mean"] == pytest.approx(float((after.ssim - before.ssim).mean()))
    assert found["gain"]["psnr"]["better"] == pytest.approx(float((after.psnr > before.psnr).double().mean()))
    alone = lowerbound("denoise", "pairs", "--data", "hazy", "--out", "alone.npz")
    assert "PSNR" not in alone[1]
    with np.load("d.npz") as beside, np.load("alone.npz") as without:
        np.testing.assert_array_equal(beside["x"], without["x"])
        assert sorted(without) == ["input", "x"]


def test_own_pairs_are_used_as_they_are(lowerbound):
    Path("pictures").mkdir()
    code, out, err = lowerbound("denoise", "pairs", "--out", "pictures")
    assert code == 0, err
    assert "seen as in the data" in err
    assert out.startswith("PSNR  input ")
    assert len(list(Path("pictures").glob("*.png"))) == 3


def test_clean_rows_alone_are_corrupted(lowerbound):
    words = ("--noise", "haze", "--amount", "1.5", "--json")
    code, out, err = lowerbound("denoise", "pairs", "--clean", "clean", *words)
    assert code == 0, err
    found = json.loads(out)
    assert (found["num"], found["corruption"]) == (37, "corrupted by Haze(thickness=1.5, light=0.9)")


def test_a_table_is_cleaned_with_its_columns(lowerbound):
    code, out, err = lowerbound("denoise", "plain")
    assert code == 0, err
    found = columns(out.strip())
    assert list(found) == ["a", "b", "c", "d"]
    assert len(found["a"]) == 6
    assert lowerbound("denoise", "plain", "--data", "plain.csv", "--out", "all.csv")[0] == 0
    assert len(columns("all.csv")["d"]) == 67
    code, out, err = lowerbound("denoise", "table", "--data", "mixed.csv")  # its missing cells are not looked at
    assert code == 0, err
    assert set(columns(out.strip())["colour"]) <= set("rgb")


# data


def test_the_data_sets_are_listed(lowerbound):
    code, out, _ = lowerbound("data", "--json")
    listed = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert (listed["digits"]["shape"], listed["digits"]["rows"], listed["digits"]["classes"]) == ([1, 8, 8], 1797, 10)
    assert listed["mnist"]["what"].startswith("MNIST: 60,000 + 10,000")
    assert ".parquet" in lowerbound("data")[1]


def test_a_table_is_inspected(lowerbound):
    code, out, err = lowerbound("data", "mixed.csv", "--label", "kind", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["rows"] == {"train": 58, "valid": 6, "test": 7}
    assert [c["name"] for c in found["columns"]] == ["height", "colour", "sold"]
    assert found["missing"] == {"height": 8, "colour": 6}
    assert found["likelihood"]["name"] == "Columns"
    assert set(found["recipes"]) == set(RECIPES)
    assert found["recipes"]["vae"] is None
    assert "needs images" in found["recipes"]["conv_vae"]
    assert err.strip().splitlines()[-1] == "next:  lowerbound train vae --data mixed.csv --label kind"
    text = lowerbound("data", "--label", "kind", "mixed.csv")
    assert "missing     height 8, colour 6" in text[1]
    assert text[2].strip().splitlines()[-1] == "next:  lowerbound train vae --data mixed.csv --label kind"


def test_what_is_advised_can_be_trained(lowerbound):
    for words in (("clean", "--seen", "hazy"), ("ring",)):
        _, _, err = lowerbound("data", *words)
        advice = err.strip().splitlines()[-1].removeprefix("next:  lowerbound ").split()
        assert lowerbound(*advice, "--epochs", "0", "--out", f"runs/{words[0]}-advised")[0] == 0


# mistakes

MISTAKES = {
    "no corruption": (("denoise", "vae"), "trained without a corruption"),
    "no amount": (("denoise", "vae", "--noise", "haze"), "needs an amount"),
    "amount alone": (("denoise", "noisy", "--amount", "2"), "--amount is that of --noise"),
    "noise on noisy files": (("denoise", "pairs", "--data", "hazy", "--noise", "mask", "--amount", "1"), "already"),
    "haze on a table": (("denoise", "plain", "--noise", "haze", "--amount", "1"), "haze needs images"),
    "noise on categories": (("denoise", "table", "--noise", "mask", "--amount", "0.3"), "categories of mixed"),
    "clean table": (("denoise", "plain", "--data", "plain.csv", "--clean", "plain.csv"), "--clean is for images"),
    "split of a path": (
        ("denoise", "pairs", "--data", "hazy", "--split", "valid"),
        "--split is for the run's own rows",
    ),
    "none of them": (("denoise", "noisy", "--num", "0"), "cannot clean 0 rows"),
    "images as a table": (("denoise", "noisy", "--out", "x.csv"), "cannot be written as .csv"),
    "scores as a picture": (("score", "vae", "--out", "x.png"), "scores cannot be written to 'x.png'"),
    "scores of no rows": (("score", "vae", "--num-samples", "0"), "number of samples cannot be 0"),
    "no labels": (("score", "cvae", "--data", "unlabelled.npy"), "has no labels"),
    "seen of nothing": (("score", "pairs", "--seen", "clean"), "--seen is given without --data"),
    "nothing there": (("data", "mixd.csv"), "there are no data called 'mixd.csv'"),
    "no such column": (("data", "mixed.csv", "--label", "knd"), "knd"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(lowerbound, case):
    np.save("unlabelled.npy", np.zeros((5, 8, 8), np.uint8))
    words, text = MISTAKES[case]
    code, out, err = lowerbound(*words)
    assert (code, out) == (2, "")
    assert text in " ".join(err.split())
    assert "Traceback" not in err


def test_a_damaged_recipe_is_exit_4(lowerbound):
    path = Path("runs/noisy/recipe.json")
    path.write_text(path.read_text().replace("GaussianNoise", "GaussianNose"))
    code, _, err = lowerbound("denoise", "noisy")
    assert code == 4
    assert "GaussianNose" in err


def test_images_of_any_real_values_have_no_psnr(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    np.save("real.npy", np.random.default_rng(0).normal(size=(60, 1, 6, 7)).astype(np.float32))
    words = ("gaussian_vae", "--data", "real.npy", "--hidden", "5", "--latent-dim", "2", "--epochs", "1", "--no-report")
    assert told("train", *words, "--out", "real")[0] == 0
    code, out, err = told("denoise", "real", "--noise", "gaussian", "--amount", "0.2", "--json")
    assert code == 0, err
    assert set(json.loads(out)) == {"path", "num", "corruption"}
    assert "no PSNR and no SSIM: they are of values in [0, 1]" in err
    with Image.open(json.loads(out)["path"]) as sheet:
        assert min(sheet.size) > 0
