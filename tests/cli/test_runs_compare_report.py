"""runs, compare and report, in process: what they print, what they refuse, and what they make of damaged files."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from lowerbound import evaluation, load, load_data, score
from lowerbound.cli.main import main

RUNS = {
    "one": ("vae", "digits", "--latent-dim", "3", "--hidden", "24"),
    "two": ("vae", "digits", "--latent-dim", "5", "--hidden", "17", "--epochs", "2"),
    "one-s1": ("vae", "digits", "--latent-dim", "3", "--hidden", "24", "--seed", "1"),
    "two-s1": ("vae", "digits", "--latent-dim", "5", "--hidden", "17", "--epochs", "2", "--seed", "1"),
    "two-s2": ("vae", "digits", "--latent-dim", "5", "--hidden", "17", "--epochs", "2", "--seed", "2"),
    "given-y": ("cvae", "digits", "--hidden", "11"),
    "code": ("ae", "digits", "--hidden", "13"),
    "sharp": ("vae", "digits", "--hidden", "19", "--binarize", "threshold"),
    "points": ("vae", "ring", "--hidden", "7", "--latent-dim", "1"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (recipe, data, *options) in RUNS.items():
            with pytest.raises(SystemExit) as left:
                main(
                    ["train", recipe, "--data", data, "--out", f"runs/{name}", "--epochs", "1", "--no-report", *options]
                )
            assert left.value.code == 0
    return folder


@pytest.fixture
def lowerbound(trained, tmp_path, monkeypatch, told):
    """Run a command in a copy of the trained folder; returns exit code, standard output and standard error."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return told


def change(path, **values):
    """Replace some entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def listed(lowerbound):
    return {run["name"]: run for run in json.loads(lowerbound("runs", "--json")[1])}


def test_runs_lists_all_newest_first(lowerbound):
    code, out, err = lowerbound("runs")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["name", "recipe", "data", "status", "epochs", "best", "nll", "started", "size"]
    assert [line.split()[0] for line in lines[1:]] == list(reversed(RUNS))
    assert "\x1b" not in out
    assert err == "next:  lowerbound report points\n"
    assert listed(lowerbound)["two"]["epochs"] == 2


def test_runs_takes_the_best_epoch_by_the_monitor(lowerbound):
    events = [json.loads(line) for line in Path("runs/two/metrics.jsonl").read_text().splitlines()]
    elbos = {e["epoch"]: e["elbo"] for e in events if e.get("split") == "valid"}
    runs = listed(lowerbound)
    epoch = max(elbos, key=elbos.__getitem__)
    assert runs["two"]["best"] == {"name": "elbo", "value": elbos[epoch], "epoch": epoch, "split": "valid"}
    assert runs["code"]["best"]["name"] == "distortion"


def test_runs_shows_the_nll_of_the_test_rows(lowerbound):
    lowerbound("evaluate", "one", "--num-samples", "3")
    nll = json.loads(Path("runs/one/eval/test.json").read_text())["nll"]
    assert f"{nll['value']:.2f} +- {nll['se']:.2f} (K {nll['num_samples']})" in lowerbound("runs")[1]
    assert listed(lowerbound)["one"]["nll"] == nll


def test_a_run_whose_process_is_gone_was_killed(lowerbound):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    change(Path("runs/one/status.json"), status="running", pid=process.pid)
    change(Path("runs/two/status.json"), status="running", pid=os.getpid())
    change(Path("runs/code/status.json"), status="running", pid=process.pid)
    change(Path("runs/code/env.json"), platform="another machine")
    runs = listed(lowerbound)
    assert [runs[name]["status"] for name in ("one", "two", "code")] == ["killed", "running", "running?"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells of a process that nobody waited for")
def test_a_process_that_nobody_waited_for_is_gone_too(lowerbound):
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # ends when the process does
    change(Path("runs/one/status.json"), status="running", pid=process.pid)
    for _ in range(100):
        if listed(lowerbound)["one"]["status"] == "killed":
            break
        time.sleep(0.02)
    status = listed(lowerbound)["one"]["status"]
    process.stdout.close()
    process.wait()
    assert status == "killed"


def test_the_best_epoch_of_a_killed_run_is_one_whose_weights_were_saved(lowerbound):
    epochs = [{"event": "epoch", "split": "valid", "epoch": e, "step": 10 * e, "elbo": -9.0 + e} for e in (1, 2, 3)]
    saved = {"event": "checkpoint", "epoch": 2, "step": 20, "path": "step-000020"}
    found = {}
    for state, events in (("done", epochs), ("killed", epochs), ("killed", [*epochs[:2], saved, *epochs[2:]])):
        Path("runs/one/metrics.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
        now = {"status": "running", "pid": 2**22 + 1} if state == "killed" else {"status": state}
        change(Path("runs/one/status.json"), **now)
        run = listed(lowerbound)["one"]
        assert run["status"] == state
        found[state, len(events)] = run["best"] and run["best"]["epoch"]
    assert found == {("done", 3): 3, ("killed", 3): None, ("killed", 4): 2}


DAMAGES = {
    "no JSON": b"{",
    "no object": b"[3]",
    "no UTF-8": b"\xff\xfe\xff",
    "odd types": b'{"status": [1], "started": "x", "name": 3, "spec": 7, "event": "epoch", "epoch": "a", "args": 4}',
    "huge numbers": b'{"started": 1e300, "status": "running", "pid": ' + b"9" * 400 + b"}",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["status.json", "recipe.json", "data.json", "env.json", "metrics.jsonl"])
def test_damaged_files_stop_neither_list_nor_report(lowerbound, name, damage):
    (Path("runs/one") / name).write_bytes(DAMAGES[damage] + b"\n")
    code, out, err = lowerbound("runs")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(RUNS)
    if damage not in ("odd types", "huge numbers"):
        assert f"warning: runs/one/{name}" in err
    if name == "recipe.json":
        assert "?" in next(line for line in out.splitlines() if line.startswith("one "))
    shutil.rmtree("runs/one/model")  # drawing is not what is tested here
    assert lowerbound("report", "one")[0] == 0


def test_a_name_cannot_move_the_cursor(lowerbound):
    change(Path("runs/one/recipe.json"), name="\x1b[31mred\ud800\n")
    code, out, _ = lowerbound("runs")
    assert code == 0
    assert "\x1b" not in out
    assert "\ufffd[31mred\ufffd\ufffd" in out


def test_no_runs(lowerbound):
    Path("empty").mkdir()
    code, out, err = lowerbound("runs", "empty")
    assert (code, out) == (0, "no runs in empty\n")
    assert err == "next:  lowerbound train vae --data mnist\n"
    code, _, err = lowerbound("runs", "nowhere")
    assert code == 2
    assert "there is no folder 'nowhere'" in err


def test_runs_does_not_wait_for_torch(trained):
    code = "import sys; from lowerbound.cli.main import run; run(['runs', 'runs']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=trained)
    assert done.returncode == 0, done.stderr


def test_compare_shows_what_differs_and_the_numbers(lowerbound):
    code, out, err = lowerbound("compare", "one", "two", "code", "--num-samples", "7", "--out", "new/all.csv")
    assert code == 0
    rows = {line[:13].strip(): line[13:].split() for line in out.split("\n\n")[0].splitlines()}
    assert rows["latent_dim"] == ["3", "5", "20"]
    assert rows["epochs done"] == ["1", "2", "1"]
    assert "batch_size" not in rows
    assert rows["nll"][-1] == "-"
    assert "code: no elbo, rate, nll, bits_per_dim: a Delta posterior is a point" in out
    assert "one: evaluating 179 test examples, K = 7" in err
    lines = list(csv.DictReader(Path("new/all.csv").read_text().splitlines()))
    saved = json.loads(Path("runs/two/eval/test.json").read_text())
    assert [line["run"] for line in lines] == ["one", "two", "code"]
    assert float(lines[1]["nll"]) == saved["nll"]["value"]
    assert (lines[0]["difference"], lines[2]["nll"]) == ("", "")
    assert (lines[0]["num_samples"], lines[0]["option_epochs"]) == ("7", "1")


def test_compare_writes_a_page_of_both(lowerbound):
    code, _, err = lowerbound("compare", "one", "two", "--num-samples", "2")
    assert code == 0
    assert "saved: runs/one-vs-two.html" in err
    html = Path("runs/one-vs-two.html").read_text()
    saved = [json.loads(Path(f"runs/{name}/eval/test.json").read_text()) for name in ("one", "two")]
    assert all(f"{numbers['nll']['value']:.3f}" in html for numbers in saved)
    assert html.count("<img ") == 2 + 1 + 2 + 1  # training, reconstructions, samples of each, rates
    assert "<script" not in html
    assert "log p of two less one" in html
    lowerbound("compare", "two", "code", "points", "--html", "x.html")
    assert not Path("x.html").exists()  # refused
    assert lowerbound("compare", "code", "two", "--num-samples", "2", "--html", "new/x.html")[0] == 0
    html = Path("new/x.html").read_text()
    assert "a Delta posterior is a point" in html
    assert html.count("<img ") == 2 + 1 + 2 + 1


def test_points_are_compared_by_draws(lowerbound):
    shutil.copytree("runs/points", "runs/again")
    assert lowerbound("compare", "points", "again", "--num-samples", "2")[0] == 0
    html = Path("runs/points-vs-again.html").read_text()
    assert "these data are no images" in html
    assert html.count("<table") >= 4


def test_evaluate_renews_the_report(lowerbound):
    lowerbound("report", "one")
    before = Path("runs/one/report.html").read_text()
    _, _, err = lowerbound("evaluate", "one", "--num-samples", "3")
    after = Path("runs/one/report.html").read_text()
    nll = json.loads(Path("runs/one/eval/test.json").read_text())["nll"]["value"]
    assert "report: runs/one/report.html" in err
    assert f"{nll:.4f}" in after
    assert f"{nll:.4f}" not in before
    lowerbound("evaluate", "two", "--num-samples", "3")
    assert not Path("runs/two/report.html").exists()


def test_the_difference_is_that_of_each_example(lowerbound):
    lowerbound("evaluate", "one", "--num-samples", "11")
    known = Path("runs/one/eval/test.json").read_bytes()
    _, out, _ = lowerbound("compare", "one", "two", "--num-samples", "9", "--seed", "4", "--json")
    assert Path("runs/one/eval/test.json").read_bytes() == known, "an evaluation by more samples stays"
    [found] = json.loads(out)["differences"]
    logs = []
    for name in ("one", "two"):
        model = load(f"runs/{name}")
        assert model.spec is not None
        rows = load_data("digits").test.matching(model.spec)
        logs.append(score(model, rows, num_samples=9, seed=4).log_px.numpy())
    each = logs[1] - logs[0]
    se = each.std(ddof=1) / np.sqrt(179)
    assert found["value"] == pytest.approx(each.mean())
    assert found["se"] == pytest.approx(se)
    half = student.ppf(0.975, 178) * se
    assert (found["low"], found["high"]) == pytest.approx((each.mean() - half, each.mean() + half))
    assert (found["run"], found["first"], found["n"]) == ("two", "one", 179)


def test_an_evaluation_of_other_rows_by_more_samples_stays(lowerbound):
    rows = ("--data", "digits", "--split", "valid")
    assert lowerbound("evaluate", "one", *rows, "--num-samples", "11")[0] == 0
    [path] = Path("runs/one/eval").glob("*.json")
    known = path.read_bytes()
    words = ("compare", "one", "two", *rows, "--json")
    for count, kept in ((9, True), (12, False)):
        code, out, err = lowerbound(*words, "--num-samples", str(count))
        assert code == 0, err
        [nll, _] = [run["nll"] for run in json.loads(out)["runs"]]
        assert nll["num_samples"] == count
        assert (path.read_bytes() == known) == kept


def test_runs_that_differ_in_their_seed_are_taken_together(lowerbound):
    _, out, _ = lowerbound("compare", "one", "two", "two-s1", "one-s1", "--num-samples", "3", "--json")
    found = {(d["variant"], d["first"]): d for d in json.loads(out)["over_seeds"]}
    logs = {}
    for name in ("one", "one-s1", "two", "two-s1"):
        model = load(f"runs/{name}")
        assert model.spec is not None
        logs[name] = float(score(model, load_data("digits").test.matching(model.spec), num_samples=3).log_px.mean())
    one = "vae latent_dim 3 hidden 24 epochs 1"
    two = "vae latent_dim 5 hidden 17 epochs 2"
    differences = np.array([logs["two"] - logs["one"], logs["two-s1"] - logs["one-s1"]])
    assert set(found) == {(one, None), (two, None), (two, one)}
    assert found[one, None]["value"] == pytest.approx((logs["one"] + logs["one-s1"]) / 2)
    assert found[two, one]["value"] == pytest.approx(differences.mean())
    assert found[two, one]["se_seeds"] == pytest.approx(differences.std(ddof=1) / np.sqrt(2))
    assert found[two, one]["paired"]
    assert found[two, one]["low"] < differences.mean() < found[two, one]["high"]
    _, out, _ = lowerbound("compare", "one", "one-s1", "two-s1", "two-s2", "--num-samples", "3")
    assert f"log p of {one} over 2 seeds: " in out
    assert f"log p of {two} over 2 seeds less {one} over 2 others: " in out
    assert "over seeds" not in lowerbound("compare", "one", "two", "--num-samples", "3")[1]


def test_an_impossible_example_leaves_the_other_numbers(lowerbound, monkeypatch):
    import lowerbound.cli.compare as module

    def scored(models, *args, **options):
        found = evaluation.compare.scored(models, *args, **options)
        found["one-s1"].log_px[3] = -np.inf
        return found

    monkeypatch.setattr(module, "scored", scored)
    words = ("compare", "one", "one-s1", "two", "two-s1", "--num-samples", "3", "--json")
    code, out, err = lowerbound(*words)
    assert code == 0, err
    assert "nothing over the seeds of vae latent_dim 3 hidden 24 epochs 1" in err
    found = json.loads(out)
    assert "1 of 179 examples" in found["differences"][0]["reason"]
    assert [d["variant"] for d in found["over_seeds"]] == ["vae latent_dim 5 hidden 17 epochs 2"]


def test_numbers_of_different_estimators_are_refused(lowerbound, tmp_path):
    words = ("compare", "one", "code", "--num-samples", "3")
    _, out, _ = lowerbound(*words)
    reason = "refused, the estimators differ (one: estimate K = 3; code: exact)"
    assert f"one: no distortion: {reason}" in out
    assert f"code: no distortion: {reason}" in out
    assert re.search(r"^distortion +- +-$", out, re.M)
    both = json.loads(lowerbound(*words, "--json")[1])["runs"]
    assert [run["distortion"]["value"] for run in both] == [None, None]
    assert [run["nll"]["value"] is None for run in both] == [False, True]  # one alone has it: nothing is mixed
    lowerbound(*words, "--out", str(tmp_path / "t.csv"), "--html", str(tmp_path / "t.html"))
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["distortion"] for row in rows] == ["", ""]
    assert lowerbound("evaluate", "one", "--num-samples", "3")[0] == 0  # what is saved of each run is whole
    _, same, _ = lowerbound("compare", "one", "two", "--num-samples", "3")
    assert "refused" not in same


def test_compare_uses_saved_numbers_where_they_fit(lowerbound):
    words = ("compare", "one", "two", "--num-samples", "5")
    lowerbound("evaluate", "one", "--num-samples", "5")
    _, _, err = lowerbound(*words)
    assert "one: evaluating" not in err
    assert "two: evaluating" in err
    assert "evaluating" not in lowerbound(*words)[2]
    assert "evaluating" in lowerbound(*words, "--seed", "1")[2]
    later = time.time() + 60  # as if the run had been resumed
    os.utime("runs/two/model/model.safetensors", (later, later))
    _, _, err = lowerbound(*words, "--seed", "1")
    assert "two: evaluating" in err
    assert "one: evaluating" not in err


REFUSED = {
    "other data": (("one", "points"), ("one: digits; points: ring", "probabilities", "densities")),
    "other binarisation": (("one", "two", "sharp"), ("one: dynamic; two: dynamic; sharp: threshold",)),
    "other target": (("one", "given-y"), ("one: log p(x); given-y: log p(x|y)",)),
    "one run": (("one",), ("needs two runs",)),
    "twice": (("one", "runs/one"), ("given twice",)),
    "no run": (("one", "none"), ("there is no run 'none'",)),
    "K of 0": (("one", "two", "--num-samples", "0"), ("number of samples cannot be 0",)),
    "no CSV": (("one", "two", "--out", "x.html"), ("ends in .csv",)),
    "no page": (("one", "two", "--html", "x.csv"), ("ends in .html",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_compare_refuses(lowerbound, case):
    words, parts = REFUSED[case]
    code, out, err = lowerbound("compare", *words)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts)
    assert not list(Path("runs").glob("*/eval"))


def test_other_rows_of_one_name_are_refused(lowerbound):
    change(Path("runs/two/data.json"), fingerprint="0" * 32)
    code, _, err = lowerbound("compare", "one", "two")
    assert code == 2
    assert "fingerprint" in err


def test_report_is_written_and_says_what_is_next(lowerbound):
    code, out, err = lowerbound("report", "one")
    assert (code, out) == (0, "runs/one/report.html\n")
    assert err.endswith("next:  lowerbound evaluate one\n")
    html = Path("runs/one/report.html").read_text()
    assert "lowerbound evaluate one" in html
    assert "Auto-Encoding Variational Bayes" in html
    assert html.count("<img ") == 2 + 8
    assert json.loads(lowerbound("report", "points", "--out", "a/b.html", "--json")[1]) == {"path": "a/b.html"}
    assert 'href="./../runs/points/data.json"' in Path("a/b.html").read_text()


def test_report_of_a_killed_run_without_model_or_numbers(lowerbound):
    shutil.rmtree("runs/one/model")
    Path("runs/one/metrics.jsonl").unlink()
    change(Path("runs/one/status.json"), status="running", pid=2**22 + 1)
    code, _, err = lowerbound("report", "one")
    html = Path("runs/one/report.html").read_text()
    assert code == 0
    assert "no pictures: runs/one has no model yet." in err
    assert all(text in html for text in ("killed", "no model yet", "no whole epoch yet", "not evaluated yet"))


def test_report_of_a_damaged_model_and_of_lost_data(lowerbound):
    Path("runs/one/model/model.safetensors").write_bytes(b"x")
    change(Path("runs/two/data.json"), origin=None)
    assert lowerbound("report", "one")[0] == lowerbound("report", "two")[0] == 0
    assert "model.safetensors is damaged" in Path("runs/one/report.html").read_text()
    html = Path("runs/two/report.html").read_text()
    assert html.count("<img ") == 2 + 2  # training; samples, and what was kept while it learned
    assert "was not trained on data with a name or a path" in html


@pytest.mark.parametrize("out", ["report.txt", "runs", "runs/one/model/report.html"])
def test_report_is_not_written_anywhere(lowerbound, out):
    before = sorted(Path("runs").rglob("*"))
    code, _, err = lowerbound("report", "one", "--out", out)
    assert code == 2
    assert "Traceback" not in err
    assert sorted(Path("runs").rglob("*")) == before
