"""The top of a ladder whose latent is an image's low frequencies: q(u|x) is set, and what learns is the prior."""

from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import ShapeError, UsageError
from ..core.model import Family, Network, Starting
from ..core.record import recorded
from ..core.types import Batch, Infer
from ..core.walk import folded
from .flat import GroupWithPrior, Prior


def cosines(frequencies: int, places: int, period: int) -> Float[Tensor, "frequencies places"]:
    """Return sqrt(2 / period) cos(pi f t) at t = (n + 1/2) / places, and sqrt(1 / period) for f = 0.

    With as many places as the period these are the first rows of the orthonormal DCT-II (Ahmed et al. 1974). With
    another number of places, what is made of coefficients is the same function of t, seen there.

    >>> basis = cosines(5, 5, 5)
    >>> torch.allclose(basis @ basis.T, torch.eye(5), atol=1e-6)
    True
    """
    f, t = torch.arange(frequencies).double(), (torch.arange(places).double() + 0.5) / places
    basis = torch.cos(pi * f[:, None] * t) * sqrt(2 / period)
    basis[0] /= sqrt(2)
    return basis.float()


@recorded
class LowFrequencies(GroupWithPrior, Starting):
    r"""q(u|x) = N(S^-1 DCT_k(x), sigma^2) of the k x k lowest frequencies u of an image, and a learned prior p(u).

    Kuzina & Tomczak 2024, arXiv 2412.01373, sec. 4: u is the pseudo-input of a VampPrior, amortised. The encoder's
    feature is x itself; S makes the largest coefficient of 1,000 training examples 1. Below, u is the image of those
    frequencies, which `down` makes into the state. As q(u|x) is a density like any other, the ELBO is a bound on
    log p(x).

    Args:
        posterior_family: normal with values around its parameters, `(channels, k, k)`.
        prior_part: p(u).
        shape: of x, (channels, height, width).
        down: from the image of u, of any height and width, to the first state.

    Raises:
        ShapeError: if these do not fit each other.
        UsageError: if x has fewer frequencies.

    >>> from lowerbound.families import FixedNormal
    >>> from lowerbound.networks import ResNet
    >>> from lowerbound.priors import StandardNormal
    >>> u = FixedNormal((1, 2, 2), 0.05)
    >>> group = LowFrequencies(u, StandardNormal((1, 2, 2)), (1, 9, 8), ResNet((1, 4, 4), (6, 4, 4), 6))
    >>> round(group.posterior(None, torch.ones(5, 1, 9, 8), None).mean[0, 0, 0, 0].item(), 3)
    8.485
    >>> group.merge(None, torch.zeros(3, 5, 1, 2, 2)).shape
    torch.Size([3, 5, 6, 4, 4])
    """

    wants = 1000
    scale: Tensor
    rows: Tensor
    columns: Tensor
    seen_rows: Tensor
    seen_columns: Tensor

    def __init__(self, posterior_family: Family, prior_part: Prior, shape: tuple[int, ...], down: Network) -> None:
        super().__init__(posterior_family, prior_part)
        event, (channels, height, width) = tuple(posterior_family.event_shape), tuple(shape)
        if len(event) != 3 or event[0] != channels or tuple(posterior_family.params) != event:
            raise ShapeError(
                f"frequencies {event} of images {shape}", expected=f"a normal with a mean of shape ({channels}, k, k)"
            )
        if event[1] > height or event[2] > width:
            raise UsageError(
                f"images of {height} x {width} do not have {event[1]} x {event[2]} frequencies",
                expected=f"{height} x {width} or fewer",
            )
        if len(down.in_shape) != 3 or down.in_shape[0] != channels:
            raise ShapeError(
                f"the network `down` reads {tuple(down.in_shape)}", expected=f"images of {channels} channels"
            )
        self.down, sizes = down, down.in_shape[1:]
        for name, frequencies, places, seen in zip(("rows", "columns"), event[1:], shape[1:], sizes, strict=True):
            self.register_buffer(name, cosines(frequencies, places, places), persistent=False)
            self.register_buffer(f"seen_{name}", cosines(frequencies, seen, places), persistent=False)
        self.register_buffer("scale", torch.ones(event))

    def start_from(self, examples: Batch) -> None:
        """Make the largest coefficient of each frequency 1; one that is 0 in all examples stays as it is."""
        x = examples.x if examples.seen is None else examples.seen
        largest = self.coefficients(x).abs().amax(0)
        self.scale.copy_(torch.where(largest > 1e-6 * largest.amax(), largest, 1.0))

    def coefficients(self, x: Float[Tensor, "*batch C H W"]) -> Float[Tensor, "*batch C k l"]:
        """Return the lowest coefficients of the orthonormal DCT of images."""
        return self.rows @ x @ self.columns.mT

    def image(self, u: Float[Tensor, "*batch C k l"]) -> Float[Tensor, "*batch C h w"]:
        """Return the image of the frequencies u, at the places that `down` reads."""
        return self.seen_rows.mT @ (self.scale * u) @ self.seen_columns

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(u)."""
        return self.prior_part(y, infer)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(u|x), of x `[B, *shape]`."""
        return self.posterior_family(self.coefficients(feature) / self.scale)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the first state."""
        return folded(self.down, (self.image(z), 3))
