"""Options from files, printed options, dry runs, fine-tuning and more epochs, by the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lowerbound import load, load_data, recipes
from lowerbound.train.predict import predict

SMALL = ("--data", "digits", "--latent-dim", "3", "--hidden", "11", "7", "--epochs", "1", "--no-report")


@pytest.fixture
def lowerbound(tmp_path, monkeypatch, told):
    """Run a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    return told


def test_a_run_is_trained_again_from_its_exported_options(lowerbound):
    assert lowerbound("train", "beta_vae", *SMALL, "--beta", "2.5", "--augment", "shift", "--seed", "4")[0] == 0
    assert lowerbound("export-config", "last", "--out", "again.yaml")[0] == 0
    options = yaml.safe_load(Path("again.yaml").read_text())
    assert (options["recipe"], options["beta"], options["hidden"], options["augment"], options["seed"]) == (
        "beta_vae", 2.5, [11, 7], ["shift"], 4,
    )  # fmt: skip
    assert lowerbound("train", "--config", "again.yaml", "--out", "again")[0] == 0
    weights = [(Path(p) / "model" / "model.safetensors").read_bytes() for p in ("runs/beta_vae-digits", "again")]
    assert weights[0] == weights[1]
    assert lowerbound("train", "--config=again.yaml", "--latent-dim", "2", "--out", "other")[0] == 0
    assert json.loads(Path("other/recipe.json").read_text())["options"]["latent_dim"] == 2


def test_printed_options_are_a_file_of_options(lowerbound):
    code, out, _ = lowerbound("train", "vae", *SMALL, "--columns", "a", "b:category", "--print-config")
    assert code == 0
    options = yaml.safe_load(out)
    assert (options["recipe"], options["latent_dim"], options["columns"]) == ("vae", 3, ["a", "b:category"])
    assert not Path("runs").exists()
    Path("c.yaml").write_text(out)
    assert lowerbound("train", "--config", "c.yaml", "--print-config")[1] == out


def test_default_options_of_a_recipe(lowerbound):
    code, out, _ = lowerbound("export-config", "cvae", "--json")
    assert code == 0
    assert json.loads(out)["latent_dim"] == 20


def test_json_is_read_too(lowerbound):
    Path("c.json").write_text(json.dumps({"data": "digits", "latent-dim": 2, "hidden": [5], "epochs": 0}))
    assert lowerbound("train", "vae", "--config", "c.json", "--out", "run")[0] == 0
    assert load("run").groups[0].posterior_family.event_shape == (2,)


def test_words_that_yaml_takes_for_truth_are_words_where_an_option_has_some(lowerbound):
    Path("c.yaml").write_text("recipe: vae\ndata: t.csv\nstandardize: no\nlabel: on\nskip_bad: yes\nreport: off\n")
    code, out, err = lowerbound("train", "--config", "c.yaml", "--print-config")
    assert code == 0, err
    options = yaml.safe_load(out)
    names = ("standardize", "label", "skip_bad", "report")
    assert [options[name] for name in names] == ["no", "on", True, False]
    Path("again.yaml").write_text(out)
    assert lowerbound("train", "--config", "again.yaml", "--print-config")[1] == out


WRONG = {
    "unknown option": ("data: digits\nlatent_dims: 4\n", ("'latent_dims'", "line 2", "did you mean latent_dim?")),
    "no YAML": ("data: [digits\nepochs: 1\n", ("is not YAML", "line 2", "column 7")),
    "no options": ("- a\n- b\n", ("holds no options",)),
    "empty": ("", ("holds no options",)),
    "twice": ("data: digits\nepochs: 1\nepochs: 2\n", ("epochs is there twice", "line 3")),
    "wrong type": ("data: digits\nepochs: many\n", ("epochs", "many")),
    "nested": ("data: digits\nhidden: {a: 1}\n", ("hidden", "line 2")),
    "a tag that runs code": ("data: !!python/object/apply:os.system ['true']\n", ("is not YAML", "line 1")),
    "no text": ("\x00\x01", ("is not YAML",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_say_where(lowerbound, case):
    content, words = WRONG[case]
    Path("c.yaml").write_text(content)
    code, _, err = lowerbound("train", "vae", "--config", "c.yaml")
    assert code == 2
    said = " ".join(err.replace("│", " ").split())
    assert all(word in said for word in words), said
    assert "Traceback" not in err


def test_files_that_are_not_there_and_recipes_that_are_not_named(lowerbound):
    assert "cannot be read" in lowerbound("train", "--config", "nothing.yaml")[2]
    assert "was given no file" in lowerbound("train", "vae", "--config")[2]
    Path("c.yaml").write_text("data: digits\n")
    code, _, err = lowerbound("train", "--config", "c.yaml")
    assert (code, "no recipe was given" in err) == (2, True)


def test_a_dry_run_trains_nothing(lowerbound):
    code, out, err = lowerbound("train", "vae", *SMALL, "--dry-run")
    assert code == 0
    # 64-11-7-(2 x 3) and 3-7-11-64, each layer with its bias
    count = (64 * 11 + 11) + (11 * 7 + 7) + (7 * 6 + 6) + (3 * 7 + 7) + (7 * 11 + 11) + (11 * 64 + 64)
    assert f"parameters    {count:,}" in out
    assert "12 an epoch" in out
    assert "nothing was trained" in err
    assert not Path("runs").exists()


def test_predicted_memory_grows_as_it_must():
    data = load_data("digits")
    small, large = (recipes.vae(data.spec, latent_dim=3, hidden=(n,)) for n in (64, 128))
    one, two = predict(small, data), predict(large, data)
    assert one.model_bytes == 4 * 5 * one.parameters  # weights, gradients, two moments, the best weights
    assert two.batch_bytes > one.batch_bytes
    training = small.training
    fewer = predict(small.replace(training=type(training)(batch_size=training.batch_size // 2)), data)
    assert one.batch_bytes / fewer.batch_bytes == pytest.approx(2, rel=0.1)
    assert one.data_bytes == 1797 * (64 + 8)  # bytes of pixels, and a label


def test_predicted_memory_counts_pieces_the_average_and_critics():
    data = load_data("digits")
    made = recipes.vae(data.spec, latent_dim=3, hidden=(64,))
    plain = predict(made, data)
    pieces = predict(made.replace(training=replace(made.training, micro_batch=made.training.batch_size // 4)), data)
    assert plain.batch_bytes / pieces.batch_bytes == pytest.approx(4, rel=0.1)
    averaged = predict(made.replace(training=replace(made.training, ema=0.9)), data)
    assert averaged.model_bytes - plain.model_bytes == 4 * plain.parameters
    with_critic = recipes.factor_vae(data.spec, latent_dim=3, hidden=(64,))
    critic = sum(p.numel() for p in with_critic.build()[1].parameters())
    assert critic and predict(with_critic, data).model_bytes - plain.model_bytes == 4 * 4 * critic


@pytest.mark.parametrize("words", [("hamiltonian_vae",), ("rae",), ("vae", "--prior", "flow_matching")])
def test_a_dry_run_of_what_takes_derivatives_itself(lowerbound, words):
    code, out, err = lowerbound("train", *words, "--data", "digits", "--dry-run")
    assert code == 0, err
    assert "one step" in out


def test_what_a_graph_keeps_is_what_its_passes_were_seen_to_keep(monkeypatch):
    data = load_data("digits")
    recipe = recipes.vae(data.spec, latent_dim=3, hidden=(64,))
    seen = predict(recipe, data).batch_bytes

    def without(*hooks):
        raise RuntimeError("no saved tensor hooks")

    monkeypatch.setattr("torch.autograd.graph.saved_tensors_hooks", without)
    assert predict(recipe, data).batch_bytes == pytest.approx(seen, rel=0.1)


def test_fine_tuning_and_more_epochs(lowerbound):
    assert lowerbound("train", "vae", *SMALL, "--out", "first")[0] == 0
    assert lowerbound("train", "vae", *SMALL, "--init-from", "first", "--out", "second")[0] == 0
    code, _, err = lowerbound("train", "vae", "--data", "digits", "--init-from", "first", "--out", "third")
    assert (code, "do not fit the new model" in err, Path("third").exists()) == (2, True, False)
    assert lowerbound("resume", "first", "--epochs", "3")[0] == 0
    assert json.loads(Path("first/status.json").read_text())["epoch"] == 3
    code, _, err = lowerbound("resume", "first")
    assert (code, "3 epochs already" in err) == (2, True)
    assert "there is no run" in lowerbound("resume", "nothing")[2]
