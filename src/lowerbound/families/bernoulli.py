"""Bernoulli distributions from logits; probabilities are never an input, because float32(1 - 1e-8) is 1."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.model import Family
from ..core.record import recorded

_AT_ONCE = 64
_EXACT_BELOW = 80.0  # softplus(l) = log(1 + exp(l)) is computed in full up to here, where exp still fits float32


class LogitBernoulli(Distribution):
    """Independent 0/1 values with P(1) = sigmoid(logits), over `event_shape`."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.logits = logits
        cut = logits.ndim - event_dims
        super().__init__(logits.shape[:cut], logits.shape[cut:])

    @property
    def mean(self) -> Tensor:
        """P(1)."""
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        """P(1) P(0)."""
        return self.mean * (-self.logits).sigmoid()

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw zeros and ones."""
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(self._extended_shape(Size(sample_shape))))

    def elements(self) -> "LogitBernoulli":
        """Return one distribution for each pixel."""
        return LogitBernoulli(self.logits, 0)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of `value` in nats; cells where `mask` is 0 count nothing.

        Without gradients, many samples of one x are scored in half of the time: x . l is a product of matrix and
        vector, and the softplus of many logits needs one logarithm, sum max(l, 0) + log prod (1 + exp(-|l|)).
        """
        events = len(self.event_shape)
        shared = self.logits.ndim == events + 2 and tuple(value.shape) == tuple(self.logits.shape[1:])
        if mask is not None or not shared or not events or torch.is_grad_enabled():
            return super().log_prob(value, mask)
        logits = self.logits.flatten(2)
        each = torch.einsum("kbd,bd->kb", logits, value.flatten(1).to(logits))
        positive = logits.clamp_min(0)
        return each - positive.sum(-1) - _sum_log1p(torch.exp(logits - 2 * positive))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        # x log s(l) + (1 - x) log(1 - s(l)) = x l - softplus(l): linear in x
        return value * self.logits - F.softplus(self.logits, threshold=_EXACT_BELOW)


def _sum_log1p(small: Tensor) -> Tensor:
    """Return sum_d log(1 + small_d) of `[..., D]` values between 0 and 1: 64 factors of at most 2 cannot overflow."""
    factors = small.add_(1)
    whole = factors.shape[-1] // _AT_ONCE * _AT_ONCE
    logs = factors[..., whole:].prod(-1).log()
    if whole:
        logs = logs + factors[..., :whole].unflatten(-1, (-1, _AT_ONCE)).prod(-1).log().sum(-1)
    return logs


class _BernoulliFamily(Family):
    discrete = True
    reparameterised = False

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.params = self.event_shape

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the logit of the mean, kept away from 0 and 1 by one part in 10,000."""
        return torch.logit(mean, eps=1e-4)

    def forward(self, params: Tensor) -> LogitBernoulli:
        """Return the distribution with these logits."""
        return LogitBernoulli(wide(params), len(self.event_shape))


@recorded
class Bernoulli(_BernoulliFamily):
    r"""Independent pixels of 0 and 1 with P(1) = sigmoid(logit).

    log p(x|z) = sum_d [x_d l_d - log(1 + exp(l_d))] (Kingma & Welling 2014, arXiv 1312.6114, appendix C.1).

    Args:
        event_shape: shape of one example.

    >>> Bernoulli((1,))(torch.zeros(1)).log_prob(torch.ones(1)).exp().item()
    0.5
    """

    support = "binary"


@recorded
class GreyBernoulli(_BernoulliFamily):
    r"""The cross-entropy of grey pixels g in [0, 1]: no density of g, but an expectation over binarisations.

    The Bernoulli log-probability is linear in x, so sum_d [g_d l_d - log(1 + exp(l_d))] equals the mean of
    log p(x|z) over x_d ~ Bernoulli(g_d), exactly. With an encoder that sees g, the ELBO computed from it is
    E_x[ELBO(x; q(z|g))] <= E_x[log p(x)], a bound on the binarised pixels' log-probability; by the convexity of
    logsumexp (Jensen) so is its importance-weighted form.

    Args:
        event_shape: shape of one example.

    >>> grey = GreyBernoulli((1,))(torch.tensor([2.0]))
    >>> binary = Bernoulli((1,))(torch.tensor([2.0]))
    >>> mean = 0.25 * binary.log_prob(torch.ones(1)) + 0.75 * binary.log_prob(torch.zeros(1))
    >>> torch.allclose(grey.log_prob(torch.tensor([0.25])), mean)
    True
    """

    support = "unit"
    target = "E[log p(x)] over x ~ Bernoulli(grey)"
