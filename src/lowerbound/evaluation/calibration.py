"""Simulation-based calibration: whether q(z|x) says how uncertain z is, on data that the model itself has drawn."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..core.errors import Incompatible, NoDensity, UsageError
from ..core.model import VAE, inference
from ..core.noise import Stream, generator, seeded
from ..core.walk import unscored, walk
from ..data.dataset import Dataset
from .aggregate import holm, top_of
from .annealed import is_whole
from .importance import BLOCK_ROWS, no_density_reason

Verdict: TypeAlias = Literal["calibrated", "too narrow", "too wide", "shifted"]
DRAWS = 99  # of q(z|x) beside each simulated z: ranks 0 to 99
BINS = 20  # of five ranks each
LEVEL = 0.01  # what a corrected p-value must be below to say that a dimension is not calibrated
LEAST = 5 * BINS  # simulations: five expected in each bin, below which the test's p-values are rough
_ROWS, _MADE, _JUDGED = 3, 4, 5  # keys of uses of noise


@dataclass(frozen=True)
class Calibration:
    """The ranks of simulated z among draws of q(z|x), dimension by dimension.

    Args:
        p_values: of a chi-squared test that the ranks are uniform, corrected for the number of dimensions (Holm 1979).
        coverage: share of the z that lie in the central 90 % of q's draws: 0.9 if q is right, less if it is too narrow.
        shift: mean of the ranks, scaled to -1/2 .. 1/2, in standard errors: above 0, q lies below z.
        spread: their mean square less that of uniform ones, in standard errors: above 0, ranks pile up at both ends.
        verdicts: "calibrated" where the corrected p-value is 0.01 or more; else what the ranks show most.
        simulations: number of pairs (z, x) that were ranked.
        draws: draws of q for each.
    """

    p_values: tuple[float, ...]
    coverage: tuple[float, ...]
    shift: tuple[float, ...]
    spread: tuple[float, ...]
    verdicts: tuple[Verdict, ...]
    simulations: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def calibrate(model: VAE, data: Dataset, *, simulations: int = 1000, seed: int = 0) -> Calibration:
    r"""Test whether q(z|x) is p(z|x): z ~ p(z), x ~ p(x|z); the rank of z_d among draws of q(z_d|x) must be uniform.

    If q is the posterior, z and the draws have one law given x, so that each rank 0..L has probability 1 / (L + 1)
    (Talts et al. 2018, "Validating Bayesian Inference Algorithms with Simulation-Based Calibration", arXiv 1804.06788,
    theorem 1). Ranks at both ends say that q is too narrow, ranks in the middle too wide, ranks at one end shifted. The
    data are the model's own, so a prior that is not the aggregate posterior shows, too: the encoder has not learned x
    that only samples look like.

    Args:
        model: a trained model; the top latent is tested.
        data: rows as the model wants them (`Dataset.matching`); only their labels and which cells they miss are used.
        simulations: number of pairs (z, x).
        seed: decides them, and the draws of q.

    Raises:
        UsageError: if there are fewer than 100 simulations, or no rows.
        NoDensity: if the posterior is a point.
        Incompatible: if the latent is discrete, the encoder does not see what the decoder draws, or too few drawn
            sequences have an end.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> model = lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)).build(0)[0]
    >>> len(calibrate(model, data.test.matching(model.spec), simulations=100).coverage)
    2
    """
    _check(model, data, simulations)
    index = torch.randint(len(data), (simulations,), generator=generator(Stream.EVALUATION, seed, _ROWS))
    rows = data.rows(index.to(data.x.device)).to(model.device)
    with inference(model):
        ranks = torch.cat([_ranks(model, rows, start, seed) for start in range(0, simulations, BLOCK_ROWS)])
    if len(ranks) < LEAST:
        raise Incompatible(f"of {simulations} simulated sequences {len(ranks)} end before they may have been cut off")
    return _judged(ranks)


def _check(model: VAE, data: Dataset, simulations: int) -> None:
    family, likelihood = top_of(model).posterior_family, model.decoder.family
    if simulations < LEAST or not len(data):
        raise UsageError(f"q cannot be calibrated by {simulations} simulations", expected=f"{LEAST} or more, and rows")
    if not family.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    if family.discrete:
        raise Incompatible(f"the latent is discrete ({type(family).__name__}): equal values have no rank")
    if data.seen is not None or likelihood.target != "log p(x)":
        raise Incompatible(f"the encoder sees other values than a decoder of {type(likelihood).__name__} draws")


def _ranks(model: VAE, rows: Dataset, start: int, seed: int) -> Tensor:
    """Return how many draws of q(z_d|x) lie below z_d, for each whole x of one block of simulations, `[B, D]`."""
    part = slice(start, start + BLOCK_ROWS)
    y, mask = rows.labels(part), None if rows.mask is None else rows.mask[part].float()
    mask = None if rows.spec.kind == "sequence" else mask  # a sequence that was drawn has an end of its own
    count = len(rows.x[part])
    with seeded(Stream.EVALUATION, seed, _MADE, start, 0):
        state, latents = walk(list(model.groups), None, y, model.infer, unscored(1.0), (1, count), scored=False)  # pyright: ignore
        x = model.decoder(state, y).sample()[0]
    with seeded(Stream.EVALUATION, seed, _JUDGED, start, 0):
        z = model.infer(x, y, mask).sample((DRAWS,))
    return (z < latents[0].z).sum(0).flatten(1)[is_whole(rows, x)].cpu()


def _judged(ranks: Tensor) -> Calibration:
    """Return what ranks `[S, D]` say."""
    size, levels = len(ranks), DRAWS + 1
    counts = torch.nn.functional.one_hot(ranks * BINS // levels, BINS).sum(0).double()  # [D, bins]
    expected = size / BINS
    chi_squared = ((counts - expected).square() / expected).sum(1)
    p_values = holm(torch.special.gammaincc(torch.tensor((BINS - 1) / 2).double(), chi_squared / 2))
    uniform = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels - 0.5
    place = uniform[ranks]
    shift = place.mean(0) / (uniform.square().mean() / size).sqrt()
    squares = uniform.square()
    spread = (place.square().mean(0) - squares.mean()) / (squares.var(correction=0) / size).sqrt()
    edge = math.ceil(0.05 * levels)
    inside = ((ranks >= edge) & (ranks < levels - edge)).double().mean(0)
    each = zip(p_values.tolist(), shift.tolist(), spread.tolist(), strict=True)
    verdicts: tuple[Verdict, ...] = tuple(_verdict(p, a, b) for p, a, b in each)
    p_list, coverage, shifts, spreads = (tuple(v.tolist()) for v in (p_values, inside, shift, spread))
    return Calibration(p_list, coverage, shifts, spreads, verdicts, size, DRAWS)


def _verdict(p_value: float, shift: float, spread: float) -> Verdict:
    if p_value >= LEVEL:
        return "calibrated"
    if abs(shift) > abs(spread):
        return "shifted"
    return "too narrow" if spread > 0 else "too wide"
