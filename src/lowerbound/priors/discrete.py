"""Uniform priors of categorical variables, one-hot or relaxed."""

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.record import recorded
from ..core.types import Infer
from ..families.onehot import OneHotCategorical, check_classes
from ..families.relaxed import BinaryConcrete, Concrete, check_temperature


@recorded
class UniformOneHot(nn.Module):
    r"""P(z) = C^-N for N independent one-hot vectors of C classes.

    Jang et al. 2017, arXiv 1611.01144.

    Args:
        event_shape: (..., C).

    Raises:
        UsageError: if there are fewer than two classes.

    >>> UniformOneHot((4,))(None, None).log_prob(torch.eye(4)).exp().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    support: Support = "onehot"
    discrete = True
    zero: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = check_classes(event_shape)
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)

    def forward(self, y: Tensor | None, infer: Infer | None) -> OneHotCategorical:
        """Return the uniform distribution, whatever y is."""
        return OneHotCategorical(self.zero, len(self.event_shape))


@recorded
class RelaxedUniform(nn.Module):
    r"""The Concrete distribution with equal weights: a relaxed uniform prior (Maddison et al. 2017, arXiv 1611.00712).

    Its temperature is its own: the rate is E_q[log q(z) - log p(z)] of the two densities (their eq. 21).

    Args:
        event_shape: (..., C) on the simplex, or any shape with `binary`.
        temperature: temperature of the prior.
        binary: relax values of 0 and 1, so that z lies in (0, 1), in place of one-hot vectors.

    Raises:
        UsageError: if there are fewer than two classes or the temperature is not positive.

    >>> RelaxedUniform((3,), 1.0)(None, None).log_prob(torch.tensor([0.2, 0.3, 0.5])).exp().item()  # 1 / area
    2.0...
    >>> RelaxedUniform((3,), binary=True).support
    'inner'
    """

    zero: Tensor

    def __init__(self, event_shape: tuple[int, ...], temperature: float = 0.5, *, binary: bool = False) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape) if binary else check_classes(event_shape)
        self.temperature, self.binary = check_temperature(temperature), binary
        self.support: Support = "inner" if binary else "simplex"
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)

    def forward(self, y: Tensor | None, infer: Infer | None) -> Concrete | BinaryConcrete:
        """Return the distribution, whatever y is."""
        made = BinaryConcrete if self.binary else Concrete
        return made(self.zero, self.temperature, len(self.event_shape))
