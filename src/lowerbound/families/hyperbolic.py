"""Wrapped normals on hyperbolic space, in coordinates that keep their precision however far out a point lies."""

import math

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded
from .normal import LOG_2PI, Normal

_NEAR = 1e-2  # squared length up to which series are used
_TINY = 1e-300  # keeps the slope of a root finite at 0, in double precision


def log_sinhc(square: Tensor) -> Tensor:
    """Return log(sinh(s) / s) of s^2 >= 0, smooth down to 0 and without overflow."""
    near = square.clamp_max(_NEAR)
    series = near / 6 - near.square() / 180 + near**3 / 2835
    s = square.clamp_min(_NEAR).sqrt()
    return torch.where(square < _NEAR, series, s - (2 * s).log() + torch.log1p(-torch.exp(-2 * s)))


def moved(start: Tensor, step: Tensor, curvature: float) -> Tensor:
    """Return where one gets from `start` by `step`, transported from the origin: exp_start(PT_{0 -> start}(step)).

    All three are normal coordinates at the origin, x = log_0(point) `[..., d]`: the direction in which the point lies
    times its distance. `moved(-start, point, curvature)` is the step from `start` to a point, so the map is its own
    inverse: it is the addition of gyrovectors in other coordinates (Ungar 2008; Mathieu et al. 2019). On the
    hyperboloid, with r = |start|, s = |step| and a the step's part along start, the point has the spatial part

        cosh(s) sinh(r) start / r + sinh(s) / s (step + (cosh(r) - 1) a start / r),

    computed here times exp(-r - s), in double precision: towards the origin its terms cancel.
    """
    root = math.sqrt(-curvature)
    m, v = torch.broadcast_tensors(root * start.double(), root * step.double())
    square_m, square_v = m.square().sum(-1, keepdim=True), v.square().sum(-1, keepdim=True)
    r, s = (square_m + _TINY).sqrt(), (square_v + _TINY).sqrt()
    sinhc_m, sinhc_v = (log_sinhc(square) - length for square, length in ((square_m, r), (square_v, s)))
    along = (m * v).sum(-1, keepdim=True)
    # (cosh(r) - 1) / r^2 = 1/2 (sinh(r/2) / (r/2))^2
    bent = v * torch.exp(-r) + m * (0.5 * along * torch.exp(2 * log_sinhc(0.25 * square_m) - r))
    spatial = m * (0.5 * (1 + torch.exp(-2 * s)) * sinhc_m.exp()) + bent * sinhc_v.exp()
    size = (spatial.square().sum(-1, keepdim=True) + _TINY).sqrt()
    far = r + s
    whole = far + torch.log(size + (size.square() + torch.exp(-2 * far)).sqrt())  # asinh(exp(far) size)
    distance = torch.where(far < 1, torch.asinh(torch.exp(far.clamp_max(1)) * size), whole)
    return (spatial * (distance / size) / root).to(start.dtype)


def to_ball(z: Tensor, curvature: float) -> Tensor:
    """Return the coordinates in the Poincaré ball, of radius 1 / sqrt(-curvature), of normal ones `[..., d]`.

    >>> to_ball(torch.tensor([0.0, 2.0]), -1.0)  # tanh(1)
    tensor([0.0000, 0.7616])
    """
    root = math.sqrt(-curvature)
    length = z.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    return z / length * torch.tanh(0.5 * root * length) / root


class HyperbolicNormal(Distribution):
    """Wrapped normal around `loc` `[..., d]`, of standard deviations `scale` in the tangent space."""

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float, event_shape: tuple[int, ...]) -> None:
        self.loc, self.scale, self.curvature = loc, scale, curvature
        shape = torch.broadcast_shapes(loc.shape, scale.shape)
        self.size = shape[-1]
        super().__init__(Size(shape[:-1]), Size(event_shape))

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, self.event_shape)

    @property
    def mean(self) -> Tensor:
        """The location, which is the Fréchet mean: the distribution is symmetric about it."""
        return self._shaped(self.loc.expand(*self.batch_shape, self.size))

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate where the scales are small: across the location, distances look shorter."""
        square = self.loc.square().sum(-1, keepdim=True)
        shorter = torch.exp(-log_sinhc(-self.curvature * square))
        direction = self.loc.square() / square.clamp_min(torch.finfo(square.dtype).tiny)
        spread, longer = self.scale.square(), 1 - shorter
        along = (direction * spread).sum(-1, keepdim=True)
        found = shorter * (shorter + 2 * longer * direction) * spread + longer.square() * direction * along
        return self._shaped(found.expand(*self.batch_shape, self.size))

    def _log_prob_of_step(self, step: Tensor) -> Tensor:
        # log N(v; 0, diag(scale^2)) - (d - 1) log(sinh(|v| sqrt(-K)) / (|v| sqrt(-K)))  (Nagano et al. 2019, sec. 3.2)
        normal = (-0.5 * ((step / self.scale).square() + LOG_2PI) - self.scale.log()).sum(-1)
        return normal - (self.size - 1) * log_sinhc(-self.curvature * step.square().sum(-1))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the volume of the space.

        Raises:
            UsageError: if a mask is given: a part of the coordinates is no point.
        """
        if mask is not None:
            raise UsageError("a point of hyperbolic space cannot be observed in part", fix="leave out the mask")
        flat = value.flatten(value.ndim - len(self.event_shape))
        return self._log_prob_of_step(moved(-self.loc, flat, self.curvature))

    def _step(self, sample_shape: Sizes) -> Tensor:
        shape = (*sample_shape, *self.batch_shape, self.size)
        return self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw a step in the tangent space, and go it: a path for the gradient."""
        return self._shaped(moved(self.loc, self._step(sample_shape), self.curvature))

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Draw z, and score the step that was drawn: far out, z in single precision would say less of it."""
        step = self._step(shape)
        return self._shaped(moved(self.loc, step, self.curvature)), self._log_prob_of_step(step)


class HyperbolicNormalAtOrigin(HyperbolicNormal):
    """Wrapped normal around the origin, whose steps are the coordinates themselves; `scale` `[d]`."""

    def __init__(self, scale: Tensor, curvature: float, event_shape: tuple[int, ...]) -> None:
        super().__init__(torch.zeros_like(scale), scale, curvature, event_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the volume of the space; exact at any distance.

        Raises:
            UsageError: if a mask is given.
        """
        if mask is not None:
            return super().log_prob(value, mask)
        return self._log_prob_of_step(value.flatten(value.ndim - len(self.event_shape)))

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw a step, which is the point."""
        return self._shaped(self._step(sample_shape))

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Draw z and return it with its log-density."""
        z = self.rsample(shape)
        return z, self.log_prob(z)


@recorded
class WrappedNormal(Family):
    r"""q(z) on hyperbolic space: a normal step in the tangent space, wrapped around by the exponential map.

    log q(z) = log N(v; 0, diag(sigma^2)) - (d - 1) log[sinh(k |v|) / (k |v|)], k = sqrt(-curvature), with respect to
    the volume of the space, where z = exp_mu(PT_{0 -> mu}(v)) (Nagano et al. 2019, arXiv 1902.02992, sec. 3;
    Mathieu et al. 2019, arXiv 1901.06033, sec. 3). z and mu are normal coordinates at the origin, log_0 of the point,
    which unlike coordinates in the ball are no less exact near its boundary; `to_ball` gives the ball's.

    Args:
        event_shape: shape of z, of d values in all.
        curvature: of the space, below 0.

    Raises:
        UsageError: if the curvature is not a finite number below 0.

    >>> q = WrappedNormal((2,))(torch.zeros(2, 2))
    >>> z = torch.tensor([3.0, 0.0])
    >>> flat = Normal((2,))(torch.zeros(2, 2)).log_prob(z)
    >>> round((flat - q.log_prob(z)).exp().item(), 3), round(math.sinh(3) / 3, 3)
    (3.339, 3.339)
    """

    support = "hyperbolic"
    factorised = False

    def __init__(self, event_shape: tuple[int, ...], curvature: float = -1.0) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.curvature = check_hyperbolic(curvature)
        self.space = (self.curvature,)
        self.normal = Normal((Size(self.event_shape).numel(),))
        self.params = self.normal.params

    def forward(self, params: Tensor) -> HyperbolicNormal:
        """Return the wrapped normal with location and raw variance, params `[..., 2, d]`."""
        step = self.normal(wide(params))
        return HyperbolicNormal(step.loc, step.scale, self.curvature, self.event_shape)


def check_hyperbolic(curvature: float) -> float:
    """Return the curvature.

    Raises:
        UsageError: if it is not a finite number below 0.
    """
    if not -math.inf < curvature < 0:
        raise UsageError(
            f"hyperbolic space cannot have the curvature {curvature}",
            expected="a finite number below 0",
            fix="use Normal for a flat space, VonMisesFisher for a sphere",
        )
    return float(curvature)
