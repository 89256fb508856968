"""Burda et al.'s network with one stochastic layer on dynamically binarised MNIST, by the VAE's and the IWAE's bound.

784-200-200-50 and back, tanh, 50 latents (Burda et al. 2016, arXiv 1509.00519, table 1: 86.76, 85.54 and 84.78 nats for
the VAE, IWAE-5 and IWAE-50 after 3280 epochs of batches of 20). Rows of four kinds:

    vae, iwae-5                         what half an hour, or three quarters, on two cores give
    iwae-5-bf16                         the same three quarters, in bfloat16 and compiled
    iwae-5-250                          the same three quarters without bfloat16: batches of 250, compiled
    vae-N, iwae-5-N                     the same for N epochs: the curve that says where it is heading
    updates-1, updates-5, updates-50    the same number of updates each, for paired differences
    full-1, full-5, full-50             3280 epochs: hours, for a GPU (--device cuda)

A row that is kept already is not trained again; the table is written anew after each.

    python benchmarks/burda.py ROW... [--folder runs/burda] [--device auto] [--out benchmarks/results/NAME.md]
"""

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from page import processor

import lowerbound as lb
from lowerbound.explore.run_files import RunFiles, read_run

NUM_SAMPLES = 5000


@dataclass(frozen=True)
class Row:
    """How one row is trained and scored.

    Args:
        samples: K of the bound that is trained; 1 is the VAE.
        epochs: passes through the 55,000 training images.
        batch_size: images in one step.
        lr: learning rate at the start; it falls to 0 by a cosine.
        images: test images that are scored, the first ones.
        goal: nats that the row is to reach, or None.
        precision: of the networks in training; scores are float32.
        kernels: of the training.
    """

    samples: int
    epochs: int
    batch_size: int = 100
    lr: float = 3e-3
    images: int = 10_000
    goal: float | None = None
    precision: Literal["float32", "bf16"] = "float32"
    kernels: Literal["eager", "compiled"] = "eager"


ROWS = {
    "vae": Row(1, 350, goal=87.76),
    "iwae-5": Row(5, 270, goal=86.54),
    "iwae-5-bf16": Row(5, 640, lr=2e-3, goal=86.54, precision="bf16", kernels="compiled"),
    "iwae-5-250": Row(5, 440, 250, 4e-3, goal=86.54, kernels="compiled"),
    "vae-6": Row(1, 6, images=2000),
    "vae-24": Row(1, 24, images=2000),
    "vae-90": Row(1, 90, images=2000),
    "iwae-5-5": Row(5, 5, images=2000),
    "iwae-5-18": Row(5, 18, images=2000),
    "iwae-5-72": Row(5, 72, images=2000),
    "updates-1": Row(1, 10, 20, 1e-3, 2000),
    "updates-5": Row(5, 10, 20, 1e-3, 2000),
    "updates-50": Row(50, 10, 20, 1e-3, 2000),
    "full-1": Row(1, 3280, goal=86.76),
    "full-5": Row(5, 3280, goal=85.54),
    "full-50": Row(50, 3280, goal=84.78),
}
CURVES = (("vae-6", "vae-24", "vae-90", "vae"), ("iwae-5-5", "iwae-5-18", "iwae-5-72", "iwae-5"))
UPDATES = ("updates-1", "updates-5", "updates-50")


def train(name: str, row: Row, data: lb.Data, options: argparse.Namespace) -> RunFiles:
    """Train one row, or go on where it was cut off, and return what its run folder says."""
    folder = options.folder / "runs" / name
    network: dict[str, Any] = {"latent_dim": 50, "hidden": (200, 200), "activation": "tanh"}
    if row.samples > 1:
        recipe = lb.recipes.iwae(data.spec, num_samples=row.samples, **network)
    else:
        recipe = lb.recipes.vae(data.spec, **network)
    if not folder.exists():
        how = {"epochs": row.epochs, "batch_size": row.batch_size, "lr": row.lr, "lr_schedule": "cosine", "ema": 0.999}
        how |= {"precision": row.precision, "kernels": row.kernels}
        lb.fit(recipe, data, **how, seed=options.seed, device=options.device, out=folder, progress=False, report=False)
    elif read_run(folder).state != "done":
        lb.resume(folder, data, device=options.device, progress=False, report=False)
    files = read_run(folder)
    if files.state != "done":
        raise SystemExit(f"the training was {files.state}; the same command goes on")
    return files


def measure(name: str, row: Row, data: lb.Data, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Train and score one row; returns its numbers and log p(x) of each test image."""
    files = train(name, row, data, options)
    model = lb.load(files.folder)
    rows = data.test.matching(model.spec).take(row.images)
    scores = lb.score(model, rows, num_samples=NUM_SAMPLES)
    valid = [(epoch, line["seconds"], line["elbo"]) for epoch, line in files.epochs["valid"].items()]
    facts = {
        **asdict(row),
        "seed": options.seed,
        "updates": row.epochs * math.ceil(len(data.train) / row.batch_size),
        "best_epoch": None if files.best is None else files.best[1],
        "seconds": files.seconds,
        "elbo": float(-(scores.distortion + scores.rate).mean()),
        "active_units": lb.active_units(model, rows),
        "mc_se": float(scores.variance.sum().sqrt() / len(rows)),
        "bias": float(scores.gain.mean()),
        "valid": valid,
        "machine": f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "device": options.device,
        "date": datetime.now(UTC).date().isoformat(),
    }
    return facts, scores.log_px.numpy()


def kept(path: Path, row: Row, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray] | None:
    """Return a row that was measured before with the same settings, or None."""
    if not path.with_suffix(".json").exists() or not path.with_suffix(".npy").exists():
        return None
    facts = {**asdict(Row(0, 0)), **json.loads(path.with_suffix(".json").read_text())}
    if any(facts[name] != value for name, value in {**asdict(row), "seed": options.seed}.items() if name != "goal"):
        return None
    return facts, np.load(path.with_suffix(".npy"), allow_pickle=False)


def mean_and_se(value: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error over images."""
    return float(value.mean()), float(value.std(ddof=1) / math.sqrt(len(value)))


def limit(epochs: list[int], nll: list[float]) -> tuple[float, float]:
    """Return c and p of the power law nll = c + a epochs^-p through the points that fits best by least squares."""
    best = (math.inf, math.nan, math.nan)
    for power in np.linspace(0.05, 2, 196):
        design = np.stack([np.ones(len(epochs)), np.array(epochs, dtype=float) ** -power], 1)
        found, *_ = np.linalg.lstsq(design, np.array(nll), rcond=None)
        error = float(np.square(design @ found - nll).sum())
        best = min(best, (error, float(found[0]), float(power)))
    return best[1], best[2]


def table(found: dict[str, tuple[dict[str, Any], np.ndarray]]) -> str:
    """Return all rows that are kept as Markdown."""
    lines = [
        "# Burda et al.'s one-layer network on dynamically binarised MNIST",
        "",
        "`python benchmarks/burda.py ROW...`: 55,000 training images binarised anew in each batch; the epoch with the "
        "best bound on 5,000 validation images is kept. NLL is the importance-sampled upper bound with "
        f"K = {NUM_SAMPLES} in nats, ± its standard error over the test images, which were binarised once by seed; the "
        "sampler's error and what the bound still moved from K/2 to K are below 0.05 where no other number is given. "
        "Seconds are of training alone, whatever else the machine did. One seed.",
        "",
        "| row | K | epochs | batch | updates | training s | images | ELBO | NLL | goal | active units | machine |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (facts, log_px) in found.items():
        nll, se = mean_and_se(-log_px)
        goal = "" if facts["goal"] is None else f"{facts['goal']} ({'reached' if nll <= facts['goal'] else 'missed'})"
        loose = "" if max(facts["mc_se"], facts["bias"]) < 0.05 else f" (mc {facts['mc_se']:.2f}, {facts['bias']:.2f})"
        cells = [f"`{name}`", *(f"{facts[key]:,}" for key in ("samples", "epochs", "batch_size", "updates"))]
        cells += [
            f"{facts['seconds']:.0f}",
            f"{facts['images']:,}",
            f"{facts['elbo']:.2f}",
            f"{nll:.2f} ± {se:.2f}{loose}",
        ]
        cells += [goal, f"{facts['active_units']} of 50", f"{facts['machine']}, {facts['date']}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_paired(found), *_headed(found), ""])


def _paired(found: dict[str, tuple[dict[str, Any], np.ndarray]]) -> list[str]:
    have = [name for name in UPDATES if name in found]
    lines = []
    for one, other in itertools.pairwise(have):
        mean, se = mean_and_se(found[other][1] - found[one][1])
        lines.append(
            f"* `{one}` less `{other}`: {mean:.3f} nats, 95 % interval {mean - 1.96 * se:.3f} to {mean + 1.96 * se:.3f}"
        )
    intro = ["", "NLL at equal updates, paired on the same images:", ""]
    return [*intro, *lines] if lines else []


def _headed(found: dict[str, tuple[dict[str, Any], np.ndarray]]) -> list[str]:
    lines = []
    for curve in CURVES:
        if all(name in found for name in curve):
            epochs = [found[name][0]["epochs"] for name in curve]
            images = min(len(found[name][1]) for name in curve)
            nll = [-float(found[name][1][:images].mean()) for name in curve]
            low, power = limit(epochs, nll)
            points = ", ".join(f"{n} epochs {value:.2f}" for n, value in zip(epochs, nll, strict=True))
            then = low + (nll[-1] - low) * (3280 / epochs[-1]) ** -power
            lines.append(
                f"* `{curve[-1]}`, first {images:,} test images: {points}. The power law through them, exponent "
                f"{power:.2f}, is at {then:.2f} after 3280 epochs and goes to {low:.2f}: an extrapolation, not a "
                "measurement."
            )
    return ["", "Where it is heading:", "", *lines] if lines else []


def main(say: Callable[[str], None]) -> None:
    """Measure the rows that are missing, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure; none writes the table only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/burda"), help="where rows are kept")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    data = lb.load_data("mnist")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.rows:
        path = options.folder / name
        if kept(path, ROWS[name], options) is None:
            facts, log_px = measure(name, ROWS[name], data, options)
            np.save(path.with_suffix(".npy"), log_px)
            path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
        say(f"{name} is kept in {options.folder}")
    all_kept = {name: kept(options.folder / name, row, options) for name, row in ROWS.items()}
    text = table({name: done for name, done in all_kept.items() if done is not None})
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    say(text)


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
