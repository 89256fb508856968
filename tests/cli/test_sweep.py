"""`lowerbound sweep`: every point and seed is trained once, taken up where it was cut off, and compared."""

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import lowerbound
from lowerbound import load, load_data, score
from lowerbound.cli.main import main
from lowerbound.evaluation.compare import over_seeds

WORDS = (
    "sweep", "vae", "--data", "digits", "--hidden", "9", "--epochs", "2", "--grid", "latent-dim=2,5",
    "--grid", "warmup=0,50", "--seeds", "2", "--score-samples", "7",
)  # fmt: skip
POINTS = [f"latent-dim {d} warmup {w}" for d in (2, 5) for w in (0, 50)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("sweep"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), pytest.raises(SystemExit) as left:
        patch.chdir(folder)
        main([*WORDS, "--json"])
    assert left.value.code == 0
    return folder, json.loads(out.getvalue())


@pytest.fixture
def swept(trained, tmp_path, monkeypatch):
    """Go to a copy of the folder in which the sweep was made."""
    shutil.copytree(trained[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "sweep-vae"


def test_every_point_and_seed_is_a_run_and_the_table_compares_them(trained):
    folder, found = trained
    assert [point["point"] for point in found["points"]] == POINTS
    runs = {p.name for p in (folder / "runs" / "sweep-vae").iterdir() if p.is_dir()}
    assert runs == {f"latent-dim-{d}_warmup-{w}_seed-{s}" for d in (2, 5) for w in (0, 50) for s in (0, 1)}
    rows = load_data("digits").valid
    log_px = {}
    for point in POINTS:
        for seed in (0, 1):
            _, dim, _, warmup = point.split()
            model = load(folder / "runs" / "sweep-vae" / f"latent-dim-{dim}_warmup-{warmup}_seed-{seed}")
            log_px.setdefault(point, {})[seed] = score(model, rows.matching(model.spec), num_samples=7).log_px
    for point in found["points"]:
        mean = over_seeds("", log_px[point["point"]], rows)
        assert point["nll"] == pytest.approx(-mean.value)
        assert point["interval"] == pytest.approx([-mean.high, -mean.low])
        assert point["epochs"] == [2, 2]
        assert point["latents"] == int(point["point"].split()[1])
    assert found["best"] == min(found["points"], key=lambda p: p["nll"])["point"]
    assert found["words"][1] == f"lowest NLL: {found['best']}"
    assert len(found["words"]) == 1 + 1 + 3 + 3
    saved = json.loads((folder / "runs" / "sweep-vae" / "sweep.json").read_text())
    assert saved["points"] == found["points"]


def test_the_same_command_trains_nothing_anew(swept, trained, told):
    before = {p: p.stat().st_mtime_ns for p in swept.glob("*/model/model.safetensors")}
    code, out, err = told(*WORDS, "--json")
    assert (code, json.loads(out)) == (0, trained[1])
    assert "run 1 of" not in err
    assert {p: p.stat().st_mtime_ns for p in swept.glob("*/model/model.safetensors")} == before


def cut_off(run):
    """Leave a run as if its process had been killed before the first checkpoint."""
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "status": "running", "pid": 2**22 + 5}))
    for name in ("checkpoints", "model", "eval"):
        shutil.rmtree(run / name)


def test_a_run_that_was_cut_off_is_taken_up_and_a_new_point_is_added(swept, trained, told):
    path = swept / "latent-dim-5_warmup-0_seed-1"
    weights = (path / "model" / "model.safetensors").read_bytes()
    cut_off(path)
    wider = [word.replace("latent-dim=2,5", "latent-dim=5,3") for word in WORDS]
    code, out, err = told(*wider)
    assert code == 0
    assert "run 2 of 8: latent-dim-5_warmup-0_seed-1" in err
    assert (path / "model" / "model.safetensors").read_bytes() == weights
    assert out.splitlines()[0].split()[:2] == ["point", "NLL"]
    assert "epochs: the best one was among the last tenth in" in out
    assert not (swept / "latent-dim-2_warmup-0_seed-0" / "again").exists()


def test_models_without_a_density_are_not_ranked(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    code, out, _ = told(
        "sweep", "ae", "--data", "ring", "--hidden", "5", "--epochs", "1", "--grid", "latent-dim=1,2", "--seeds", "1",
        "--out", "here",
    )  # fmt: skip
    assert code == 0
    assert "no density" in out
    assert Path("here/latent-dim-1_seed-0/model").is_dir()


def test_without_a_grid_there_are_several_seeds(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    code, out, _ = told(
        "sweep", "gaussian_vae", "--data", "ring", "--hidden", "5", "--epochs", "1", "--seeds", "2", "--json"
    )
    [point] = json.loads(out)["points"]
    assert (code, point["point"], len(point["active"])) == (0, "as it is", 2)
    assert {p.name for p in Path("runs/sweep-gaussian_vae").iterdir()} == {"seed-0", "seed-1", "sweep.json"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "sweep.json is not JSON"),
        ("[2]", "does not say what"),
        ('{"recipe": "vae", "options": 2}', "does not say what"),
    ],
)
def test_a_damaged_note_of_a_sweep_is_named_and_no_run_is_lost(text, said, swept, trained, told):
    path = swept / "sweep.json"
    path.write_text(text)
    code, out, err = told(*WORDS)
    assert (code, out) == (4, "")
    assert said in err and "remove it" in err
    path.unlink()
    code, out, err = told(*WORDS, "--json")
    assert (code, json.loads(out)) == (0, trained[1])
    assert "run 1 of" not in err


def test_ways_to_draw_the_training_pixels_are_compared_on_the_same_rows(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    words = ("sweep", "vae", "--data", "digits", "--hidden", "5", "--latent-dim", "2", "--epochs", "1", "--seeds", "1")
    code, out, err = told(*words, "--grid", "binarize=dynamic,static-seed", "--score-samples", "3", "--json")
    assert code == 0, err
    assert [point["point"] for point in json.loads(out)["points"]] == ["binarize dynamic", "binarize static-seed"]
    first, second = (load_data("digits", binarize=how).valid.values() for how in ("dynamic", "static-seed"))
    assert first.equal(second)


def test_the_table_of_weighted_rows_is_weighted_and_one_validation_row_has_no_interval(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    rows = [f"{x:.3f},{draws.normal():.3f},{1 + 9 * (x > 0)}" for x in draws.normal(size=60)]
    Path("t.csv").write_text("a,b,w\n" + "\n".join(rows) + "\n")
    words = ("sweep", "vae", "--data", "t.csv", "--weight", "w", "--hidden", "5", "--latent-dim", "1", "--epochs", "1")
    code, out, err = told(*words, "--seeds", "1", "--valid-fraction", "0.3", "--json")
    assert code == 0, err
    [point] = json.loads(out)["points"]
    valid = load_data("t.csv", weight="w", valid_fraction=0.3).valid
    made = score(load(Path("runs/sweep-vae/seed-0")), valid, num_samples=100)
    assert valid.weight is not None and len(set(valid.weight.tolist())) == 2
    for name in ("distortion", "rate"):
        assert point[name] == pytest.approx(np.average(getattr(made, name), weights=valid.weight))
    code, out, err = told(*words, "--seeds", "2", "--valid-fraction", "0.02", "--out", "one", "--json")
    assert code == 0, err
    [point] = json.loads(out)["points"]
    assert (point["interval"], point["active"]) == (None, [None, None])


def swept_by_two(folder, *words):
    """Run a small sweep whose runs are trained by two processes; returns its result and what was said."""
    command = "sweep vae --data digits --hidden 5 --latent-dim 2 --epochs 1 --seeds 1 --score-samples 3 --device cpu"
    ours = Path(lowerbound.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "lowerbound", *command.split(), "--devices", "2", *words, "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ours)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """A sweep whose run was trained by two processes: its folder, its result, and what was said."""
    folder = tmp_path_factory.mktemp("by_two")
    return folder, *swept_by_two(folder)


def test_runs_are_trained_by_as_many_processes_as_train_is_told(by_two):
    folder, found, said = by_two
    run = folder / "runs" / "sweep-vae" / "seed-0"
    assert json.loads((run / "env.json").read_text())["processes"] == 2
    assert "run 1 of 1: seed-0" in said
    assert [point["epochs"] for point in found["points"]] == [[1]]


@pytest.mark.slow
def test_a_run_of_two_processes_is_taken_up_by_two(by_two, tmp_path):
    shutil.copytree(by_two[0], tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / "sweep-vae" / "seed-0"
    weights = (run / "model" / "model.safetensors").read_bytes()
    cut_off(run)
    again, said = swept_by_two(tmp_path, "--max-restarts", "1", "--process-timeout", "60")
    assert "go on with it" not in said, "as many processes as before"
    assert (run / "model" / "model.safetensors").read_bytes() == weights
    assert [point["nll"] for point in again["points"]] == [point["nll"] for point in by_two[1]["points"]]
    assert (run / "command.txt").read_text().splitlines()[-1].split()[:2] == ["lowerbound", "resume"]


REFUSED = {
    "no recipe": (("sweep",), "no recipe was given"),
    "no values": (("sweep", "vae", "--data", "digits", "--grid", "beta"), "makes no sense"),
    "a value twice": (("sweep", "vae", "--data", "digits", "--grid", "latent-dim=2,2"), "each value once"),
    "an option twice": (
        ("sweep", "vae", "--data", "digits", "--grid", "latent-dim=2", "--grid", "latent-dim=3"), "in the grid twice",
    ),
    "a bad last value": (("sweep", "vae", "--data", "digits", "--grid", "latent-dim=2,many"), "--latent-dim"),
    "no such option": (("sweep", "vae", "--data", "digits", "--grid", "depth=2"), "--depth"),
    "a seed": (("sweep", "vae", "--data", "digits", "--grid", "latent-dim=2", "--seed", "3"), "chooses the seeds"),
    "seeds in the grid": (("sweep", "vae", "--data", "digits", "--grid", "seed=1,2"), "cannot vary seed"),
    "splits in the grid": (
        ("sweep", "vae", "--data", "digits", "--grid", "valid-fraction=0.1,0.2"), "judged by different rows",
    ),
    "other pixels in the grid": (
        ("sweep", "vae", "--data", "digits", "--grid", "binarize=dynamic,none"), "judged by different rows",
    ),
    "other sizes in the grid": (("sweep", "vae", "--data", "digits", "--grid", "image-size=8,16"), "by different rows"),
    "no seeds": (("sweep", "vae", "--data", "digits", "--grid", "latent-dim=2", "--seeds", "0"), "below 1"),
    "restarts of nothing": (("sweep", "vae", "--data", "digits", "--max-restarts", "1"), "add --devices"),
    "no such recipe": (("sweep", "vee", "--data", "digits", "--grid", "latent-dim=2"), "vee"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(case, tmp_path, monkeypatch, told):
    words, said = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    code, out, err = told(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert not any(tmp_path.iterdir())


def test_a_folder_holds_one_sweep(swept, told):
    words = list(WORDS)
    words[words.index("--epochs") + 1] = "3"
    code, _, err = told(*words)
    assert code == 2
    assert "holds another sweep" in err
    assert np.all([json.loads(p.read_text())["epoch"] == 2 for p in swept.glob("*/status.json")])
