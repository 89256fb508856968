"""Trains where the memory does not hold a step on a whole batch; writes what came out as JSON. For test_full_memory.py.

The limit is that of the process's address space. It is set once a whole batch has been trained without a limit, to 60%
of what that took beyond what stays mapped: what libraries and threads map differs from machine to machine.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
from training_parts import Ear, weights

import lowerbound as lb

ROWS = 8192  # a batch; noise is drawn 16 numbers at a time, so pieces of 8 rows and 2 latents draw that of the batch


def address_space(word):
    """Return the size of the address space in bytes: now ("VmSize"), or the largest so far ("VmPeak")."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(word))
    return int(line.split()[1]) * 1024


def train(of, ear, **options):
    """Return the model after two steps with 1000 hidden units: a batch takes much memory, the weights little."""
    made = lb.recipes.gaussian_vae(of.spec, latent_dim=2, hidden=(1000,))
    plan = {"batch_size": ROWS, "epochs": 1, "optimizer": "sgd", "lr": 1e-4, "kernels": "eager", **options}
    run = lb.fit(made, of, seed=3, precision="float32", device="cpu", progress=False, listeners=(ear,), **plan)
    return run.model


def apart(one, other):
    """Return the largest difference of two models' weights, in units of 1e-6 + 1e-5 of the weight."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float(((a - b).abs() / (1e-6 + 1e-5 * b.abs())).max()) for a, b in pairs)


def main():
    torch.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=(2 * ROWS, 4))
    of = lb.from_arrays(x, valid_fraction=0.0, test_fraction=0.0)
    whole, first = train(of, Ear()), train(of, Ear(), epochs=0)
    now, most = address_space("VmSize"), address_space("VmPeak")
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + int(0.6 * (most - now)), usual[1]))
    ear = Ear()
    limited = train(of, ear)
    resource.setrlimit(resource.RLIMIT_AS, usual)
    rows = [event["rows"] for event in ear.events if event["event"] == "micro_batch"]
    cut = train(of, Ear(), micro_batch=rows[-1] if rows else None)
    found = {
        "took": most - now,
        "rows": rows,
        "said": [line for line in ear.lines if line.startswith("the memory is full")],
        "end": ear.events[-1]["status"],
        "moved": apart(whole, first),
        "apart": apart(whole, limited),
        "equal": weights(cut) == weights(limited),
    }
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
