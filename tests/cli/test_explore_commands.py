"""Encode, decode, interpolate, traverse and manifold, in process: what they write against the model itself."""

import csv
import datetime
import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lowerbound import load_data
from lowerbound.cli.main import main
from lowerbound.ship import save
from lowerbound.train import open_run

RUNS = ("vae", "cvae", "ae")
SIZE = 4  # latent dimensions


def write_people(path, rows=53):
    """Write a table with a column of each kind, and empty cells."""
    day = datetime.date(2021, 2, 3)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["height", "children", "city", "joined", "plan"])
        for i in range(rows):
            height = "" if i % 11 == 3 else f"{150 + 7.3 * (i % 6):.2f}"
            city = "" if i % 13 == 5 else ("Oslo", "Bergen", "Rome")[i % 3]
            out.writerow([height, i % 5, city, day + datetime.timedelta(days=9 * (i % 17)), "ab"[i % 2]])


def call(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs on digits and on a mixed table."""
    folder = tmp_path_factory.mktemp("explore")
    write_people(folder / "people.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ("--epochs", 1, "--hidden", 9, "--latent-dim", SIZE, "--no-report")
        for recipe in RUNS:
            assert call("train", recipe, "--data", "digits", *small, "--out", f"runs/{recipe}") == 0
            table = ("--data", "people.csv", "--label", "plan")
            assert call("train", recipe, *table, *small, "--out", f"runs/people-{recipe}") == 0
    return folder


@pytest.fixture
def lowerbound(home, monkeypatch, capsys):
    """Run a command in the home folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(home)

    def run(*words):
        code = call(*words)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def model_of(name):
    return open_run(name)[1]


def rows_of(name):
    """Return the test rows of digits as the model wants them, read without any command."""
    return load_data("digits").test.matching(model_of(name).spec)


def reconstructed(name, rows):
    x, y = rows.values(), rows.labels()
    return model_of(name).reconstruct(x, y)


def arrays(path):
    with np.load(path) as held:
        return dict(held)


def as_stored(x):
    """Return digits in [0, 1] as they came: 0 to 16."""
    return (x.squeeze(1).numpy() * 16).round().astype(np.uint8)


def assert_same(stored, x):
    """Compare stored digits with model values; one level apart is rounding."""
    np.testing.assert_allclose(stored.astype(int), as_stored(x).astype(int), atol=1)


@pytest.mark.parametrize("name", RUNS)
def test_codes_are_the_posterior_of_each_row(lowerbound, name):
    code, out, _ = lowerbound("encode", name, "--out", f"{name}.npz", "--json")
    held, rows, model = arrays(f"{name}.npz"), rows_of(name), model_of(name)
    assert code == 0
    assert json.loads(out) == {"path": f"{name}.npz", "num": len(rows), "latent_dim": SIZE}
    np.testing.assert_allclose(held["z"], model.encode(rows.values(), rows.labels()), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        q = model.infer(rows.values(), rows.labels())
    np.testing.assert_allclose(held["sd"], q.variance.sqrt(), rtol=1e-5, atol=1e-6)
    assert (held["sd"] == 0).all() == (name == "ae")
    assert held["index"].tolist() == rows.places.tolist()
    assert held["label"].tolist() == [rows.spec.classes[i] for i in rows.y]


@pytest.mark.parametrize("name", RUNS)
def test_codes_decode_to_reconstructions(lowerbound, name):
    lowerbound("encode", name, "--out", f"{name}.csv")
    code, _, _ = lowerbound("decode", name, f"{name}.csv", "--out", f"{name}-back.npz")
    assert code == 0
    assert_same(arrays(f"{name}-back.npz")["x"], reconstructed(name, rows_of(name)))


@pytest.mark.parametrize("recipe", RUNS)
def test_codes_of_a_table_decode_to_its_reconstructions(lowerbound, recipe):
    name = f"people-{recipe}"
    lowerbound("encode", name, "--split", "all", "--out", "codes.csv")
    lowerbound("decode", name, "codes.csv", "--out", "back.csv")
    lowerbound("reconstruct", name, "--split", "all", "--out", "again.csv")
    with Path("back.csv").open() as a, Path("again.csv").open() as b:
        back, again = list(csv.DictReader(a)), list(csv.DictReader(b))
    names = ["height", "children", "city", "joined"]
    assert list(again[0]) == [*names, "plan"]
    assert list(back[0])[:4] == names
    assert len(back) == len(again) == 53
    for mine, other in zip(back, again, strict=True):
        assert float(mine["height"]) == pytest.approx(float(other["height"]), rel=1e-5)
        assert [mine[n] for n in names[1:]] == [other[n] for n in names[1:]]


@pytest.mark.parametrize(("name", "more"), [("vae", ()), ("ae", ("--slerp",)), ("cvae", ("--label", "3"))])
def test_an_interpolation_ends_at_the_reconstructions(lowerbound, name, more):
    code, _, _ = lowerbound("interpolate", name, "--from", 2, "--to", 7, "--steps", 5, *more, "--out", "way.npz")
    held, rows, model = arrays("way.npz"), rows_of(name), model_of(name)
    assert code == 0
    assert held["x"].shape == (5, 8, 8)
    ends = rows.rows(torch.tensor([2, 7]))
    z = model.encode(ends.values(), ends.labels())
    np.testing.assert_allclose(held["z"][[0, -1]], z, rtol=1e-4, atol=1e-5)
    y = torch.eye(10)[[3, 3]] if more[:1] == ("--label",) else None
    assert_same(held["x"][[0, -1]], model.decode(z, y))
    if more != ("--slerp",):
        np.testing.assert_allclose(held["z"][2], z.mean(0), rtol=1e-4, atol=1e-5)


def test_ends_of_one_class_need_no_label(lowerbound):
    y = rows_of("cvae").y.tolist()
    first, last = y.index(4), len(y) - 1 - y[::-1].index(4)
    code, _, err = lowerbound("interpolate", "cvae", "--from", first, "--to", last, "--steps", 2, "--out", "four.npz")
    assert code == 0
    assert "class 4" in err
    ends = rows_of("cvae").rows(torch.tensor([first, last]))
    assert_same(arrays("four.npz")["x"], reconstructed("cvae", ends))
    other = next(i for i, label in enumerate(y) if label != 4)
    code, _, err = lowerbound("interpolate", "cvae", "--from", first, "--to", other)
    assert code == 2
    assert "--label" in err


def test_an_image_file_can_be_an_end(lowerbound, home):
    from PIL import Image

    (home / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(23):
        Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8)).save(home / "photos" / f"{i:02}.png")
    small = ("--epochs", 1, "--hidden", 9, "--latent-dim", 2, "--no-report")
    if not Path("runs/photos").exists():
        assert lowerbound("train", "gaussian_vae", "--data", "photos", *small, "--out", "runs/photos")[0] == 0
    ends = ("--from", "photos/03.png", "--to", "photos/11.png")
    assert lowerbound("interpolate", "photos", *ends, "--steps", 3, "--out", "p.npz")[0] == 0
    with Image.open("photos/03.png") as one, Image.open("photos/11.png") as two:
        x = torch.from_numpy(np.stack([np.asarray(one), np.asarray(two)])).float()[:, None] / 255
    np.testing.assert_allclose(arrays("p.npz")["z"][[0, -1]], model_of("photos").encode(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vae", "ae"])
def test_a_traversal_is_the_prior_mean_in_the_middle(lowerbound, name):
    code, out, _ = lowerbound("traverse", name, "--dims", 3, 0, "--steps", 5, "--out", "t.npz", "--json")
    held, model = arrays("t.npz"), model_of(name)
    assert code == 0
    assert json.loads(out)["dims"] == [3, 0]
    pictures = held["x"].reshape(2, 5, 8, 8)
    for row in range(2):
        assert_same(pictures[row, 2:3], model.decode(torch.zeros(1, SIZE)))
    z = torch.zeros(10, SIZE)
    levels = [0.005 + i * 0.99 / 4 for i in range(5)]
    for i, level in enumerate(levels):
        z[i, 3] = z[5 + i, 0] = NormalDist().inv_cdf(level)
    np.testing.assert_allclose(held["z"], z, atol=1e-5)
    assert_same(held["x"], model.decode(z))


def test_a_traversal_from_a_row_keeps_its_code_and_class(lowerbound):
    lowerbound("traverse", "cvae", "--dims", 1, "--steps", 3, "--index", 6, "--range", 0.5, "--out", "t.npz")
    row = rows_of("cvae").rows(slice(6, 7))
    model = model_of("cvae")
    z = model.encode(row.values(), row.labels()).repeat(3, 1)
    with torch.no_grad():
        prior = model.groups[0].prior(None, row.labels(), model.infer)
    for i, level in enumerate((0.25, 0.5, 0.75)):
        z[i, 1] = NormalDist(float(prior.mean[0, 1]), float(prior.variance[0, 1].sqrt())).inv_cdf(level)
    np.testing.assert_allclose(arrays("t.npz")["z"], z, atol=1e-5)
    assert_same(arrays("t.npz")["x"], model.decode(z, row.labels().repeat(3, 1)))


def test_a_traversal_shows_the_dimensions_that_vary_most(lowerbound):
    _, out, _ = lowerbound("traverse", "vae", "--steps", 2, "--json")
    rows = rows_of("vae")
    spread = model_of("vae").encode(rows.values()).var(0)
    assert json.loads(out)["dims"] == sorted(range(SIZE), key=lambda d: -float(spread[d]))


def test_a_linear_manifold_has_equal_steps(lowerbound):
    words = ("--dims", 2, 1, "--steps", 5, "--grid", "linear", "--out", "m.npz")
    assert lowerbound("manifold", "vae", *words)[0] == 0
    z = np.load("m.npz")["z"].reshape(5, 5, -1)
    assert np.allclose(z[0, :, 2], [-3, -1.5, 0, 1.5, 3])
    assert np.allclose(z[:, 0, 1], [3, 1.5, 0, -1.5, -3])


def test_the_corners_of_a_manifold(lowerbound):
    code, _, _ = lowerbound("manifold", "vae", "--dims", 2, 1, "--steps", 3, "--out", "m.npz")
    held = arrays("m.npz")
    assert code == 0
    edge = NormalDist().inv_cdf(1 / 6)  # the middle of the first of three equal parts
    z = torch.zeros(4, SIZE)
    z[:, 2] = torch.tensor([edge, -edge, edge, -edge])  # across
    z[:, 1] = torch.tensor([-edge, -edge, edge, edge])  # up
    assert_same(held["x"][[0, 2, 6, 8]], model_of("vae").decode(z))
    assert_same(held["x"][4:5], model_of("vae").decode(torch.zeros(1, SIZE)))


def test_directions_are_decoded_as_directions(lowerbound):
    """The mean of directions is shorter than one; what is decoded of it is the reconstruction all the same."""
    if not Path("runs/round").exists():
        small = ("--epochs", 1, "--hidden", 9, "--latent-dim", 3, "--no-report")
        lowerbound("train", "hyperspherical_vae", "--data", "digits", *small, "--out", "runs/round")
    lowerbound("encode", "round", "--out", "round.csv")
    code, _, err = lowerbound("decode", "round", "round.csv", "--out", "back.npz")
    assert code == 0
    assert "codes are no points of this model's space" in err
    assert_same(arrays("back.npz")["x"], reconstructed("round", rows_of("round")))
    assert lowerbound("interpolate", "round", "--from", 0, "--to", 3, "--steps", 5, "--out", "way.npz")[0] == 0
    held = arrays("way.npz")
    np.testing.assert_allclose(np.linalg.norm(held["z"], axis=1), np.ones(5), rtol=1e-5)
    assert_same(held["x"][[0, -1]], reconstructed("round", rows_of("round").rows(torch.tensor([0, 3]))))


def test_a_traversal_of_values_between_0_and_1_stays_there(lowerbound):
    if not Path("runs/between").exists():
        small = ("--epochs", 0, "--hidden", 9, "--latent-dim", 2, "--no-report")
        parts = ("--posterior", "relaxed_bernoulli", "--prior", "relaxed_uniform", "--prior.binary")
        assert lowerbound("train", "vae", "--data", "digits", *small, *parts, "--out", "runs/between")[0] == 0
    for command in (("traverse",), ("manifold",), ("manifold", "--grid", "linear")):
        name, *more = command
        assert lowerbound(name, "between", *more, "--steps", 3, "--out", "t.npz")[0] == 0
        z = arrays("t.npz")["z"]
        assert ((z > 0) & (z < 1)).all()


def test_a_saved_model_is_whole_after_what_was_made_of_it(lowerbound):
    save(model_of("vae"), "alone")
    for words in (("sample", "alone"), ("sample", "alone", "--seed", 1), ("sample", "runs/vae/model", "--num", 2)):
        assert lowerbound(*words)[0] == 0
    assert not Path("runs/vae/model/samples").exists()
    for words in (("sample", "vae", "--out", "alone/x.png"), ("encode", "vae", "--out", "runs/vae/model/z.csv")):
        code, _, err = lowerbound(*words)
        assert code == 2
        assert "saved model" in err
    assert lowerbound("sample", "alone", "--num", 1)[0] == lowerbound("sample", "vae", "--num", 1)[0] == 0


def test_a_table_of_points_has_the_class_of_each_row(lowerbound):
    if not Path("runs/moons").exists():
        small = ("--epochs", 0, "--hidden", 9, "--latent-dim", 2, "--no-report")
        assert lowerbound("train", "cvae", "--data", "moons", *small, "--out", "runs/moons")[0] == 0
    assert lowerbound("sample", "moons", "--num", 3, "--out", "m.csv")[0] == 0
    assert lowerbound("sample", "moons", "--num", 3, "--out", "m.npz")[0] == 0
    with Path("m.csv").open() as file:
        rows = list(csv.DictReader(file))
    classes = model_of("moons").spec.classes
    assert [row["y"] for row in rows] == arrays("m.npz")["y"].tolist() == [classes[0], classes[1], classes[0]]


def test_codes_far_from_the_prior_are_counted(lowerbound):
    z = np.zeros((5, SIZE), np.float32)
    z[1, 2], z[4] = -12, 30
    np.savez("far.npz", z=z)
    code, _, err = lowerbound("decode", "vae", "far.npz")
    assert code == 0
    assert "2 of 5 codes" in err
    np.savez("near.npz", z=z / 4)
    assert "codes lie" not in lowerbound("decode", "vae", "near.npz")[2]


def test_a_conditional_model_decodes_as_the_class_asked_for(lowerbound):
    z = torch.linspace(-1, 1, 3 * SIZE).reshape(3, SIZE)
    np.savez("plain.npz", z=z.numpy())
    code, _, err = lowerbound("decode", "cvae", "plain.npz")
    assert code == 2
    assert "--label" in err
    lowerbound("decode", "cvae", "plain.npz", "--label", "8", "--out", "eight.npz")
    held = arrays("eight.npz")
    assert held["y"].tolist() == ["8"] * 3
    assert_same(held["x"], model_of("cvae").decode(z, torch.eye(10)[[8] * 3]))


MISTAKES = {
    "no such row": ("interpolate vae --from 0 --to 999", "179 test rows"),
    "one step": ("interpolate vae --from 0 --to 1 --steps 1", "1 steps"),
    "one value": ("traverse vae --steps 1", "1 steps"),
    "no such dimension": ("traverse vae --dims 4", "no dimension 4"),
    "negative dimension": ("traverse vae --dims -1", "no dimension -1"),
    "whole prior": ("traverse vae --range 1", "share of the prior"),
    "traversal of no row": ("traverse vae --index 179", "179 test rows"),
    "twice the same": ("manifold vae --dims 1 1", "two different"),
    "no such plane": ("manifold vae --dims 0 4", "no dimension 4"),
    "no file": ("decode vae nothing.npz", "there is no file 'nothing.npz'"),
    "no steps": ("manifold vae --steps 0", "0 steps"),
    "odd digit": ("interpolate vae --from ² --to 1", "the number of a row"),
    "negative row": ("interpolate vae --from 0 --to -1", "no row -1 among 179"),
    "no image": ("interpolate vae --from 0 --to a.png", "there is no file"),
    "class of no CVAE": ("manifold vae --label 3", "not conditional"),
    "unknown suffix": ("encode vae --out codes.txt", ".npz, .csv or .parquet"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(lowerbound, case):
    words, text = MISTAKES[case]
    code, out, err = lowerbound(*words.split())
    assert code == 2
    assert out == ""
    assert text in " ".join(err.split())
    assert "Traceback" not in err


def test_labels_of_data_are_written_for_a_model_without(lowerbound):
    np.save("plain.npy", np.arange(60 * 64).reshape(60, 8, 8).astype(np.uint8) % 17)
    small = ("--epochs", 0, "--hidden", 9, "--latent-dim", 2, "--no-report")
    assert lowerbound("train", "vae", "--data", "plain.npy", *small, "--out", "runs/plain")[0] == 0
    assert lowerbound("encode", "plain", "--data", "digits", "--out", "named")[0] == 0
    digits = load_data("digits").split("all")
    assert arrays("named.npz")["label"].tolist() == [digits.spec.classes[i] for i in digits.y]


def test_labels_must_be_one_for_each_code(lowerbound):
    np.savez("labels.npz", z=np.zeros((5, SIZE), np.float32), label=np.array(["1", "2"]))
    code, _, err = lowerbound("decode", "cvae", "labels.npz")
    assert code == 2
    assert "2 labels for 5 codes" in err


def test_transparent_ends_are_laid_on_a_colour(lowerbound, home):
    test_an_image_file_can_be_an_end(lowerbound, home)
    from PIL import Image

    Image.new("RGBA", (7, 9), (9, 9, 9, 0)).save("clear.png")
    Image.new("L", (7, 9), 255).save("white.png")
    ends = ("--from", "clear.png", "--to", "white.png", "--steps", 2, "--out", "w.npz")
    assert lowerbound("interpolate", "photos", *ends)[0] == 2
    assert lowerbound("interpolate", "photos", *ends, "--alpha", "white")[0] == 0
    z = arrays("w.npz")["z"]
    np.testing.assert_allclose(z[0], z[1], atol=1e-5)
