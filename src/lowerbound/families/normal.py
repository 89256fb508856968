"""Normal distributions with a diagonal covariance: fixed, learned or computed variance."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.kl import register_kl
from ..core.model import Family, Scale
from ..core.record import recorded

LOG_2PI = math.log(2 * math.pi)
LOG_VARIANCE_CAP = 20.0


class DiagonalNormal(Distribution):
    """N(loc, diag(scale^2)) over `event_shape`; loc and scale broadcast against each other."""

    has_rsample = True
    normal = True

    def __init__(self, loc: Tensor, scale: Tensor, event_dims: int) -> None:
        self.loc, self.scale = loc, scale
        shape = torch.broadcast_shapes(loc.shape, scale.shape)
        cut = len(shape) - event_dims
        super().__init__(Size(shape[:cut]), Size(shape[cut:]))

    @property
    def mean(self) -> Tensor:
        """The mean, which is also the mode."""
        return self.loc.expand(self._extended_shape())

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension."""
        return self.scale.square().expand(self._extended_shape())

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw loc + scale * eps, eps ~ N(0, I): a path for the gradient."""
        eps = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * eps

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return -0.5 * (((value - self.loc) / self.scale).square() + LOG_2PI) - self.scale.log()

    def elements(self) -> "DiagonalNormal":
        """Return one normal for each dimension."""
        return DiagonalNormal(self.loc, self.scale, 0)

    def entropy(self) -> Tensor:
        """The entropy in nats."""
        return self._sum_events((self.scale.log() + 0.5 * (1 + LOG_2PI)).expand(self._extended_shape()))


@register_kl(DiagonalNormal, DiagonalNormal)
def _kl_normal_normal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    # Kingma & Welling 2014, appendix B, for any p: 1/2 sum[(s_q^2 + (m_q - m_p)^2) / s_p^2 - 1 - log(s_q^2 / s_p^2)]
    ratio = (q.scale / p.scale).square()
    shift = ((q.loc - p.loc) / p.scale).square()
    return q._sum_events(0.5 * (ratio + shift - 1 - ratio.log()))


class _NormalFamily(Family):
    support = "real"
    additive = True

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.params = self.event_shape


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise UsageError(f"the {name} cannot be {value}", expected="a finite number above 0")
    return value


@recorded
class FixedNormal(_NormalFamily):
    r"""N(f(z), scale^2 I) with a scale that is set and not learned.

    -log p(x|z) = |x - f(z)|^2 / (2 scale^2) + D/2 log(2 pi scale^2): squared error is this density with
    scale^2 = 1/2, up to its constant (Kingma & Welling 2014, arXiv 1312.6114, appendix C.2).

    Args:
        event_shape: shape of one example.
        scale: standard deviation of every dimension.

    Raises:
        UsageError: if scale is not positive.

    >>> FixedNormal((2,), scale=1.0)(torch.zeros(2)).log_prob(torch.zeros(2)).item()  # -log(2 pi)
    -1.837877...
    """

    def __init__(self, event_shape: tuple[int, ...], scale: float = 1.0) -> None:
        super().__init__(event_shape)
        self.scale = _positive("scale", scale)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean."""
        return mean

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return N(params, scale^2)."""
        loc = wide(params)
        return DiagonalNormal(loc, loc.new_full((), self.scale), len(self.event_shape))


@recorded
class SharedNormal(_NormalFamily):
    r"""N(f(z), sigma^2 I) with one learned sigma for all dimensions (Rybkin et al. 2021, arXiv 2006.13202, sec. 3).

    sigma^2 = floor^2 + exp(log_variance).

    Args:
        event_shape: shape of one example.
        floor: sigma is never below this; without it the likelihood of continuous data is unbounded
            (Mattei & Frellsen 2018, arXiv 1802.04826).

    >>> family = SharedNormal((3,))
    >>> family(torch.zeros(4, 3)).variance.unique().numel()
    1
    """

    def __init__(self, event_shape: tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__(event_shape)
        self.floor = _positive("floor", floor)
        self.log_variance = Scale(torch.zeros(()))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and start sigma^2 at the data's variance averaged over dimensions."""
        self.log_variance.copy_(_log_above(variance.mean(), self.floor))
        return mean

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return N(params, sigma^2)."""
        scale = _scale_from_log_variance(wide(self.log_variance), self.floor)
        return DiagonalNormal(wide(params), scale, len(self.event_shape))


@recorded
class PerDimensionNormal(_NormalFamily):
    r"""N(f(z), diag(sigma_1^2, ..., sigma_D^2)) with one learned sigma for each dimension.

    sigma_d^2 = floor^2 + exp(log_variance_d). Kingma & Welling 2014, arXiv 1312.6114, appendix C.2, with a
    variance that does not depend on z.

    Args:
        event_shape: shape of one example.
        floor: no sigma is below this.

    >>> PerDimensionNormal((3,))(torch.zeros(4, 3)).variance.shape
    torch.Size([4, 3])
    """

    def __init__(self, event_shape: tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__(event_shape)
        self.floor = _positive("floor", floor)
        self.log_variance = Scale(torch.zeros(self.event_shape))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and start each sigma_d^2 at the data's variance."""
        self.log_variance.copy_(_log_above(variance, self.floor))
        return mean

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return N(params, sigma^2)."""
        scale = _scale_from_log_variance(wide(self.log_variance), self.floor)
        return DiagonalNormal(wide(params), scale, len(self.event_shape))


@recorded
class Normal(_NormalFamily):
    r"""N(mu, diag(sigma^2)) with both from a network: the usual posterior head, and a decoder with variance sigma(z)^2.

    Kingma & Welling 2014, arXiv 1312.6114, eq. 9. `head="log_variance"`: sigma^2 = floor^2 + exp(h), where h
    follows the network up to about 20 and bends smoothly there, so that exp never overflows.
    `head="softplus"`: sigma = floor + log(1 + exp(h)).

    Args:
        event_shape: shape of one event.
        head: how the second half of the parameters becomes sigma.
        floor: no sigma is below this.

    >>> q = Normal((2,))(torch.tensor([[0.5, 0.5], [-1.0, -1.0]]))  # mu, log sigma^2
    >>> q.mean.tolist(), [round(v, 4) for v in q.variance.tolist()]
    ([0.5, 0.5], [0.3679, 0.3679])
    """

    additive = False

    def __init__(
        self,
        event_shape: tuple[int, ...],
        head: Literal["log_variance", "softplus"] = "log_variance",
        floor: float = 1e-6,
    ) -> None:
        super().__init__(event_shape)
        if head not in ("log_variance", "softplus"):
            raise UsageError(f"there is no variance head {head!r}", expected="log_variance or softplus")
        self.head, self.floor = head, _positive("floor", floor)
        self.params = (2, *self.event_shape)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and the raw value at which sigma^2 is the data's variance."""
        if self.head == "log_variance":
            return torch.stack([mean, _log_above(variance, self.floor)])
        above = (variance.sqrt() - self.floor).clamp_min(self.floor)
        return torch.stack([mean, above + torch.log(-torch.expm1(-above))])

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return N(mu, sigma^2), params `[..., 2, *event]`."""
        dims = len(self.event_shape)
        loc, raw = wide(params).unbind(-1 - dims)
        if self.head == "softplus":
            return DiagonalNormal(loc, F.softplus(raw) + self.floor, dims)
        capped = LOG_VARIANCE_CAP - F.softplus(LOG_VARIANCE_CAP - raw)
        return DiagonalNormal(loc, _scale_from_log_variance(capped, self.floor), dims)


def _scale_from_log_variance(log_variance: Tensor, floor: float) -> Tensor:
    return (log_variance.exp() + floor**2).sqrt()


def _log_above(variance: Tensor, floor: float) -> Tensor:
    """Return h with floor^2 + exp(h) = variance, where variance is safely above floor^2, else h = log floor^2."""
    return (variance - floor**2).clamp_min(floor**2).log()
