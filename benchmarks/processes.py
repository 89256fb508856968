"""Seconds of an epoch by one process and by two that train together, with the same batch, on the same processor cores.

Each training is a process of its own, `lowerbound train` in float32 without compiling; they are run in turn, A B C A B
C. An epoch is the second one, of training alone: start and validation are not in it.

    python benchmarks/processes.py [--rounds 3] [--out benchmarks/results/NAME.md]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from page import page

TRAININGS = {
    "`vae`, batch 128": ("vae", "--batch-size", "128"),
    "`vae`, batch 1024": ("vae", "--batch-size", "1024"),
    "`conv_vae`, batch 128": ("conv_vae", "--batch-size", "128"),
}
# a number of threads in the environment is that of each process
HOW: dict[str, tuple[int, tuple[str, ...]]] = {
    "one process, 1 thread": (1, ()),
    "one process, 2 threads": (2, ()),
    "two processes of 1 thread": (1, ("--devices", "2")),
    "two processes of 1 thread, `--shard`": (1, ("--devices", "2", "--shard")),
}


def epoch(recipe: str, words: tuple[str, ...], threads: int) -> tuple[float, int, float]:
    """Return seconds of the second epoch, the number of weights, and the ELBO on validation rows in nats.

    Raises:
        CalledProcessError: if the training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = (*words, "--epochs", "2", "--precision", "float32", "--kernels", "eager", "--out", str(out))
        subprocess.run(  # noqa: S603  (our own words)
            [sys.executable, "-m", "lowerbound", "train", recipe, "--data", "mnist", *words],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    start = next(line for line in lines if line["event"] == "start")
    first, second = (line for line in lines if line["event"] == "epoch" and line["split"] == "valid")
    return second["seconds"] - first["seconds"], start["parameters"], second["elbo"]


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| training | weights | how | s an epoch, median | each | times as fast as one thread | valid ELBO |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, (recipe, *words) in TRAININGS.items():
        found: dict[str, list[tuple[float, int, float]]] = {how: [] for how in HOW}
        for _ in range(options.rounds):
            for how, (threads, more) in HOW.items():
                found[how].append(epoch(recipe, (*words, *more), threads))
        alone = median(seconds for seconds, *_ in next(iter(found.values())))
        for how, rounds in found.items():
            middle, each = median(s for s, *_ in rounds), ", ".join(f"{s:.2f}" for s, *_ in rounds)
            _, weights, elbo = rounds[0]
            lines.append(
                f"| {name} | {weights:,} | {how} | {middle:.2f} | {each} | {alone / middle:.2f} | {elbo:.2f} |"
            )
    command = f"`python benchmarks/processes.py --rounds {options.rounds}`"
    sys.stdout.write(page("One process and two", command, lines, None, options.out))


if __name__ == "__main__":
    main()
