"""Training on more than fits into memory: what the process holds of its own stays below 1.5 GiB."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SHAPE = (3, 64, 64)
LIMIT = 1536  # MiB
TRAINER = """
import hashlib, json, signal, sys
from lowerbound import fit, load_data, recipes
from lowerbound.data.dataset import Data
from lowerbound.train import log

class Stop:
    def event(self, event): pass
    def say(self, line): pass
    def tick(self, epoch, step, steps):
        if step >= int(sys.argv[3]):
            signal.raise_signal(signal.SIGINT)

log.time = type("Time", (), {"monotonic": staticmethod(iter(range(1 << 30)).__next__)})  # every step ticks
data = load_data(sys.argv[1], memory="map")
if sys.argv[2] == "hold":
    data = Data(data.train.in_memory(), data.valid.take(200).in_memory(), data.test)
else:
    data = Data(data.train, data.valid.take(200), data.test)
recipe = recipes.vae(data.spec, latent_dim=2, hidden=(8,))
run = fit(recipe, data, epochs=1, batch_size=256, progress=False, report=False, kernels="eager", listeners=(Stop(),))
weights = b"".join(t.numpy().tobytes() for t in run.model.state_dict().values())
print(json.dumps({"rows": len(data.train), "status": run.status, "weights": hashlib.sha256(weights).hexdigest()}))
"""


def trained(path, memory, steps):
    """Train in a process of its own; return what it said and its peak of RssAnon in MiB."""
    with subprocess.Popen([sys.executable, "-c", TRAINER, path, memory, str(steps)], stdout=subprocess.PIPE) as process:
        peak, ended = 0, None
        while ended is None:
            try:
                ended = process.wait(0.02)
            except subprocess.TimeoutExpired:
                status = Path(f"/proc/{process.pid}/status").read_text()
                found = re.search(r"RssAnon:\s+(\d+)", status)
                peak = max(peak, int(found[1]) // 1024 if found else 0)
        assert ended == 0
        return json.loads(process.stdout.read()), peak


def sparse(path, size):
    """Make a file of images whose last pixel alone is not 0: a hole of `size` GiB."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, ((size << 30) // 12288, *SHAPE))
    array[-1, -1, -1, -1] = 255
    del array
    assert path.stat().st_blocks < 1000


@pytest.mark.parametrize("size", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_a_file_larger_than_memory_may_be_is_trained_on(size, tmp_path):
    sparse(tmp_path / "x.npy", size)
    said, peak = trained(tmp_path / "x.npy", "map", 3 if size == 6 else 100)
    assert said["status"] == "stopped"
    assert said["rows"] > 0.9 * (size << 30) // 12288
    assert 100 < peak < LIMIT


@pytest.mark.slow
def test_real_data_give_the_weights_they_give_in_memory(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, ((4 << 30) // 12288, *SHAPE))
    draws = np.random.default_rng(1)
    for start in range(0, len(array), 5000):
        part = array[start : start + 5000]
        part[:] = np.frombuffer(draws.bytes(part.size), np.uint8).reshape(part.shape)
    del array
    try:
        disk, held = (trained(tmp_path / "x.npy", memory, 200) for memory in ("map", "hold"))
    finally:
        (tmp_path / "x.npy").unlink()
    assert disk[0] == held[0]
    assert disk[1] < LIMIT < held[1]


@pytest.mark.slow
def test_a_stream_gives_the_weights_it_gives_in_memory(tmp_path):
    datasets = pytest.importorskip("datasets")
    features, draws = datasets.Features({"pixels": datasets.Array3D(SHAPE, "uint8")}), np.random.default_rng(1)
    (tmp_path / "set").mkdir()
    for i in range(64):
        x = np.frombuffer(draws.bytes((2 << 30) // 64), np.uint8)[: (2 << 30) // 64 // 12288 * 12288]
        made = datasets.Dataset.from_dict({"pixels": x.reshape(-1, *SHAPE)}, features=features)
        made.save_to_disk(tmp_path / "one")
        next((tmp_path / "one").glob("*.arrow")).rename(tmp_path / "set" / f"train-{i:02d}.arrow")
        shutil.rmtree(tmp_path / "one")
    disk, held = (trained(f"hf:{tmp_path / 'set'}", memory, 100) for memory in ("map", "hold"))
    assert disk[0] == held[0]
    assert disk[1] < LIMIT < held[1]
