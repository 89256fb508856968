"""Codes of rows, and what is decoded around them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import UsageError
from ..core.model import VAE, Group, inference
from ..data.dataset import Dataset

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


def latent_shape(model: VAE) -> tuple[int, ...]:
    """Return the shape of one code of the top group."""
    return tuple(_top(model).posterior_family.event_shape)


def prior_of(model: VAE, y: Tensor | None) -> Distribution:
    """Return the top prior p(z|y)."""
    with inference(model):
        return _top(model).prior(None, y, model.infer)


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
