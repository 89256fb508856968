"""The first numbers of a model: ELBO, distortion, rate and log p(x), with what each is and how far to trust it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.model import VAE
from ..core.rules import check_values
from ..data.arrays import given_rows
from ..data.dataset import Dataset
from .exact import exact_log_px
from .floor import leaked, least_nll
from .importance import (
    BLOCK_SAMPLES,
    Scores,
    Sums,
    Units,
    check_samples,
    distortion_at_code,
    log_volume,
    no_density_reason,
    score,
)
from .number import Number, mean_number, number_line, shares, stamped
from .pareto import largest_shape

__all__ = [
    "Evaluation", "Number", "Scores", "Units", "Weights", "check_samples", "distortion_at_code", "evaluate",
    "log_volume", "mean_number", "no_density_reason", "score", "shares", "target_of",
]  # fmt: skip

MOST_SAMPLES = 12_800


@dataclass(frozen=True)
class Weights:
    """How far the importance weights behind an NLL can be trusted.

    Args:
        ess: effective sample size, mean over the examples.
        least_ess: the smallest.
        k_hat: the largest shape of a tail of weights; None for fewer than 21 samples.
        k_hat_limit: the shape up to which K samples are enough.
        unreliable: how many examples have a larger one.
    """

    ess: float
    least_ess: float
    k_hat: float | None
    k_hat_limit: float
    unreliable: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


@dataclass(frozen=True)
class Evaluation:
    """The first numbers of a model on one split, in nats for each example.

    Args:
        elbo: evidence lower bound (beta = 1).
        distortion: -E log p(x|z).
        rate: KL(q(z|x) || p(z)).
        nll: -log p(x) by importance sampling, an upper bound in expectation.
        bits_per_dim: nll in bits for each value, where x is discrete.
        nll_exact: -log p(x) in closed form, where the model is linear.
        split: which rows.
        binarisation: how grey values became 0/1.
        seed: seed of the sampler.
        units: whose units a density is in: the data's, or the model's standardised ones.
        weighted: True if means are weighted by the rows' weights.
        weights: how far `nll` can be trusted; None without a density or with one sample.
        warnings: what is wrong with the numbers.
    """

    elbo: Number
    distortion: Number
    rate: Number
    nll: Number
    bits_per_dim: Number
    nll_exact: Number
    split: str
    binarisation: str
    seed: int
    units: Units = "data"
    weighted: bool = False
    weights: Weights | None = None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON; see `Number` for the fields. Each number repeats what it is of."""
        parts = {k: v.to_json() if isinstance(v, Number | Weights) else v for k, v in vars(self).items()}
        facts = {"split": self.split, "binarisation": self.binarisation, "seed": self.seed}
        return stamped(parts | {"warnings": list(self.warnings)}, **facts)

    def __str__(self) -> str:
        names = ["elbo", "distortion", "rate", "nll", "bits_per_dim"]
        names += [] if self.nll_exact.value is None else ["nll_exact"]
        units = {"bits_per_dim": "bits/dim"}
        lines = [number_line(name, getattr(self, name), units.get(name, "nats")) for name in names]
        if self.weights is not None:
            w = self.weights
            shape = "" if w.k_hat is None else f"; largest k-hat {w.k_hat:.2f} (limit {w.k_hat_limit:.2f})"
            lines.append(f"{'weights':<13} {w.ess:9.1f}  (effective samples, least {w.least_ess:.1f}{shape})")
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)])


def evaluate(
    model: VAE,
    data: Dataset | Tensor,
    *,
    num_samples: int = 100,
    tolerance: float | None = None,
    most_samples: int = MOST_SAMPLES,
    seed: int = 0,
    units: Units = "data",
    sums: Sums | None = None,
    after_block: Callable[[], None] | None = None,
) -> Evaluation:
    """Return ELBO, distortion, rate, NLL and bits/dim of a model on data.

    The data are brought into the form the model was trained on: a model of binarised pixels gets the test pixels
    binarised once, by the data seed. Data loaded with a binarisation of their own keep it, and it is reported.

    Args:
        model: a trained model.
        data: a split, such as `data.test`, or a tensor `[N, *shape]` in model units.
        num_samples: K of the importance-sampled NLL.
        tolerance: nats; K is doubled until the sampler's standard error of the NLL, and what it moved since K/2, are
            both below this; K is then a multiple of 100. None leaves K as it is.
        most_samples: K is doubled no further than this.
        seed: seed of the sampler.
        units: "data" or "model": whose units densities of standardised columns are in.
        sums: sums of an earlier call to go on from, and `after_block` to save them: see `score`.
        after_block: called after each 100 samples of 100 rows.

    Raises:
        UsageError: if K < 1, or the tolerance is not positive.
        DataError: if the data do not fit the model.
    """
    check_samples(num_samples)
    check_tolerance(tolerance)
    rows = _as_dataset(model, data)
    if not model.has_density:
        return _without_density(model, rows, seed, units)
    sums = Sums.empty(len(rows)) if sums is None else sums
    if tolerance is not None:  # whole chunks of noise, so that the sums can be continued
        num_samples = BLOCK_SAMPLES * math.ceil(num_samples / BLOCK_SAMPLES)

    def scored(samples: int) -> Scores:
        return score(model, rows, num_samples=samples, seed=seed, units=units, sums=sums, after_block=after_block)

    scores = scored(num_samples)
    while tolerance is not None and not _settled(scores, rows, tolerance) and 2 * num_samples <= most_samples:
        num_samples *= 2
        scores = scored(num_samples)
    return _evaluation(model, rows, scores, num_samples, seed=seed, units=units, tolerance=tolerance)


def check_tolerance(tolerance: float | None) -> None:
    """Raise UsageError unless the tolerance is None or a finite number above 0."""
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise UsageError(f"the tolerance cannot be {tolerance}", expected="nats, a finite number above 0")


def _sampler_error(scores: Scores, share: Tensor) -> float:
    return math.sqrt(float((share.square() * scores.variance).sum()))


def _settled(scores: Scores, rows: Dataset, tolerance: float) -> bool:
    """Tell whether the sampler's error and the last gain are below the tolerance; one sample tells nothing."""
    share = shares(rows)
    return max(_sampler_error(scores, share), abs(float((share * scores.gain).sum()))) < tolerance


def _evaluation(
    model: VAE, rows: Dataset, scores: Scores, num_samples: int, *, seed: int, units: Units, tolerance: float | None
) -> Evaluation:
    share, target, several = shares(rows), target_of(model, rows), num_samples > 1
    nll = mean_number(
        -scores.log_px,
        share,
        kind="bound",
        side="upper",
        mc_se=_sampler_error(scores, share) if several else None,
        bias=-float((share * scores.gain).sum()) if several else None,
        num_samples=num_samples,
        target=target,
    )
    weights = _weights(scores, num_samples) if several else None
    drawn = {"num_samples": num_samples}
    return Evaluation(
        elbo=mean_number(-(scores.distortion + scores.rate), share, kind="bound", side="lower", **drawn, target=target),
        distortion=mean_number(scores.distortion, share, kind="estimate", **drawn),
        rate=mean_number(scores.rate, share, kind="estimate", **drawn),
        nll=nll,
        bits_per_dim=_bits_per_dim(nll, -scores.log_px, model, rows, share),
        nll_exact=_exact(model, rows, share, units, target),
        split=rows.split,
        binarisation=rows.spec.binarize,
        seed=seed,
        units=units,
        weighted=rows.weight is not None,
        weights=weights,
        warnings=_warnings(rows, scores, nll, weights, tolerance),
    )


def _exact(model: VAE, rows: Dataset, share: Tensor, units: Units, target: str) -> Number:
    log_px = exact_log_px(model, rows, units=units)
    if log_px is None:
        return Number(None, reason="log p(x) has a closed form only where the decoder is linear and its noise normal")
    return mean_number(-log_px, share, kind="exact", target=target)


def _weights(scores: Scores, num_samples: int) -> Weights:
    limit, known = largest_shape(num_samples), not bool(scores.k_hat.isnan().any())
    unreliable = int((scores.k_hat > limit).sum())
    largest = float(scores.k_hat.max()) if known else None
    return Weights(float(scores.ess.mean()), float(scores.ess.min()), largest, limit, unreliable)


def _warnings(
    rows: Dataset, scores: Scores, nll: Number, weights: Weights | None, tolerance: float | None
) -> tuple[str, ...]:
    said = []
    if nll.value is not None and rows.grey is not None and leaked(rows, scores.log_px):
        said.append(
            f"an NLL of {nll.value:.2f} nats is impossible: a model that was told every grey image scored here, but "
            f"not how its pixels were drawn, has about {least_nll(rows):.2f}. These pixels have leaked: into training, "
            "or from other rows or pixels while they were scored"
        )
    if weights is not None and weights.unreliable:
        said.append(
            f"{weights.unreliable:,} of {len(rows):,} examples have weights with too heavy a tail for K = "
            f"{nll.num_samples:,}: their log p(x) may be too low by more than the errors say. Raise --num-samples, or "
            "see --also annealed"
        )
    if tolerance is not None and not _settled(scores, rows, tolerance):
        said.append(f"the tolerance of {tolerance} nats is not reached with K = {nll.num_samples:,}")
    return tuple(said)


def target_of(model: VAE, rows: Dataset) -> str:
    """Name the quantity that a bound of `model` on `rows` is about."""
    mask = rows.mask_values()
    observed = mask is not None and rows.spec.kind != "sequence" and not bool(mask.all())
    x = "x_observed" if observed else "x"
    return model.decoder.family.target.replace("p(x)", f"p({x}|y)" if model.conditional else f"p({x})")


def _bits_per_dim(nll: Number, each: Tensor, model: VAE, rows: Dataset, share: Tensor) -> Number:
    if nll.value is None:
        return Number(None, reason=nll.reason)
    if rows.spec.modalities:
        return Number(None, reason="values of several modalities have no dimension in common")
    if not model.decoder.family.discrete:
        return Number(None, reason="the likelihood is a density of continuous values: bits/dim needs discrete data")
    mask = rows.mask_values()
    counts = None if mask is None else mask.flatten(1).sum(1).cpu().double()
    seen = rows.spec.dims if counts is None else float((share * counts).sum())
    if not seen:
        return Number(None, reason="no value is observed: there is no dimension to divide by")
    per_dim = 1 / (seen * math.log(2))
    # rows of more values have more nats: the ratio of two means varies by what they have beyond that (delta method)
    rest = nll if counts is None else mean_number(each - nll.value / seen * counts, share)
    se = None if rest.se is None else rest.se * per_dim
    return Number(nll.value * per_dim, se, kind=nll.kind, side=nll.side, n=nll.n, target=nll.target)


def _as_dataset(model: VAE, data: Dataset | Tensor) -> Dataset:
    if model.spec is None:
        raise UsageError("the model does not know its data", fix="build it by a recipe, or give VAE a `spec`")
    if isinstance(data, Tensor):
        data = given_rows(data, model.spec)
    if len(data) == 0:
        raise DataError(f"{data.spec.name} has 0 {data.split} examples", expected="at least 1")
    rows = data.matching(model.spec)
    check_values(model.decoder.family, rows.support, rows.spec.name)
    return rows.to(model.device)


def _without_density(model: VAE, rows: Dataset, seed: int, units: Units) -> Evaluation:
    """Report the distortion alone."""
    missing = Number(None, reason=no_density_reason(model))
    values = distortion_at_code(model, rows, units=units)
    distortion = mean_number(values, shares(rows), kind="exact")
    facts = (rows.split, rows.spec.binarize, seed, units, rows.weight is not None)
    return Evaluation(missing, distortion, missing, missing, missing, missing, *facts)
