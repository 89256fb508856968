"""Coherence of models of three modalities on MNIST: two digits side by side, the first one's label, and their sum.

Each recipe is trained for the same number of epochs on the same pairs, a fifth of whose rows lack the label and
another fifth the sum. A classifier of single digits, trained on other images, reads the halves of images; label and
sum are read as the class that is most probable. Given label and sum, an image must show both digits; given one of
them, what it says. A row that is there already is not trained again.

    python benchmarks/modalities.py [--pairs 12000] [--epochs 12] [--only mvae]
"""

import argparse
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import page
import torch
from torch import Tensor

import lowerbound as lb
from lowerbound.evaluation import score
from lowerbound.evaluation.coherence import coherence
from lowerbound.recipes import find

TABLE = Path(__file__).parents[1] / "docs" / "results.md"
TITLE = "Several modalities: coherence"
HALF = 28
ASKED = ("pairs", "read", "epochs", "num_samples", "seed")


@dataclass(frozen=True)
class Claim:
    """What a paper says of a recipe beside another: this quantity is higher, or lower."""

    quantity: Literal["one", "both", "joint", "nll"]
    direction: Literal["higher", "lower"]
    against: str


@dataclass(frozen=True)
class Row:
    """One model: the recipe, its options, and what its paper says of it."""

    name: str
    claims: tuple[Claim, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.name.split(",")[0]


# Shi et al. 2019, arXiv 1911.03393, sec. 4.2; Sutter et al. 2021, arXiv 2105.02470, sec. 4.1 and 4.2
ROWS = (
    Row("mvae"),
    Row("mvae, observed", (Claim("one", "higher", "mvae"), Claim("nll", "higher", "mvae")), {"scored": "observed"}),
    Row("mmvae", (Claim("one", "higher", "mvae"), Claim("joint", "higher", "mvae"))),
    Row("mopoe", (Claim("one", "higher", "mvae"), Claim("both", "higher", "mmvae"), Claim("nll", "lower", "mmvae"))),
)
CALLED = {"one": "from one", "both": "from two", "joint": "samples", "nll": "NLL"}


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12_000, help="of which a tenth each is for validation and test")
    parser.add_argument("--read", type=int, default=20_000, help="digits that the classifier is trained on")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--num-samples", type=int, default=50, help="K of the NLL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="rows to train (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/modalities"), help="where rows are kept")
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


def measure(
    row: Row, data: lb.Data, read: Callable[[Tensor], Tensor], options: argparse.Namespace
) -> tuple[dict[str, Any], np.ndarray]:
    """Train a row; returns its shares of rows that agree, and the NLL of each test row."""
    started = time.perf_counter()
    how = {"precision": "float32", "kernels": "eager"}  # for all rows, short or long
    recipe = find(row.recipe)(data.spec, **row.options)
    run = lb.fit(recipe, data, epochs=options.epochs, seed=options.seed, progress=False, **how)
    if run.status != "done":
        raise SystemExit(f"{row.name} was stopped: nothing is kept of it")
    seconds = time.perf_counter() - started
    rows = data.test.matching(run.model.spec)
    measured = coherence(run.model, rows, agreement(read), seed=options.seed)
    nll = -score(run.model, rows, num_samples=options.num_samples).log_px.double().numpy()
    few = {n: [_share(measured.pairs[p]) for p in measured.pairs if len(p[0]) == n] for n in (1, 2)}
    facts = {
        **{key: getattr(options, key) for key in ASKED},
        "options": row.options,
        "rows": len(rows),
        "pairs_made": {" + ".join(g) + " → " + to: _share(found) for (g, to), found in measured.pairs.items()},
        "own": {" + ".join(g) + " → " + to: _share(found) for (g, to), found in measured.data.items()},
        "one": _mean(few[1]),
        "both": _mean(few[2]),
        "joint": _share(measured.joint),
        "nll": [float(nll.mean()), float(nll.std(ddof=1) / math.sqrt(len(nll)))],
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "train_seconds": seconds,
        "machine": f"{page.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    return facts, nll


def _share(number: lb.evaluation.Number) -> list[float]:
    return [float(number.value or 0), float(number.se or 0)]


def _mean(shares: list[list[float]]) -> list[float]:
    """Return the mean of shares, and the largest standard error it can have: they are of the same rows."""
    return [sum(v for v, _ in shares) / len(shares), sum(se for _, se in shares) / len(shares)]


def verdict(claim: Claim, row: Row, found: dict[str, dict[str, Any]], nll: dict[str, np.ndarray]) -> str:
    """Say whether a claim holds: two standard errors decide, of NLL those of the paired difference."""
    mine, other = found[row.name][claim.quantity], found[claim.against][claim.quantity]
    mean, se = mine[0] - other[0], math.hypot(mine[1], other[1])
    if claim.quantity == "nll":
        paired = nll[row.name] - nll[claim.against]
        se = float(paired.std(ddof=1) / math.sqrt(len(paired)))
    sign = 1 if claim.direction == "higher" else -1
    held = "holds" if sign * mean > 2 * se else "does not hold" if sign * mean < -2 * se else "open"
    digits = 2 if claim.quantity == "nll" else 3
    numbers = f"{mean:+.{digits}f} ± {se:.{digits}f}"
    return f"{CALLED[claim.quantity]} {claim.direction} than `{claim.against}`: {held} ({numbers})"


def section(found: dict[str, dict[str, Any]], nll: dict[str, np.ndarray], options: argparse.Namespace) -> str:
    """Return the tables and what is to be known of them."""
    some = next(iter(found.values()))
    about = " ".join((__doc__ or "").split("\n\n")[1].split()).partition(" A row that is there")[0]
    lines = [
        f"`python benchmarks/modalities.py --pairs {options.pairs} --epochs {options.epochs}`, seed {options.seed}: "
        "two digits of MNIST side by side, the first one's label, and the sum of both. "
        f"{about} A cell is the share of {some['rows']:,} test rows in which what is made agrees with what was given, "
        "± its standard error: the mean over all that can be made from one modality, from two, and of samples of all "
        "three from the prior. NLL: nats for each row, of what is observed in it, an upper bound in expectation with "
        f"K = {options.num_samples}. Two standard errors decide a verdict; they do not cover the training seed. "
        "`mvae` scores what each pass has seen, as its paper does; scored observed, of no paper, each pass has to tell "
        "all that the row has.",
        "",
        "| recipe | from one | from two | samples | NLL | training s | what its paper says (of scored observed: we) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (r for r in ROWS if r.name in found):
        facts = found[row.name]
        said = [verdict(claim, row, found, nll) for claim in row.claims if claim.against in found]
        cells = [f"`{row.recipe}`{_given(row)}", *(_cell(facts[q]) for q in ("one", "both", "joint"))]
        cells += [_cell(facts["nll"], 2), f"{facts['train_seconds']:.0f}", "; ".join(said) or "the baseline"]
        lines.append("| " + " | ".join(cells) + " |")
    names = [f"`{row.recipe}`{_given(row)}" for row in ROWS if row.name in found]
    lines += [
        "",
        "Each way from some modalities to another; the last column is how often the judge finds that the data agree "
        "with themselves.",
        "",
        "| given → made | " + " | ".join(names) + " | the data's own |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for way, own in some["own"].items():
        cells = [_cell(found[row.name]["pairs_made"][way]) for row in ROWS if row.name in found]
        lines.append(f"| {way} | " + " | ".join([*cells, _cell(own)]) + " |")
    return "\n".join([*lines, "", f"{some['machine']}, {some['date']}."])


def _given(row: Row) -> str:
    given = ", ".join(f"{name} {value}" for name, value in row.options.items())
    return f" ({given})" if given else ""


def _cell(number: list[float], digits: int = 3) -> str:
    return f"{number[0]:.{digits}f} ± {number[1]:.{digits}f}"


def main(say: Callable[[str], None]) -> None:
    """Measure the rows that are missing, and write the section after each."""
    options = arguments()
    mnist = lb.load_data("mnist")
    images, labels = mnist.train.values(), mnist.train.y
    assert labels is not None
    held = slice(options.read, None)
    grey = (images[held, 0] * 255).round().to(torch.uint8).numpy()
    data = pairs_of(grey, labels[held].numpy(), options.pairs, options.seed)
    read = functools.cache(lambda: classifier(images[: options.read], labels[: options.read], options.seed))
    found: dict[str, dict[str, Any]] = {}
    nll: dict[str, np.ndarray] = {}
    for row, facts, numbers in page.kept_rows(ROWS, options, ASKED, lambda row: measure(row, data, read(), options)):
        found[row.name], nll[row.name] = facts, numbers
        page.put_section(options.out, TITLE, section(found, nll, options))
        shares = ", ".join(f"{CALLED[q]} {facts[q][0]:.3f}" for q in ("one", "both", "joint"))
        say(f"{row.name}: {shares}, NLL {facts['nll'][0]:.2f} ({facts['train_seconds']:.0f} s)")


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
