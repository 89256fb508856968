"""Seconds for one epoch of the same MLP VAE on MNIST: `lowerbound` beside a plain PyTorch loop, A B A B.

Both train 784-512-256-20 with dynamic binarisation from a uint8 tensor in memory, batch 128, fused Adam, all 55,000
rows. The plain loop does what a tutorial does and nothing else: no checks, no metrics, no validation.

    python benchmarks/mnist_vae.py [--rounds 3] [--out benchmarks/results/NAME.md]
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

import lowerbound as lb
from lowerbound.core.spec import DataSpec
from lowerbound.data import Dataset
from lowerbound.train.loop import Loop
from lowerbound.train.run import Stop

HIDDEN, LATENT, BATCH, LR = (512, 256), 20, 128, 2e-3


def plain_loop(train: Dataset) -> Callable[[], None]:
    """Return a function that trains one epoch of a hand-written VAE."""

    def mlp(width: int, hidden: tuple[int, ...], out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.SiLU()]
            width = size
        return nn.Sequential(*layers, nn.Linear(width, out))

    encoder, decoder = mlp(784, HIDDEN, 2 * LATENT), mlp(LATENT, HIDDEN[::-1], 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], LR, fused=True)
    grey = train.x.flatten(1)

    def epoch() -> None:
        for index in torch.randperm(len(grey)).split(BATCH):
            x = (torch.rand(len(index), 784) * 255 < grey[index]).float()
            mu, log_var = encoder(x).chunk(2, -1)
            z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
            distortion = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
            rate = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(-1)
            optimizer.zero_grad()
            (distortion + rate).mean().backward()
            optimizer.step()

    return epoch


def ours(data: lb.Data) -> Callable[[], None]:
    """Return a function that trains one epoch by `lowerbound`, with its checks and metrics."""
    recipe = lb.recipes.vae(data.spec, latent_dim=LATENT, hidden=HIDDEN)
    recipe = recipe.replace(training=lb.Training(epochs=1000, batch_size=BATCH, lr=LR))
    loop = Loop(recipe, data, 0, torch.device("cpu"), "float32")

    def epoch() -> None:
        loop.progress.epoch += 1
        loop._epoch(Stop())

    return epoch


def measure(rounds: int) -> dict[str, list[float]]:
    """Time both, in turn, after one epoch each to warm up."""
    data = lb.load_data("mnist")
    runners = {"lowerbound": ours(data), "plain PyTorch loop": plain_loop(data.train)}
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for i in range(rounds + 1):
        for name, epoch in runners.items():
            started = time.perf_counter()
            epoch()
            if i:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def report(seconds: dict[str, list[float]], spec: DataSpec) -> str:
    """Return the result as Markdown."""
    base = median(seconds["plain PyTorch loop"])
    rows = [
        f"| {name} | {median(times):.2f} | {', '.join(f'{t:.2f}' for t in times)} | {median(times) / base:.2f} |"
        for name, times in seconds.items()
    ]
    return "\n".join(
        [
            f"# Seconds for one epoch, MLP VAE on MNIST ({spec.size:,} images)",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {torch.get_num_threads()} threads, "
            f"torch {torch.__version__}, Python {platform.python_version()}. "
            f"Command: `python {' '.join(sys.argv)}`.",
            "",
            "| program | median s | each round, A B A B | ratio to the plain loop |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = report(measure(options.rounds), lb.load_data("mnist").spec)
    sys.stdout.write(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
