"""Decoded samples a second of importance-sampled log p(x) on MNIST: `lowerbound` beside Pythae's `get_nll`, in turn.

Both score the same rows by the same 784-512-20 network with the same weights in float32, K samples for each row. The
peer is no dependency of this project: `make bench` installs it in an environment of its own.

The network was trained for one epoch. The decoder's matrix products alone, for as many samples, are timed beside both:
no program that makes all of them in float32 by the same library can be faster. The last line says how far a row's
log p(x) in float32 is from float64, from the same draws.

    python benchmarks/nll.py [--rows 100] [--num-samples 5000] [--rounds 3] [--out benchmarks/results/NAME.md]
"""

import argparse
import copy
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from page import processor
from torch import Tensor, nn

import lowerbound as lb
from lowerbound.core.distribution import Distribution
from lowerbound.evaluation import score
from lowerbound.evaluation.decoding import Kernels
from lowerbound.families.normal import DiagonalNormal

HIDDEN, LATENT = 512, 20
BLOCK = 1000  # samples whose products are made at once: as many as `score` decodes at once


def ours(data: lb.Data) -> lb.VAE:
    """Return the model after one epoch."""
    recipe = lb.recipes.vae(data.spec, latent_dim=LATENT, hidden=(HIDDEN,))
    return lb.fit(recipe.replace(training=replace(recipe.training, epochs=1)), data).model


def same_draws(i: int, q: Distribution | None, p: Distribution, shape: tuple[int, int]) -> tuple[Tensor, Tensor, bool]:
    """Draw z from q by noise that does not depend on the precision."""
    assert isinstance(q, DiagonalNormal)
    z = q.loc + q.scale * torch.randn((*shape, *q.event_shape[-1:]), dtype=torch.float32).to(q.loc)
    return z, q.log_prob(z), True


def rounding(model: lb.VAE, rows: lb.Dataset, num_samples: int, kernels: Kernels) -> float:
    """Return the largest difference of a row's log p(x) between float32 and float64, in nats."""

    def widened(_: nn.Module, given: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        return tuple(None if t is None else t.double() for t in given)

    exact = copy.deepcopy(model).double()
    exact.encoder.register_forward_pre_hook(widened)
    low = score(model, rows, num_samples=num_samples, source=same_draws, kernels=kernels).log_px
    high = score(exact, rows, num_samples=num_samples, source=same_draws, kernels="eager").log_px
    return float((low - high).abs().max())


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


def products(model: lb.VAE, decoded: int) -> float:
    """Make the matrix products that decoding so many samples takes, and nothing else; no log p(x) comes out."""
    layers = [module for module in model.decoder.modules() if isinstance(module, nn.Linear)]
    given = [torch.randn(BLOCK, layer.in_features) for layer in layers]
    for _ in range(decoded // BLOCK):
        for layer, values in zip(layers, given, strict=True):
            layer(values)
    return math.nan


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
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="environment with pythae")
    options = parser.parse_args()
    # after our own libraries: the peer brings a `dataclasses` of an older Python
    sys.path += map(str, options.peers.glob("lib/python3*/site-packages"))
    data = lb.load_data("mnist")
    model = ours(data)
    rows = data.test.matching(model.spec).take(options.rows)
    other = peer(model)
    count = options.num_samples

    def own(kernels: Kernels) -> float:
        return float(score(model, rows, num_samples=count, kernels=kernels).log_px.mean())

    programs: dict[str, Callable[[], float]] = {
        "lowerbound, compiled": lambda: own("compiled"),
        "lowerbound, eager": lambda: own("eager"),
        "the products alone": lambda: products(model, options.rows * count),
        "Pythae 0.1.2": lambda: float(other.get_nll(rows.values(), n_samples=count, batch_size=100)),  # pyright: ignore
    }
    for work in programs.values():
        timed(work)  # the first call is not counted
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, work in programs.items():
            found[name].append(timed(work))
    apart = {name: rounding(model, rows, count, name) for name in ("compiled", "eager")}
    each = ", ".join(f"{value:.1e} ({name})" for name, value in apart.items())
    text = table(found, options) + f"\nLargest difference of a row's log p(x) from float64, same draws: {each} nats.\n"
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def table(found: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    decoded = options.rows * options.num_samples
    medians = {name: median(seconds for seconds, _ in rounds) for name, rounds in found.items()}
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{processor()}, {torch.get_num_threads()} threads, {versions}"
    command = " ".join(["python benchmarks/nll.py", *sys.argv[1:]])
    lines = [
        f"# Importance-sampled log p(x) on MNIST, 784-512-20, {options.rows} rows, K = {options.num_samples}, float32",
        "",
        f"{datetime.now(UTC).date()}, {machine}. Command: `{command}`.",
        "",
        "| program | decoded samples/s, median | seconds of each round, in turn | ratio | log p(x) it gave |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in found.items():
        each = ", ".join(f"{seconds:.2f}" for seconds, _ in rounds)
        ratio, value = medians["Pythae 0.1.2"] / medians[name], rounds[0][1]
        shown = "" if math.isnan(value) else f"{value:.3f}"
        lines.append(f"| {name} | {decoded / medians[name]:,.0f} | {each} | {ratio:.2f} | {shown} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
