"""Codes of rows, and what is decoded around them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..core.codes import Embedded, Quantizer
from ..core.distribution import Distribution, sample_shape
from ..core.errors import UsageError
from ..core.model import VAE, Family, Group, inference
from ..core.noise import Stream, seeded
from ..data.dataset import Dataset
from ..families.hyperbolic import HyperbolicNormalAtOrigin
from ..families.normal import DiagonalNormal
from ..families.product import Product
from ..families.relaxed import BinaryConcrete

ROWS = 1000
DRAWS = 20_000  # of a prior whose quantiles have no formula: the standard error of a share is then 0.4% at most


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


def between(model: VAE, start: Tensor, end: Tensor, steps: int, *, slerp: bool = False) -> Float[Tensor, "S *latent"]:
    """Return codes of the top latent from `start` to `end`, `[*latent]` each, on the way of `interpolate`.

    Ends and way are brought to the points of its space (`on_space`): directions stay directions, codes codes.
    """
    first, last = on_space(model, torch.stack([start, end])).flatten(1)
    return on_space(model, interpolate(first, last, steps, slerp=slerp).unflatten(1, tuple(start.shape)))


def on_space(model: VAE, z: Float[Tensor, "N *latent"]) -> Float[Tensor, "N *latent"]:
    """Return codes of the top latent as points of its space: what lies beside it becomes the point nearest to it.

    The mean of directions is shorter than a direction, that of one-hot vectors is none, and between two vectors of a
    code book there is none. Vectors of real values are returned as they are.

    >>> from lowerbound import load_data, recipes
    >>> model, _ = recipes.hyperspherical_vae(load_data("digits").spec, latent_dim=1, hidden=(4,)).build(0)
    >>> on_space(model, torch.tensor([[0.3, 0.4]]))
    tensor([[0.6000, 0.8000]])
    """
    family = _top(model).posterior_family
    with inference(model):
        return _on_space(family, z.to(model.device)).to(z)


def _on_space(family: Family, z: Tensor) -> Tensor:
    """Return values `[N, *event]` as values that a family has."""
    limits = torch.finfo(z.dtype)
    if isinstance(family, Product):
        sizes = [torch.Size(factor.event_shape).numel() for factor in family.families]
        pieces = zip(family.families, z.split(sizes, -1), strict=True)
        each = [_on_space(one, piece.unflatten(-1, one.event_shape)).flatten(1) for one, piece in pieces]
        return torch.cat(each, -1)
    if isinstance(family, Quantizer):
        return family.embed(family.codes(z)).to(z)
    if family.support == "sphere":
        return functional.normalize(z.flatten(1), dim=-1).reshape(z.shape)
    if family.support == "onehot":
        return functional.one_hot(z.argmax(-1), z.shape[-1]).to(z)
    if family.support == "simplex":
        return functional.normalize(z.clamp_min(limits.tiny), p=1.0, dim=-1)
    return z.clamp(limits.eps, 1 - limits.eps) if family.support == "inner" else z


def below_top(model: VAE) -> str:
    """Return the words that say where the levels below the top are while codes of the top are decoded; else "".

    >>> from lowerbound import load_data, recipes
    >>> below_top(recipes.ladder_vae(load_data("digits").spec, latent_dims=(2, 3, 5), hidden=4).build(0)[0])
    'the 2 levels below the top take the means of their priors'
    """
    count = len(model.groups) - 1
    if count < 2:
        return "the level below the top takes the mean of its prior" if count else ""
    return f"the {count} levels below the top take the means of their priors"


def shares(steps: int, reach: float = 0.99) -> Float[Tensor, " S"]:
    """Return the shares of a distribution below each of `steps` values that cut its middle `reach` into equal parts.

    Raises:
        UsageError: if there are fewer than 2, or the reach is no share.

    >>> [round(v, 3) for v in shares(3, 0.9).tolist()]
    [0.05, 0.5, 0.95]
    """
    if steps < 2:
        raise UsageError(f"a grid cannot have {steps} steps", expected="2 or more")
    if not 0 < reach < 1:
        raise UsageError(f"the share of the prior cannot be {reach}", expected="above 0 and below 1")
    tail = (1 - reach) / 2
    return torch.linspace(tail, 1 - tail, steps, dtype=torch.float64)


def quantiles(prior: Distribution, below: Float[Tensor, " S"]) -> Float[Tensor, "S D"]:
    """Return the values of each dimension of z below which these shares of the prior lie, on the CPU.

    Exact where the dimensions are normal; of other priors those of 20,000 draws, the same ones at each call.

    Args:
        prior: p(z), of one condition at most.
        below: the shares, each above 0 and below 1.

    >>> p = DiagonalNormal(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 2.0]), 1)
    >>> quantiles(p, shares(3, 0.9))
    tensor([[-1.6449,  1.7103],
            [ 0.0000,  5.0000],
            [ 1.6449,  8.2897]])
    """
    if isinstance(prior, DiagonalNormal | HyperbolicNormalAtOrigin):
        mean, scale = (v.detach().reshape(-1).cpu() for v in (prior.mean, prior.variance.sqrt()))
        return mean + scale * torch.special.ndtri(below)[:, None].to(mean)
    with seeded(Stream.SHOWN, 0, 2):
        drawn = prior.sample((DRAWS,)).reshape(DRAWS, -1).cpu()
    return torch.from_numpy(np.quantile(drawn.numpy(), below.numpy(), axis=0)).to(drawn)


def even(prior: Distribution, steps: int, reach: float) -> Float[Tensor, "S D"]:
    """Return equal steps over `reach` standard deviations of the prior to each side of its mean, on the CPU.

    They end where its values do.

    Args:
        prior: p(z), of one condition at most.
        steps: how many values.
        reach: how many standard deviations.

    Raises:
        UsageError: if there are fewer than 2 steps.
    """
    if steps < 2:
        raise UsageError(f"a grid cannot have {steps} steps", expected="2 or more")
    mean, scale = (v.detach().reshape(-1).cpu() for v in (prior.mean, prior.variance.sqrt()))
    low, high = mean - reach * scale, mean + reach * scale
    if isinstance(prior, BinaryConcrete):
        eps = torch.finfo(mean.dtype).eps
        low, high = low.clamp_min(eps), high.clamp_max(1 - eps)
    return low + (high - low) * torch.linspace(0, 1, steps)[:, None]


def traversal(origin: Float[Tensor, " D"], values: Float[Tensor, "S D"], dims: tuple[int, ...]) -> Float[Tensor, "M D"]:
    """Return codes `[len(dims) * S, D]`: each dimension in turn at its values, the others at `origin`.

    Args:
        origin: the code whose other dimensions are kept.
        values: of each dimension, such as the prior's `quantiles`.
        dims: which dimensions.

    Raises:
        UsageError: if there is no such dimension.

    >>> traversal(torch.zeros(3), torch.tensor([[-1.0], [2.0]]).expand(2, 3), (1,))
    tensor([[ 0., -1.,  0.],
            [ 0.,  2.,  0.]])
    """
    check_dims(dims, len(origin))
    codes = origin.repeat(len(dims), len(values), 1)
    for row, d in enumerate(dims):
        codes[row, :, d] = values[:, d]
    return codes.flatten(0, 1)


def manifold(middle: Float[Tensor, " D"], values: Float[Tensor, "S D"], dims: tuple[int, int]) -> Float[Tensor, "M D"]:
    """Return codes `[S * S, D]` on a grid of two dimensions, the second falling from row to row.

    With the quantiles of `shares(steps, 1 - 1 / steps)` equal parts of the prior's probability lie between neighbours
    (Kingma & Welling 2014, arXiv 1312.6114, fig. 4).

    Args:
        middle: the code whose other dimensions are kept, such as the prior's mean.
        values: of each dimension, rising.
        dims: the dimension from left to right, and that from bottom to top.

    Raises:
        UsageError: if there are no such two dimensions.
    """
    check_dims(dims, len(middle))
    if len(dims) != 2 or dims[0] == dims[1]:
        raise UsageError(f"a manifold cannot show the dimensions {dims}", expected="two different ones")
    codes = middle.repeat(len(values), len(values), 1)
    codes[:, :, dims[0]] = values[:, dims[0]]
    codes[:, :, dims[1]] = values[:, dims[1]].flip(0)[:, None]
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
