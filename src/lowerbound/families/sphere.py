"""Distributions of directions: von Mises-Fisher on the unit sphere, and the uniform one."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.kl import register_kl
from ..core.model import Family
from ..core.record import recorded

_TERMS = 9  # of the expansion in 1/order
_ORDER = 16  # from which it is used: the next term is below 1e-11 there
_PROPOSALS = 20  # Wood accepts two of three or more: all fail in one of 10^9 draws, and then the first is taken
_COUNT = 48  # of nodes
_WIDTHS = 10.0  # the gradient's integral reaches so many standard deviations of the angle


def log_sphere_area(size: int) -> float:
    """Return the log of the area of the unit sphere in R^size.

    >>> round(math.exp(log_sphere_area(3)) / math.pi, 6)
    4.0
    """
    return math.log(2) + 0.5 * size * math.log(math.pi) - math.lgamma(0.5 * size)


def _debye() -> tuple[tuple[float, ...], ...]:
    """Return the coefficients of U_0(t), U_1(t), ... in powers of t, lowest first.

    U_{k+1}(t) = t^2 (1 - t^2) U_k'(t) / 2 + 1/8 int_0^t (1 - 5 s^2) U_k(s) ds, U_0 = 1 (Olver 1974; DLMF 10.41.9).
    """
    u, made = [Fraction(1)], []
    for _ in range(_TERMS):
        made.append(tuple(float(value) for value in u))
        following = [Fraction(0)] * (len(u) + 3)
        for power, value in enumerate(u):
            following[power + 1] += value * power / 2 + value / (8 * (power + 1))
            following[power + 3] -= value * power / 2 + 5 * value / (8 * (power + 3))
        u = following
    return tuple(made)


def _gauss_legendre() -> tuple[list[float], list[float]]:
    """Return nodes and weights of the Gauss-Legendre rule on (0, 1): Newton's iteration for the polynomial's roots."""
    nodes, weights = [], []
    for i in range(_COUNT):
        x = math.cos(math.pi * (i + 0.75) / (_COUNT + 0.5))
        slope = 1.0
        for _ in range(20):
            last, value = 1.0, x
            for k in range(2, _COUNT + 1):
                last, value = value, ((2 * k - 1) * x * value - (k - 1) * last) / k
            slope = _COUNT * (x * value - last) / (x * x - 1)
            x -= value / slope
        nodes.append(0.5 * (1 + x))
        weights.append(1 / ((1 - x * x) * slope * slope))
    return nodes, weights


# made at once: a compiler that traces a pass would trace these sums too, for half a minute
_U = _debye()
_NODES, _WEIGHTS = _gauss_legendre()


def _expansion(order: float) -> tuple[list[float], list[float]]:
    """Return the coefficients of sum_k U_k(t) / order^k in powers of t, and of its derivative, highest first."""
    total = [0.0] * len(_U[-1])
    for k, u in enumerate(_U):
        for power, value in enumerate(u):
            total[power] += value / order**k
    return total[::-1], [i * value for i, value in enumerate(total)][:0:-1]


def _polynomial(coefficients: list[float], t: Tensor) -> Tensor:
    value = torch.full_like(t, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * t + coefficient
    return value


def bessel(kappa: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """Return log[exp(-kappa) I_v(kappa) / kappa^v] and I_{v+1}(kappa) / I_v(kappa), v = order >= 0, kappa >= 0.

    Debye's uniform expansion at the orders V, V + 1, ... from 16 on, and from there down by
    kappa I_{j} / I_{j+1} = 2 (j + 1) + kappa I_{j+2} / I_{j+1}. Smooth in kappa down to 0, so autograd may pass.
    """
    steps = max(0, math.ceil(_ORDER - order))
    top = order + steps
    root = (kappa.square() + top * top).sqrt()
    t = top / root
    series, slope = (_polynomial(c, t) for c in _expansion(top))
    # V (sqrt(1 + z^2) - log(1 + sqrt(1 + z^2))) - kappa, z = kappa / V, where V^2 / (root + kappa) = root - kappa
    log_scaled = top * top / (root + kappa) - top * torch.log(top + root) + series.log() + 0.5 * t.log()
    log_scaled = log_scaled - 0.5 * math.log(2 * math.pi * top)
    # the derivative of log I_V - V log kappa, term by term
    ratio = kappa / (top + root) - 0.5 * kappa / root.square() - slope / series * kappa * t / root.square()
    for j in range(steps):
        down = 2 * (top - j) + kappa * ratio
        log_scaled, ratio = log_scaled + down.log(), kappa / down
    return log_scaled, ratio


class VonMisesFisherDirection(Distribution):
    """Unit vectors with density C(kappa) exp(kappa <direction, z>); direction `[..., m]`, kappa `[...]`."""

    has_rsample = True

    def __init__(self, direction: Tensor, kappa: Tensor, event_shape: tuple[int, ...]) -> None:
        self.direction, self.kappa, self.size = direction, kappa, direction.shape[-1]
        super().__init__(kappa.shape, Size(event_shape))

    @property
    def resultant(self) -> Tensor:
        """Length of the mean, I_{m/2}(kappa) / I_{m/2-1}(kappa)."""
        return bessel(self.kappa, 0.5 * self.size - 1)[1]

    @property
    def log_normalizer(self) -> Tensor:
        """Log C(kappa) + kappa = -m/2 log 2 pi - log[exp(-kappa) I_{m/2-1}(kappa) / kappa^(m/2-1)]."""
        return -0.5 * self.size * math.log(2 * math.pi) - bessel(self.kappa, 0.5 * self.size - 1)[0]

    @property
    def mean(self) -> Tensor:
        """The mean, which lies inside the sphere: resultant * direction."""
        return self._shaped(self.resultant[..., None] * self.direction)

    @property
    def centre(self) -> Tensor:
        """The mean direction."""
        return self._shaped(self.direction)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate: A/kappa + (1 - m A/kappa - A^2) direction^2, A the resultant."""
        _, length = bessel(self.kappa, 0.5 * self.size - 1)
        _, following = bessel(self.kappa, 0.5 * self.size)
        down = (self.size + self.kappa * following)[..., None]  # kappa / A, without dividing by kappa
        square = self.direction.square()
        return self._shaped(1 / down + (1 - self.size / down - length[..., None].square()) * square)

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, self.event_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the area of the sphere.

        Raises:
            UsageError: if a mask is given: one coordinate of a direction says something of the others.
        """
        if mask is not None:
            raise UsageError("a direction cannot be observed in part", fix="leave out the mask")
        flat = value.flatten(value.ndim - len(self.event_shape))
        return self.log_normalizer - 0.5 * self.kappa * (flat - self.direction).square().sum(-1)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw the cosine to the mean direction, and a direction in the plane across it: a path for the gradient."""
        shape = (*sample_shape, *self.batch_shape)
        kappa, mean = self.kappa.expand(shape), self.direction.expand(*shape, self.size)
        gap = _attached(drawn_gap(kappa.detach(), self.size), kappa, self.size)  # 1 - cosine
        eps = torch.randn_like(mean)
        across = F.normalize(eps - (eps * mean).sum(-1, keepdim=True) * mean, dim=-1)
        sine = (gap * (2 - gap)).clamp_min(torch.finfo(gap.dtype).tiny).sqrt()
        return self._shaped((1 - gap)[..., None] * mean + sine[..., None] * across)

    def entropy(self) -> Tensor:
        """The entropy in nats."""
        return self.kappa * (1 - self.resultant) - self.log_normalizer


def drawn_gap(kappa: Tensor, size: int) -> Tensor:
    """Draw 1 - <direction, z> without gradient, by rejection (Wood 1994; Davidson et al. 2018, arXiv 1804.00891)."""
    with torch.no_grad():
        b = (size - 1) / (2 * kappa + (4 * kappa.square() + (size - 1) ** 2).sqrt())
        shape = (_PROPOSALS, *kappa.shape)
        # Beta((m-1)/2, (m-1)/2) is (1 + t) / 2 for the first coordinate t of a uniform direction
        half = torch.full(shape, 0.5 * (size - 1), dtype=kappa.dtype, device=kappa.device)
        tail = torch._standard_gamma(half)  # pyright: ignore[reportPrivateImportUsage]
        first = torch.randn_like(tail)
        share = tail / (first.square() + 2 * tail)  # (1 - t^2) / 2
        whole = (first.square() + 2 * tail).sqrt()
        eps = torch.where(first < 0, share / (1 - first / whole), 1 - share / (1 + first / whole))
        gap = 2 * b * eps / (1 - (1 - b) * eps)
        start = 2 * b / (1 + b)  # 1 - x0
        excess = torch.log1p(((1 - start) * gap - (1 - start) * start) / (start * (2 - start)))
        accept = kappa * (start - gap) + (size - 1) * excess >= -torch.empty_like(gap).exponential_()
        return gap.gather(0, accept.to(torch.uint8).argmax(0, keepdim=True))[0]


def _attached(gap: Tensor, kappa: Tensor, size: int) -> Tensor:
    """Return `gap` with the gradient of its quantile in kappa."""
    return gap + (d_gap(gap, kappa.detach(), size) * (kappa - kappa.detach()))


def d_gap(gap: Tensor, kappa: Tensor, size: int) -> Tensor:
    """Return the derivative in kappa of 1 - cos(theta) where the angle theta keeps its quantile.

    Implicit reparametrisation, d theta / d kappa = -(d F / d kappa) / f (Figurnov et al. 2018, arXiv 1805.08498),
    for the angle's density f ~ exp(kappa cos theta) sin(theta)^(m-2), which is smooth: d F / d kappa is the integral of
    (cos t - A) f(t) from 0 to theta, or less that from theta to pi; the side where f falls away from theta is taken.
    """
    with torch.no_grad():
        theta = 2 * torch.asin((0.5 * gap).clamp(0, 1).sqrt())
        lost = 1 - bessel(kappa, 0.5 * size - 1)[1]
        power = size - 2
        c = 2 * kappa / (power + (power**2 + 4 * kappa.square()).sqrt())  # cosine of the mode
        curvature = kappa * c + (kappa / c if power else 0)
        reach = _WIDTHS / curvature.sqrt()
        right = gap >= 1 - c
        end = torch.where(right, (theta + reach).clamp_max(math.pi), (theta - reach).clamp_min(0.0))
        nodes, weights = kappa.new_tensor(_NODES), kappa.new_tensor(_WEIGHTS)
        t = theta[..., None] + (end - theta)[..., None] * nodes
        t_gap = 2 * torch.sin(0.5 * t).square()
        log_f = kappa[..., None] * (gap[..., None] - t_gap)
        if power:
            tiny = torch.finfo(kappa.dtype).tiny
            log_f = log_f + power * (t.sin().clamp_min(tiny).log() - theta.sin().clamp_min(tiny).log()[..., None])
        # signed length: to the left it is negative, and the integral from 0 to theta is minus this
        inside = ((lost[..., None] - t_gap) * log_f.exp() * weights).sum(-1) * (end - theta)
        return theta.sin() * inside


class UniformDirection(Distribution):
    """The uniform distribution of unit vectors; `like` gives dtype and device, event of m values."""

    has_rsample = True

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(Size(), like.shape)

    @property
    def mean(self) -> Tensor:
        """The origin, which lies inside the sphere."""
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Tensor:
        """1/m for each coordinate."""
        return torch.full_like(self.like, 1 / self.like.numel())

    @property
    def centre(self) -> Tensor:
        """The first coordinate's direction: no direction represents them all."""
        flat = torch.zeros_like(self.like).flatten()
        return torch.cat([torch.ones_like(flat[:1]), flat[1:]]).reshape(self.like.shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Minus the log of the sphere's area, whatever the value.

        Raises:
            UsageError: if a mask is given.
        """
        if mask is not None:
            raise UsageError("a direction cannot be observed in part", fix="leave out the mask")
        shape = value.shape[: value.ndim - self.like.ndim]
        return value.new_full(shape, -log_sphere_area(self.like.numel()))

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw normal vectors and normalise them."""
        eps = torch.randn((*sample_shape, self.like.numel()), dtype=self.like.dtype, device=self.like.device)
        return F.normalize(eps, dim=-1).reshape(*sample_shape, *self.like.shape)


@register_kl(VonMisesFisherDirection, UniformDirection)
def _kl_von_mises_fisher_uniform(q: VonMisesFisherDirection, p: UniformDirection) -> Tensor:
    # kappa A(kappa) + log C(kappa) + log area (Davidson et al. 2018, arXiv 1804.00891, sec. 3)
    return log_sphere_area(q.size) - q.entropy()


@recorded
class VonMisesFisher(Family):
    r"""q(z) = C(kappa) exp(kappa <mu, z>) on the unit sphere (Davidson et al. 2018, arXiv 1804.00891, sec. 3).

    mu is the network's vector, normalised; kappa = 1 + softplus(h), one for each example. C has the Bessel function
    I_{m/2-1}, computed here with its gradient for any m. The cosine to mu is drawn by rejection; its gradient in kappa
    is that of its quantile (implicit reparametrisation, Figurnov et al. 2018, arXiv 1805.08498), in place of the
    paper's rejection-sampling correction; the direction across mu is a projected normal one in place of its reflection.

    Args:
        event_shape: shape of z, of m >= 2 values in all: the sphere has m - 1 dimensions.

    Raises:
        UsageError: if m < 2.

    >>> q = VonMisesFisher((3,))(torch.tensor([0.0, 2.0, 0.0, 1.0]))
    >>> q.centre.tolist(), round(q.rsample().norm().item(), 5)
    ([0.0, 1.0, 0.0], 1.0)
    """

    support = "sphere"
    factorised = False

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = check_sphere(event_shape)
        self.params = (Size(self.event_shape).numel() + 1,)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean's direction and a kappa that has about its length (Banerjee et al. 2005, JMLR, eq. 4.4)."""
        length = mean.norm().clamp(1e-3, 0.999)
        kappa = length * (mean.numel() - length.square()) / (1 - length.square())
        above = (kappa - 1).clamp_min(1e-3)
        return torch.cat([mean.flatten(), (above + torch.log(-torch.expm1(-above)))[None]])

    def forward(self, params: Tensor) -> VonMisesFisherDirection:
        """Return the distribution with direction and raw concentration, params `[..., m + 1]`."""
        params = wide(params)
        direction = F.normalize(params[..., :-1], dim=-1)
        return VonMisesFisherDirection(direction, 1 + F.softplus(params[..., -1]), self.event_shape)


def check_sphere(event_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the event shape.

    Raises:
        UsageError: if it has fewer than two values.
    """
    if Size(event_shape).numel() < 2:
        raise UsageError(f"there is no sphere of shape {tuple(event_shape)}", expected="at least two values")
    return tuple(event_shape)
