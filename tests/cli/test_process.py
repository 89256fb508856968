"""The command line as a process of its own: start-up, signals, pipes."""

import json
import signal
import subprocess
import sys
import textwrap

import pytest

LOWERBOUND = (sys.executable, "-m", "lowerbound")


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from lowerbound.cli.main import run; run(['--help']); "
        "assert not {'torch', 'numpy', 'tyro'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_command_that_reads_a_model_does_not_wait_for_the_compiler(tmp_path):
    code = """
        import sys, lowerbound as lb

        spec = lb.DataSpec("pixels", (1, 8, 8), "image", "binary", 10)
        for recipe in (lb.recipes.vae, lb.recipes.conv_vae, lb.recipes.gated_flow_vae):
            lb.load(lb.save(recipe(spec).build()[0], recipe.__name__)).sample(2)
        assert "torch._dynamo" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def interrupted(folder, number):
    """Start a long training, send the signal after the first epoch, and return the process's exit code."""
    words = ("train", "vae", "--data", "digits", "--epochs", "100000", "--hidden", "8", "--out", "run")
    with subprocess.Popen([*LOWERBOUND, *words], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch   2"):
                process.send_signal(number)
                break
        rest = process.stderr.read()
        process.wait()
    assert "the state of training was saved" in rest
    return process.returncode


def test_ctrl_c_saves_and_exits_130(tmp_path):
    assert interrupted(tmp_path, signal.SIGINT) == 130
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"
    words = ("evaluate", "run", "--num-samples", "2", "--json")
    done = subprocess.run([*LOWERBOUND, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["nll"]["value"] > 0


def test_sigterm_saves_and_exits_143(tmp_path):
    assert interrupted(tmp_path, signal.SIGTERM) == 143
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/state.safetensors"))


def test_a_reader_that_leaves_is_no_error():
    with subprocess.Popen([*LOWERBOUND, "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


def test_demo_goes_all_the_way(tmp_path):
    words = ("demo", "--epochs", "0", "--num-samples", "2")
    done = subprocess.run([*LOWERBOUND, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    nll = json.loads((tmp_path / "runs" / "demo" / "eval" / "test.json").read_text())["nll"]["value"]
    assert f"{nll:.4f}" in (tmp_path / "runs" / "demo" / "report.html").read_text()
    assert json.loads((tmp_path / "runs" / "demo" / "eval" / "test.json").read_text())["nll"]["n"] == 10_000
    for name in ("samples-mean.png", "reconstructions-mean.png"):
        assert (tmp_path / "runs" / "demo" / "samples" / name).exists()


@pytest.mark.slow
def test_demo_reaches_its_gate(tmp_path):
    """NLL (K = 100) of all 10,000 test images at most 95 nats; the factorised baseline of the data is 205.8."""
    done = subprocess.run([*LOWERBOUND, "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "runs" / "demo" / "eval" / "test.json").read_text())
    assert 70 < numbers["nll"]["value"] <= 95
    assert numbers["nll"]["num_samples"] == 100
