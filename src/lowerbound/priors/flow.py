"""A prior that is learned together with the model: a flow's image of N(0, I)."""

from math import prod

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.record import recorded
from ..core.types import Infer
from ..families.normal import DiagonalNormal
from ..flows import Chain, Flowed, FlowKind, check_flow, prior_flow
from .layers import Scaling


@recorded
class FlowPrior(nn.Module):
    r"""p(z) = N(f^-1(z); 0, I) |det df^-1/dz|, with the flow f learned by the same objective as the rest.

    Chen et al. 2017, arXiv 1611.02731, sec. 3.2 (autoregressive); Xu et al. 2019, arXiv 1905.13452 (RealNVP). Mean
    and variance are estimates (`Flowed`), so a `temperature` moves draws towards an estimated mean. Fitted to codes
    (`fit_prior`), f ends with their mean and standard deviation, which are set and not learned.

    Args:
        event_shape: shape of z.
        kind: "realnvp" (affine couplings), "spline" (spline couplings) or "maf" (autoregressive, slow to draw from).
        steps: number of maps.
        hidden: widths of each map's hidden layers.

    Raises:
        UsageError: if a size is no whole number above 0, or there is no such kind.

    >>> p = FlowPrior((3,), steps=2, hidden=(16,))(None, None)
    >>> p.log_prob(p.sample((5,))).shape
    torch.Size([5])
    """

    support: Support = "real"
    zero: Tensor
    one: Tensor

    def __init__(
        self, event_shape: tuple[int, ...], kind: FlowKind = "realnvp", steps: int = 6, hidden: tuple[int, ...] = (128,)
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        check_flow(self.event_shape, steps, tuple(hidden))
        size = prod(self.event_shape)
        self.flow = Chain([prior_flow(size, kind, steps, tuple(hidden)), Scaling(size)])
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("one", torch.ones(self.event_shape), persistent=False)

    def start_from_codes(self, z: Tensor) -> None:
        """Scale the codes by their mean and variance."""
        for flow in self.flow.flows:
            if isinstance(flow, Scaling):
                flow.start_from_codes(z.flatten(1))

    def forward(self, y: Tensor | None, infer: Infer | None) -> Flowed:
        """Return p(z), whatever y is."""
        return Flowed(DiagonalNormal(self.zero, self.one, len(self.event_shape)), self.flow)
