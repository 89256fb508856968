"""Planar and radial flows, whose parameters all come from the context: amortised, for each example its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Flow

SHIFT = math.log(math.e - 1)  # softplus(SHIFT) = 1
TINY = 1e-24


def _length(x: Tensor) -> Tensor:
    """Return |x| `[..., 1]`, with a gradient at 0."""
    return (x.square().sum(-1, keepdim=True) + TINY).sqrt()


class PlanarFlow(Flow):
    r"""f(z) = z + u tanh(w^T z + b), `steps` times (Rezende & Mohamed 2015, arXiv 1505.05770, eq. 10-12).

    log |det| = log |1 + u^T psi(z)|, psi(z) = (1 - tanh^2(w^T z + b)) w. It is invertible as w^T u >= -1, which the
    paper's appendix A.1 brings about by u' = u + (m(w^T u) - w^T u) w / |w|^2, m(x) = softplus(x) - 1. Here
    m(x) = softplus(x + log(e - 1)) - 1, so that u = 0 is the identity. Its inverse has no formula.

    Args:
        size: number of dimensions D.
        steps: number of planar maps; the context holds u, w and b of each.

    >>> PlanarFlow(3, steps=2).reads
    14
    """

    invertible = False

    def __init__(self, size: int, steps: int = 8) -> None:
        super().__init__()
        self.size, self.steps, self.reads = size, steps, steps * (2 * size + 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image of x and the log-determinant."""
        assert context is not None, "a planar flow reads all its parameters from the context"
        total = x.new_zeros(())
        for own in context.unflatten(-1, (self.steps, -1)).unbind(-2):
            u, w, b = own.split([self.size, self.size, 1], -1)
            along = (w * u).sum(-1, keepdim=True)
            steepest = F.softplus(along + SHIFT).clamp_min(torch.finfo(x.dtype).tiny)  # 1 + m(w^T u)
            u = u + (steepest - 1 - along) * w / (w.square().sum(-1, keepdim=True) + TINY)
            height = torch.tanh((w * x).sum(-1, keepdim=True) + b)
            x = x + u * height
            square = height.square()
            total = total + torch.log(square + steepest * (1 - square))[..., 0]
        return x, total


class RadialFlow(Flow):
    r"""f(z) = z + beta h(alpha, r) (z - z0), h = 1 / (alpha + r), r = |z - z0|, `steps` times.

    Rezende & Mohamed 2015, arXiv 1505.05770, eq. 14, whose log |det| = (D - 1) log(1 + beta h) + log(1 + beta h +
    beta h' r). Invertible as beta >= -alpha, by beta = softplus(raw) - alpha (appendix A.2). The inverse has a formula:
    |f(z) - z0| (alpha + r) = r (alpha + r + beta) is quadratic in r.

    Args:
        size: number of dimensions D.
        steps: number of radial maps; the context holds z0, alpha and beta of each.

    >>> RadialFlow(3, steps=2).reads
    10
    """

    def __init__(self, size: int, steps: int = 8) -> None:
        super().__init__()
        self.size, self.steps, self.reads = size, steps, steps * (size + 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image of x and the log-determinant."""
        total = x.new_zeros(())
        for centre, alpha, slope in self._read(context):
            away = x - centre
            radius = _length(away)
            total = total + self._log_det(radius, alpha, slope)
            x = centre + away * ((radius + slope) / (radius + alpha))
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the x whose image y is, and the log-determinant."""
        total = y.new_zeros(())
        for centre, alpha, slope in reversed(self._read(context)):
            away = y - centre
            reached = _length(away)
            middle = slope - reached  # r^2 + middle r - alpha reached = 0
            sum_ = middle.abs() + (middle.square() + 4 * alpha * reached).sqrt()
            radius = torch.where(middle >= 0, 2 * alpha * reached / sum_, sum_ / 2)
            total = total - self._log_det(radius, alpha, slope)
            y = centre + away * ((radius + alpha) / (radius + slope))
        return y, total

    def _read(self, context: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return z0, alpha and alpha + beta > 0 of each step."""
        assert context is not None, "a radial flow reads all its parameters from the context"
        read = []
        for own in context.unflatten(-1, (self.steps, -1)).unbind(-2):
            centre, raw_alpha, raw_beta = own.split([self.size, 1, 1], -1)
            tiny = torch.finfo(own.dtype).tiny
            read.append((centre, *(F.softplus(raw).clamp_min(tiny) for raw in (raw_alpha, raw_beta))))
        return read

    def _log_det(self, radius: Tensor, alpha: Tensor, slope: Tensor) -> Tensor:
        # 1 + beta h and 1 + beta h + beta h' r as sums of positive terms: beta near -alpha leaves no digits of 1 - 1
        bottom = torch.log(radius + alpha)
        across = torch.log(radius + slope) - bottom
        along = torch.log(radius.square() + alpha * (2 * radius + slope)) - 2 * bottom
        return ((self.size - 1) * across + along)[..., 0]
