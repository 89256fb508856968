"""Flow posteriors: q(z|x) is the image of N(mu(x), diag(sigma(x)^2)) under a flow that reads a context from x."""

from math import prod

from torch import Tensor

from ..core.distribution import wide
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded
from ..families import Normal
from ..flows import (
    Affine,
    Flow,
    Flowed,
    Gate,
    Inverted,
    PlanarFlow,
    RadialFlow,
    Spline,
    autoregressive_flow,
    check_flow,
    coupling_flow,
)


class _FlowPosterior(Family):
    """The encoder's feature for one example is one vector: mu and log sigma^2 of the base, then the context."""

    support = "real"
    factorised = False

    def __init__(self, event_shape: tuple[int, ...], flow: Flow) -> None:
        super().__init__()
        self.event_shape, self.flow = tuple(event_shape), flow
        self.size = prod(self.event_shape)
        self.base = Normal(self.event_shape)
        self.params = (2 * self.size + flow.reads,)

    def forward(self, params: Tensor) -> Flowed:
        """Return q(z|x), params `[..., 2 D + C]`."""
        normal, context = wide(params).tensor_split([2 * self.size], -1)
        base = self.base(normal.reshape(*normal.shape[:-1], *self.base.params))
        return Flowed(base, self.flow, context)


def _check_context(context: int) -> int:
    if not isinstance(context, int) or context < 1:
        raise UsageError(f"the context of a flow posterior cannot be {context}", expected="a whole number above 0")
    return context


@recorded
class IAF(_FlowPosterior):
    r"""Inverse autoregressive flow: z <- sigma z + (1 - sigma) m, where sigma and m of z_d read z_1 .. z_{d-1} and x.

    Kingma et al. 2016, arXiv 1606.04934, algorithm 1 and eq. 13-14. A draw and its density cost one pass a step. The
    density of another z is found dimension by dimension, which is exact and several times slower.

    Args:
        event_shape: shape of z.
        steps: number of autoregressive maps; the order of the dimensions is reversed between them.
        hidden: widths of each map's hidden layers.
        context: size of the context from the encoder.

    Raises:
        UsageError: if a size is no whole number above 0.

    >>> import torch
    >>> q = IAF((3,), steps=2, hidden=(16,), context=4)(torch.zeros(5, 10))
    >>> z, log_q = q.rsample_and_log_prob((7,))
    >>> z.shape, log_q.shape
    (torch.Size([7, 5, 3]), torch.Size([7, 5]))
    """

    def __init__(
        self, event_shape: tuple[int, ...], steps: int = 4, hidden: tuple[int, ...] = (320,), context: int = 64
    ) -> None:
        check_flow(tuple(event_shape), steps, tuple(hidden))
        flow = autoregressive_flow(prod(event_shape), Gate(), steps, tuple(hidden), _check_context(context))
        super().__init__(event_shape, flow)


@recorded
class MAF(_FlowPosterior):
    r"""Masked autoregressive flow: z_d = u_d exp(s) + t, where s and t read z_1 .. z_{d-1} and x.

    Papamakarios et al. 2017, arXiv 1705.07057, eq. 3-5. It scores any z in one pass a step; a draw is made dimension by
    dimension, which is several times slower.

    Args:
        event_shape: shape of z.
        steps: number of autoregressive maps; the order of the dimensions is reversed between them.
        hidden: widths of each map's hidden layers.
        context: size of the context from the encoder.

    Raises:
        UsageError: if a size is no whole number above 0.

    >>> import torch
    >>> MAF((3,), steps=2, hidden=(16,), context=4)(torch.zeros(5, 10)).log_prob(torch.zeros(7, 5, 3)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self, event_shape: tuple[int, ...], steps: int = 2, hidden: tuple[int, ...] = (64,), context: int = 16
    ) -> None:
        check_flow(tuple(event_shape), steps, tuple(hidden))
        flow = autoregressive_flow(prod(event_shape), Affine(), steps, tuple(hidden), _check_context(context))
        super().__init__(event_shape, Inverted(flow))


@recorded
class SplineFlow(_FlowPosterior):
    r"""Couplings of rational-quadratic splines that read x (Durkan et al. 2019, arXiv 1906.04032, sec. 3-4).

    Draws and densities of any z both cost one pass a step.

    Args:
        event_shape: shape of z.
        steps: number of couplings.
        hidden: widths of each coupling's hidden layers.
        context: size of the context from the encoder.
        bins: bins of each spline.
        bound: the splines bend z within [-bound, bound] only.

    Raises:
        UsageError: if a size is no whole number above 0.

    >>> import torch
    >>> SplineFlow((3,), steps=2, hidden=(16,), context=4)(torch.zeros(5, 10)).log_prob(torch.zeros(7, 5, 3)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        steps: int = 4,
        hidden: tuple[int, ...] = (64,),
        context: int = 32,
        bins: int = 8,
        bound: float = 5.0,
    ) -> None:
        check_flow(tuple(event_shape), steps, tuple(hidden))
        elements = Spline(bins, bound)
        super().__init__(
            event_shape, coupling_flow(prod(event_shape), elements, steps, tuple(hidden), _check_context(context))
        )


@recorded
class Planar(_FlowPosterior):
    r"""Planar flows z <- z + u tanh(w^T z + b), with u, w and b of each step from the encoder.

    Rezende & Mohamed 2015, arXiv 1505.05770, eq. 10-13. It scores only what it draws: the inverse has no formula.

    Args:
        event_shape: shape of z.
        steps: number of planar maps.

    Raises:
        UsageError: if a size is no whole number above 0.

    >>> Planar((3,), steps=2).params  # mu, log sigma^2, and two times u, w, b
    (20,)
    """

    rescorable = False

    def __init__(self, event_shape: tuple[int, ...], steps: int = 8) -> None:
        check_flow(tuple(event_shape), steps)
        super().__init__(event_shape, PlanarFlow(prod(event_shape), steps))


@recorded
class Radial(_FlowPosterior):
    r"""Radial flows z <- z + beta (z - z0) / (alpha + |z - z0|), with z0, alpha and beta of each step from the encoder.

    Rezende & Mohamed 2015, arXiv 1505.05770, eq. 14. The inverse solves a quadratic equation, so it scores any z.

    Args:
        event_shape: shape of z.
        steps: number of radial maps.

    Raises:
        UsageError: if a size is no whole number above 0.

    >>> Radial((3,), steps=2).params  # mu, log sigma^2, and two times z0, alpha, beta
    (16,)
    """

    def __init__(self, event_shape: tuple[int, ...], steps: int = 8) -> None:
        check_flow(tuple(event_shape), steps)
        super().__init__(event_shape, RadialFlow(prod(event_shape), steps))
