"""The command line, in process: what it prints, where, and with which exit code."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lowerbound import recipes
from lowerbound.cli.main import COMMANDS, main
from lowerbound.recipes import __all__ as RECIPES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with two small runs: runs/vae-digits and runs/cvae-digits."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for recipe in ("vae", "cvae"):
            with pytest.raises(SystemExit) as left:
                main(["train", recipe, "--data", "digits", "--epochs", "2", "--hidden", "24", "--latent-dim", "3"])
            assert left.value.code == 0
    return folder


@pytest.fixture
def lowerbound(trained, tmp_path, monkeypatch, told):
    """Run a command in a copy of the trained folder; returns exit code, standard output and standard error."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return told


def test_a_run_folder_tells_everything(lowerbound):
    run = Path("runs/vae-digits")
    names = {p.name for p in run.iterdir()}
    assert {"recipe.json", "data.json", "env.json", "command.txt", "status.json", "metrics.jsonl", "log.txt"} <= names
    assert json.loads((run / "recipe.json").read_text())["options"]["latent_dim"] == 3
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", "epoch", "epoch", "epoch", "epoch", "checkpoint", "end"]
    assert "step 0: distortion" in (run / "log.txt").read_text()


@pytest.mark.parametrize(("without", "split"), [("test", "valid"), ("both", "train")])
def test_the_command_that_comes_next_has_rows_to_evaluate(lowerbound, without, split):
    words = ["--test-fraction", "0", *(["--valid-fraction", "0"] if without == "both" else [])]
    code, _, err = lowerbound("train", "vae", "--data", "digits", "--epochs", "1", "--out", "runs/fewer", *words)
    assert code == 0
    following = err.strip().splitlines()[-1].split()
    assert following == ["next:", "lowerbound", "evaluate", "fewer", "--split", split]
    assert lowerbound(*following[2:], "--num-samples", "2")[0] == 0


def test_evaluate_prints_json_and_saves_it(lowerbound):
    code, out, err = lowerbound("evaluate", "vae-digits", "--num-samples", "7", "--json")
    numbers = json.loads(out)
    assert code == 0
    assert numbers["nll"]["num_samples"] == 7
    assert numbers["nll"]["n"] == 179
    assert numbers["binarisation"] == "dynamic"
    assert numbers["nll"]["value"] < -numbers["elbo"]["value"]
    assert json.loads(Path("runs/vae-digits/eval/test.json").read_text()) == numbers
    assert err.strip().splitlines()[-1].startswith("next:")


def test_last_is_the_run_that_started_last(lowerbound):
    _, _, err = lowerbound("evaluate", "last", "--num-samples", "1", "--split", "valid")
    assert err.startswith("cvae-digits: 161 valid examples")


def test_sample_draws_a_grid(lowerbound):
    code, out, _ = lowerbound("sample", "vae-digits", "--num", "5", "--show", "draw")
    assert code == 0
    assert out.strip() == "runs/vae-digits/samples/samples-draw.png"
    with Image.open(out.strip()) as picture:
        assert picture.size[0] > 5 * 56


def test_sample_of_points_is_a_table(lowerbound):
    assert lowerbound("train", "vae", "--data", "ring", "--epochs", "1", "--hidden", "8")[0] == 0
    _, out, _ = lowerbound("sample", "vae-ring", "--num", "6")
    lines = Path(out.strip()).read_text().splitlines()
    assert lines[0] == '"x0","x1"'
    assert len(lines) == 7
    _, out, _ = lowerbound("reconstruct", "vae-ring", "--num", "4")
    lines = Path(out.strip()).read_text().splitlines()
    assert lines[0] == '"x0","x1"'
    assert len(lines) == 5


def test_a_conditional_model_draws_a_class(lowerbound):
    one = lowerbound("sample", "cvae-digits", "--num", "3", "--label", "7", "--out", "seven")
    each = lowerbound("sample", "cvae-digits", "--num", "3", "--out", "each")
    assert one[0] == each[0] == 0
    assert Path("seven.png").read_bytes() != Path("each.png").read_bytes()


def test_recipes_lists_and_shows(lowerbound):
    _, out, _ = lowerbound("recipes", "--json")
    listed = {r["name"]: r for r in json.loads(out)}
    assert listed["beta_vae"]["options"]["beta"] == 4.0
    _, out, _ = lowerbound("recipes", "linear_vae")
    assert "Lucas et al. 2019" in out
    assert "latent_dim" in out


def test_a_run_is_never_overwritten(lowerbound):
    words = ("train", "vae", "--data", "digits", "--epochs", "0", "--hidden", "8")
    assert lowerbound(*words)[0] == 0
    assert Path("runs/vae-digits-2/model").is_dir()
    code, _, err = lowerbound(*words, "--out", "runs/vae-digits")
    assert code == 2
    assert "exists already" in err


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_of_every_recipe_lists_all_options(lowerbound, recipe):
    """No option of a recipe may be called like one of reading data or training, or this fails."""
    code, out, _ = lowerbound("train", recipe, "--help")
    assert code == 0
    own = (
        "--" + name.replace("_", "-")
        for name in inspect.signature(getattr(recipes, recipe)).parameters
        if name != "spec"
    )
    assert all(option in out for option in ("--data", *own, "--max-value", "--epochs", "--init-from"))


def test_help_of_every_command(lowerbound):
    code, out, _ = lowerbound("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    for name in COMMANDS:
        code, out, _ = lowerbound(name, "--help")
        assert code == 0
        assert len(out) > 100


MISTAKES = {
    "unknown command": (("trian",), 2, "did you mean train?"),
    "unknown recipe": (("train", "beta-va", "--data", "digits"), 2, "did you mean beta_vae?"),
    "no data": (("train", "vae"), 2, "--data"),
    "unknown data": (("train", "vae", "--data", "digit"), 2, "did you mean digits?"),
    "misspelt option": (("train", "vae", "--data", "digits", "--latent-dm", "2"), 2, "--latent-dim"),
    "latent size 0": (("train", "vae", "--data", "digits", "--latent-dim", "0"), 2, "latent_dim cannot be 0"),
    "latent size 3.5": (("train", "vae", "--data", "digits", "--latent-dim", "3.5"), 2, "3.5"),
    "negative beta": (("train", "beta_vae", "--data", "digits", "--beta", "-1"), 2, "beta cannot be -1"),
    "negative epochs": (("train", "vae", "--data", "digits", "--epochs", "-1"), 2, "epochs cannot be -1"),
    "batch size 0": (("train", "vae", "--data", "digits", "--batch-size", "0"), 2, "batch size cannot be 0"),
    "learning rate nan": (("train", "vae", "--data", "digits", "--lr", "nan"), 2, "learning rate cannot be nan"),
    "learning rate 0": (("train", "vae", "--data", "digits", "--lr", "0"), 2, "learning rate cannot be 0"),
    "negative seed": (("train", "vae", "--data", "digits", "--seed", "-4"), 2, "seed cannot be -4"),
    "no such device": (("train", "vae", "--data", "digits", "--device", "tpu"), 2, "there is no device"),
    "fp16": (("train", "vae", "--data", "digits", "--precision", "fp16"), 2, "bf16"),
    "grey to Bernoulli": (("train", "mnist_vae_2017", "--data", "ring"), 2, "outside its support"),
    "labels missing": (("train", "cvae", "--data", "ring"), 2, "p(x|y) needs y"),
    "conv on points": (("train", "conv_vae", "--data", "moons"), 2, "needs images"),
    "no such run": (("evaluate", "nothing"), 2, "there is no run 'nothing'"),
    "K of 0": (("evaluate", "vae-digits", "--num-samples", "0"), 2, "number of samples cannot be 0"),
    "other shape": (("evaluate", "vae-digits", "--data", "mnist"), 2, "(1, 28, 28)"),
    "other split": (("evaluate", "vae-digits", "--split", "tset"), 2, "test"),
    "sample of 0": (("sample", "vae-digits", "--num", "0"), 2, "cannot draw 0 samples"),
    "class of no CVAE": (("sample", "vae-digits", "--label", "7"), 2, "not conditional"),
    "unknown class": (("sample", "cvae-digits", "--label", "eleven"), 2, "there is no class 'eleven'"),
    "too large a step": (
        ("train", "gaussian_vae", "--data", "digits", "--lr", "1e30", "--epochs", "3"),
        3,
        "not finite",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(lowerbound, case):
    words, code, text = MISTAKES[case]
    before = {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()}
    found, _, err = lowerbound(*words)
    assert found == code
    assert text in " ".join(err.split())
    assert "Traceback" not in err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_failed_training_keeps_the_last_good_state(lowerbound):
    lowerbound("train", "gaussian_vae", "--data", "digits", "--lr", "1e30", "--out", "broken")
    assert json.loads(Path("broken/status.json").read_text())["status"] == "failed"
    code, out, _ = lowerbound("evaluate", "broken", "--num-samples", "2", "--json")
    assert code == 0
    elbo = json.loads(out)["elbo"]  # the one step that was taken was so large that there may be no number
    assert elbo["value"] is not None or "not finite" in elbo["reason"]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "MANIFEST.json"])
def test_a_damaged_model_is_exit_4(lowerbound, file):
    path = Path("runs/vae-digits/model") / file
    path.write_bytes(path.read_bytes()[:-9])
    code, _, err = lowerbound("evaluate", "vae-digits")
    assert code == 4
    assert file.split(".")[0] in err


def test_a_bug_of_ours_is_exit_1_and_leaves_a_report(lowerbound, monkeypatch):
    import lowerbound.cli.recipes as command

    monkeypatch.setattr(command, "listing", lambda: 1 / 0)
    code, _, err = lowerbound("recipes")
    assert code == 1
    report = Path(err.strip().splitlines()[-1].split()[-1])
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()
