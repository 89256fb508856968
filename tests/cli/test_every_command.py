"""Each command on each kind of data, end to end: digits, colour photos of unequal size, a mixed table, an IDX folder.

What is written has the schema, types, categories and units of what went in.
"""

import csv
import datetime
import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from lowerbound.cli.main import COMMANDS, main

ROWS = 60
DATA = ("digits", "photos", "table", "parquet", "idx", "arrays")
OPTIONS = {
    "digits": ("--data", "digits"),
    "photos": ("--data", "photos", "--image-size", "9", "11"),
    "table": ("--data", "people.csv", "--label", "plan", "--weight", "times"),
    "parquet": ("--data", "people.parquet", "--label", "plan", "--weight", "times"),
    "idx": ("--data", "idx"),
    "arrays": ("--data", "x.npy"),
}
OUTSIDE = {  # other data of the same kind
    "digits": "digits", "photos": "more", "table": "new.csv", "parquet": "new.parquet", "idx": "idx", "arrays": "x.npy",
}  # fmt: skip
IMAGES = ("digits", "photos", "idx")
MAKING = ("sample", "reconstruct", "interpolate", "traverse", "manifold", "denoise")
NEEDED = {
    "interpolate": ("--from", "0", "--to", "2"),
    "denoise": ("--noise", "gaussian", "--amount", "0.1"),
    "decode": ("codes.csv",),
}
SMALL = ("--epochs", "1", "--latent-dim", "3", "--no-report")


def people(rows, seed):
    """Return a column of each kind, one that is constant, and missing cells."""
    rng = np.random.default_rng(seed)
    start = datetime.date(2020, 1, 1)
    days = [start + datetime.timedelta(days=int(d)) for d in rng.integers(0, 900, rows)]
    height = [None if i % 11 == 3 else round(float(v), 2) for i, v in enumerate(rng.normal(170, 9, rows))]
    city = [None if i % 13 == 5 else str(v) for i, v in enumerate(rng.choice(["Köln", "北京", "Oslo"], rows))]
    return pa.table(
        {
            "height": pa.array(height, pa.float64()),
            "children": pa.array(rng.integers(0, 5, rows), pa.int64()),
            "city": pa.array(city, pa.string()),
            "member": pa.array([bool(v) for v in rng.random(rows) < 0.4]),
            "joined": pa.array(days, pa.date32()),
            "seen": pa.array([datetime.datetime(2024, 1, 1 + i % 28, i % 24) for i in range(rows)], pa.timestamp("s")),
            "version": pa.array([5] * rows, pa.int64()),
            "plan": pa.array([i % 3 for i in range(rows)], pa.int64()),
            "times": pa.array(rng.integers(1, 4, rows), pa.int64()),
        }
    )


def write_data(folder):
    """Write all the data sets the commands below speak of."""
    rng = np.random.default_rng(0)
    for name, count in (("photos", ROWS // 2), ("more", 4)):
        for i in range(count):
            path = folder / name / ("cat" if i % 2 else "dog") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (10 + i, 40 - i, 3), dtype=np.uint8)).save(path)
    table = people(ROWS, 1)
    pa.csv.write_csv(table, folder / "people.csv")
    pa.parquet.write_table(table, folder / "people.parquet")
    new = people(7, 2).drop_columns(["plan", "times"])
    pa.csv.write_csv(new, folder / "new.csv")
    pa.parquet.write_table(new, folder / "new.parquet")
    (folder / "idx").mkdir()
    for name, rows in (("train", ROWS), ("t10k", 10)):
        pixels = rng.integers(0, 256, (rows, 8, 6), dtype=np.uint8)
        labels = np.arange(rows, dtype=np.uint8) % 4
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape)
            (folder / "idx" / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    np.save(folder / "x.npy", rng.normal(size=(ROWS, 4)) * [1, 10, 100, 1000])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with all data sets and a run on each, called after it."""
    folder = tmp_path_factory.mktemp("home")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in DATA:
            recipe = ("conv_vae", "--channels", "4") if name == "photos" else ("vae", "--hidden", "7")
            call("train", *recipe, *OPTIONS[name], *SMALL, "--out", f"runs/{name}")
        call("train", "cvae", *OPTIONS["table"], "--hidden", "7", *SMALL, "--out", "runs/table-cvae")
        call("train", "denoising_vae", *OPTIONS["digits"], "--hidden", "7", *SMALL, "--out", "runs/digits-noisy")
    return folder


def call(*words):
    """Run the command line; it must succeed."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code == 0, words


@pytest.fixture
def lowerbound(home, monkeypatch, capsys):
    """Run a command in the home folder, which must succeed; returns standard output and standard error."""
    monkeypatch.chdir(home)

    def run(*words):
        call(*words)
        return capsys.readouterr()

    return run


every_data = pytest.mark.parametrize("name", DATA)
# What takes long is done in each test run for one of each kind: an image, a folder, a table.
some_data = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("digits", "photos", "table") else pytest.mark.slow) for n in DATA]
)


def schema(path):
    table = pa.parquet.read_table(path) if str(path).endswith(".parquet") else pa.csv.read_csv(path)
    return table.schema


@every_data
@pytest.mark.parametrize("command", ["evaluate", "score", "sample", "reconstruct", "encode", "traverse"])
def test_reading_commands(lowerbound, name, command):
    """On the run's own rows, and on other data, with JSON on standard output and the next command on standard error."""
    few = ("--num-samples", "3") if command in ("evaluate", "score") else ()
    out, err = lowerbound(command, name, *few, "--json")
    assert isinstance(json.loads(out), dict)
    assert err.strip().splitlines()[-1].startswith("next:")
    if command != "sample":
        out, _ = lowerbound(command, name, *few, "--data", OUTSIDE[name], "--json", "--seed", "3", "--device", "cpu")
        facts = json.loads(out)
        if command != "evaluate":
            assert Path(facts["path"]).stat().st_size > 0
        if name in ("table", "parquet") and command in ("score", "encode"):
            assert facts["num"] == 7


@every_data
def test_codes_make_the_way_there_and_back(lowerbound, home, name):
    suffix = {"table": "csv", "parquet": "parquet"}.get(name, "npz")
    lowerbound("encode", name, "--split", "valid", "--out", f"codes-{name}.{suffix}")
    lowerbound("decode", name, f"codes-{name}.{suffix}", "--out", f"decoded-{name}.{suffix}")
    lowerbound("reconstruct", name, "--split", "valid", "--out", f"again-{name}.{suffix}")
    if suffix == "npz":
        with np.load(home / f"decoded-{name}.npz") as a, np.load(home / f"again-{name}.npz") as b:
            np.testing.assert_allclose(a["x"].astype(float), b["x"].astype(float), atol=1, rtol=1e-5)
            assert a["x"].shape == b["x"].shape
    else:
        read = pa.parquet.read_table if suffix == "parquet" else pa.csv.read_csv
        a, b = read(home / f"decoded-{name}.{suffix}"), read(home / f"again-{name}.{suffix}")
        assert b.column_names == [*a.column_names, "plan"]
        assert a.num_rows == b.num_rows == 5
        for column in a.column_names:
            assert a.schema.field(column).type == b.schema.field(column).type
            same_cells(a[column], b[column])


def same_cells(a, b):
    """Two columns are alike; numbers differ by the rounding of codes in a file, and then by one step at most."""
    if pa.types.is_floating(a.type):
        np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), rtol=1e-5)
    elif pa.types.is_integer(a.type) or pa.types.is_temporal(a.type):
        whole = pa.int32() if pa.types.is_date32(a.type) else pa.int64()
        assert np.abs(a.cast(whole).to_numpy() - b.cast(whole).to_numpy()).max() <= 1
    else:
        assert a.to_pylist() == b.to_pylist()


@pytest.mark.parametrize("name", ["table", "parquet", "table-cvae"])
@pytest.mark.parametrize("command", [*MAKING, "decode"])
def test_tables_keep_their_schema(lowerbound, home, name, command):
    form = "parquet" if name == "parquet" else "csv"
    source, path = home / f"people.{form}", home / f"{command}-{name}.{form}"
    more = ["--data", source] if command == "denoise" else [*NEEDED.get(command, ())]
    if (name, command) == ("table-cvae", "interpolate"):
        more += ["--label", "1"]
    if command == "decode":
        lowerbound("encode", name, "--out", "codes.csv")
    lowerbound(command, name, *more, "--out", path)
    wanted = schema(source)
    for field in schema(path):
        assert field.type == wanted.field(field.name).type, field
    names = [n for n in wanted.names if n not in ("plan", "times")]
    # a model of p(x) makes no labels; rows that had one keep it
    labelled = name == "table-cvae" or command in ("reconstruct", "denoise")
    assert schema(path).names == ([*names, "plan"] if labelled else names)
    with path.open("rb") as file:
        table = pa.parquet.read_table(file) if form == "parquet" else pa.csv.read_csv(file)
    assert set(table["city"].to_pylist()) <= {"Köln", "北京", "Oslo"}
    assert set(table["version"].to_pylist()) == {5}
    assert 100 < np.nanmean(table["height"].to_numpy()) < 240
    assert table["joined"].null_count == 0


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("command", MAKING)
def test_images_come_as_sheets_files_and_arrays(lowerbound, home, name, command):
    more = NEEDED.get(command, ())
    few = ["--steps", "3"] if command in ("interpolate", "traverse", "manifold") else []
    out, _ = lowerbound(command, name, *more, *few)
    with Image.open(out.strip().splitlines()[-1]) as sheet:
        assert min(sheet.size) > 50
    lowerbound(command, name, *more, *few, "--out", f"{command}-{name}.npz")
    shape = {"digits": (8, 8), "photos": (3, 9, 11), "idx": (8, 6)}[name]
    with np.load(home / f"{command}-{name}.npz") as held:
        assert held["x"].dtype == np.uint8
        assert held["x"].shape[1:] == shape
        assert int(held["x"].max()) <= (16 if name == "digits" else 255)
    folder = home / f"{command}-{name}-each"
    folder.mkdir()
    lowerbound(command, name, *more, *few, "--out", folder)
    written = sorted(folder.rglob("*.png"))
    with Image.open(written[0]) as picture:
        assert (picture.size[1], picture.size[0]) == shape[-2:]
        assert picture.mode == ("RGB" if name == "photos" else "L")


def test_arrays_keep_their_units(lowerbound, home):
    lowerbound("sample", "arrays", "--num", "500", "--out", "s.npz")
    with np.load(home / "s.npz") as held:
        x = held["x"]
    assert x.shape == (500, 4)
    np.testing.assert_allclose(np.log10(x.std(0)), [0, 1, 2, 3], atol=0.3)


@some_data
def test_data_report_runs_and_configuration(lowerbound, home, name):
    out, err = lowerbound("data", *OPTIONS[name][1:])
    assert "vae" in out
    assert err.strip().splitlines()[-1].startswith("next:")
    out, _ = lowerbound("report", name)
    page = Path(out.strip()).read_text(encoding="utf-8")
    assert "<html" in page
    assert ("standardised units" in page) == (name in ("table", "parquet", "arrays"))
    out, _ = lowerbound("runs", "--json")
    assert name in out
    lowerbound("export-config", name, "--out", f"{name}.yaml")
    lowerbound("train", "--config", f"{name}.yaml", "--dry-run")
    shutil.copytree(home / "runs" / name, home / "resumed" / name)
    lowerbound("resume", f"resumed/{name}", "--epochs", "2")
    lowerbound("train", "--config", f"{name}.yaml", "--init-from", name, "--out", f"tuned/{name}")


def test_compare_puts_runs_side_by_side(lowerbound):
    out, _ = lowerbound("compare", "digits", "digits-noisy", "--num-samples", "3")
    assert "digits-noisy" in out


def test_compare_scores_other_data_and_units_without_touching_the_saved_numbers(lowerbound, home):
    lowerbound("train", "vae", *OPTIONS["arrays"], "--hidden", "5", *SMALL, "--out", "runs/arrays-two")
    lowerbound("evaluate", "arrays", "--num-samples", "3")
    saved = home / "runs" / "arrays" / "eval" / "test.json"
    before = saved.read_bytes()
    np.save(home / "others.npy", np.load(home / "x.npy")[:13])
    found = {}
    for units in ("data", "model"):
        words = ("compare", "arrays", "arrays-two", "--num-samples", "3", "--units", units)
        out, _ = lowerbound(*words, "--data", "others.npy", "--json")
        found[units] = out
        assert '"n": 13' in out
        lowerbound(*words)
    assert found["data"] != found["model"]
    assert saved.read_bytes() == before


def test_a_class_and_a_temperature_are_drawn(lowerbound, home):
    lowerbound("sample", "table-cvae", "--num", "5", "--label", "2", "--out", "two.csv")
    with (home / "two.csv").open(newline="") as file:
        assert [row["plan"] for row in csv.DictReader(file)] == ["2"] * 5
    lowerbound("sample", "arrays", "--num", "9", "--temperature", "0", "--show", "mean", "--out", "cold.npz")
    with np.load(home / "cold.npz") as held:
        assert np.ptp(held["x"], axis=0).max() < 1e-3


def test_data_by_its_own_path_are_all_rows(lowerbound):
    out, err = lowerbound("score", "table", "--data", "people.csv", "--num-samples", "2", "--json")
    assert json.loads(out)["num"] == ROWS
    assert "is what the run was trained on: all its rows" in err
    out, _ = lowerbound("score", "table", "--num-samples", "2", "--json")
    assert json.loads(out)["num"] == ROWS // 10


def test_files_are_named_beside_their_scores(lowerbound, home):
    lowerbound("score", "photos", "--data", "more", "--num-samples", "2", "--out", "named.csv")
    with (home / "named.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["cat/1.png", "cat/3.png", "dog/0.png", "dog/2.png"]


def test_a_folder_is_made_where_one_is_asked_for(lowerbound, home):
    lowerbound("sample", "photos", "--num", "3", "--out", "deep/made/")
    assert sorted(p.name for p in (home / "deep" / "made").iterdir()) == [f"{i:06}.png" for i in range(3)]


def test_codes_of_a_table_stand_beside_it(lowerbound, home):
    lowerbound("traverse", "table", "--dims", "1", "--steps", "5", "--out", "t.csv")
    with (home / "t-codes.csv").open(newline="") as file:
        codes = list(csv.DictReader(file))
    assert len(codes) == 5
    assert len({row["z1"] for row in codes}) == 5
    assert len({row["z0"] for row in codes}) == 1


def test_a_model_of_pairs_warns_where_there_are_none(lowerbound):
    lowerbound(
        "train", "vae", "--data", "more", "--seen", "more", "--image-size", "9", "--hidden", "5", *SMALL, "--out", "p"
    )
    _, err = lowerbound("evaluate", "p", "--data", "photos", "--num-samples", "2")
    assert "trained on pairs" in err
    _, err = lowerbound("evaluate", "p", "--data", "more", "--num-samples", "2")
    assert "trained on pairs" not in err
    _, err = lowerbound("reconstruct", "p", "--data", "photos", "--seen", "photos")
    assert "trained on pairs" not in err


@pytest.mark.parametrize(("lr", "said"), [(None, "best epoch 3 (valid)"), (0.5, "weights of epoch 1 are kept")])
def test_going_on_names_the_epoch_whose_weights_are_kept(lowerbound, home, lr, said):
    """Training that goes on well finds better weights; one that does harm keeps the earlier ones."""
    folder = home / f"going-on-{lr}"
    shutil.copytree(home / "runs" / "arrays", folder)
    if lr is not None:  # steps so large that they only do harm
        recipe = json.loads((folder / "recipe.json").read_text())
        recipe["training"]["args"] |= {"lr": lr, "lr_schedule": "constant"}
        (folder / "recipe.json").write_text(json.dumps(recipe))
    out, _ = lowerbound("resume", folder, "--epochs", "3")
    assert said in out
    assert "standardised units" in out


def test_a_fine_tuned_run_reads_its_data_in_the_units_of_the_first(lowerbound, home):
    """The new file alone would be standardised otherwise; evaluate and resume must read it as fine-tuning did."""
    table = people(ROWS // 2, 5)
    pa.csv.write_csv(table.set_column(0, "height", pa.array([150.0 + i for i in range(ROWS // 2)])), home / "tall.csv")
    words = ("--label", "plan", "--weight", "times", "--hidden", "7")
    lowerbound("train", "vae", "--data", "tall.csv", *words, *SMALL, "--init-from", "table", "--out", "tall")
    lowerbound("evaluate", "tall", "--num-samples", "2")
    lowerbound("resume", "tall", "--epochs", "2")
    specs = [json.loads((home / run / "data.json").read_text())["spec"]["columns"] for run in ("tall", "runs/table")]
    assert specs[0] == specs[1]


def test_every_command_is_tried_here():
    tried = {*MAKING, "train", "evaluate", "score", "encode", "decode", "data", "report", "runs", "compare", "resume"}
    tried |= {"doctor", "outliers"}
    elsewhere = {"cite", "demo", "export-config", "fit-prior", "parts", "recipes", "sweep", "track", "translate"}
    assert tried | elsewhere == set(COMMANDS)


FASHION = [path for path in Path("/usr/share").glob("dataset*/*fashion*") if path.is_dir()]


@pytest.mark.skipif(not FASHION, reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_by_path(lowerbound):
    out, _ = lowerbound("data", FASHION[0], "--json")
    assert json.loads(out)["shape"] == [1, 28, 28]
