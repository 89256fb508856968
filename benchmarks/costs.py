"""What training costs as data, latents, samples and images grow: seconds an epoch, and the straight line through them.

Each setting trains two epochs in turn, all rounds one after another; the second epoch counts, and the median of rounds.
A line that fits says that nothing grows faster than the arithmetic does: the largest departure from it is given, as a
share of what was measured there.

    python benchmarks/costs.py [--rounds 3] [--only rows latents samples pixels] [--out benchmarks/results/NAME.md]
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch.nn.functional as F
from page import page

import lowerbound as lb

ROWS = 12_800  # of the settings that do not change them


@dataclass(frozen=True)
class Cost:
    """What grows.

    Args:
        unit: what is counted.
        about: the training.
        settings: the numbers tried.
        make: returns recipe and data of one number.
        amount: what the cost should be a straight line in.
    """

    unit: str
    about: str
    settings: tuple[int, ...]
    make: Callable[[lb.Data, int], tuple[lb.Recipe, lb.Data]]
    amount: Callable[[int], float] = float


def taken(data: lb.Data, count: int) -> lb.Data:
    """Return the first training images, and few others, so that the training is what is timed."""
    return lb.Data(data.train.take(count), data.valid.take(128), data.test.take(128))


def resized(data: lb.Data, size: int) -> lb.Data:
    """Return 1,280 training images scaled to `size` by `size` pixels, grey."""

    def scaled(rows: lb.Dataset) -> np.ndarray:
        return F.interpolate(rows.x.float(), (size, size), mode="bilinear").round().byte().numpy()

    some = taken(data, 1280)
    return lb.from_arrays(scaled(some.train), test=(scaled(some.test), None), valid_fraction=0.1, name=f"mnist-{size}")


COSTS = {
    "rows": Cost(
        "training images",
        "`vae`, 784-512-20",
        (6_400, 12_800, 25_600, 51_200),
        lambda data, n: (lb.recipes.vae(data.spec, latent_dim=20, hidden=(512,)), taken(data, n)),
    ),
    "latents": Cost(
        "latent dimensions",
        f"`vae`, 784-512-n, {ROWS:,} images",
        (8, 64, 256, 512),
        lambda data, n: (lb.recipes.vae(data.spec, latent_dim=n, hidden=(512,)), taken(data, ROWS)),
    ),
    "samples": Cost(
        "samples K",
        f"`iwae`, 784-512-20, {ROWS:,} images",
        (1, 4, 8, 16),
        lambda data, n: (lb.recipes.iwae(data.spec, latent_dim=20, hidden=(512,), num_samples=n), taken(data, ROWS)),
    ),
    "pixels": Cost(
        "height and width",
        "`conv_vae`, 1,152 grey images; the line is in pixels",
        (16, 32, 48, 64),
        lambda data, n: (lb.recipes.conv_vae(resized(data, n).spec, latent_dim=20), resized(data, n)),
        amount=lambda n: float(n * n),
    ),
}


def seconds(recipe: lb.Recipe, data: lb.Data) -> float:
    """Return what the second epoch took."""
    run = lb.fit(recipe, data, epochs=2, progress=False)
    first, second = (e["seconds"] for e in run.history if e["split"] == "train")
    return second - first


def measured(cost: Cost, data: lb.Data, rounds: int) -> dict[int, list[float]]:
    """Return the seconds of each round, by setting, taken in turn."""
    made = {n: cost.make(data, n) for n in cost.settings}
    found: dict[int, list[float]] = {n: [] for n in cost.settings}
    for _ in range(rounds):
        for n, (recipe, some) in made.items():
            found[n].append(seconds(recipe, some))
    return found


def line(amounts: np.ndarray, cost: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return intercept and slope of the line with the smallest relative errors, and its values.

    >>> [round(float(v), 6) for v in line(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 9.0]))[:2]]
    [1.0, 2.0]
    """
    design = np.stack([np.ones(len(amounts)), amounts], 1)
    (start, slope), *_ = np.linalg.lstsq(design / cost[:, None], np.ones(len(cost)), rcond=None)
    return float(start), float(slope), start + slope * amounts


def table(cost: Cost, found: Mapping[int, list[float]]) -> list[str]:
    """Return the lines of one table."""
    amounts = np.array([cost.amount(n) for n in cost.settings])
    times = np.array([median(found[n]) for n in cost.settings])
    start, slope, values = line(amounts, times)
    apart = np.abs(values / times - 1)
    lines = [f"| {cost.unit} | s an epoch, median | each | line | apart |", "|---|---|---|---|---|"]
    for i, n in enumerate(cost.settings):
        each = ", ".join(f"{s:.3f}" for s in found[n])
        lines.append(f"| {n:,} | {times[i]:.3f} | {each} | {values[i]:.3f} | {apart[i]:.1%} |")
    per = "pixel" if cost.amount(2) == 4 else "one more"
    text = f"{cost.about}: {start:.3f} s and {slope:.3g} s for each {per}; at most {apart.max():.1%} apart."
    return [text, "", *lines, ""]


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(COSTS), choices=list(COSTS))
    parser.add_argument("--out", type=Path)
    options: Any = parser.parse_args()
    data = lb.load_data("mnist")
    parts: list[str] = []
    for name in options.only:
        parts += [f"## {name}", "", *table(COSTS[name], measured(COSTS[name], data, options.rounds))]
    command = f"`python benchmarks/costs.py --rounds {options.rounds} --only {' '.join(options.only)}`"
    sys.stdout.write(page("What training costs as things grow", command, parts, None, options.out))


if __name__ == "__main__":
    main()
