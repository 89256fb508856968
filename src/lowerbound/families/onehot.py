"""Categorical variables as one-hot vectors."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.kl import register_kl
from ..core.model import Family
from ..core.record import recorded


def gumbel_like(x: Tensor) -> Tensor:
    """Draw standard Gumbel noise of the shape of x: -log E, E ~ Exponential(1)."""
    return -torch.empty_like(x).exponential_().clamp_min(torch.finfo(x.dtype).tiny).log()


class OneHotCategorical(Distribution):
    """Independent one-hot vectors along the last axis of the event, with P(class) = softmax(logits)."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.log_share = logits.log_softmax(-1)
        cut = logits.ndim - event_dims
        super().__init__(logits.shape[:cut], logits.shape[cut:])

    @property
    def mean(self) -> Tensor:
        """The probability of each class: inside the simplex, not one-hot."""
        return self.log_share.exp()

    @property
    def variance(self) -> Tensor:
        """P (1 - p) of each class."""
        return self.mean * -torch.expm1(self.log_share)

    @property
    def centre(self) -> Tensor:
        """The most probable class, one-hot."""
        return self._one_hot(self.log_share)

    def _one_hot(self, scores: Tensor) -> Tensor:
        return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(self.log_share.dtype)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw one-hot vectors: the largest of log p + Gumbel noise."""
        with torch.no_grad():
            scores = self.log_share.expand(self._extended_shape(Size(sample_shape)))
            return self._one_hot(scores + gumbel_like(scores))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return value * self.log_share  # linear in the value; a mask leaves out whole vectors or a vector's zeros

    def entropy(self) -> Tensor:
        """The entropy in nats."""
        return -self._sum_events(self.mean * self.log_share)


@register_kl(OneHotCategorical, OneHotCategorical)
def _kl_onehot_onehot(q: OneHotCategorical, p: OneHotCategorical) -> Tensor:
    return q._sum_events(q.mean * (q.log_share - p.log_share))


def check_classes(event_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the event shape (..., C) of vectors of C classes.

    Raises:
        UsageError: if it has no axis, or fewer than two classes.
    """
    if not event_shape or event_shape[-1] < 2:
        raise UsageError(f"there are no classes in an event of shape {tuple(event_shape)}", expected="(..., C), C >= 2")
    return tuple(event_shape)


@recorded
class OneHot(Family):
    r"""Independent categorical variables as one-hot vectors: log P(x) = sum_n sum_c x_nc log softmax(h_n)_c.

    Kingma et al. 2014, arXiv 1406.5298 (there for labels). Draws have no gradient.

    Args:
        event_shape: (..., C), C classes along the last axis.

    Raises:
        UsageError: if there are fewer than two classes.

    >>> px = OneHot((3,))(torch.tensor([0.0, 1.0, 0.0]))
    >>> px.centre.tolist(), round(px.log_prob(torch.eye(3)).exp().sum().item(), 6)
    ([0.0, 1.0, 0.0], 1.0)
    """

    support = "onehot"
    discrete = True
    reparameterised = False
    factorised = False

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.params = check_classes(event_shape)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the log of the classes' shares, none below one part in 10,000."""
        return mean.clamp_min(1e-4).log()

    def forward(self, params: Tensor) -> OneHotCategorical:
        """Return the distribution with these logits."""
        return OneHotCategorical(wide(params), len(self.event_shape))
