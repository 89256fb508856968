"""What a flow is, and how flows are put together: one after the other, backwards, or with dimensions reordered."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.errors import Incompatible


class Flow(nn.Module):
    """An invertible map of vectors: forward(x, context) -> y, log |det dy/dx|; x `[..., D]`, context `[..., C]`.

    The leading axes of x and of the context broadcast; the log-determinant, in nats, has the leading axes of y.
    """

    reads = 0
    """Size C of the context it reads, 0 if it reads none."""
    invertible = True
    """True if `inverse` exists; a map may have an inverse that no formula gives."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y `[..., D]` and log |det dy/dx| `[...]`."""
        raise NotImplementedError

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x `[..., D]` and log |det dx/dy| `[...]`.

        Raises:
            Incompatible: if no formula gives the inverse.
        """
        raise Incompatible(f"the inverse of a {type(self).__name__} has no formula")


class Chain(Flow):
    """Flows one after the other, f_n(... f_1(x)): log-determinants add up; all read the same context.

    Args:
        flows: the flows, first to last.

    >>> y, log_det = Chain([Reorder((1, 0)), Reorder((1, 0))])(torch.tensor([1.0, 2.0]))
    >>> y.tolist(), log_det.item()
    ([1.0, 2.0], 0.0)
    """

    def __init__(self, flows: Sequence[Flow]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)
        self.reads = max((flow.reads for flow in flows), default=0)
        self.invertible = all(flow.invertible for flow in flows)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return f_n(... f_1(x)) and its log-determinant."""
        total = x.new_zeros(())
        for flow in self.flows:
            x, log_det = flow(x, context)
            total = total + log_det
        return x, total.expand(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return f_1^-1(... f_n^-1(y)) and its log-determinant."""
        total = y.new_zeros(())
        for flow in reversed(self.flows):
            assert isinstance(flow, Flow)
            y, log_det = flow.inverse(y, context)
            total = total + log_det
        return y, total.expand(y.shape[:-1])


class Inverted(Flow):
    """A flow run backwards: its forward is the other's inverse.

    Args:
        flow: the flow; it must be invertible.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        if not flow.invertible:
            raise Incompatible(f"the inverse of a {type(flow).__name__} has no formula")
        self.flow, self.reads = flow, flow.reads

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the inverse of the flow at x."""
        return self.flow.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the flow at y."""
        return self.flow(y, context)


class Reorder(Flow):
    """The dimensions in another order; the determinant is 1.

    Args:
        order: the place in x of each value of y.

    >>> Reorder((2, 0, 1))(torch.tensor([5.0, 6.0, 7.0]))[0].tolist()
    [7.0, 5.0, 6.0]
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        places = torch.tensor(list(order))
        self.register_buffer("order", places, persistent=False)
        self.register_buffer("back", places.argsort(), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x in the other order."""
        return x.index_select(-1, self.order), x.new_zeros(())

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y in the first order."""
        return y.index_select(-1, self.back), y.new_zeros(())
