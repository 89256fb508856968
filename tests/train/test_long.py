"""A long training: memory and handles stay what they were."""

import json
import subprocess
import sys

import pytest

LONG = """
import json, os, sys, torch
import lowerbound as lb

torch.set_num_threads(1)
x = torch.randn(1250, 3, generator=torch.Generator().manual_seed(0)).numpy()
data = lb.from_arrays(x, valid_fraction=0.1, test_fraction=0.1)
recipe = lb.recipes.gaussian_vae(data.spec, latent_dim=2, hidden=(5,))
seen = []

def watch(model, epoch):
    if epoch % 100 == 0:
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        seen.append((epoch, int(status["RssAnon"].split()[0]), len(os.listdir("/proc/self/fd"))))

run = lb.fit(recipe, data, epochs=500, batch_size=10, ema=0.99, out=sys.argv[1], save_every="1000 steps", report=False,
             progress=False, watchers=(watch,))
steps = json.load(open(os.path.join(sys.argv[1], "status.json")))["step"]
print(json.dumps({"steps": steps, "seen": seen}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_fifty_thousand_steps_leave_memory_and_handles_as_they_were(tmp_path):
    done = subprocess.run([sys.executable, "-c", LONG, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] >= 50_000
    seen = {epoch: (memory, handles) for epoch, memory, handles in found["seen"]}
    (early, handles), (late, after) = seen[100], seen[500]
    assert late - early < 4 * 1024  # KiB: the lines of 800 epochs' numbers are kept
    assert after == handles
