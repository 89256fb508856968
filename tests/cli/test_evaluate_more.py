"""`evaluate` beyond the first numbers, `doctor` and `outliers`, by the command line in process."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

import lowerbound.cli.progress as progress_module
from lowerbound.cli.main import main
from lowerbound.cli.measures import MEASURES

RMSE = "root mean squared error"
QUICK = ("--num-samples", "3", "--annealing-steps", "4", "--chains", "2", "--annealed-rows", "30")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with runs/digits (a cvae), runs/plain (an ae) and runs/table, a mixed table."""
    folder = tmp_path_factory.mktemp("more")
    rows = [f"{i % 7},{(i * 37) % 50 / 10},{'ABC'[i % 3]}" for i in range(90)]
    (folder / "people.csv").write_text("children,height,plan\n" + "\n".join(rows) + "\n")
    small = ("--epochs", "2", "--hidden", "16", "--latent-dim", "3", "--no-report", "--out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ("cvae", "--data", "digits", *small, "runs/digits"),
            ("ae", "--data", "digits", *small, "runs/plain"),
            ("vae", "--data", "people.csv", *small, "runs/table"),
        ):
            with pytest.raises(SystemExit) as left:
                main(["train", *words])
            assert left.value.code == 0
    return folder


@pytest.fixture
def lowerbound(trained, tmp_path, monkeypatch, told):
    """Run a command in a copy of the trained folder; returns exit code, standard output and standard error."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOWERBOUND_CACHE", str(tmp_path / "cache"))
    return told


def test_every_further_measure_is_saved_and_shown(lowerbound):
    words = [word for name in MEASURES for word in ("--also", name)]
    code, out, err = lowerbound("evaluate", "digits", *QUICK, *words, "--corruption", "gaussian", "--amount", "0.2")
    assert code == 0, err
    found = {name: json.loads(Path(f"runs/digits/eval/test-{name}.json").read_text()) for name in MEASURES}
    for name, numbers in found.items():
        assert f"\n{name}\n{numbers['text']}" in out
    assert found["annealed"]["nll_annealed"]["side"] == "upper"
    assert found["annealed"]["nll_annealed"]["target"] == "log p(x|y)"
    assert found["annealed"]["nll_annealed"]["n"] == 30
    assert found["annealed"]["gap"]["n"] == 30
    assert (found["annealed"]["steps"], found["annealed"]["split"]) == (4, "test")
    assert len(found["rate-distortion"]["beta"]) == 5
    assert "fd_cnn_digits" in found["samples"]["text"]
    assert "p(x|y)" in json.dumps(found["representation"])
    assert "GaussianNoise" in found["reconstruction"]["text"]
    assert err.strip().splitlines()[-1] == "next:  lowerbound doctor digits"
    # samples are compared with the rows that were asked for
    assert lowerbound("evaluate", "digits", "--num-samples", "2", "--split", "valid", "--also", "samples")[0] == 0
    valid = json.loads(Path("runs/digits/eval/valid-samples.json").read_text())
    assert valid["split"] == valid["held_out"]["precision"]["split"] == "valid"
    assert valid["n"] == 161
    assert lowerbound("report", "digits")[0] == 0
    page = Path("runs/digits/report.html").read_text()
    assert "fd_cnn_digits" in page
    assert "nll_annealed" in page


def test_the_advice_can_be_typed_whatever_a_run_is_called(lowerbound):
    shutil.move("runs/digits", "runs/my digits")
    code, _, err = lowerbound("evaluate", "my digits", "--num-samples", "2")
    assert code == 0, err
    assert shlex.split(err.splitlines()[-1]) == ["next:", "lowerbound", "doctor", "my digits"]


def test_json_has_null_where_a_number_is_not_finite(lowerbound):
    Path("far.csv").write_text("children,height,plan\n3,1e37,A\n2,2.0,B\n")
    code, out, _ = lowerbound("evaluate", "table", "--data", "far.csv", "--num-samples", "3", "--json")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert code == 0
    for text in (out, Path("runs/table/eval/far-all.json").read_text()):
        assert json.loads(text, parse_constant=refuse)["weights"]["ess"] is None


def test_json_holds_all_measures(lowerbound):
    code, out, _ = lowerbound("evaluate", "table", "--json", "--num-samples", "2", "--also", "reconstruction")
    assert code == 0
    found = json.loads(out)
    assert {"elbo", "nll", "reconstruction"} <= set(found)
    assert {"children", "height", "plan"} <= set(found["reconstruction"])
    text = json.loads(Path("runs/table/eval/test-reconstruction.json").read_text())["text"].splitlines()
    assert [line.partition("(")[2] for line in text] == [f"{unit}, exact)" for unit in 2 * [RMSE] + ["share right"]]


def test_the_tolerance_decides_how_many_samples(lowerbound):
    code, out, _ = lowerbound("evaluate", "digits", "--tolerance", "0.004", "--json")
    found = json.loads(out)["nll"]
    assert code == 0
    assert found["num_samples"] in (200, 400, 800, 1600, 3200, 6400, 12_800)
    assert max(found["mc_se"], abs(found["bias"])) < 0.004


def test_a_larger_K_draws_only_the_samples_that_are_missing(lowerbound, monkeypatch):
    path = Path("runs/digits/eval/test-sums.safetensors")
    _, wanted, _ = lowerbound("evaluate", "digits", "--num-samples", "300", "--json")
    assert not path.exists()  # a short evaluation leaves nothing behind
    monkeypatch.setattr(progress_module, "EVERY", -1.0)
    lowerbound("evaluate", "digits", "--num-samples", "200")
    assert path.exists()
    _, found, err = lowerbound("evaluate", "digits", "--num-samples", "300", "--json")
    assert "200 samples of each example are known already" in err
    assert found == wanted
    _, other, err = lowerbound("evaluate", "digits", "--num-samples", "300", "--json", "--seed", "1")
    assert "known already" not in err  # sums of another seed are of no use
    assert other != wanted
    path.write_bytes(b"damaged")
    assert lowerbound("evaluate", "digits", "--num-samples", "300", "--json")[1] == wanted


def test_an_interrupted_evaluation_keeps_what_it_has(lowerbound, monkeypatch):
    _, wanted, _ = lowerbound("evaluate", "digits", "--num-samples", "200", "--json")
    before = Path("runs/digits/eval/test.json").read_text()

    def stop(progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress_module.Progress, "after_block", stop)
        code, _, err = lowerbound("evaluate", "digits", "--num-samples", "200")
    assert code == 130
    assert "the same command goes on from there" in err
    assert Path("runs/digits/eval/test.json").read_text() == before
    _, found, err = lowerbound("evaluate", "digits", "--num-samples", "200", "--json")
    assert "known already" in err
    assert found == wanted


def test_an_interrupted_evaluation_keeps_its_rows_whatever_K_is(lowerbound, monkeypatch):
    """150 is no multiple of 100: the first 100 of the 179 rows are done when the second block is interrupted."""
    words, calls, drawn = ("evaluate", "digits", "--num-samples", "150", "--json"), [], []
    wanted = lowerbound(*words)[1]

    def stop(progress):
        calls.append(progress)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress_module.Progress, "after_block", stop)
        assert lowerbound(*words)[0] == 130
    monkeypatch.setattr(progress_module.Progress, "after_block", lambda progress: drawn.append(1))
    assert lowerbound(*words)[1] == wanted
    assert len(drawn) == 1  # the last 50 samples of the last 79 rows
    other = lowerbound("evaluate", "digits", "--num-samples", "300")  # 150 are no whole chunks: they start anew
    assert other[0] == 0, other[2]
    assert len(drawn) == 1 + 2 * 3


def test_a_smaller_K_leaves_the_sums_of_a_larger_one(lowerbound, monkeypatch):
    monkeypatch.setattr(progress_module, "EVERY", -1.0)
    _, wanted, _ = lowerbound("evaluate", "digits", "--num-samples", "300", "--json")
    before = Path("runs/digits/eval/test-sums.safetensors").read_bytes()
    code, out, _ = lowerbound("evaluate", "digits", "--num-samples", "100", "--json")
    assert (code, json.loads(out)["nll"]["num_samples"]) == (0, 100)
    assert Path("runs/digits/eval/test-sums.safetensors").read_bytes() == before
    _, found, err = lowerbound("evaluate", "digits", "--num-samples", "300", "--json")
    assert "300 samples of each example are known already" in err
    assert found == wanted


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--tolerance", "0"), "the tolerance cannot be 0"),
        (("--annealing-steps", "0"), "the number of steps cannot be 0"),
        (("--chains", "-1"), "the number of chains cannot be -1"),
        (("--annealed-rows", "0"), "0 rows cannot be annealed"),
        (("--corruption", "gaussian"), "--corruption and --amount belong together"),
        (("--corruption", "gaussian", "--amount", "0.1"), "add --also reconstruction"),
        (("--fid-weights", "w.safetensors"), "add --also samples"),
        (("--fid-weights", "w.safetensors", "--also", "samples"), "w.safetensors"),
        (("--also", "everything"), "reconstruction"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_asked_for_is_refused(lowerbound, words, text):
    code, _, err = lowerbound("evaluate", "digits", "--num-samples", "2", *words)
    assert code == 2
    assert text in err
    assert "Traceback" not in err


def test_a_table_has_no_images_to_corrupt(lowerbound):
    words = ("--num-samples", "2", "--also", "reconstruction", "--corruption", "blur", "--amount", "1")
    code, _, err = lowerbound("evaluate", "table", *words)
    assert code == 2
    assert "no images to corrupt" in err


def test_a_point_cannot_be_annealed(lowerbound):
    code, _, err = lowerbound("evaluate", "plain", "--also", "annealed")
    assert code == 2
    assert "point" in err


@pytest.mark.parametrize("run", ["digits", "plain", "table"])
def test_the_doctor_sees_every_kind_of_run(lowerbound, run):
    code, out, err = lowerbound("doctor", run, "--rows", "60", "--json")
    assert code == 0, err
    found, kept = json.loads(out), json.loads(Path(f"runs/{run}/eval/doctor.json").read_text())
    assert {name: kept[name] for name in found} == found
    assert err.strip().splitlines()[-1].startswith("next:  lowerbound ")


def test_outliers_are_ranked_and_saved(lowerbound):
    code, out, err = lowerbound(
        "outliers", "digits", "--against", "digits", "--against-split", "valid", "--num-samples", "2"
    )
    assert code == 0, err
    assert "auroc" in out.lower()
    assert "auroc" in json.dumps(json.loads(Path("runs/digits/eval/outliers-digits.json").read_text())).lower()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--against", "mnist"), "(1, 28, 28)"),
        (("--against", "nowhere/"), "nowhere"),
        (("--against", "digits", "--rows", "1"), "1 rows cannot be ranked"),
        (("--against", "digits", "--ensemble", "digits"), "given twice"),
        ((), "--against"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_outliers_of_nothing_are_refused(lowerbound, words, text):
    code, _, err = lowerbound("outliers", "digits", "--num-samples", "2", *words)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
