"""Deeper and discrete latents on dynamically binarised MNIST, each given the same minutes of training.

How many epochs fit into them is measured on two; then the row is trained for these from its start, so that its learning
rate falls to its end. The prior of codes is fitted for as long again. All rows are scored on the first test images,
binarised once by seed. A row that is there already is not trained again.

    python benchmarks/equal_time.py [--minutes 5] [--rows 2000] [--num-samples 500] [--only conv_vae vdvae]
"""

import argparse
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import page
import torch

import lowerbound as lb
from lowerbound.evaluation import score
from lowerbound.evaluation.fidelity import sample_quality
from lowerbound.evaluation.units import rate_per_group
from lowerbound.priors import TransformerPrior
from lowerbound.recipes import find

TABLE = Path(__file__).parents[1] / "docs" / "results.md"
TITLE = "Ladders and codes, at equal time"
LEAST = 0.5  # nats that each level of a ladder is to carry
SAMPLES = 5000  # whose features are compared


@dataclass(frozen=True)
class Row:
    """One variant: the recipe, its options, the row it is held against, and whether a prior is fitted to its codes.

    `share` of the samples score it: networks of large images take as long to score as to train.
    """

    name: str
    recipe: str
    options: dict[str, Any] = field(default_factory=dict)
    against: str | None = None
    fitted: bool = False
    share: float = 1.0


ROWS = (
    Row("conv_vae", "conv_vae"),
    Row("ladder_vae", "ladder_vae", against="conv_vae"),
    Row("vdvae", "vdvae", {"free_nats": 0.5}, against="conv_vae", share=0.1),
    Row("vq_vae", "vq_vae"),
    Row("vq_vae, transformer", "vq_vae", against="vq_vae", fitted=True),
)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rows", type=int, default=2000, help="test images that are scored, the first ones")
    parser.add_argument("--num-samples", type=int, default=500, help="K of the NLL, where q is no point")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="rows to train (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/equal-time"), help="where rows are kept")
    parser.add_argument("--out", type=Path, default=TABLE)
    return parser.parse_args()


def trained(row: Row, data: lb.Data, options: argparse.Namespace) -> tuple[lb.VAE, int, float]:
    """Train a row for the minutes; returns the model, its epochs and the seconds they took."""
    recipe = find(row.recipe)(data.spec, **row.options)
    tried = lb.fit(recipe, data, epochs=2, seed=options.seed, progress=False)
    first, second = (e["seconds"] for e in tried.history if e["split"] == "train")
    epochs = max(1, round(60 * options.minutes / (second - first)))
    started = time.perf_counter()
    run = lb.fit(recipe, data, epochs=epochs, seed=options.seed, progress=False)
    if run.status != "done":
        raise SystemExit(f"{row.name} was stopped: nothing is kept of it")
    return run.model, epochs, time.perf_counter() - started


def with_fitted_prior(model: lb.VAE, data: lb.Data, options: argparse.Namespace) -> tuple[lb.VAE, int, float]:
    """Fit a transformer to the codes for the minutes; returns the model, the epochs and the seconds they took."""
    family: Any = model.groups[0].posterior_family
    prior, some = TransformerPrior(family.codes_shape, family.classes), data.train.take(5500)
    seconds = []
    for epochs in (1, 2):
        started = time.perf_counter()
        lb.fit_prior(model, prior, some, epochs=epochs, seed=options.seed)
        seconds.append(time.perf_counter() - started)
    epochs = max(1, round(60 * options.minutes / ((seconds[1] - seconds[0]) * len(data.train) / len(some))))
    started = time.perf_counter()
    fitted = lb.fit_prior(model, prior, data, epochs=epochs, seed=options.seed)
    return fitted, epochs, time.perf_counter() - started


def measure(row: Row, data: lb.Data, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Return a row's numbers, and the NLL of each test image; the model is kept beside them."""
    file = options.folder / f"{row.recipe}-model"
    if row.fitted:
        model, epochs, seconds = with_fitted_prior(lb.load(file), data, options)
    else:
        model, epochs, seconds = trained(row, data, options)
        lb.save(model, file, recipe=row.recipe, options=row.options)
    rows = data.test.matching(model.spec or data.spec).take(options.rows)
    codes = next(iter(model.groups)).posterior_family.support == "codes"  # pyright: ignore
    scores = score(model, rows, num_samples=1 if codes else round(row.share * options.num_samples))
    nll, dims = -scores.log_px.double().numpy(), math.prod(rows.spec.shape)
    quality = sample_quality(model, data, num=SAMPLES, seed=options.seed)
    facts = {
        **{key: getattr(options, key) for key in ("minutes", "rows", "num_samples", "seed")},
        "options": row.options,
        "epochs": epochs,
        "train_seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "elbo": float(-(scores.distortion + scores.rate).double().mean()),
        "rate": float(scores.rate.double().mean()),
        "nll": [float(nll.mean()), float(nll.std(ddof=1) / math.sqrt(len(nll)))],
        "bits_per_dim": float(nll.mean() / dims / math.log(2)),
        "groups": rate_per_group(model, rows).tolist(),
        "samples": quality.samples.fd.value,
        "held_out": quality.held_out.fd.value,
        "features": quality.extractor,
        "machine": f"{page.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    return facts, nll


def verdict(row: Row, found: dict[str, dict[str, Any]], each: dict[str, np.ndarray]) -> str:
    """Say what a row shows beside the one it is held against, by differences paired on the same images."""
    if row.against is None or row.against not in found:
        return ""
    difference = each[row.name] - each[row.against]
    mean, se = difference.mean(), difference.std(ddof=1) / math.sqrt(len(difference))
    held = "lower" if mean < -2 * se else "higher" if mean > 2 * se else "no different"
    said = [f"NLL {held} than that of `{row.against}` ({mean:+.2f} ± {se:.2f})"]
    mine, other = found[row.name], found[row.against]
    if row.fitted:
        nearer = "nearer" if mine["samples"] < other["samples"] else "no nearer"
        said.append(f"samples {nearer} ({mine['samples']:.1f} against {other['samples']:.1f})")
    elif len(mine["groups"]) > 1:
        least = min(mine["groups"])
        said.append(f"the level that carries least: {least:.2f} nats ({'at least' if least >= LEAST else 'below'} 0.5)")
    return "; ".join(said)


def section(found: dict[str, dict[str, Any]], each: dict[str, np.ndarray], options: argparse.Namespace) -> str:
    """Return the table and what is to be known of it."""
    some = next(iter(found.values()))
    lines = [
        f"`python benchmarks/equal_time.py --minutes {options.minutes:g}`: each row has as many "
        f"epochs as two tried before would fit into {options.minutes:g} minutes, on the same 55,000 images, at the "
        "precision and with the kernels that are chosen by themselves; a prior of codes has as long again. What they "
        "took on the machine stands in the column s, and may be more or less. NLL in nats on the first "
        f"{options.rows:,} test images, binarised once by seed: an importance-sampled upper bound with "
        f"K = {options.num_samples} (fewer, and so a looser one, where a row says so); of codes, where q is a point, "
        f"-ELBO. Samples: Fréchet distance of {SAMPLES:,} draws to training images in the features "
        f"`{some['features']}`, in which as many test images lie "
        f"{some['held_out']:.1f} away. One seed.",
        "",
        "| row | epochs | s | parameters | ELBO | rate by group | NLL | bits/dim | samples | what it shows |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if row.name in found:
            lines.append(_line(row, found[row.name], verdict(row, found, each), options.num_samples))
    return "\n".join([*lines, "", f"{some['machine']}, {some['date']}."])


def _line(row: Row, facts: dict[str, Any], said: str, num_samples: int) -> str:
    fewer = [f"K = {round(row.share * num_samples)}"] if row.share < 1 else []
    given = ", ".join([*(f"{name} {value}" for name, value in row.options.items()), *fewer])
    groups = ", ".join(f"{rate:.2f}" for rate in facts["groups"])
    cells = [
        f"`{row.recipe}`{' and a transformer' if row.fitted else ''}{f' ({given})' if given else ''}",
        str(facts["epochs"]),
        f"{facts['train_seconds']:.0f}",
        f"{facts['parameters']:,}",
        f"{facts['elbo']:.2f}",
        groups,
        f"{facts['nll'][0]:.2f} ± {facts['nll'][1]:.2f}",
        f"{facts['bits_per_dim']:.4f}",
        f"{facts['samples']:.1f}",
        said,
    ]
    return "| " + " | ".join(cells) + " |"


def main(say: Callable[[str], None]) -> None:
    """Measure the rows that are missing, and write the section after each."""
    options = arguments()
    data = lb.load_data("mnist")
    found: dict[str, dict[str, Any]] = {}
    each: dict[str, np.ndarray] = {}
    asked = ("minutes", "rows", "num_samples", "seed")
    for row, facts, numbers in page.kept_rows(ROWS, options, asked, lambda row: measure(row, data, options)):
        found[row.name], each[row.name] = facts, numbers
        page.put_section(options.out, TITLE, section(found, each, options))
        say(f"{row.name}: NLL {facts['nll'][0]:.2f}; {verdict(row, found, each)}")


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
