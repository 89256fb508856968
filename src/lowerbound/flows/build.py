"""Flows of several steps, as priors and posteriors use them."""

from typing import Literal, TypeAlias, get_args

from ..core.errors import UsageError
from .autoregressive import Autoregressive
from .base import Chain, Flow, Inverted, Reorder
from .coupling import Coupling
from .elements import Affine, Elements, Spline

FlowKind: TypeAlias = Literal["realnvp", "maf", "spline"]


def check_flow(event_shape: tuple[int, ...], steps: int, hidden: tuple[int, ...] = (1,)) -> None:
    """Raise UsageError unless a flow can have these sizes."""
    for name, sizes in (("an event", event_shape), ("the number of steps", (steps,)), ("hidden sizes", hidden)):
        if any(not isinstance(size, int) or size < 1 for size in sizes):
            raise UsageError(f"{name} of a flow cannot be {sizes}", expected="whole numbers above 0")
    if not hidden:
        raise UsageError("the network of a flow has no hidden layer", expected="hidden sizes, such as 64")


def autoregressive_flow(size: int, elements: Elements, steps: int, hidden: tuple[int, ...], context: int = 0) -> Chain:
    """Return autoregressive steps with the order of the dimensions reversed between them.

    Kingma et al. 2016, arXiv 1606.04934, algorithm 1.

    Args:
        size: number of dimensions.
        elements: the map of one dimension.
        steps: number of autoregressive maps.
        hidden: widths of each masked network's hidden layers.
        context: size of the context.
    """
    flows: list[Flow] = []
    for step in range(steps):
        flows += [Reorder(range(size)[::-1])] if step else []
        flows.append(Autoregressive(size, elements, hidden, context))
    return Chain(flows)


def coupling_flow(size: int, elements: Elements, steps: int, hidden: tuple[int, ...], context: int = 0) -> Chain:
    """Return couplings that map one half and then the other, and shuffle the dimensions after each such pair.

    Dinh et al. 2017, arXiv 1605.08803, sec. 3.4-3.5; the shuffle (even places first) is our own, in place of masks of
    pixels.

    Args:
        size: number of dimensions.
        elements: the map of one dimension.
        steps: number of couplings.
        hidden: widths of each network's hidden layers.
        context: size of the context.
    """
    flows: list[Flow] = []
    for step in range(steps):
        if step and step % 2 == 0 and size > 2:
            flows.append(Reorder((*range(0, size, 2), *range(1, size, 2))))
        keep = 0 if size == 1 else size // 2 if step % 2 == 0 else size - size // 2
        flows.append(Coupling(size, keep, elements, hidden, context))
    return Chain(flows)


def prior_flow(size: int, kind: FlowKind, steps: int, hidden: tuple[int, ...]) -> Flow:
    """Return the flow from noise to z of a prior, whose log-densities cost one pass whatever the kind.

    Args:
        size: number of dimensions.
        kind: "realnvp" and "spline" are couplings; "maf" is autoregressive, and slow to draw from.
        steps: number of maps.
        hidden: widths of each network's hidden layers.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind not in get_args(FlowKind):
        raise UsageError(f"there is no flow {kind!r}", expected=", ".join(get_args(FlowKind)))
    if kind == "maf":
        return Inverted(autoregressive_flow(size, Affine(), steps, hidden))
    return coupling_flow(size, Spline() if kind == "spline" else Affine(), steps, hidden)
