"""Importance-sampled log p(x): sums that grow sample by sample, so that memory does not and work can go on later.

Noise comes in fixed blocks of 100 examples x 100 samples, each seeded by its place, so results depend on nothing
but the model, the data, K and the seed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.errors import NoDensity, UsageError
from ..core.model import VAE, inference
from ..core.noise import Stream, seeded
from ..core.rules import check_values
from ..core.types import Batch, log_weights, total_rate
from ..core.walk import Source, from_posterior
from ..data.dataset import Dataset
from .decoding import Decoding, Kernels
from .pareto import pareto_shape, tail_size

BLOCK_ROWS, BLOCK_SAMPLES = 100, 100
TAIL = 320  # largest weights that are kept of each row: enough for the tail of 10,000 samples
Units: TypeAlias = Literal["data", "model"]


@dataclass
class Sums:
    """What has been summed over the samples of each row so far; `score` goes on from there.

    Args:
        samples: number of samples summed, `[N]`.
        distortion: sum of -log p(x|z), `[N]` float64 in nats.
        rate: sum of the rate, `[N]` float64 in nats.
        halves: log of the sum of the weights of the first and of the second half of each chunk, `[2, N]`.
        squares: log of the sum of the squared weights, `[N]`.
        largest: the logs of the largest weights, `[TAIL + 1, N]`, -inf where there are fewer.
    """

    samples: Tensor
    distortion: Tensor
    rate: Tensor
    halves: Tensor
    squares: Tensor
    largest: Tensor

    @classmethod
    def empty(cls, rows: int) -> "Sums":
        """Return the sums over no samples, of so many rows."""

        def full(value: float, *lead: int) -> Tensor:
            return torch.full((*lead, rows), value, dtype=torch.float64)

        none = torch.zeros(rows, dtype=torch.long)
        return cls(none, full(0.0), full(0.0), full(-math.inf, 2), full(-math.inf), full(-math.inf, TAIL + 1))

    def rows(self, start: int, stop: int) -> "Sums":
        """Return the sums of some rows; what is added to them is added here."""
        return Sums(*(getattr(self, field.name)[..., start:stop] for field in fields(self)))

    def add(self, log_px: Tensor, rate: Tensor, log_w: Tensor) -> None:
        """Add a pass of some samples: log p(x|z), the rate and log p(x, z) - log q(z|x) of each, `[K, N]` in nats."""
        log_w = log_w.double().cpu()
        self.samples += 1  # a number that cannot be continued, should an interrupt come before the rest is added
        self.distortion -= log_px.double().cpu().sum(0)
        self.rate += rate.double().cpu().sum(0)
        middle = (len(log_w) + 1) // 2
        for half, part in zip(self.halves, (log_w[:middle], log_w[middle:]), strict=True):
            if len(part):
                half.copy_(torch.logaddexp(half, torch.logsumexp(part, 0)))
        self.squares.copy_(torch.logaddexp(self.squares, torch.logsumexp(2 * log_w, 0)))
        self.largest.copy_(torch.cat([self.largest, log_w]).topk(TAIL + 1, 0).values)
        self.samples += len(log_w) - 1


@dataclass(frozen=True)
class Scores:
    """Per-example results, float64 `[N]` in nats.

    Args:
        distortion: mean of -log p(x|z) over the samples.
        rate: KL(q || p), in closed form where there is one.
        log_px: log of the mean importance weight over K samples.
        variance: the sampler's variance of `log_px`, by the delta method: Var(w) / (K mean(w)^2); NaN for K = 1.
        gain: `log_px` less the mean of the two estimates by half of the samples each, in nats; NaN for K = 1.
        ess: effective sample size (sum w)^2 / sum w^2, a number between 1 and K.
        k_hat: shape of the tail of the weights (`pareto_shape`); NaN for fewer than 21 samples.
    """

    distortion: Tensor
    rate: Tensor
    log_px: Tensor
    variance: Tensor
    gain: Tensor
    ess: Tensor
    k_hat: Tensor


def score(
    model: VAE,
    data: Dataset,
    *,
    num_samples: int = 100,
    seed: int = 0,
    source: Source = from_posterior,
    units: Units = "data",
    sums: Sums | None = None,
    after_block: Callable[[], None] | None = None,
    kernels: Kernels = "auto",
    first: int = 0,
) -> Scores:
    """Score each row of `data` with K = num_samples samples of the source; missing cells are integrated out.

    log p(x) is estimated by log 1/K sum_k p(x, z_k) / q(z_k|x), a lower bound in expectation (Burda et al. 2016, arXiv
    1509.00519, eq. 8).

    Args:
        model: the model; evaluated in evaluation mode without gradients, and left in the mode it was in.
        data: rows as the model wants them (`Dataset.matching`).
        num_samples: K.
        seed: seed of the sampler.
        source: where z comes from; the posterior, or `from_prior` for the plain Monte-Carlo estimate.
        units: "data" gives densities of standardised columns in the data's own units: log p(data) = log p(model) -
            sum_d log scale_d over the observed real columns; "model" leaves them as the model sees them.
        sums: sums of an earlier call with the same model, rows, seed and source and a smaller K, such as one that was
            interrupted: only the samples that are missing are drawn. They are changed in place.
        after_block: called whenever 100 more samples of up to 100 rows are in the sums, to save them.
        kernels: "eager", "compiled", or "auto": how samples are decoded (`Decoding`); it changes rounding only.
        first: number of the first row among all that are scored, if these are a part of them: a multiple of 100.

    Raises:
        UsageError: if K < 1, there are no such units or kernels, the sums are of other rows or of more samples, or a
            part does not start at a multiple of 100.
        NoDensity: if the model has no density.
    """
    check_samples(num_samples)
    if first % BLOCK_ROWS or first < 0:
        raise UsageError(f"a part cannot start at row {first}", expected=f"a multiple of {BLOCK_ROWS}")
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    check_values(model.decoder.family, data.support, data.spec.name)
    sums = Sums.empty(len(data)) if sums is None else sums
    _check_sums(sums, len(data), num_samples)
    decoding = Decoding(model, min(num_samples, BLOCK_SAMPLES), BLOCK_ROWS, len(data) * num_samples, kernels)
    with inference(model), seeded(Stream.EVALUATION, seed):
        for i, batch in enumerate(data.blocks(BLOCK_ROWS)):
            part = sums.rows(i * BLOCK_ROWS, i * BLOCK_ROWS + batch.x.shape[0])
            keys = (Stream.EVALUATION, seed, first // BLOCK_ROWS + i)
            for _ in _add_chunks(model, decoding, batch, part, num_samples, keys, source):
                if after_block is not None:
                    after_block()
    return _scores(sums, num_samples, log_volume(data, units))


def _add_chunks(
    model: VAE,
    decoding: Decoding,
    batch: Batch,
    sums: Sums,
    num_samples: int,
    keys: tuple[int, ...],
    source: Source,
) -> Iterator[None]:
    for start in range(int(sums.samples[0]), num_samples, BLOCK_SAMPLES):
        samples = min(BLOCK_SAMPLES, num_samples - start)
        with seeded(*keys, start // BLOCK_SAMPLES):
            state, latents = model.visit(batch, samples, source)
            log_px = decoding.log_px(state, batch, samples)
        sums.add(log_px, total_rate(latents), log_weights(log_px, latents))
        yield


def _scores(sums: Sums, num_samples: int, volume: Tensor | float) -> Scores:
    log_sum = torch.logsumexp(sums.halves, 0)
    log_px = log_sum - math.log(num_samples)
    # E[w^2] / E[w]^2 - 1 = Var(w) / E[w]^2; with K / (K - 1) it is unbiased, over K it is the variance of log mean(w)
    ratio = (torch.exp(sums.squares + math.log(num_samples) - 2 * log_sum) - 1).clamp_min(0)
    unknown = torch.full_like(ratio, math.nan)
    return Scores(
        distortion=sums.distortion / num_samples + volume,
        rate=sums.rate / num_samples,
        log_px=log_px - volume,
        variance=ratio / (num_samples - 1) if num_samples > 1 else unknown,
        gain=log_px - (sums.halves - _log_half_sizes(num_samples)).mean(0) if num_samples > 1 else unknown,
        ess=torch.exp(2 * log_sum - sums.squares).clamp(1, num_samples),
        k_hat=pareto_shape(sums.largest[: min(tail_size(num_samples), TAIL) + 1]),
    )


def _log_half_sizes(num_samples: int) -> Tensor:
    """Return the logs of how many samples lie in the first and in the second half of a chunk, `[2, 1]`."""
    whole, rest = divmod(num_samples, BLOCK_SAMPLES)
    first = whole * ((BLOCK_SAMPLES + 1) // 2) + (rest + 1) // 2
    return torch.tensor([[first], [num_samples - first]], dtype=torch.float64).log()


def _check_sums(sums: Sums, rows: int, num_samples: int) -> None:
    if len(sums.samples) != rows:
        raise UsageError(f"sums of {len(sums.samples)} rows were given for {rows}", expected="those of the same rows")
    most = int(sums.samples.max()) if rows else 0
    if most > num_samples:
        raise UsageError(f"the sums are of {most} samples already", expected=f"at most {num_samples}, as asked for")
    loose = sums.samples[(sums.samples % BLOCK_SAMPLES != 0) & (sums.samples < num_samples)]
    if len(loose):
        raise UsageError(
            f"sums of {int(loose[0])} samples cannot be continued",
            expected=f"a multiple of {BLOCK_SAMPLES}: noise is drawn by so many",
        )


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
    mask = data.mask_values()
    observed = torch.ones(len(data), len(log_scale)) if mask is None else mask
    return observed.cpu().double() @ log_scale


def check_samples(num_samples: int) -> None:
    """Raise UsageError unless K is a whole number above 0."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise UsageError(f"the number of samples cannot be {num_samples}", expected="a whole number above 0")


def no_density_reason(model: VAE) -> str:
    """Say why `model` has no density."""
    points = [type(g.posterior_family).__name__ for g in model.groups if not g.posterior_family.has_density]  # pyright: ignore
    part = f"a {points[0]} posterior is a point" if points else f"{type(model.decoder.family).__name__} is no density"
    return f"{part}: there is no bound on log p(x)"
