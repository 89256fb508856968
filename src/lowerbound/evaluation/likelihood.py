"""ELBO and importance-sampled log p(x), with what each number is and how far it can be trusted.

Noise comes in fixed blocks of 100 examples x 100 samples, each seeded by its place, so results depend on nothing
but the model, the data, K and the seed; memory does not grow with K.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.errors import DataError, NoDensity, UsageError
from ..core.model import VAE, inference
from ..core.noise import Stream, seeded
from ..core.rules import check_values
from ..core.types import Batch
from ..core.walk import Source, from_posterior
from ..data.arrays import given_rows
from ..data.dataset import Dataset

BLOCK_ROWS, BLOCK_SAMPLES = 100, 100
NumberKind: TypeAlias = Literal["exact", "bound", "estimate"]
Units: TypeAlias = Literal["data", "model"]


@dataclass(frozen=True)
class Number:
    """A reported number, or None with the reason why it does not exist.

    Args:
        value: the number; nats for each example unless its name says otherwise.
        se: standard error over the examples: another test set of this size would differ by about this much.
        kind: "exact", "bound" (in expectation: the true value is on its better side) or "estimate".
        n: number of examples.
        mc_se: standard error of the sampler alone, for these examples; None for one sample, which has no spread.
        num_samples: K.
        target: the quantity it is about.
        reason: why there is no value.
    """

    value: float | None
    se: float | None = None
    kind: NumberKind | None = None
    n: int | None = None
    mc_se: float | None = None
    num_samples: int | None = None
    target: str | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something; `value` always."""
        always = ("value",) if self.num_samples is None else ("value", "mc_se")
        return {k: v for k, v in asdict(self).items() if v is not None or k in always}


@dataclass(frozen=True)
class Evaluation:
    """The first numbers of a model on one split, in nats for each example.

    Args:
        elbo: evidence lower bound (beta = 1).
        distortion: -E log p(x|z).
        rate: KL(q(z|x) || p(z)).
        nll: -log p(x) by importance sampling, an upper bound in expectation.
        bits_per_dim: nll in bits for each value, where x is discrete.
        split: which rows.
        binarisation: how grey values became 0/1.
        seed: seed of the sampler.
        units: whose units a density is in: the data's, or the model's standardised ones.
        weighted: True if means are weighted by the rows' weights.
    """

    elbo: Number
    distortion: Number
    rate: Number
    nll: Number
    bits_per_dim: Number
    split: str
    binarisation: str
    seed: int
    units: Units = "data"
    weighted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON; see `Number` for the fields."""
        return {k: v.to_json() if isinstance(v, Number) else v for k, v in vars(self).items()}

    def __str__(self) -> str:
        names = ("elbo", "distortion", "rate", "nll", "bits_per_dim")
        return "\n".join(_line(name, getattr(self, name)) for name in names)


def _line(name: str, number: Number) -> str:
    if number.value is None:
        return f"{name:<13} -          ({number.reason})"
    spread = "" if number.se is None else f" +- {number.se:.3f}"
    unit = "bits/dim" if name == "bits_per_dim" else "nats"
    more = [unit, str(number.kind)]
    if number.num_samples:
        sampler = "" if number.mc_se is None else f", sampler +- {number.mc_se:.4f}"
        more.append(f"K = {number.num_samples}{sampler}")
    if number.target:
        more.append(number.target)
    return f"{name:<13} {number.value:9.3f}{spread}  ({', '.join(more)})"


@dataclass(frozen=True)
class Scores:
    """Per-example results, float64 `[N]` in nats.

    Args:
        distortion: mean of -log p(x|z) over the samples.
        rate: KL(q || p), in closed form where there is one.
        log_px: log of the mean importance weight over K samples.
        variance: the sampler's variance of `log_px`, by the delta method: Var(w) / (K mean(w)^2); NaN for K = 1.
    """

    distortion: Tensor
    rate: Tensor
    log_px: Tensor
    variance: Tensor


def score(
    model: VAE,
    data: Dataset,
    *,
    num_samples: int = 100,
    seed: int = 0,
    source: Source = from_posterior,
    units: Units = "data",
) -> Scores:
    """Score each row of `data` with K = num_samples samples of the source; missing cells are integrated out.

    Args:
        model: the model; evaluated in evaluation mode without gradients, and left in the mode it was in.
        data: rows as the model wants them (`Dataset.matching`).
        num_samples: K.
        seed: seed of the sampler.
        source: where z comes from; the posterior, or `from_prior` for the plain Monte-Carlo estimate.
        units: "data" gives densities of standardised columns in the data's own units: log p(data) = log p(model) -
            sum_d log scale_d over the observed real columns; "model" leaves them as the model sees them.

    Raises:
        UsageError: if K < 1 or there are no such units.
        NoDensity: if the model has no density.
    """
    check_samples(num_samples)
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    check_values(model.decoder.family, data.support, data.spec.name)
    blocks = []
    with inference(model), seeded(Stream.EVALUATION, seed):
        for i, batch in enumerate(data.blocks(BLOCK_ROWS)):
            blocks.append(_score_block(model, batch, num_samples, (Stream.EVALUATION, seed, i), source))
    distortion, rate, log_px, variance = (torch.cat(column) for column in zip(*blocks, strict=True))
    volume = log_volume(data, units)
    return Scores(distortion + volume, rate, log_px - volume, variance)


def distortion_at_code(model: VAE, data: Dataset, *, units: Units = "data") -> Tensor:
    """Return -log p(x|z) of each row at its code, `[N]` float64 in nats: all that a model without density can say.

    Args:
        model: a model whose posteriors are points.
        data: rows as the model wants them (`Dataset.matching`).
        units: whose units densities of standardised columns are in.

    Raises:
        UsageError: if there are no such units.
    """
    check_values(model.decoder.family, data.support, data.spec.name)
    values = []
    with inference(model):
        for batch in data.blocks(BLOCK_ROWS):
            values.append(-model(batch).log_px[0].double().cpu())
    return torch.cat(values) + log_volume(data, units)


def log_volume(data: Dataset, units: Units) -> Tensor | float:
    """Return log |d data / d model| of each row's observed cells, `[N]` float64; 0 where the units are the same.

    Raises:
        UsageError: if there are no such units.
    """
    if units not in get_args(Units):
        raise UsageError(f"there are no units {units!r}", expected=", ".join(get_args(Units)))
    log_scale = data.spec.log_scale
    if units == "model" or log_scale is None:
        return 0.0
    observed = torch.ones(len(data), len(log_scale)) if data.mask is None else data.mask
    return observed.cpu().double() @ log_scale


def check_samples(num_samples: int) -> None:
    """Raise UsageError unless K is a whole number above 0."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")


def _score_block(
    model: VAE, batch: Batch, num_samples: int, keys: tuple[int, ...], source: Source
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = batch.x.shape[0]
    distortion = torch.zeros(rows, dtype=torch.float64)
    rate, first = distortion.clone(), torch.full_like(distortion, -math.inf)
    second = first.clone()
    for chunk, start in enumerate(range(0, num_samples, BLOCK_SAMPLES)):
        samples = min(BLOCK_SAMPLES, num_samples - start)
        with seeded(*keys, chunk):
            trace = model(batch, samples, source)
        # float32 shares sum to one within 1e-7 only, which would show in the sixth digit of the result
        trace = replace(trace, log_share=torch.log_softmax(trace.log_share.double(), 0))
        share = samples / num_samples
        distortion -= share * trace.mean(trace.log_px.double()).cpu()
        rate += share * trace.mean(trace.kl.double()).cpu()
        log_w = trace.log_w.double()
        first = torch.logaddexp(first, trace.log_mean_exp(log_w).cpu() + math.log(share))
        second = torch.logaddexp(second, trace.log_mean_exp(2 * log_w).cpu() + math.log(share))
    # E[w^2] / E[w]^2 - 1 = Var(w) / E[w]^2; with K / (K - 1) it is unbiased, over K it is the variance of log mean(w)
    ratio = (torch.exp(second - 2 * first) - 1).clamp_min(0)
    unknown = torch.full_like(ratio, math.nan)
    return distortion, rate, first, ratio / (num_samples - 1) if num_samples > 1 else unknown


def evaluate(
    model: VAE, data: Dataset | Tensor, *, num_samples: int = 100, seed: int = 0, units: Units = "data"
) -> Evaluation:
    """Return ELBO, distortion, rate, NLL and bits/dim of a model on data.

    The data are brought into the form the model was trained on: a model of binarised pixels gets the test pixels
    binarised once, by the data seed. Data loaded with a binarisation of their own keep it, and it is reported.

    Args:
        model: a trained model.
        data: a split, such as `data.test`, or a tensor `[N, *shape]` in model units.
        num_samples: K of the importance-sampled NLL.
        seed: seed of the sampler.
        units: "data" or "model": whose units densities of standardised columns are in.

    Raises:
        UsageError: if K < 1.
        DataError: if the data do not fit the model.
    """
    check_samples(num_samples)
    rows = _as_dataset(model, data)
    protocol, split = rows.spec.binarize, rows.split
    if not model.has_density:
        return _without_density(model, rows, seed, units)
    scores = score(model, rows, num_samples=num_samples, seed=seed, units=units)
    n, share = len(rows), shares(rows)
    target = target_of(model, rows)
    mc_se = math.sqrt(float((share.square() * scores.variance).sum())) if num_samples > 1 else None
    nll = _number(-scores.log_px, share, kind="bound", n=n, mc_se=mc_se, num_samples=num_samples, target=target)
    return Evaluation(
        elbo=_number(-(scores.distortion + scores.rate), share, kind="bound", n=n, target=target),
        distortion=_number(scores.distortion, share, kind="estimate", n=n),
        rate=_number(scores.rate, share, kind="estimate", n=n),
        nll=nll,
        bits_per_dim=_bits_per_dim(nll, model, rows, share),
        split=split,
        binarisation=protocol,
        seed=seed,
        units=units,
        weighted=rows.weight is not None,
    )


def target_of(model: VAE, rows: Dataset) -> str:
    """Name the quantity that a bound of `model` on `rows` is about."""
    observed = rows.mask is not None and not bool(rows.mask.all())
    x = "x_observed" if observed else "x"
    return model.decoder.family.target.replace("p(x)", f"p({x}|y)" if model.conditional else f"p({x})")


def shares(rows: Dataset) -> Tensor:
    """Return each row's share in a mean, `[N]` float64: equal, or by its weight."""
    if rows.weight is None:
        return torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
    weight = rows.weight.cpu().double()
    return weight / weight.sum()


def no_density_reason(model: VAE) -> str:
    """Say why `model` has no density."""
    points = [type(g.posterior_family).__name__ for g in model.groups if not g.posterior_family.has_density]  # pyright: ignore
    part = f"a {points[0]} posterior is a point" if points else f"{type(model.decoder.family).__name__} is no density"
    return f"{part}: there is no bound on log p(x)"


def _number(values: Tensor, share: Tensor, **facts: Any) -> Number:
    """Return the weighted mean over the examples with its standard error, or None where a value is not finite."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        return Number(None, reason=f"{bad} of {len(values)} examples have a value that is not finite")
    n, mean = int((share > 0).sum()), (share * values).sum()
    # for equal shares 1/n this is the usual std / sqrt(n)
    spread = (share * (values - mean)).square().sum() * n / (n - 1) if n > 1 else None
    return Number(float(mean), None if spread is None else math.sqrt(float(spread)), **facts)


def _bits_per_dim(nll: Number, model: VAE, rows: Dataset, share: Tensor) -> Number:
    if nll.value is None:
        return Number(None, reason=nll.reason)
    if not model.decoder.family.discrete:
        return Number(None, reason="the likelihood is a density of continuous values: bits/dim needs discrete data")
    seen = rows.spec.dims if rows.mask is None else float((share * rows.mask.flatten(1).sum(1).cpu()).sum())
    per_dim = 1 / (seen * math.log(2))
    se = None if nll.se is None else nll.se * per_dim
    return Number(nll.value * per_dim, se, kind=nll.kind, n=nll.n, target=nll.target)


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
    distortion = _number(values, shares(rows), kind="exact", n=len(rows))
    facts = (rows.split, rows.spec.binarize, seed, units, rows.weight is not None)
    return Evaluation(missing, distortion, missing, missing, missing, *facts)
