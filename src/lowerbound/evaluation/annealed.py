"""Annealed importance sampling of log p(x), its check on simulated data, and the rate-distortion curve it gives.

Rows are taken in fixed blocks, each with noise of its own, so results depend on nothing but the model, the rows, the
settings and the seed.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import Incompatible, NoDensity, UsageError
from ..core.model import VAE, Group, inference
from ..core.noise import Stream, seeded
from ..core.rules import check_values
from ..core.types import Batch
from ..core.walk import sample_shape
from ..data.dataset import Dataset
from .importance import Units, log_volume, no_density_reason
from .number import shares

Start: TypeAlias = Literal["prior", "posterior"]
BLOCK_ROWS = 100
ACCEPTED = 0.65  # share of moves that is aimed at (Beskos et al. 2013, arXiv 1001.4460)
FASTER, SLOWER, SMALLEST, LARGEST = 1.1, 0.9, 1e-3, 2.0  # of the step sizes while they are tuned
REACH = 4.0  # the schedule is a logistic curve from -REACH to REACH
_ANNEALING, _TUNING, _SIMULATED, _BACKWARD = 1, 2, 3, 4  # kinds of noise


@dataclass(frozen=True)
class Annealing:
    """How chains are taken from where they start to p(z|x).

    Args:
        steps: number of temperatures T.
        chains: chains for each row.
        leapfrogs: leapfrog steps of each Hamiltonian move.
        start: the chains start at draws of "prior" or "posterior" q(z|x).

    Raises:
        UsageError: if a number is below 1, or there is no such start.
    """

    steps: int = 300
    chains: int = 8
    leapfrogs: int = 10
    start: Start = "prior"

    def __post_init__(self) -> None:
        for name in ("steps", "chains", "leapfrogs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"the number of {name} cannot be {value}", expected="a whole number above 0")
        if self.start not in get_args(Start):
            raise UsageError(f"chains cannot start at {self.start!r}", expected=" or ".join(get_args(Start)))

    def schedule(self) -> Tensor:
        """Return the inverse temperatures 0 = beta_0 < ... < beta_T = 1, `[T + 1]` float64, dense at both ends.

        Wu et al. 2017, "On the Quantitative Analysis of Decoder-Based Generative Models", arXiv 1611.04273, sec. 4.

        >>> [round(beta, 3) for beta in Annealing(steps=4).schedule().tolist()]
        [0.0, 0.105, 0.5, 0.895, 1.0]
        """
        curve = torch.linspace(-REACH, REACH, self.steps + 1, dtype=torch.float64).sigmoid()
        return (curve - curve[0]) / (curve[-1] - curve[0])


@dataclass(frozen=True)
class Annealed:
    """Log p(x) by annealed importance sampling, for each row, float64 `[N]` in nats.

    Args:
        log_px: log of the mean weight of the chains, a lower bound in expectation.
        variance: the sampler's variance of `log_px`, by the delta method over the chains; NaN for one chain.
        ess: effective number of chains.
        accepted: share of the moves that were accepted.
    """

    log_px: Tensor
    variance: Tensor
    ess: Tensor
    accepted: float


@dataclass(frozen=True)
class Gap:
    """Lower and upper bounds on log p(x) of data that the model itself drew, in nats for each example.

    Args:
        lower: mean of the lower bounds, by chains from the start to the posterior.
        upper: mean of the upper bounds, by chains that begin at the z that each x was drawn from, and go back.
        gap: upper - lower: what annealing can be wrong by on such data, both bounds being right on average.
        se: standard error of the gap over the examples; None for one, which has no spread.
        n: number of examples.
    """

    lower: float
    upper: float
    gap: float
    se: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


@dataclass(frozen=True)
class RateDistortion:
    """Rate and distortion of the decoder at each beta, weighted means over the rows, float64 `[T + 1]` in nats.

    Args:
        beta: inverse temperatures.
        rate: KL from the prior of the best code at this beta; an upper bound in expectation.
        distortion: -E log p(x|z) under that code.
        n: number of rows.
    """

    beta: Tensor
    rate: Tensor
    distortion: Tensor
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return the curve as lists."""
        return {"n": self.n, **{name: getattr(self, name).tolist() for name in ("beta", "rate", "distortion")}}


def annealed(
    model: VAE,
    data: Dataset,
    settings: Annealing | None = None,
    *,
    tune: Dataset | None = None,
    seed: int = 0,
    units: Units = "data",
) -> Annealed:
    r"""Return log p(x) of each row by annealed importance sampling with Hamiltonian moves.

    Chains go through f_t(z) = r(z)^(1 - beta_t) p(x, z)^beta_t, r the distribution where they start; the weight of a
    chain is prod_t f_t(z_{t-1}) / f_{t-1}(z_{t-1}), whose mean is p(x) (Neal 2001, "Annealed Importance Sampling",
    Statistics and Computing 11, eq. 11; Wu et al. 2017, arXiv 1611.04273, sec. 4). So log_px is a lower bound in
    expectation, tighter than by importance sampling where q is poor.

    Args:
        model: a model with one group of real latents.
        data: rows as the model wants them (`Dataset.matching`).
        settings: temperatures, chains and moves.
        tune: other rows, on which the sizes of the moves are tuned; None tunes on rows that the model draws itself.
        seed: seed of the sampler.
        units: whose units densities of standardised columns are in.

    Raises:
        NoDensity: if the model has none.
        Incompatible: if z cannot be moved by a gradient, or log p(z) is an estimate.
        UsageError: if there are no such units, or models of pairs are to draw rows.
    """
    settings = settings or Annealing()
    check_annealable(model, settings)
    check_values(model.decoder.family, data.support, data.spec.name)
    sizes = step_sizes(model, simulated(model, data, seed=seed) if tune is None else tune, settings, seed=seed)
    found, accepted = [], []
    with inference(model):
        for i, batch in enumerate(data.blocks(BLOCK_ROWS)):
            with seeded(Stream.EVALUATION, seed, _ANNEALING, i):
                path = _Path(model, batch, settings)
                *_, last = _forward(path, sizes)
            found.append(last.log_weight.cpu())
            accepted.append(float(last.accepted))
    log_w = torch.cat(found, 1)
    log_px = torch.logsumexp(log_w, 0) - math.log(settings.chains)
    ess = torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))
    chains = settings.chains
    variance = (chains / ess - 1) / (chains - 1) if chains > 1 else torch.full_like(ess, math.nan)
    return Annealed(log_px - log_volume(data, units), variance, ess, sum(accepted) / len(accepted))


def bidirectional(
    model: VAE, data: Dataset, settings: Annealing | None = None, *, seed: int = 0, units: Units = "data"
) -> Gap:
    r"""Return lower and upper bounds on log p(x) of data drawn from the model, which close in on it from both sides.

    The z that x was drawn from is an exact draw of p(z|x); chains from it back to the start have weights whose mean is
    1 / p(x) (Grosse et al. 2015, "Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo", arXiv
    1511.02543, sec. 4). The gap says how far the settings can be trusted for this model; it does not bracket log p(x)
    of real data. Drawn sequences that fill all cells are left out: they may have been cut off there.

    Args:
        model: a model with one group of real latents.
        data: rows that give the labels, masks and number of examples; their values are not looked at.
        settings: temperatures, chains and moves.
        seed: seed of the sampler.
        units: whose units densities of standardised columns are in; the gap has none.

    Raises:
        NoDensity: if the model has none.
        Incompatible: if z cannot be moved by a gradient, log p is an estimate, or no drawn sequence has an end.
        UsageError: if there are no such units, or the model was trained on pairs: it draws no x to be seen.
    """
    settings = settings or Annealing()
    check_annealable(model, settings)
    rows = simulated(model, data, seed=seed)
    whole = is_whole(data, rows.values()).cpu()
    if not whole.any():
        raise Incompatible("no sequence that the model drew has an end: all may have been cut off at the last cell")
    sizes = step_sizes(model, simulated(model, data, seed=seed, again=1), settings, seed=seed)
    below, above = [], []
    with inference(model):
        for i, (batch, z) in enumerate(zip(rows.blocks(BLOCK_ROWS), _codes(model, data, seed, 0), strict=True)):
            with seeded(Stream.EVALUATION, seed, _ANNEALING, i):
                path = _Path(model, batch, settings)
                *_, last = _forward(path, sizes)
                below.append(torch.logsumexp(last.log_weight, 0).cpu() - math.log(settings.chains))
            with seeded(Stream.EVALUATION, seed, _BACKWARD, i):
                log_w = _backward(path, z.expand(settings.chains, *z.shape[1:]), sizes)
                above.append(math.log(settings.chains) - torch.logsumexp(log_w, 0).cpu())
    volume = log_volume(rows, units)
    lower, upper = ((torch.cat(bounds) - volume)[whole] for bounds in (below, above))
    se = float((upper - lower).std()) / math.sqrt(len(lower)) if len(lower) > 1 else None
    return Gap(float(lower.mean()), float(upper.mean()), float((upper - lower).mean()), se, len(lower))


def rate_distortion(
    model: VAE,
    data: Dataset,
    settings: Annealing | None = None,
    *,
    tune: Dataset | None = None,
    seed: int = 0,
    units: Units = "data",
) -> RateDistortion:
    r"""Return the rate-distortion curve of the decoder and prior, whatever the encoder, at all temperatures at once.

    At beta the code that minimises rate + beta distortion is q_beta(z|x) = p(z) p(x|z)^beta / Z_beta, and its rate is
    -log Z_beta - beta distortion. Annealing from the prior visits all of them; log Z_beta is underestimated on average,
    so the rate is an upper bound in expectation (Huang et al. 2020, "Evaluating Lossy Compression Rates of Deep
    Generative Models", arXiv 2008.06653, sec. 4).

    Args:
        model: a model with one group of real latents.
        data: rows as the model wants them (`Dataset.matching`).
        settings: temperatures, chains and moves; chains must start at the prior.
        tune: other rows, on which the sizes of the moves are tuned; None tunes on rows that the model draws itself.
        seed: seed of the sampler.
        units: whose units the distortion of standardised columns is in; the rate has none.

    Raises:
        NoDensity: if the model has none.
        Incompatible: if z cannot be moved by a gradient, or log p(z) is an estimate.
        UsageError: if chains do not start at the prior, there are no such units, or models of pairs are to draw rows.
    """
    settings = settings or Annealing()
    if settings.start != "prior":
        raise UsageError("a rate is counted from the prior", expected='chains that start there: start="prior"')
    check_annealable(model, settings)
    check_values(model.decoder.family, data.support, data.spec.name)
    sizes = step_sizes(model, simulated(model, data, seed=seed) if tune is None else tune, settings, seed=seed)
    betas, share = settings.schedule(), shares(data)
    rates, distortions = torch.zeros_like(betas), torch.full_like(betas, float((share * log_volume(data, units)).sum()))
    with inference(model):
        for i, (part, batch) in enumerate(zip(share.split(BLOCK_ROWS), data.blocks(BLOCK_ROWS), strict=True)):
            with seeded(Stream.EVALUATION, seed, _ANNEALING, i):
                for t, now in enumerate(_forward(_Path(model, batch, settings), sizes, last_move=True)):
                    log_z = torch.logsumexp(now.log_weight, 0) - math.log(settings.chains)
                    distortion = -(now.log_weight.softmax(0) * now.log_px).sum(0)
                    rates[t] += float((part * (-log_z - betas[t] * distortion).cpu()).sum())
                    distortions[t] += float((part * distortion.cpu()).sum())
    return RateDistortion(betas, rates, distortions, len(data))


def check_annealable(model: VAE, settings: Annealing) -> None:
    """Raise NoDensity or Incompatible if z cannot be annealed: it must be one real vector with a density."""
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    groups = [group for group in model.groups if isinstance(group, Group)]
    family = groups[0].posterior_family
    if len(groups) > 1 or family.discrete or family.support != "real" or groups[0].prior_support != "real":
        other = f"{len(groups)} latent groups" if len(groups) > 1 else f"a latent of {family.support} values"
        raise Incompatible(
            f"{other} cannot be annealed: Hamiltonian moves follow the gradient of one real vector",
            fix="use importance sampling: raise the number of samples",
        )
    if groups[0].prior_estimated:
        raise Incompatible("log p(z) of this prior is itself an estimate, by which no chain can be accepted or refused")
    if model.decoder.family.estimated:
        raise Incompatible(
            f"log p(x|z) of {type(model.decoder.family).__name__} is a draw: no chain can be accepted or refused by it",
            fix="use importance sampling: raise the number of samples",
        )
    if settings.start == "posterior" and not family.rescorable:
        raise Incompatible(
            f"a {type(family).__name__} cannot score z it did not draw",
            fix='start the chains at the prior: start="prior"',
        )


def simulated(model: VAE, data: Dataset, *, seed: int, again: int = 0) -> Dataset:
    """Return as many rows as `data` has, drawn from the model, with the labels of these rows and the cells they miss.

    Raises:
        UsageError: if the model was trained on pairs: it draws no x to be seen.
    """
    if data.seen is not None:
        raise UsageError("a model of pairs cannot draw what its encoder sees", fix="give other rows to tune on")
    drawn = []
    with inference(model):
        for i, (batch, z) in enumerate(zip(data.blocks(BLOCK_ROWS), _codes(model, data, seed, again), strict=True)):
            with seeded(Stream.EVALUATION, seed, _SIMULATED, again, i, 1):
                group = model.groups[0]
                assert isinstance(group, Group)
                drawn.append(model.decoder(group.merge(None, z), batch.y).sample()[0])
    mask = None if data.spec.kind == "sequence" else data.mask  # a sequence that was drawn has an end of its own
    return replace(data, x=torch.cat(drawn), mask=mask, scale=1, resample=False, grey=None, augment=None)


def is_whole(data: Dataset, x: Tensor) -> Tensor:
    """Return which drawn rows x `[N, *shape]` are whole, `[N]` bool: a sequence without an end may have been cut off.

    Rows are as likely as z says only if none is cut; leaving out all without an end, a matter of x alone, changes no
    p(z|x) of the others.
    """
    if data.spec.kind != "sequence":
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    return (x >= len(data.spec.vocabulary)).flatten(1).any(1)


def _codes(model: VAE, data: Dataset, seed: int, again: int) -> Iterator[Tensor]:
    """Yield draws of the prior for the rows of each block, `[1, B, *latent]`."""
    group = model.groups[0]
    assert isinstance(group, Group)
    for i, batch in enumerate(data.blocks(BLOCK_ROWS)):
        with seeded(Stream.EVALUATION, seed, _SIMULATED, again, i, 0), torch.no_grad():
            p = group.prior(None, batch.y, model.infer)
            yield p.sample(sample_shape(p, (1, batch.x.shape[0])))


def step_sizes(model: VAE, rows: Dataset, settings: Annealing, *, seed: int = 0) -> Tensor:
    """Return the size of the leapfrog steps at each temperature, `[T]`, tuned on one block of rows.

    After each move the size grows or shrinks by a tenth as more or fewer than 65 % of the moves were accepted. Sizes
    that were tuned on the rows that are scored would make the weights' mean another than p(x).
    """
    with inference(model), seeded(Stream.EVALUATION, seed, _TUNING):
        path, sizes = _Path(model, next(iter(rows.blocks(BLOCK_ROWS))), settings), []
        z, size = path.start_draws(), 0.1
        for _ in range(2):  # the first pass finds where to begin
            z, sizes = path.start_draws(), []
            for beta in settings.schedule()[1:]:
                z, accepted, _ = path.move(z, float(beta), size)
                sizes.append(size)
                size *= FASTER if float(accepted) > ACCEPTED else SLOWER
                size = min(max(size, SMALLEST), LARGEST)
            size = sizes[0]
    return torch.tensor(sizes, dtype=torch.float64)


@dataclass
class _State:
    """Chains at one temperature: z, log weights, log p(x|z) `[C, B]`, and the share of moves accepted so far."""

    z: Tensor
    log_weight: Tensor
    log_px: Tensor
    accepted: float


def _forward(path: "_Path", sizes: Tensor, *, last_move: bool = False) -> Iterator[_State]:
    """Yield the chains at the start and after each temperature; the move at the last one changes no weight."""
    betas = path.settings.schedule()
    z = path.start_draws()
    log_weight, accepted_all, moves = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device), 0.0, 0
    _, log_px, gain = path.log_densities(z)
    yield _State(z, log_weight, log_px, 0.0)
    for t, size in enumerate(sizes.tolist(), 1):
        log_weight = log_weight + float(betas[t] - betas[t - 1]) * gain
        if t < len(sizes) or last_move:
            z, accepted, (log_px, gain) = path.move(z, float(betas[t]), size)
            accepted_all, moves = accepted_all + float(accepted), moves + 1
        yield _State(z, log_weight, log_px, accepted_all / max(moves, 1))


def _backward(path: "_Path", z: Tensor, sizes: Tensor) -> Tensor:
    """Return the log weights of chains from draws of p(z|x) back to the start, `[C, B]`."""
    betas = path.settings.schedule()
    log_weight = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
    for t in range(len(sizes), 0, -1):
        z, _, (_, gain) = path.move(z, float(betas[t]), float(sizes[t - 1]))
        log_weight = log_weight - float(betas[t] - betas[t - 1]) * gain
    return log_weight


class _Path:
    """The densities f_beta(z) of one batch, and moves that leave them invariant; z is `[C, B, *latent]`."""

    def __init__(self, model: VAE, batch: Batch, settings: Annealing) -> None:
        self.model, self.batch, self.settings = model, batch, settings
        group = model.groups[0]
        assert isinstance(group, Group)
        self.group = group
        self.prior: Distribution = group.prior(None, batch.y, model.infer)
        seen = batch.x if batch.seen is None else batch.seen
        self.start = self.prior if settings.start == "prior" else model.infer(seen, batch.y, batch.mask)

    def start_draws(self) -> Tensor:
        """Draw where the chains begin."""
        return self.start.sample(sample_shape(self.start, (self.settings.chains, self.batch.x.shape[0])))

    def log_densities(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log r(z), log p(x|z), and log p(x, z) - log r(z), `[C, B]` float64."""
        px = self.model.decoder(self.group.merge(None, z), self.batch.y)
        log_px = px.log_prob(self.batch.x, self.batch.mask).double()
        log_r = self.start.log_prob(z).double()
        log_p = log_r if self.settings.start == "prior" else self.prior.log_prob(z).double()
        return log_r, log_px, log_px + log_p - log_r

    def _log_f(self, z: Tensor, beta: float) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return log f_beta(z), its gradient, and log p(x|z) with log p(x, z) - log r(z)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_r, log_px, gain = self.log_densities(z)
            log_f = log_r + beta * gain
            (slope,) = torch.autograd.grad(log_f.sum(), z)
        return log_f.detach(), slope, (log_px.detach(), gain.detach())

    def move(self, z: Tensor, beta: float, size: float) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Make one Hamiltonian move that leaves f_beta invariant (Neal 2011, arXiv 1206.1901, sec. 5.3.2).

        Returns:
            z, the share of moves that were accepted, and log p(x|z) with log p(x, z) - log r(z) there.
        """
        log_f, slope, parts = self._log_f(z, beta)
        momentum = torch.randn_like(z)
        log_joint = log_f + _log_momentum(momentum)
        there, force, parts_there = z, slope, parts
        for _ in range(self.settings.leapfrogs):
            momentum = momentum + size / 2 * force
            there = there + size * momentum
            log_f, force, parts_there = self._log_f(there, beta)
            momentum = momentum + size / 2 * force
        log_ratio = log_f + _log_momentum(momentum) - log_joint
        chosen = torch.rand(log_ratio.shape, dtype=torch.float64, device=z.device).log() < log_ratio
        wide = chosen.reshape(*chosen.shape, *[1] * (z.ndim - 2))
        kept = tuple(torch.where(chosen, new, old) for new, old in zip(parts_there, parts, strict=True))
        return torch.where(wide, there, z), chosen.double().mean(), kept  # pyright: ignore[reportReturnType]


def _log_momentum(momentum: Tensor) -> Tensor:
    """Return log N(momentum; 0, I) up to its constant, `[C, B]` float64."""
    return -0.5 * momentum.double().square().flatten(2).sum(2)
