"""Decoded samples a second of importance-sampled log p(x) on MNIST: `lowerbound` beside Pythae's `get_nll`, A B A B.

Both score the same rows by the same 784-512-20 network with the same weights in float32, K samples for each row. The
peer is no dependency of this project: install it beside it first (`pip install pythae==0.1.2`).

    python benchmarks/nll.py [--rows 100] [--num-samples 5000] [--rounds 3] [--out benchmarks/results/NAME.md]
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
from torch import Tensor, nn

import lowerbound as lb
from lowerbound.evaluation import score

HIDDEN, LATENT = 512, 20


def ours(data: lb.Data) -> lb.VAE:
    """Return the model; its weights are random, which changes no time."""
    return lb.recipes.vae(data.spec, latent_dim=LATENT, hidden=(HIDDEN,)).build(0)[0]


def peer(model: lb.VAE) -> nn.Module:
    """Return Pythae's VAE with the same weights."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    network, decoder = model.encoder.networks[0], model.decoder.network
    assert isinstance(network, nn.Module)

    class Encoder(BaseEncoder):
        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = network(x).unbind(1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=decoder(z).sigmoid())

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder()).eval()


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """Return seconds, and the mean log p(x) that came out."""
    started = time.perf_counter()
    with torch.no_grad():
        found = work()
    return time.perf_counter() - started, found


def main() -> None:
    """Time both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--num-samples", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = lb.load_data("mnist")
    model = ours(data)
    rows = data.test.matching(model.spec).take(options.rows)
    other = peer(model)
    count = options.num_samples
    programs: dict[str, Callable[[], float]] = {
        "lowerbound": lambda: float(score(model, rows, num_samples=count).log_px.mean()),
        "Pythae 0.1.2": lambda: float(other.get_nll(rows.values(), n_samples=count, batch_size=100)),  # pyright: ignore
    }
    for work in programs.values():
        timed(work)  # the first call is not counted
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, work in programs.items():
            found[name].append(timed(work))
    text = table(found, options)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def table(found: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    decoded = options.rows * options.num_samples
    medians = {name: median(seconds for seconds, _ in rounds) for name, rounds in found.items()}
    slowest = max(medians.values())
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}"
    command = " ".join(["python benchmarks/nll.py", *sys.argv[1:]])
    lines = [
        f"# Importance-sampled log p(x) on MNIST, 784-512-20, {options.rows} rows, K = {options.num_samples}, float32",
        "",
        f"{datetime.now(UTC).date()}, {machine}. Command: `{command}`.",
        "",
        "| program | decoded samples/s, median | seconds of each round, A B A B | ratio | log p(x) it gave |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in found.items():
        each = ", ".join(f"{seconds:.2f}" for seconds, _ in rounds)
        ratio, value = slowest / medians[name], rounds[0][1]
        lines.append(f"| {name} | {decoded / medians[name]:,.0f} | {each} | {ratio:.2f} | {value:.3f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
