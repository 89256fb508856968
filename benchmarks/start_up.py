"""Seconds from a shell's prompt to an answer: importing the package and its peer, and the commands one starts with.

Every line is a process of its own, in turn, A B C A B C; medians. The first round, which reads files from disk, is not
counted.

    make bench          # makes the environment of the peers first
    python benchmarks/start_up.py [--rounds 5] [--peers .venv-peers/bin/python] [--out benchmarks/results/NAME.md]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from page import page

HERE = Path(sys.executable).parent


def programs(peers: str) -> dict[str, list[str]]:
    """Return what is started, by name."""
    own = str(HERE / "lowerbound")
    train = [own, "train", "vae", "--data", "digits", "--epochs", "1", "--out", "run"]
    return {
        "`python -c 'import torch'`": [sys.executable, "-c", "import torch"],
        "`python -c 'import lowerbound'`": [sys.executable, "-c", "import lowerbound"],
        "`python -c 'import lowerbound; lowerbound.VAE'`": [sys.executable, "-c", "import lowerbound; lowerbound.VAE"],
        "`python -c 'import pythae.models'` (Pythae 0.1.2)": [peers, "-c", "import pythae.models"],
        "`lowerbound --version`": [own, "--version"],
        "`lowerbound --help`": [own, "--help"],
        "`lowerbound train vae --help`": [own, "train", "vae", "--help"],
        "`lowerbound recipes`": [own, "recipes"],
        "`lowerbound train vae --data digits --epochs 1`": train,
    }


def seconds(words: list[str]) -> float:
    """Return what a process took, in an empty folder.

    Raises:
        CalledProcessError: if it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(words, cwd=folder, check=True, capture_output=True)  # noqa: S603  (our own words)
        return time.perf_counter() - started


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="Python with pythae")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = programs(str(Path(options.peers).absolute()))
    found: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(options.rounds + 1):
        for name, words in known.items():
            found[name].append(seconds(words))
    lines = ["| what is started | s, median | each |", "|---|---|---|"]
    for name, (_, *rest) in found.items():
        lines.append(f"| {name} | {median(rest):.2f} | {', '.join(f'{s:.2f}' for s in rest)} |")
    command = f"`python benchmarks/start_up.py --rounds {options.rounds}`"
    sys.stdout.write(page("Start-up", command, lines, None, options.out))


if __name__ == "__main__":
    main()
