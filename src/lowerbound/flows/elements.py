"""Monotone maps of single numbers, whose parameters another network gives for each dimension."""

import math

import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from ..core.errors import UsageError


class Elements(nn.Module):
    """A map of each dimension: forward(x, raw) -> y, log |dy/dx|, all `[..., D]`, raw `[..., D, count]`.

    At raw = 0 it is the identity, or (a gate) near it.
    """

    count: int
    """How many parameters it reads for each dimension."""

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log |dy/dx| of each dimension."""
        raise NotImplementedError

    def inverse(self, y: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and log |dx/dy| of each dimension."""
        raise NotImplementedError


class Affine(Elements):
    r"""y = x exp(s) + t with s = bound tanh(raw / bound) (Dinh et al. 2017, arXiv 1605.08803, sec. 3.2 and 4.1).

    Args:
        bound: no |s| is larger.

    >>> y, log_slope = Affine()(torch.tensor([2.0]), torch.zeros(1, 2))
    >>> y.item(), log_slope.item()
    (2.0, 0.0)
    """

    count = 2

    def __init__(self, bound: float = 3.0) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return x exp(s) + t and s."""
        log_scale, shift = self._read(raw)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, y: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return (y - t) exp(-s) and -s."""
        log_scale, shift = self._read(raw)
        return (y - shift) * (-log_scale).exp(), -log_scale

    def _read(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = raw.unbind(-1)
        return self.bound * torch.tanh(scale / self.bound), shift


class Gate(Elements):
    r"""y = sigma x + (1 - sigma) m with sigma = sigmoid(raw + start) (Kingma et al. 2016, arXiv 1606.04934, eq. 13-14).

    Args:
        start: added to the gate's raw value, so that training starts near the identity; the paper suggests 1 or 2.

    >>> y, log_slope = Gate(start=0.0)(torch.tensor([2.0]), torch.zeros(1, 2))
    >>> y.item(), round(log_slope.exp().item(), 6)
    (1.0, 0.5)
    """

    count = 2

    def __init__(self, start: float = 2.0) -> None:
        super().__init__()
        self.start = start

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma x + (1 - sigma) m and log sigma."""
        gate, target = raw.unbind(-1)
        gate = gate + self.start
        # sigma x + (1 - sigma) m
        return torch.lerp(target, x, gate.sigmoid()), nn.functional.logsigmoid(gate)

    def inverse(self, y: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return (y - (1 - sigma) m) / sigma and -log sigma."""
        gate, target = raw.unbind(-1)
        gate = gate + self.start
        return target + (y - target) * (1 + (-gate).exp()), -nn.functional.logsigmoid(gate)


class Spline(Elements):
    r"""A monotone rational-quadratic spline on [-bound, bound], and the identity outside.

    Durkan et al. 2019, "Neural Spline Flows", arXiv 1906.04032, sec. 3.1, in zuko's form: widths and heights of the
    bins by a softmax, slopes at the inner knots by an exponential, and slope 1 at both ends.

    Args:
        bins: number of bins.
        bound: the spline's domain is [-bound, bound].

    Raises:
        UsageError: if there are fewer than 2 bins, or the bound is not positive.

    >>> Spline(bins=4).count
    11
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        super().__init__()
        if not isinstance(bins, int) or bins < 2:
            raise UsageError(f"a spline cannot have {bins} bins", expected="a whole number above 1")
        if not 0 < bound < math.inf:
            raise UsageError(f"a spline's bound cannot be {bound}", expected="a finite number above 0")
        self.bins, self.bound, self.count = bins, bound, 3 * bins - 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spline at x and the log of its slope."""
        return self._spline(raw).call_and_ladj(x)

    def inverse(self, y: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the point where the spline is y, and minus the log of the slope there."""
        spline = self._spline(raw)
        x = spline._inverse(y)
        return x, -spline.call_and_ladj(x)[1]

    def _spline(self, raw: Tensor) -> MonotonicRQSTransform:
        widths, heights, slopes = raw.split([self.bins, self.bins, self.bins - 1], -1)
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.bound)
