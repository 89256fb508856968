"""What every contender is: a process of its own that trains one epoch when asked, and hands out its weights."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

BATCH, LATENT, LR = 128, 20, 1e-3


def images() -> np.ndarray:
    """Return the training images named on the command line, `[N, 784]`, zeros and ones as uint8."""
    with np.load(sys.argv[2]) as file:
        return file["train"]


def network() -> str:
    """Return the network named on the command line: "mlp" (784-512-20-512-784) or "conv" (Pythae's for MNIST)."""
    return sys.argv[1]


def serve(epoch: Callable[[], Any], weights: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Answer "epoch" by seconds and the peak of memory, and "weights FILE" by a file of arrays, until there is no more.

    Args:
        epoch: trains one epoch, and returns when it is over.
        weights: returns the matrices `[in, out]` and biases of the MLP by name, or nothing for another network.
    """
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        ask, *file = line.split(maxsplit=1)
        started = time.perf_counter()
        if ask == "epoch":
            epoch()
        else:
            np.savez(Path(file[0].strip()), **weights())
        answer = {"seconds": time.perf_counter() - started, "mib": _peak()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _peak() -> float:
    """Return the most memory that this process has held, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
