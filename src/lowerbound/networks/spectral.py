"""Spectral normalisation: weights divided by their largest singular value."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..core.model import Network, Stateful
from ..core.record import recorded

START_ITERATIONS = 100


class UnitSpectralNorm(nn.Module):
    r"""W / s with s = u' W v, where u and v are near the first singular vectors of W as a matrix `[out, in]`.

    Miyato et al. 2018, arXiv 1802.05957, alg. 1; a convolution's kernel is the matrix of its rows for each output
    channel. A call does not change u and v: `iterate` does, by one step of power iteration.

    Args:
        weight: the weight it will normalise, from which u and v start.
        axis: the axis of outputs.

    >>> weight = 2 * torch.eye(3)
    >>> torch.allclose(UnitSpectralNorm(weight, 0)(weight), torch.eye(3))
    True
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        matrix = self._matrix(weight.detach())
        self.register_buffer("u", F.normalize(torch.randn(matrix.shape[0]).to(matrix), dim=0))
        self.register_buffer("v", torch.zeros(matrix.shape[1]).to(matrix))
        for _ in range(START_ITERATIONS):
            self.iterate(weight.detach())

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, 0).flatten(1)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """Bring u and v one step of power iteration nearer to the singular vectors of `weight`."""
        matrix = self._matrix(weight)
        self.v.copy_(F.normalize(matrix.mT @ self.u, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by its singular value; u and v are constants to the gradient."""
        return weight / (self.u @ (self._matrix(weight) @ self.v))


@recorded
class SpectralNorm(Network, Stateful):
    r"""Another network whose linear and convolutional weights are divided by their largest singular value.

    Each such layer then stretches no direction by more than 1 (a convolution: by its kernel as a matrix), so with
    activations of slope at most 1 the network's Lipschitz constant does not grow with its weights (Miyato et al. 2018,
    arXiv 1802.05957, sec. 2.1). The singular vectors follow the weights by one power iteration after each optimiser
    step.

    Args:
        network: the network inside.

    >>> from lowerbound.networks import MLP
    >>> inside = MLP((2,), (3,), hidden=(5,))
    >>> SpectralNorm(inside)(torch.zeros(7, 2)).shape
    torch.Size([7, 3])
    >>> round(torch.linalg.matrix_norm(inside.out.weight, 2).item(), 3)
    1.0
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.in_shape, self.out_shape, self.condition = network.in_shape, network.out_shape, network.condition
        self.reads_mask = network.reads_mask
        for layer in list(network.modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
                parametrize.register_parametrization(layer, "weight", UnitSpectralNorm(layer.weight, axis))

    def start_at(self, bias: Tensor) -> None:
        """Pass on to the network inside; biases are not normalised."""
        self.network.start_at(bias)

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Let the singular vectors follow the weights."""
        for part in self.network.modules():
            if not isinstance(part, parametrize.ParametrizationList):
                continue
            norm, weight = part[0], part.original
            if isinstance(norm, UnitSpectralNorm) and isinstance(weight, Tensor):
                norm.iterate(weight)

    def forward(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return what the network inside makes of x, and y and a mask where it reads them."""
        return self.network(x, y, mask) if self.reads_mask else self.network(x, y)
