"""A continuous flow from noise to codes, fitted by regression."""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from ..core.distribution import Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer
from ..families.normal import DiagonalNormal
from .layers import FromDraws, Scaling, plain_mlp, timed, timed_size

Slope: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_AT_ONCE = 1 << 24  # values in one layer when divergences are computed


class Transported(FromDraws):
    """N(0, I) carried along a velocity field from t = 0 to t = 1, of a `FlowMatching` prior."""

    def __init__(self, prior: "FlowMatching") -> None:
        self.prior, self.noise = prior, prior.size
        super().__init__(prior.scaling.loc, prior.event_shape)

    def _draw(self, noise: Tensor) -> Tensor:
        return self.prior.scaling.outside(self.prior.carry(noise, backwards=False)[0])

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log N(z(0); 0, I) - integral of div v(z(t), t) dt, with the codes' scale (Chen et al. 2018, eq. 8)."""
        lead = value.shape[: value.ndim - len(self.event_shape)]
        inner = self.prior.scaling.inside(value.reshape(-1, self.prior.size))
        rows = max(1, _AT_ONCE // (self.prior.size * self.prior.width))
        carried = [self.prior.carry(part, backwards=True) for part in inner.split(rows)]
        start, growth = (torch.cat(parts) for parts in zip(*carried, strict=True))
        standard = DiagonalNormal(torch.zeros_like(start), start.new_ones(()), 1)
        return (standard.log_prob(start) - growth - self.prior.scaling.log_volume()).reshape(lead)


@recorded
class FlowMatching(nn.Module):
    r"""p(z) is N(0, I) carried by dz/dt = v(z, t) from t = 0 to 1 (Lipman et al. 2023, arXiv 2210.02747).

    Fitted by conditional flow matching on straight paths: with noise e ~ N(0, I) and t uniform in (0, 1), v at
    z_t = (1 - (1 - sigma) t) e + t z learns z - (1 - sigma) e (eqs. 22 and 23). Samples follow the field by the
    classical Runge-Kutta method in steps of equal size. log p(z) follows it backwards, with the exact divergence
    (Chen et al. 2018, arXiv 1806.07366, eq. 8), whose cost grows with the square of the dimensions: it is for codes of
    about 64 dimensions or fewer.

    Args:
        event_shape: shape of z.
        hidden: widths of the hidden layers of v.
        steps: Runge-Kutta steps, each of four evaluations of v.
        sigma: width of a path's end around each code, in units of the codes' standard deviation.

    Raises:
        UsageError: if there is no step, or sigma is not between 0 and 1.

    >>> p = FlowMatching((3,), hidden=(8,))(None, None)
    >>> p.sample((5,)).shape, p.log_prob(torch.zeros(2, 5, 3)).shape
    (torch.Size([5, 3]), torch.Size([2, 5]))
    """

    support: Support = "real"

    def __init__(
        self, event_shape: tuple[int, ...], hidden: tuple[int, ...] = (256, 256), steps: int = 20, sigma: float = 1e-2
    ) -> None:
        super().__init__()
        if steps < 1 or not 0 <= sigma < 1:
            raise UsageError(
                f"a flow cannot take {steps} steps with sigma {sigma}", expected="steps >= 1, 0 <= sigma < 1"
            )
        self.event_shape, self.size, self.steps, self.sigma = tuple(event_shape), math.prod(event_shape), steps, sigma
        self.width = max((*hidden, self.size))
        self.scaling = Scaling(self.size)
        self.field = plain_mlp(timed_size(self.size), hidden, self.size)

    def start_from_codes(self, z: Tensor) -> None:
        """Scale the codes by their mean and variance."""
        self.scaling.start_from_codes(z.flatten(1))

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """Return v(z, t), z `[N, D]`, t `[N, 1]` or `[1]`; the field sees t and some waves of it."""
        return self.field(timed(z, t))

    def fit_loss(self, z: Tensor) -> Tensor:
        """Return |v(z_t, t) - (z - (1 - sigma) e)|^2 of each code `[B]`, for one draw of t and e."""
        inner = self.scaling.inside(z.flatten(1))
        e, t = torch.randn_like(inner), torch.rand_like(inner[:, :1])
        wanted = inner - (1 - self.sigma) * e
        return (self.velocity(e + t * wanted, t) - wanted).square().sum(1)

    def carry(self, z: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
        """Follow the field from t = 0 to 1, or back; also return the integral of its divergence from 0 to 1, `[N]`.

        Forwards the divergence is not computed, and 0 is returned in its place.
        """
        growth, h = z.new_zeros(len(z)), 1 / self.steps
        for i in range(self.steps):
            t = z.new_full((1,), 1 - i * h if backwards else i * h)
            slope = self._with_divergence if backwards else self._alone
            z, added = _runge_kutta(slope, z, t, -h if backwards else h)
            growth = growth - added if backwards else growth
        return z, growth

    def _alone(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.velocity(z, t), z.new_zeros(())

    def _with_divergence(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        v, pull = vjp(lambda at: self.velocity(at, t), z)[:2]
        basis = torch.eye(self.size, dtype=z.dtype, device=z.device)
        (rows,) = vmap(lambda e: pull(e.expand_as(z)))(basis)  # rows of each Jacobian, [D, N, D]
        return v, rows.diagonal(dim1=0, dim2=2).sum(-1)

    def forward(self, y: Tensor | None, infer: Infer | None) -> Transported:
        """Return p(z), whatever y is."""
        return Transported(self)


def _runge_kutta(slope: Slope, z: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """Take one step of the classical fourth-order method; returns z and the integral of the second part of `slope`."""
    v1, d1 = slope(z, t)
    v2, d2 = slope(z + h / 2 * v1, t + h / 2)
    v3, d3 = slope(z + h / 2 * v2, t + h / 2)
    v4, d4 = slope(z + h * v3, t + h)
    return z + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4), h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
