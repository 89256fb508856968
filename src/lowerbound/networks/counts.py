"""What a network sees of counts: their logs, as counts of 1 and of 10,000 are both inputs."""

import torch
from torch import Tensor

from ..core.model import Network
from ..core.record import recorded


@recorded
class LogCounts(Network):
    """Another network behind log(1 + x), which the encoder of counts sees in place of x (Lopez et al. 2018, scVI).

    Args:
        network: the network inside.

    >>> from lowerbound.networks import MLP
    >>> LogCounts(MLP((4,), (2,), hidden=()))(torch.full((3, 4), 1e6)).shape
    torch.Size([3, 2])
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.reads_mask = network, network.reads_mask
        self.in_shape, self.out_shape, self.condition = network.in_shape, network.out_shape, network.condition

    def start_at(self, bias: Tensor) -> None:
        """Pass on to the network inside."""
        self.network.start_at(bias)

    def forward(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map counts `[N, *in_shape]`, and what the network inside reads beside, to `[N, *out_shape]`."""
        seen = torch.log1p(x.clamp_min(0))
        return self.network(seen, y, mask) if self.reads_mask else self.network(seen, y)
