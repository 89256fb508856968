"""The uniform prior on the unit sphere."""

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.record import recorded
from ..core.types import Infer
from ..families.sphere import UniformDirection, check_sphere


@recorded
class HypersphericalUniform(nn.Module):
    r"""p(z) = 1 / area of the unit sphere (Davidson et al. 2018, arXiv 1804.00891, sec. 3).

    Args:
        event_shape: shape of z, of at least two values.

    Raises:
        UsageError: if there are fewer.

    >>> HypersphericalUniform((2,))(None, None).log_prob(torch.tensor([0.0, 1.0])).exp().item()  # 1 / (2 pi)
    0.159154...
    """

    support: Support = "sphere"
    zero: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = check_sphere(event_shape)
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)

    def forward(self, y: Tensor | None, infer: Infer | None) -> UniformDirection:
        """Return the uniform distribution, whatever y is."""
        return UniformDirection(self.zero)
