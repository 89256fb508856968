"""Variants side by side on dynamically binarised MNIST, each held against what its paper says of it.

Every row is trained for the same number of epochs on the same 55,000 images, with the same networks, latent size and
seed, and scored on the first 5,000 test images, binarised once by seed. A row that is there already is not trained
again, so the command can be stopped and taken up; the table is written anew after each row.

    python benchmarks/results.py [--epochs 10] [--rows 5000] [--num-samples 1000] [--only vae iwae]
"""

import argparse
import functools
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import page
import torch

import lowerbound as lb
from lowerbound.evaluation import score
from lowerbound.evaluation.two_samples import mmd
from lowerbound.explore.latents import draw_prior
from lowerbound.recipes import find

TABLE = Path(__file__).parents[1] / "docs" / "results.md"
TITLE = "Variants on dynamically binarised MNIST"
CODES = 2000  # codes compared with draws from the prior
Quantity: TypeAlias = Literal["nll", "rate", "distortion", "active_units", "mmd", "tc"]


@dataclass(frozen=True)
class Claim:
    """What a paper says of a variant beside the VAE: this quantity is lower, or higher."""

    quantity: Quantity
    direction: Literal["lower", "higher"] = "lower"


LOWER_NLL, LOWER_RATE, MORE_UNITS = Claim("nll"), Claim("rate"), Claim("active_units", "higher")


@dataclass(frozen=True)
class Row:
    """One variant: the recipe, its options, and what its paper says of it."""

    recipe: str
    claims: tuple[Claim, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""


SAME: dict[str, Any] = {"latent_dim": 20, "hidden": (512, 256)}  # as the others have by default
ROWS = (
    Row("vae"),
    Row("beta_vae", (LOWER_RATE, Claim("distortion", "higher"))),
    Row("annealed_vae", (MORE_UNITS,), {"period": 1000}),
    Row("free_bits_vae", (MORE_UNITS,)),
    Row("iwae", (LOWER_NLL, MORE_UNITS)),
    Row("dreg", (LOWER_NLL,)),
    Row("renyi_vae", (LOWER_NLL,)),
    Row("vae_iaf", (LOWER_NLL,)),
    Row("gmm_prior_vae", (LOWER_NLL,)),
    Row("vamp", (LOWER_NLL, MORE_UNITS), SAME),
    Row("exemplar_vae", (LOWER_NLL,), SAME),
    Row("flow_prior_vae", (LOWER_NLL,)),
    Row("beta_tc_vae", (Claim("tc"),)),
    Row("info_vae", (Claim("mmd"),)),
)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=5000, help="test images that are scored, the first ones")
    parser.add_argument("--num-samples", type=int, default=1000, help="K of the NLL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="rows to train (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/results"), help="where rows are kept")
    parser.add_argument("--out", type=Path, default=TABLE)
    return parser.parse_args()


def measure(row: Row, data: lb.Data, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Train and score one row; returns its numbers and each test image's distortion, rate and NLL."""
    recipe = find(row.recipe)(data.spec, **row.options)
    started = time.perf_counter()
    how = {"precision": "float32", "kernels": "eager"}  # for all rows, short or long
    run = lb.fit(recipe, data, epochs=options.epochs, seed=options.seed, progress=False, **how)
    if run.status != "done":
        raise SystemExit(f"{row.recipe} was stopped: nothing is kept of it")
    seconds = time.perf_counter() - started
    rows = data.test.matching(run.model.spec).take(options.rows)
    started = time.perf_counter()
    scores = score(run.model, rows, num_samples=options.num_samples)
    each = torch.stack([scores.distortion, scores.rate, -scores.log_px]).numpy()
    mean, se = each.mean(1), each.std(1, ddof=1) / math.sqrt(each.shape[1])
    names = ("distortion", "rate", "nll")
    numbers = {name: [float(m), float(s)] for name, m, s in zip(names, mean, se, strict=True)}
    elbo = -(each[0] + each[1])
    numbers["elbo"] = [float(elbo.mean()), float(elbo.std(ddof=1) / math.sqrt(len(elbo)))]
    facts = {
        "recipe": row.recipe,
        "options": row.options,
        "epochs": options.epochs,
        "rows": options.rows,
        "num_samples": options.num_samples,
        "seed": options.seed,
        "best_epoch": run.best_epoch,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "train_seconds": seconds,
        "score_seconds": time.perf_counter() - started,
        "active_units": lb.active_units(run.model, rows),
        **numbers,
        **of_codes(run.model, rows),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    return facts, each


def of_codes(model: lb.VAE, rows: lb.Dataset) -> dict[str, float | None]:
    """Return the MMD^2 of codes and prior, and the TC in nats of a normal with the codes' covariance."""
    batch = rows.batch(slice(CODES))
    with torch.no_grad():
        torch.manual_seed(0)
        codes = model.infer(batch.x).rsample_and_log_prob()[0].flatten(1).double()
    prior = draw_prior(model, None, CODES).flatten(1).double()
    covariance = torch.cov(codes.T)
    tc = 0.5 * float(covariance.diagonal().log().sum() - torch.logdet(covariance))
    return {"mmd": float(mmd(codes, prior)), "tc": tc if math.isfinite(tc) else None}


def verdict(claim: Claim, facts: dict[str, Any], each: np.ndarray, vae: dict[str, Any], base: np.ndarray) -> str:
    """Say whether a claim holds, by the paired difference to the VAE on the same test images where there is one."""
    lower = claim.direction == "lower"
    if claim.quantity in ("distortion", "rate", "nll"):
        place = ("distortion", "rate", "nll").index(claim.quantity)
        difference = each[place] - base[place]
        mean, se = difference.mean(), difference.std(ddof=1) / math.sqrt(len(difference))
        sign = -1 if lower else 1
        held = "holds" if sign * mean > 2 * se else "does not hold" if sign * mean < -2 * se else "open"
        return f"{claim.quantity} {claim.direction}: {held} ({mean:+.2f} ± {se:.2f})"
    mine, other = facts[claim.quantity], vae[claim.quantity]
    held = "open" if mine == other else "holds" if (mine < other) == lower else "does not hold"
    digits = 0 if claim.quantity == "active_units" else 4 if claim.quantity == "mmd" else 2
    name = {"active_units": "active units", "mmd": "MMD² to the prior", "tc": "TC"}[claim.quantity]
    return f"{name} {claim.direction}: {held} ({mine:.{digits}f} against {other:.{digits}f})"


def table(found: dict[str, dict[str, Any]], verdicts: dict[str, list[str]], options: argparse.Namespace) -> str:
    """Return the table and what is to be known of it."""
    some = next(iter(found.values()))
    lines = [
        f"`python benchmarks/results.py` trains each row for {options.epochs} epochs on the same 55,000 images "
        f"(seed {options.seed}) and scores the first {options.rows:,} test images, binarised once by seed. Numbers "
        "are nats for each image, "
        "± their standard error over images: ELBO, rate and distortion are estimates by the same samples; NLL is an "
        "importance-sampled "
        f"upper bound in expectation with K = {options.num_samples}, in float32. A verdict compares with `vae` by "
        "paired differences on the same images; two standard errors decide. They do not cover the training seed: one "
        "seed, short training, and small differences may turn with either. MMD² and TC are of 2,000 codes; TC is that "
        "of a normal with the codes' covariance; of these and of the active units there is one number each, and the "
        "verdict says no more than which is lower. Seconds are wall-clock, whatever else the machine did meanwhile.",
        "",
        "| recipe | ELBO | rate | distortion | NLL | active units | training s | scoring s | what its paper says |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if row.recipe in found:
            lines.append(_line(row, found[row.recipe], verdicts.get(row.recipe, [])))
    lines += ["", f"{some['machine']}, {some['date']}; `python benchmarks/results.py --epochs {options.epochs}`.", ""]
    return "\n".join(lines)


def _line(row: Row, facts: dict[str, Any], verdicts: list[str]) -> str:
    def number(name: str) -> str:
        return f"{facts[name][0]:.2f} ± {facts[name][1]:.2f}"

    said = "; ".join([*verdicts, *([row.note] if row.note else [])]) or "the baseline"
    given = ", ".join(f"{name} {value}" for name, value in row.options.items())
    called = f"`{row.recipe}`" + (f" ({given})" if given else "")
    cells = [called, *(number(n) for n in ("elbo", "rate", "distortion", "nll"))]
    cells += [str(facts["active_units"]), f"{facts['train_seconds']:.0f}", f"{facts['score_seconds']:.0f}", said]
    return "| " + " | ".join(cells) + " |"


def main(say: Callable[[str], None]) -> None:
    """Measure the rows that are missing, and write the table after each."""
    options = arguments()
    data = lb.load_data("mnist")
    found: dict[str, dict[str, Any]] = {}
    scores: dict[str, np.ndarray] = {}
    verdicts: dict[str, list[str]] = {}

    def measured(row: Row) -> tuple[dict[str, Any], np.ndarray]:
        facts, scored = measure(row, data, options)
        return facts, scored.astype(np.float32)

    asked = ("epochs", "rows", "num_samples", "seed")
    for row, facts, numbers in page.kept_rows(ROWS, options, asked, measured, name="recipe"):
        found[row.recipe], scores[row.recipe] = facts, numbers
        if "vae" in found:
            compared = (facts, numbers, found["vae"], scores["vae"])
            verdicts[row.recipe] = [verdict(claim, *compared) for claim in row.claims]
        page.put_section(options.out, TITLE, table(found, verdicts, options))
        say(f"{row.recipe}: NLL {facts['nll'][0]:.2f}; {'; '.join(verdicts.get(row.recipe, []))}")


if __name__ == "__main__":
    main(functools.partial(print, flush=True))
