"""A network for each modality: what lies side by side is taken apart, and put together again."""

from math import prod

import torch
from torch import Tensor, nn

from ..core.errors import ShapeError
from ..core.model import Network
from ..core.record import recorded


class _Several(Network):
    """Base of what is made of one network for each modality."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.condition = max(network.condition for network in networks)

    def _each(self) -> list[Network]:
        return [network for network in self.networks if isinstance(network, Network)]


@recorded
class ModalityEncoders(_Several):
    """One network for each modality, which reads its values alone, and whether the modality is observed at all.

    Args:
        networks: in the order of the data; all give the same shape.

    Raises:
        ShapeError: if they do not.

    >>> from lowerbound.networks import MLP
    >>> both = ModalityEncoders((MLP((1, 2, 2), (2, 5)), MLP((3,), (2, 5))))
    >>> both.in_shape, both.out_shape  # of each modality: what its network gives, and 1 if it is observed
    ((7,), (2, 11))
    >>> both(torch.zeros(6, 7), None, None).shape
    torch.Size([6, 2, 11])
    """

    reads_mask = True

    def __init__(self, networks: tuple[Network, ...]) -> None:
        super().__init__(networks)
        shapes = {tuple(network.out_shape) for network in networks}
        if len(shapes) != 1:
            raise ShapeError(f"the networks of the modalities give {sorted(shapes)}", expected="one shape for all")
        self.in_shape = (sum(prod(network.in_shape) for network in networks),)
        self.out_shape = (len(networks), prod(shapes.pop()) + 1)

    def forward(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map rows `[N, D]` and a mask `[N, D]` (None: all is observed) to `[N, M, F + 1]`."""
        self.check(x, y)
        sizes = [prod(network.in_shape) for network in self._each()]
        known = torch.ones_like(x) if mask is None else mask.to(x.dtype)
        found = []
        for network, part, seen in zip(self._each(), x.split(sizes, 1), known.split(sizes, 1), strict=True):
            read, shown = part.unflatten(1, network.in_shape), seen.unflatten(1, network.in_shape)
            out = network(read, y, shown) if network.reads_mask else network(read, y)  # pyright: ignore[reportCallIssue]
            found.append(torch.cat([out.flatten(1), seen.amax(1, keepdim=True).to(out.dtype)], 1))
        return torch.stack(found, 1)


@recorded
class ModalityDecoders(_Several):
    """One network for each modality, all of which read the same z.

    Args:
        networks: in the order of the data; all read the same shape.

    Raises:
        ShapeError: if they do not.

    >>> from lowerbound.networks import MLP
    >>> both = ModalityDecoders((MLP((2,), (1, 2, 2)), MLP((2,), (3,))))
    >>> both(torch.zeros(6, 2)).shape
    torch.Size([6, 7])
    """

    def __init__(self, networks: tuple[Network, ...]) -> None:
        super().__init__(networks)
        shapes = {tuple(network.in_shape) for network in networks}
        if len(shapes) != 1:
            raise ShapeError(f"the networks of the modalities read {sorted(shapes)}", expected="one z for all")
        self.in_shape = shapes.pop()
        self.out_shape = (sum(prod(network.out_shape) for network in networks),)
        self.affine = all(network.affine for network in networks)

    def start_at(self, bias: Tensor) -> None:
        """Pass each network its part of the bias."""
        sizes = [prod(network.out_shape) for network in self._each()]
        for network, part in zip(self._each(), bias.split(sizes), strict=True):
            network.start_at(part.unflatten(0, network.out_shape))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map z `[N, *in_shape]` to the outputs of all networks, flattened, side by side, `[N, D]`."""
        self.check(z, y)
        return torch.cat([network(z, y).flatten(1) for network in self._each()], 1)
