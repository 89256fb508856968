"""Codes of rows, and what is decoded around them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.codes import Embedded
from ..core.distribution import Distribution, sample_shape
from ..core.errors import UsageError
from ..core.model import VAE, Group, inference
from ..core.noise import Stream, seeded
from ..data.dataset import Dataset
from ..families.normal import DiagonalNormal

ROWS = 1000


@dataclass(frozen=True)
class Codes:
    """Posterior of each row: mean and standard deviation, `[N, *latent]`; the deviation of a point is 0."""

    mean: Tensor
    scale: Tensor


def encode_rows(model: VAE, rows: Dataset) -> Codes:
    """Return mean and standard deviation of the top posterior q(z|x) of each row, on the CPU.

    Args:
        model: a trained model.
        rows: rows as the model wants them (`Dataset.matching`).
    """
    means, scales = [], []
    with inference(model):
        for batch in rows.to(model.device).blocks(ROWS):
            q = model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask)
            means.append(q.mean.cpu())
            scales.append(q.variance.sqrt().cpu())
    return Codes(torch.cat(means), torch.cat(scales))


def draw_rows(model: VAE, rows: Dataset, *, seed: int = 0) -> Tensor:
    """Return one draw from the top posterior q(z|x) of each row, `[N, *latent]` on the CPU.

    Args:
        model: a trained model.
        rows: rows as the model wants them (`Dataset.matching`).
        seed: decides the draws.
    """
    draws = []
    with inference(model), seeded(Stream.SHOWN, seed):
        for batch in rows.to(model.device).blocks(ROWS):
            q = model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask)
            draws.append(q.sample().cpu())
    return torch.cat(draws)


def latent_shape(model: VAE) -> tuple[int, ...]:
    """Return the shape of one code of the top group."""
    return tuple(_top(model).posterior_family.event_shape)


def prior_of(model: VAE, y: Tensor | None) -> Distribution:
    """Return the top prior p(z|y)."""
    with inference(model):
        return _top(model).prior(None, None if y is None else y.to(model.device), model.infer)


def draw_prior(model: VAE, y: Tensor | None, count: int, *, seed: int = 0) -> Tensor:
    """Return `count` draws from the top prior p(z|y), `[count, *latent]` on the CPU.

    Args:
        model: a trained model.
        y: one-hot labels `[count, C]` of a conditional model.
        count: how many.
        seed: decides the draws; they share none with those of `draw_rows`.
    """
    p = prior_of(model, y)
    with seeded(Stream.SHOWN, seed, 1):
        return p.sample(sample_shape(p, (count,))).cpu()


def has_standard_prior(model: VAE, y: Tensor | None = None) -> bool:
    """Tell whether the top prior is N(0, I); of a conditional model, for each of the labels y."""
    p = prior_of(model, y)
    return isinstance(p, DiagonalNormal) and not bool(p.mean.any()) and bool((p.variance == 1).all())


def has_axes(model: VAE) -> bool:
    """Tell whether one dimension of the top latent can be moved alone: it is of no class, share, direction or code."""
    return _top(model).posterior_family.support not in ("onehot", "simplex", "sphere", "product", "codes")


def check_axes(model: VAE) -> None:
    """Raise UsageError unless one dimension of the top latent can be moved alone."""
    if not has_axes(model):
        family = type(_top(model).posterior_family).__name__
        raise UsageError(
            f"the top latent of this model is a {family}: no dimension of it can be moved alone",
            fix="decode codes of your own, such as those of rows (lowerbound encode): lowerbound decode RUN CODES",
        )


def _top(model: VAE) -> Group:
    group = model.groups[0]
    assert isinstance(group, Group), "a model's groups are groups"
    return group


def interpolate(
    start: Float[Tensor, " D"], end: Float[Tensor, " D"], steps: int, *, slerp: bool = False
) -> Float[Tensor, "S D"]:
    """Return codes from `start` to `end`, both included: on a line, or with `slerp` along the arc between them.

    On the arc the direction turns evenly and the length changes evenly, so that no code passes nearer to 0 than both
    ends (Shoemake 1985; White 2016, arXiv 1609.04468).

    Raises:
        UsageError: if there are fewer than 2 steps.

    >>> interpolate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 3, slerp=True)[1]
    tensor([0.7071, 0.7071])
    """
    if steps < 2:
        raise UsageError(f"an interpolation cannot have {steps} steps", expected="2 or more")
    t = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    line = (1 - t) * start + t * end
    lengths = start.norm(), end.norm()
    if not slerp or min(lengths) == 0:
        return line
    a, b = start / lengths[0], end / lengths[1]
    angle = torch.atan2((a - b).norm(), (a + b).norm()) * 2  # exact for small angles, where acos is not
    if angle < 1e-6 or torch.pi - angle < 1e-6:
        return line
    direction = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return direction * ((1 - t) * lengths[0] + t * lengths[1])


def quantiles(steps: int, reach: float = 0.99) -> Tensor:
    """Return `steps` standard normal quantiles that cut the middle `reach` of the probability into equal parts.

    Raises:
        UsageError: if there are fewer than 2, or the reach is no share.

    >>> [round(v, 3) for v in quantiles(3, 0.9).tolist()]
    [-1.645, 0.0, 1.645]
    """
    if steps < 2:
        raise UsageError(f"a grid cannot have {steps} steps", expected="2 or more")
    if not 0 < reach < 1:
        raise UsageError(f"the share of the prior cannot be {reach}", expected="above 0 and below 1")
    tail = (1 - reach) / 2
    return torch.special.ndtri(torch.linspace(tail, 1 - tail, steps, dtype=torch.float64)).float()


def traversal(
    origin: Float[Tensor, " D"], prior_scale: Float[Tensor, " D"], prior_mean: Float[Tensor, " D"],
    dims: tuple[int, ...], steps: int, reach: float = 0.99,
) -> Float[Tensor, "M D"]:  # fmt: skip
    """Return codes `[len(dims) * steps, D]`: each dimension in turn at its prior's quantiles, the others at `origin`.

    Raises:
        UsageError: if there is no such dimension, or the grid is impossible.

    >>> traversal(torch.zeros(3), torch.ones(3), torch.zeros(3), (1,), 3, 0.9)[:, 1]
    tensor([-1.6449,  0.0000,  1.6449])
    """
    check_dims(dims, len(origin))
    moved = quantiles(steps, reach)
    codes = origin.repeat(len(dims), steps, 1)
    for row, d in enumerate(dims):
        codes[row, :, d] = prior_mean[d] + prior_scale[d] * moved
    return codes.flatten(0, 1)


def manifold(
    prior_scale: Float[Tensor, " D"],
    prior_mean: Float[Tensor, " D"],
    dims: tuple[int, int],
    steps: int,
    *,
    linear: float | None = None,
) -> Float[Tensor, "M D"]:
    """Return codes `[steps * steps, D]` on a grid of two dimensions, the second falling from row to row.

    Equal parts of the prior's probability lie between neighbours (Kingma & Welling 2014, arXiv 1312.6114, fig. 4), or
    with `linear` equal steps; the dimensions not shown are at the prior's mean.

    Args:
        prior_scale: standard deviation of each dimension.
        prior_mean: mean of each dimension.
        dims: the dimension from left to right, and that from bottom to top.
        steps: values of each.
        linear: how many standard deviations an even grid reaches to each side.

    Raises:
        UsageError: if there are no such two dimensions, or the grid is impossible.
    """
    check_dims(dims, len(prior_mean))
    if len(dims) != 2 or dims[0] == dims[1]:
        raise UsageError(f"a manifold cannot show the dimensions {dims}", expected="two different ones")
    moved = quantiles(steps, 1 - 1 / max(steps, 2))
    if linear is not None:
        moved = torch.linspace(-linear, linear, steps)
    codes = prior_mean.repeat(steps, steps, 1)
    codes[:, :, dims[0]] = prior_mean[dims[0]] + prior_scale[dims[0]] * moved
    codes[:, :, dims[1]] = (prior_mean[dims[1]] + prior_scale[dims[1]] * moved.flip(0))[:, None]
    return codes.flatten(0, 1)


def check_dims(dims: tuple[int, ...], size: int) -> None:
    """Raise UsageError if a dimension is none of a code of `size` values."""
    bad = [d for d in dims if not 0 <= d < size]
    if bad or not dims:
        asked = f"no dimension {bad[0]}" if bad else "no dimension to show"
        raise UsageError(f"there is {asked}", expected=f"0 to {size - 1}")


def most_used(codes: Codes, count: int) -> tuple[int, ...]:
    """Return the dimensions whose posterior mean varies most over the rows, most first.

    >>> most_used(Codes(torch.tensor([[0.0, 5.0, 1.0], [0.0, -5.0, 2.0]]), torch.ones(2, 3)), 2)
    (1, 2)
    """
    spread = codes.mean.flatten(1).var(0, correction=0)
    return tuple(spread.argsort(descending=True, stable=True)[:count].tolist())


def far_from(codes: Tensor, prior: Distribution, deviations: float = 10.0) -> int:
    """Count the codes `[N, *latent]` with a value more than so many standard deviations from the prior's mean.

    Vectors of a code book have no such distance: none is counted.
    """
    if isinstance(prior, Embedded):
        return 0
    mean, scale = prior.mean.to(codes), prior.variance.sqrt().to(codes)
    return int(((codes - mean).abs() > deviations * scale).flatten(1).any(1).sum())
