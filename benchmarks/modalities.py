"""Coherence of models of three modalities on MNIST: two digits side by side, the first one's label, and their sum.

Each recipe is trained for the same number of epochs on the same pairs, a fifth of whose rows lack the label and
another fifth the sum. A classifier of single digits, trained on other images, reads the halves of images; label and
sum are read as the class that is most probable. Given label and sum, an image must show both digits; given one of
them, what it says.

    python benchmarks/modalities.py [--pairs 12000] [--epochs 15] [--out docs/modalities.md]
"""

import argparse
import functools
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation.coherence import Coherence, coherence
from lowerbound.recipes import find

TABLE = Path(__file__).parents[1] / "docs" / "modalities.md"
RECIPES = ("mvae", "mmvae", "mopoe")
HALF = 28


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12_000, help="of which a tenth each is for validation and test")
    parser.add_argument("--read", type=int, default=20_000, help="digits that the classifier is trained on")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--num-samples", type=int, default=50, help="K of the NLL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TABLE)
    return parser.parse_args()


def pairs_of(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> lb.Data:
    """Return pairs of digits with the label of the first and the sum of both, some of them missing."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, len(images), (2, count))
    both = np.concatenate([images[left], images[right]], 2)  # [N, 28, 56]
    fifth = rng.integers(0, 5, count)
    parts = {"image": both, "label": labels[left], "sum": labels[left] + labels[right]}
    return lb.joined(parts, observed={"label": fifth != 0, "sum": fifth != 1}, name="mnist-pairs", seed=seed)


def classifier(images: Tensor, labels: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Return what reads digits `[N, 1, 28, 28]`: a small network, trained for two epochs on pixels drawn 0 or 1."""
    torch.manual_seed(seed)
    layers = [torch.nn.Conv2d(1, 16, 5, 2, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 5, 2, 2), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(32 * 49, 10))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(2):
        for index in torch.randperm(len(images)).split(100):
            x = torch.where(torch.rand(len(index), 1, 1, 1) < 0.5, images[index], torch.bernoulli(images[index]))
            loss = torch.nn.functional.cross_entropy(net(x), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return torch.no_grad()(lambda x: net(x).argmax(1))


def agreement(read: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """Return the judge: do the digits of an image, the label of the first and the sum go together?"""

    def agree(parts: dict[str, Tensor]) -> Tensor:
        label, total = (parts[name].argmax(1) if name in parts else None for name in ("label", "sum"))
        if "image" in parts:
            first, second = (read(half) for half in parts["image"].split(HALF, 3))
            right = torch.ones_like(first, dtype=torch.bool)
            right = right if label is None else right & (first == label)
            return right if total is None else right & (first + second == total)
        assert label is not None and total is not None
        return (total >= label) & (total <= label + 9)

    return agree


def main(say: Callable[[str], None]) -> None:
    """Train and measure each recipe, and write the table."""
    options = arguments()
    mnist = lb.load_data("mnist")
    images, labels = mnist.train.values(), mnist.train.y
    assert labels is not None
    read = classifier(images[: options.read], labels[: options.read], options.seed)
    held = slice(options.read, None)
    grey = (images[held, 0] * 255).round().to(torch.uint8).numpy()
    data = pairs_of(grey, labels[held].numpy(), options.pairs, options.seed)
    found: dict[str, tuple[Coherence, lb.Evaluation, float]] = {}
    for name in RECIPES:
        started = time.perf_counter()
        how = {"precision": "float32", "kernels": "eager"}
        recipe = find(name)(data.spec)
        run = lb.fit(recipe, data, epochs=options.epochs, seed=options.seed, progress=False, **how)
        seconds = time.perf_counter() - started
        rows = data.test.matching(run.model.spec)
        measured = coherence(run.model, rows, agreement(read), seed=options.seed)
        scored = lb.evaluate(run.model, rows, num_samples=options.num_samples, seed=options.seed)
        found[name] = measured, scored, seconds
        say(f"{name} ({seconds:.0f} s)\n{measured}\n{scored}")
        options.out.write_text(table(found, options), encoding="utf-8")


def table(found: dict[str, tuple[Coherence, lb.Evaluation, float]], options: argparse.Namespace) -> str:
    """Return docs/modalities.md."""
    first = next(iter(found.values()))[0]
    about = " ".join((__doc__ or "").partition("\n\n    python")[0].split("\n\n", 1)[1].split())
    lines = [
        "# Coherence of models of several modalities",
        "",
        f"{options.pairs:,} pairs, {options.epochs} epochs, seed {options.seed}. {about} A cell is the share of test "
        'rows in which what is made agrees with what was given, ± its standard error; "the data\'s own" is how often '
        "the judge finds that the data agree with themselves. NLL: nats for each row, of what is observed in it, an "
        f"upper bound in expectation with K = {options.num_samples}.",
        "",
        "| given → made | " + " | ".join(f"`{name}`" for name in found) + " | the data's own |",
        "|---|" + "---|" * (len(found) + 1),
    ]
    for pair in first.pairs:
        cells = [_cell(measured.pairs[pair]) for measured, _, _ in found.values()]
        lines.append(f"| {' + '.join(pair[0])} → {pair[1]} | " + " | ".join([*cells, _cell(first.data[pair])]) + " |")
    rows = {
        "samples of all three": [_cell(measured.joint) for measured, _, _ in found.values()],
        "NLL": [f"{scored.nll.value:.2f} ± {scored.nll.se or 0:.2f}" for _, scored, _ in found.values()],
        "training s": [f"{seconds:.0f}" for _, _, seconds in found.values()],
    }
    lines += [f"| {name} | " + " | ".join([*cells, "-"]) + " |" for name, cells in rows.items()]
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    command = f"python benchmarks/modalities.py --pairs {options.pairs} --epochs {options.epochs}"
    return "\n".join([*lines, "", f"{machine}, {datetime.now(UTC).date().isoformat()}; `{command}`.", ""])


def _cell(number: lb.evaluation.Number) -> str:
    return f"{number.value:.3f} ± {number.se or 0:.3f}"


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
