"""Seconds for one epoch of the same VAE on MNIST: `lowerbound`, Pythae's trainer, a plain PyTorch loop, a JAX scan.

Each is a process of its own that keeps its data in memory; they train one epoch in turn, A B C A B C, and the first
epoch, which compiles, is told apart. All see the same images, binarised once, in batches of 128 with Adam at 1e-3, and
start from weights of their own. On a processor that multiplies bfloat16 no faster than float32, where `lowerbound`
trains in float32 by itself, the rows in bfloat16 are left out. The ELBO is computed here, by numpy, from the weights
that each hands out. Beside it, each is started anew, alone, for some epochs: wall-clock time with imports, reading and
compiling.

    make bench          # makes the environment of the peers first
    python benchmarks/engine.py [--rounds 5] [--networks mlp conv] [--from-start 20] [--out FILE]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from page import page

import lowerbound as lb
from lowerbound.train.fit import pick_device
from lowerbound.train.plan import has_bf16

CONTENDERS = Path(__file__).parent / "contenders"
BATCH, LATENT = 128, 20
IMAGES = {"mlp": 468 * BATCH, "conv": 8 * BATCH}
ABOUT = {
    "mlp": "784-512-20-512-784, 59,904 images, 468 steps an epoch",
    "conv": "Pythae's convolutional MNIST network (16 M weights, BatchNorm), 1,024 images, 8 steps an epoch",
}


@dataclass
class Contender:
    """One program.

    Args:
        name: for the table.
        python: of its environment.
        script: in `contenders/`.
        words: further words for it.
        networks: that it knows.
        base: True for the peer that ratios are taken to.
    """

    name: str
    python: str
    script: str
    words: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("mlp", "conv")
    base: bool = False
    seconds: list[float] = field(default_factory=list)
    mib: float = 0.0
    whole: float | None = None
    elbo: float | None = None

    def start(self, network: str, images: Path) -> "subprocess.Popen[str]":
        """Start its process."""
        words = [self.python, str(CONTENDERS / self.script), network, str(images), *self.words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(words, **pipes)  # noqa: S603  (our own scripts)


def contenders(peers: str) -> list[Contender]:
    """Return all programs."""
    eager, single = "kernels=eager", "precision=float32"
    half = [
        Contender("lowerbound, bf16, compiled", sys.executable, "ours.py", ("precision=bf16", "kernels=compiled")),
        Contender("lowerbound, bf16", sys.executable, "ours.py", ("precision=bf16", eager)),
    ]
    return [
        *(half if has_bf16(pick_device("auto")) else []),
        Contender("lowerbound, float32, compiled", sys.executable, "ours.py", (single, "kernels=compiled")),
        Contender("lowerbound, float32", sys.executable, "ours.py", (single, eager)),
        Contender("plain PyTorch loop", sys.executable, "plain_torch.py"),
        Contender("JAX 0.7.2, one scan an epoch", peers, "jax_scan.py", networks=("mlp",)),
        Contender("Pythae 0.1.2", peers, "pythae_trainer.py", base=True),
    ]


def binarised(folder: Path) -> dict[str, np.ndarray]:
    """Return training and test images as zeros and ones, and write the training images of each network to a file."""
    data = lb.load_data("mnist")
    draws = torch.Generator().manual_seed(0)
    both = [torch.cat([data.train.x, data.valid.x]).flatten(1), data.test.x.flatten(1)]
    train, test = ((torch.rand(x.shape, generator=draws) * 255 < x).to(torch.uint8).numpy() for x in both)
    for network, count in IMAGES.items():
        np.savez(folder / f"{network}.npz", train=train[:count])
    return {"test": test}


def elbo(file: Path, x: np.ndarray) -> float | None:
    """Return the mean ELBO of images in nats, one sample of the same noise for all, or None without weights."""
    with np.load(file) as w:
        if "enc_w" not in w:
            return None
        hidden = np.maximum(x @ w["enc_w"] + w["enc_b"], 0)
        mu, log_var = (hidden @ w[f"{n}_w"] + w[f"{n}_b"] for n in ("mu", "lv"))
        z = mu + np.exp(0.5 * log_var) * np.random.default_rng(0).normal(size=mu.shape)
        logits = np.maximum(z @ w["dec_w"] + w["dec_b"], 0) @ w["out_w"] + w["out_b"]
    distortion = (np.logaddexp(0, logits) - x * logits).sum(-1)
    rate = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(-1)
    return float(-(distortion + rate).mean())


def ready(contender: Contender, process: "subprocess.Popen[str]") -> None:
    """Wait until a process can be asked."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", f"{contender.name} did not start"


def ask(process: "subprocess.Popen[str]", words: str) -> dict[str, float]:
    """Have a process do something; returns what it says of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(words + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def measure(network: str, rounds: int, folder: Path, test: np.ndarray, known: list[Contender]) -> list[Contender]:
    """Let all programs train in turn."""
    chosen = [c for c in known if network in c.networks]
    processes = [c.start(network, folder / f"{network}.npz") for c in chosen]
    for contender, process in zip(chosen, processes, strict=True):
        ready(contender, process)
    for _ in range(rounds + 1):
        for contender, process in zip(chosen, processes, strict=True):
            answer = ask(process, "epoch")
            contender.seconds.append(answer["seconds"])
            contender.mib = answer["mib"]
    for contender, process in zip(chosen, processes, strict=True):
        weights = folder / "weights.npz"
        ask(process, f"weights {weights}")
        contender.elbo = elbo(weights, test)
        process.communicate(timeout=30)
    return chosen


def measure_from_start(network: str, epochs: int, folder: Path, chosen: list[Contender]) -> None:
    """Start each program anew, with no other beside it, and let it train some epochs."""
    for contender in chosen:
        started = time.perf_counter()
        process = contender.start(network, folder / f"{network}.npz")
        ready(contender, process)
        for _ in range(epochs):
            ask(process, "epoch")
        contender.whole = time.perf_counter() - started
        process.communicate(timeout=30)


def table(found: list[Contender], epochs: int) -> str:
    """Return the result as a Markdown table."""
    base = next(median(c.seconds[1:]) for c in found if c.base)
    heads = ["program", "s an epoch, median", "each", "first epoch", "times as fast as Pythae", "MiB", "test ELBO"]
    heads += [f"s from start, {epochs} epochs"] if epochs else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for c in found:
        first, *rest = c.seconds
        each, bound = ", ".join(f"{s:.2f}" for s in rest), "" if c.elbo is None else f"{c.elbo:.2f}"
        row = (
            c.name,
            f"{median(rest):.2f}",
            each,
            f"{first:.2f}",
            f"{base / median(rest):.2f}",
            f"{c.mib:,.0f}",
            bound,
            *([] if c.whole is None else [f"{c.whole:.1f}"]),
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=["mlp", "conv"], choices=sorted(IMAGES))
    parser.add_argument("--from-start", type=int, default=20, metavar="EPOCHS", help="0 leaves it out")
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="Python with jax, optax and pythae")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        test = binarised(folder)["test"].astype(np.float32)
        parts = []
        for network in options.networks:
            found = measure(network, options.rounds, folder, test, contenders(options.peers))
            if options.from_start:
                measure_from_start(network, options.from_start, folder, found)
            parts.append(f"{network}: {ABOUT[network]}\n\n{table(found, options.from_start)}\n")
    head = "All programs in turn, each a process of its own; ELBO after all epochs, on 10,000 test images."
    words = f"--rounds {options.rounds} --networks {' '.join(options.networks)} --from-start {options.from_start}"
    command = f"`python benchmarks/engine.py {words}`"
    sys.stdout.write(page("Seconds for one epoch of a VAE on MNIST", command, [head, "", *parts], None, options.out))


if __name__ == "__main__":
    main()
