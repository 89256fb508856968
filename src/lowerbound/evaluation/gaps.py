"""What the ELBO loses to the family of q and to the encoder that gives q for every x, and what z is worth to it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import Incompatible, NoDensity, UsageError
from ..core.model import VAE, Family, inference
from ..core.noise import Stream, generator, mix, seeded
from ..core.types import Batch
from ..core.walk import Drawn, Shape, observe
from ..data.dataset import Dataset
from .aggregate import top_of
from .importance import BLOCK_ROWS, no_density_reason, score
from .number import Number, mean_number, shares

SAMPLES = 8  # of q in each step of the optimiser
LEARNING_RATE = 0.1  # at the start, of mu in standard deviations of the encoder's q, and of log sigma; falls to 0
_FITTED, _PAIRED = 6, 7  # keys of uses of noise


@dataclass(frozen=True)
class Gaps:
    """The parts of log p(x) - ELBO(x), means over a few rows, in nats.

    Args:
        log_px: log p(x), importance-sampled from the best q that was found: a lower bound in expectation.
        approximation: log p(x) less the ELBO of that q: what a normal of independent dimensions cannot say of p(z|x).
        amortisation: that ELBO less the encoder's: what the encoder loses by giving q for every x at once. The search
            may stop short of the best q, so it is a lower bound.
        elbo: the encoder's ELBO of these rows.
        steps: of the search.
    """

    log_px: Number
    approximation: Number
    amortisation: Number
    elbo: Number
    steps: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields; see `Number` for theirs."""
        return {k: v.to_json() if isinstance(v, Number) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Fitted:
    """A source of z ~ N(loc, diag(scale^2)), one normal for each row.

    Args:
        loc: means `[B, *latent]`.
        scale: standard deviations `[B, *latent]`.
    """

    loc: Tensor
    scale: Tensor

    def __call__(self, i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        """Draw z and score it; the gradient goes through z alone (Roeder et al. 2017, arXiv 1703.09194)."""
        noise = torch.randn(shape[0], *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        normal = torch.distributions.Normal(self.loc.detach(), self.scale.detach(), validate_args=False)
        z = self.loc + self.scale * noise
        return z, normal.log_prob(z).flatten(2).sum(2), False


def gaps(
    model: VAE, data: Dataset, *, rows: int = 50, steps: int = 300, num_samples: int = 2000, seed: int = 0
) -> Gaps:
    r"""Split log p(x) - ELBO(x) into approximation gap and amortisation gap.

    log p(x) - ELBO(x) = [log p(x) - max_q ELBO(x; q)] + [max_q ELBO(x; q) - ELBO(x)], q a normal of independent
    dimensions (Cremer et al. 2018, "Inference Suboptimality in Variational Autoencoders", arXiv 1801.03558, sec. 3).
    The maximum is searched for each row by Adam on mu and log sigma, from the encoder's.

    Args:
        model: a model of one latent group whose q is a normal of independent dimensions.
        data: held-out rows as the model wants them (`Dataset.matching`).
        rows: how many of them, the first, are looked at; each costs steps times 8 passes back through the decoder.
        steps: steps of Adam.
        num_samples: K of log p(x), and samples of either ELBO.
        seed: decides all draws.

    Raises:
        UsageError: if a number is below 1, or there are no rows.
        NoDensity: if the model has no density.
        Incompatible: if it has several groups, q is no such normal, or log p(z) is itself an estimate.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> model = lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)).build(0)[0]
    >>> found = gaps(model, data.test.matching(model.spec), rows=5, steps=5, num_samples=10)
    >>> found.log_px.n, found.approximation.kind, found.amortisation.side
    (5, 'estimate', 'lower')
    """
    if min(rows, steps, num_samples, len(data)) < 1:
        raise UsageError(
            f"gaps cannot be measured on {min(rows, len(data))} rows in {steps} steps with {num_samples} samples",
            expected="1 or more of each",
        )
    _check(model)
    few = data.take(min(rows, len(data))).to(model.device)
    found = [
        _of_block(model, few.rows(slice(start, start + BLOCK_ROWS)), steps, num_samples, mix(seed, start, _FITTED))
        for start in range(0, len(few), BLOCK_ROWS)
    ]
    log_px, best, own, variance = (torch.cat(part) for part in zip(*found, strict=True))
    share = shares(few)
    mc_se = float((share.square() * variance).sum()) ** 0.5
    return Gaps(
        log_px=mean_number(log_px, share, kind="bound", side="lower", mc_se=mc_se, num_samples=num_samples),
        approximation=mean_number(log_px - best, share, kind="estimate"),
        amortisation=mean_number(best - own, share, kind="bound", side="lower"),
        elbo=mean_number(own, share, kind="bound", side="lower"),
        steps=steps,
    )


def sensitivity(model: VAE, data: Dataset, *, seed: int = 0) -> Number:
    """Return how much the distortion grows when each row is decoded from the z of another row, in nats.

    E[log p(x_n|z_n) - log p(x_n|z_m)], z ~ q(z|x) and m another row; 0 if the decoder ignores z. Of a conditional
    model each row keeps its own label; of several latents all are the other row's.

    Args:
        model: a trained model.
        data: rows as the model wants them (`Dataset.matching`).
        seed: decides which other row, and the draws.

    Raises:
        UsageError: if there are fewer than 2 rows.
    """
    if len(data) < 2:
        raise UsageError(f"{len(data)} rows cannot be given each other's codes", expected="2 or more")
    order = torch.randperm(len(data), generator=generator(Stream.EVALUATION, seed, _PAIRED))
    rows = data.rows(order.to(data.x.device)).to(model.device)
    own, codes, other = [], [], []
    with inference(model):
        for i, batch in enumerate(rows.blocks(BLOCK_ROWS)):
            with seeded(Stream.EVALUATION, seed, i, _PAIRED, 0):
                trace = model(batch)
            own.append(trace.log_px[0].double().cpu())
            codes.append([latent.z for latent in trace.latents])
        shifted = [torch.cat(parts, 1).roll(1, 1).split(BLOCK_ROWS, 1) for parts in zip(*codes, strict=True)]
        for batch, *zs in zip(rows.blocks(BLOCK_ROWS), *shifted, strict=True):
            other.append(model(batch, 1, observe(dict(enumerate(zs)))).log_px[0].double().cpu())
    return mean_number(torch.cat(own) - torch.cat(other), shares(rows), kind="estimate")


def _check(model: VAE) -> None:
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    if len(model.groups) > 1:
        raise Incompatible(f"the model has {len(model.groups)} latent groups: the search for the best q is for one")
    group = top_of(model)
    if group.prior_estimated:
        raise Incompatible("log p(z) is itself an estimate of this prior: the gaps would be those of the prior, too")
    family = group.posterior_family
    if family.discrete or family.support != "real":
        raise _no_normal(family)


def _no_normal(family: Family) -> Incompatible:
    normals = "normals of independent dimensions"
    return Incompatible(f"the best q is searched for among {normals}, and this model's is {type(family).__name__}")


def _of_block(
    model: VAE, data: Dataset, steps: int, num_samples: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log p(x), the ELBO of the best q and of the encoder's, and the sampler's variance of the first, `[B]`."""
    batch = data.batch(slice(None))
    with inference(model):
        q = model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask)
        if not q.normal:
            raise _no_normal(top_of(model).posterior_family)
        own = Fitted(q.mean.detach(), q.variance.sqrt().detach())
        best = _best(model, batch, own, steps, seed)
    # the same noise for both, so that their difference has little of its own
    scores = [score(model, data, num_samples=num_samples, seed=seed, source=s) for s in (own, best)]
    elbo, best_elbo = (-(s.distortion + s.rate) for s in scores)
    return scores[1].log_px, best_elbo, elbo, scores[1].variance


def _best(model: VAE, batch: Batch, start: Fitted, steps: int, seed: int) -> Fitted:
    """Maximise each row's ELBO over its own mu and log sigma."""
    moved = torch.zeros_like(start.loc).requires_grad_()
    wider = torch.zeros_like(start.scale).requires_grad_()
    optimizer = torch.optim.Adam([moved, wider], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        with torch.enable_grad(), seeded(Stream.EVALUATION, seed, step, _FITTED, 0):
            q = Fitted(start.loc + start.scale * moved, start.scale * wider.exp())
            elbo = model(batch, SAMPLES, q).log_w.mean(0).sum()
            moved.grad, wider.grad = torch.autograd.grad(-elbo, [moved, wider])
        optimizer.step()
        schedule.step()
    return Fitted((start.loc + start.scale * moved).detach(), (start.scale * wider.exp()).detach())
