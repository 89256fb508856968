"""Networks that let their input through: all of it, or a part beside what they make."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import ShapeError
from ..core.model import Network
from ..core.record import recorded


@recorded
class Unchanged(Network):
    """The input itself: first of an encoder's chain, it shows a group what all others see.

    Args:
        shape: of one input.

    >>> Unchanged((2, 3))(torch.ones(5, 2, 3)).sum().item()
    30.0
    """

    affine = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(shape)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return x."""
        self.check(x, y)
        return x


@recorded
class Passing(Network):
    """Another network of images, and the last channels of its input beside what it makes, at that size.

    Args:
        network: the network inside.
        channels: number of channels that pass.

    Raises:
        ShapeError: if the network is none of images with so many channels.

    >>> from lowerbound.networks import ResNet
    >>> Passing(ResNet((5, 3, 4), (6, 7, 8), 4), 2)(torch.zeros(9, 5, 3, 4)).shape
    torch.Size([9, 8, 7, 8])
    """

    def __init__(self, network: Network, channels: int) -> None:
        super().__init__()
        shapes = (tuple(network.in_shape), tuple(network.out_shape))
        if any(len(shape) != 3 for shape in shapes) or not 1 <= channels <= network.in_shape[0]:
            raise ShapeError(
                f"{channels} channels cannot pass a network from {shapes[0]} to {shapes[1]}",
                expected="images of that many channels or more",
            )
        self.network, self.channels = network, channels
        self.in_shape, self.out_shape = network.in_shape, (network.out_shape[0] + channels, *network.out_shape[1:])

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images `[N, *in_shape]` to `[N, *out_shape]`."""
        made, passed = self.network(x), x[:, -self.channels :]
        if made.shape[-2:] != passed.shape[-2:]:
            passed = F.interpolate(passed, made.shape[-2:], mode="bilinear")
        return torch.cat([made, passed.to(made)], 1)
