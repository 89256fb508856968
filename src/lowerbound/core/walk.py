"""The one traversal of the latent groups, and the sources of z that turn it into training, sampling or editing."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from .distribution import Distribution, sample_shape
from .errors import UsageError
from .types import Infer, Latent

if TYPE_CHECKING:
    from .model import Group

Shape: TypeAlias = tuple[int, int]
Drawn: TypeAlias = tuple[Tensor, Tensor, bool]
Source: TypeAlias = Callable[[int, Distribution | None, Distribution, Shape], Drawn]
"""`source(i, q, p, (K, B)) -> z [K, B, *latent], log_q [K, B], drawn`: which z for group i?"""


def from_posterior(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
    """Draw z from q, with a path for the gradient: training and evaluation."""
    assert q is not None, "from_posterior needs data"
    z, log_q = q.rsample_and_log_prob(sample_shape(q, shape))
    return z, log_q, True


def from_prior(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
    """Draw z from p; log_q = log p(z), so that log_w is log p(x|z): sampling, and the plain Monte-Carlo estimate."""
    z = p.sample(sample_shape(p, shape))
    return z, p.log_prob(z), False


def check_temperature(temperature: float) -> None:
    """Raise UsageError unless the temperature is a finite number, 0 or more."""
    if not 0 <= temperature < math.inf:
        raise UsageError(f"the temperature cannot be {temperature}", expected="a finite number, 0 or more")


def tempered(temperature: float) -> Source:
    """Draw z from p and move it to mean + temperature * (z - mean): for a normal p, its scale times `temperature`.

    Raises:
        UsageError: if the temperature is negative or not finite.
    """
    check_temperature(temperature)
    if temperature == 1:
        return from_prior

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        z, log_p, _ = from_prior(i, q, p, shape)
        shrink = math.prod(p.event_shape) * math.log(temperature) if temperature else -math.inf
        return p.mean + temperature * (z - p.mean), log_p - shrink, False

    return source


def unscored(temperature: float | Sequence[float]) -> Source:
    """Draw z at a temperature (`Distribution.sample_at`) and leave its density out, which nobody asks of samples.

    Args:
        temperature: one for all groups, or one for each, top to bottom.
    """
    one = None if isinstance(temperature, Sequence) else temperature
    each = list(temperature) if isinstance(temperature, Sequence) else []
    for value in [one] if one is not None else each:
        check_temperature(value)

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        warm = each[i] if one is None else one
        wanted = sample_shape(p, shape)
        z = p.sample(wanted) if warm == 1 else p.sample_at(warm, wanted)
        return z, z.new_full(shape, math.nan), False

    return source


def upper(keep: int, above: Source, below: Source) -> Source:
    """Take the top `keep` groups from one source and the groups below from another: partial resampling.

    `upper(2, mode, unscored(1.0))` keeps what the two top groups say of x, and draws the rest anew.
    """

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        return (above if i < keep else below)(i, q, p, shape)

    return source


def mode(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
    """Take the centre (most often the mean) of q, or of p without data: one representative z, not a draw."""
    near = p if q is None else q
    z, log_q = near.centre_and_log_prob()
    return z.expand(*shape, *near.event_shape), log_q.expand(shape), False


def replay(zs: dict[int, Tensor], rest: Source = from_posterior) -> Source:
    """Use the given z as if q had drawn them: log_q is q's density."""

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        if i not in zs:
            return rest(i, q, p, shape)
        assert q is not None, "replay needs data"
        return zs[i], q.log_prob(zs[i]), False

    return source


def observe(zs: dict[int, Tensor], rest: Source = from_posterior) -> Source:
    """Take the given z as data: they cost log_q = 0 (a known label, a code to decode)."""

    def source(i: int, q: Distribution | None, p: Distribution, shape: Shape) -> Drawn:
        if i not in zs:
            return rest(i, q, p, shape)
        return zs[i], zs[i].new_zeros(shape), False

    return source


def walk(
    groups: Sequence["Group"],
    features: Sequence[Tensor] | None,
    y: Float[Tensor, "B C"] | None,
    infer: Infer,
    source: Source,
    shape: Shape,
    *,
    scored: bool = True,
) -> tuple[Tensor, tuple[Latent, ...]]:
    """Visit the groups top to bottom and return the last state and all latents.

    Args:
        groups: the latent groups, top to bottom; a flat VAE is a ladder of one.
        features: the encoder's feature of each group, `[B, ...]`; None when there are no data.
        y: condition `[B, C]`.
        infer: lends the top posterior to priors that need it.
        source: decides z.
        shape: (K, B).
        scored: False leaves log p(z) out (NaN), which some priors take long to give.
    """
    state, latents = None, []
    for i, group in enumerate(groups):
        p = group.prior(state, y, infer)
        q = None if features is None else group.posterior(state, features[i], p)
        z, log_q, drawn = source(i, q, p, shape)
        log_p = p.log_prob(z) if scored else z.new_full(shape, math.nan)
        latents.append(Latent(z, q, p, log_q.expand(shape), log_p.expand(shape), drawn))
        state = group.merge(state, z)
    assert state is not None, "a model has at least one group"
    return state, tuple(latents)


def folded(function: Callable[..., Tensor], *inputs: tuple[Tensor | None, int]) -> Tensor:
    """Call a network on inputs with any leading axes: broadcast these, fold them into one, call, unfold.

    Args:
        function: maps tensors `[N, *event]` to `[N, *out]`.
        inputs: pairs of a tensor (or None) and its number of event axes.
    """
    leads = [t.shape[: t.ndim - events] for t, events in inputs if t is not None]
    if all(len(lead) == 1 for lead in leads):
        return function(*(t for t, _ in inputs))
    lead = torch.broadcast_shapes(*leads)
    flat = (
        None if t is None else t.expand(*lead, *t.shape[t.ndim - events :]).flatten(0, len(lead) - 1)
        for t, events in inputs
    )
    out = function(*flat)
    return out.unflatten(0, lead)
