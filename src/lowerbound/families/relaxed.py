"""Concrete distributions: continuous relaxations of one-hot vectors and of 0/1 values, with a path for the gradient."""

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded
from .onehot import check_classes, gumbel_like


class Concrete(Distribution):
    """Independent points of the simplex along the last axis: softmax((logits + Gumbel noise) / temperature).

    The numbers of a dtype end at its smallest one, at which all mass below is drawn: coordinates there have the mean
    density of that cell. The formula's would call such draws rare, and an ELBO of them would be no bound.
    """

    has_rsample = True

    def __init__(self, logits: Tensor, temperature: float, event_dims: int) -> None:
        self.logits, self.temperature = logits, temperature
        cut = logits.ndim - event_dims
        super().__init__(logits.shape[:cut], logits.shape[cut:])

    @property
    def mean(self) -> Tensor:
        """softmax(logits), the mean at temperature 0: that of the relaxed vector has no closed form."""
        return self.logits.softmax(-1)

    @property
    def variance(self) -> Tensor:
        """P (1 - p), the variance at temperature 0."""
        return self.mean * (1 - self.mean)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw softmax((logits + g) / temperature), kept inside the open simplex: a path for the gradient."""
        logits = self.logits.expand(self._extended_shape(Size(sample_shape)))
        drawn = ((logits + gumbel_like(logits)) / self.temperature).softmax(-1)
        return drawn.clamp_min(torch.finfo(drawn.dtype).tiny)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to all coordinates of a vector but one.

        Raises:
            UsageError: if a mask is given: the density of a part of a vector has no closed form.
        """
        if mask is not None:
            raise UsageError("a relaxed categorical variable cannot be observed in part", fix="leave out the mask")
        return self._sum_events(self._log_prob_vectors(value)[..., None])

    def _log_prob_vectors(self, value: Tensor) -> Tensor:
        # Maddison et al. 2017, eq. 10, in the logarithm of z. Coordinates at the end c: z_k = (a_k / E_k)^(1/t) / A
        # with E_k exponential, so z_k < c is E_k > a_k (c A)^-t: once A is integrated out, they are in the sum alone
        least = torch.finfo(value.dtype).tiny
        ends = value <= least
        log_z, size = torch.where(ends, least, value).log(), (~ends).sum(-1).to(value.dtype)
        score = self.logits - self.temperature * log_z
        each = torch.where(ends, 0.0, score) - log_z
        constant = torch.lgamma(size) + (size - 1) * math.log(self.temperature)
        return constant + each.sum(-1) - size * torch.logsumexp(score, -1)


class BinaryConcrete(Distribution):
    """Independent values of (0, 1): sigmoid((logits + logistic noise) / temperature).

    The numbers of a dtype end at 1 - eps, so that all mass beyond is drawn there (and that below eps at eps): within
    eps of 0 and 1 the density is the mean one of that cell. The formula's would call a draw at the end rare, and an
    ELBO of it would be no bound.
    """

    has_rsample = True
    filler = 0.5

    def __init__(self, logits: Tensor, temperature: float, event_dims: int) -> None:
        self.logits, self.temperature = logits, temperature
        cut = logits.ndim - event_dims
        super().__init__(logits.shape[:cut], logits.shape[cut:])

    @property
    def mean(self) -> Tensor:
        """sigmoid(logits), the mean at temperature 0: that of the relaxed value has no closed form."""
        eps = torch.finfo(self.logits.dtype).eps
        return self.logits.sigmoid().clamp(eps, 1 - eps)

    @property
    def variance(self) -> Tensor:
        """P (1 - p), the variance at temperature 0."""
        return self.mean * (1 - self.mean)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw sigmoid((logits + noise) / temperature), kept inside (0, 1): a path for the gradient."""
        logits = self.logits.expand(self._extended_shape(Size(sample_shape)))
        eps = torch.finfo(logits.dtype).eps
        noise = torch.logit(torch.rand_like(logits), eps=eps)
        return ((logits + noise) / self.temperature).sigmoid().clamp(eps, 1 - eps)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        # y = logit(z) is logistic: log p(y) = log t + d - 2 softplus(d), d = logits - t y; and dy/dz = 1 / (z (1 - z))
        eps = torch.finfo(value.dtype).eps
        inside = value.clamp(eps, 1 - eps)
        y = torch.log(inside) - torch.log1p(-inside)
        apart = self.logits - self.temperature * y
        jacobian = F.softplus(-y) + F.softplus(y)
        log_p = math.log(self.temperature) + apart - 2 * F.softplus(apart) + jacobian
        beyond = F.logsigmoid(torch.where(value < 0.5, -apart, apart)) - math.log(eps)
        return torch.where((value <= eps) | (value >= 1 - eps), beyond, log_p)

    def elements(self) -> "BinaryConcrete":
        """Return one distribution for each dimension."""
        return BinaryConcrete(self.logits, self.temperature, 0)


def check_temperature(temperature: float) -> float:
    """Return the temperature.

    Raises:
        UsageError: if it is not positive.
    """
    if not 0 < temperature < math.inf:
        raise UsageError(f"the temperature cannot be {temperature}", expected="a finite number above 0")
    return temperature


@recorded
class RelaxedCategorical(Family):
    r"""The Concrete (Gumbel-softmax) distribution: a density on the open simplex that nears a categorical one.

    p(z) = (C-1)! t^(C-1) prod_k [a_k z_k^(-t-1)] / (sum_k a_k z_k^-t)^C with log a from the network (Maddison et al.
    2017, arXiv 1611.00712, eq. 10; Jang et al. 2017, arXiv 1611.01144). The rate is that of this density against a
    relaxed prior, estimated from the draw, and not a KL of categorical variables.

    Args:
        event_shape: (..., C), C classes along the last axis.
        temperature: t; smaller is nearer to one-hot, with a gradient of more variance.

    Raises:
        UsageError: if there are fewer than two classes or the temperature is not positive.

    >>> z = RelaxedCategorical((4, 3))(torch.zeros(7, 4, 3)).rsample()
    >>> z.shape, torch.allclose(z.sum(-1), torch.ones(7, 4))
    (torch.Size([7, 4, 3]), True)
    """

    support = "simplex"
    factorised = False

    def __init__(self, event_shape: tuple[int, ...], temperature: float = 0.67) -> None:
        super().__init__()
        self.event_shape = self.params = check_classes(event_shape)
        self.temperature = check_temperature(temperature)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the log of the classes' shares, none below one part in 10,000."""
        return mean.clamp_min(1e-4).log()

    def forward(self, params: Tensor) -> Concrete:
        """Return the distribution with these logits."""
        return Concrete(wide(params), self.temperature, len(self.event_shape))


@recorded
class RelaxedBernoulli(Family):
    r"""The binary Concrete distribution: z = sigmoid((log a + L) / t), L logistic, a density on (0, 1).

    p(z) = t a z^(-t-1) (1-z)^(-t-1) / (a z^-t + (1-z)^-t)^2 (Maddison et al. 2017, arXiv 1611.00712, appendix B).

    Args:
        event_shape: shape of one event.
        temperature: t; smaller is nearer to 0 and 1, with a gradient of more variance.

    Raises:
        UsageError: if the temperature is not positive.

    >>> px = RelaxedBernoulli((1,), temperature=1.0)(torch.zeros(1))  # uniform
    >>> round(px.log_prob(torch.tensor([0.3])).item(), 6)
    0.0
    """

    support = "inner"

    def __init__(self, event_shape: tuple[int, ...], temperature: float = 0.67) -> None:
        super().__init__()
        self.event_shape = self.params = tuple(event_shape)
        self.temperature = check_temperature(temperature)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the logit of the mean, kept away from 0 and 1 by one part in 10,000."""
        return torch.logit(mean, eps=1e-4)

    def forward(self, params: Tensor) -> BinaryConcrete:
        """Return the distribution with these logits."""
        return BinaryConcrete(wide(params), self.temperature, len(self.event_shape))
