"""Mixtures of distributions of one kind."""

import math

import torch
from torch import Size, Tensor
from torch.utils.checkpoint import checkpoint

from ..core.distribution import Distribution, Sizes
from .normal import LOG_2PI, DiagonalNormal

_AT_ONCE = 1 << 24  # values drawn at once where all components are drawn to take one
_SCORED_AT_ONCE = 1 << 20  # values scored at once under all components: a flow keeps some kilobytes for each


class Mixture(Distribution):
    """sum_m w_m p_m(x): the last batch axis of `components` counts them, and the weights may depend on the rest.

    Densities of M diagonal normals under N values take two matrix products in float64, of memory N x M and not
    N x M x D; in float32 the squares they subtract would cancel where a scale is small beside its mean.

    Args:
        components: batch shape `[..., M]`.
        log_weights: `[..., M]`, not necessarily normalised; -inf leaves a component out.

    >>> halves = DiagonalNormal(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1), 1)
    >>> p = Mixture(halves, torch.zeros(2))
    >>> p.mean.item(), p.variance.item(), p.log_prob(torch.zeros(3, 1)).shape
    (0.0, 2.0, torch.Size([3]))
    """

    def __init__(self, components: Distribution, log_weights: Tensor) -> None:
        self.components, self.log_weights = components, log_weights.log_softmax(-1)
        self.filler = components.filler
        batch = torch.broadcast_shapes(components.batch_shape, log_weights.shape)
        super().__init__(Size(batch[:-1]), components.event_shape)

    @property
    def weights(self) -> Tensor:
        """The weights, which sum to one, `[..., M]`."""
        return self.log_weights.exp()

    @property
    def mean(self) -> Tensor:
        """The mean of all components' means, by weight."""
        return self._average(self.components.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension: within the components, and between their means."""
        apart = self.components.mean - self.mean.unsqueeze(self._axis)
        return self._average(self.components.variance + apart.square())

    @property
    def centre(self) -> Tensor:
        """The mean, or the centre of the heaviest component where the mean may lie outside the support."""
        if type(self.components).centre is Distribution.centre:
            return self.mean
        return self._pick(self.components.centre.expand(*self._full_shape), self.log_weights.argmax(-1))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of `value` in nats; cells where `mask` is 0 are integrated out in each component."""
        p = self.components
        if mask is None and isinstance(p, DiagonalNormal) and len(p.batch_shape) == 1:
            each = _normal_log_probs(p, value)
        elif mask is None and len(p.batch_shape) == 1:
            each = self._in_parts(value)
        else:
            hidden = None if mask is None else mask.unsqueeze(self._axis)
            each = p.log_prob(value.unsqueeze(self._axis), hidden)
        return torch.logsumexp(self.log_weights + each, -1)

    def _in_parts(self, value: Tensor) -> Tensor:
        """Return the log-density of each component that all rows share, `[..., M]`, of values `[..., *event]`."""
        lead = value.shape[: value.ndim - len(self.event_shape)]
        rows = max(1, _SCORED_AT_ONCE // math.prod((*self.components.batch_shape, *self.event_shape)))
        if math.prod(lead) <= rows:
            return self.components.log_prob(value.unsqueeze(self._axis))
        parts = value.reshape(-1, *self.event_shape).split(rows)
        each = [checkpoint(self.components.log_prob, part.unsqueeze(self._axis), use_reentrant=False) for part in parts]
        return torch.cat(each).unflatten(0, lead)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw a component, then a value from it, without gradient, `[*sample_shape, *batch_shape, *event_shape]`."""
        with torch.no_grad():
            size, p = math.prod(sample_shape), self.components
            weights = self.weights.expand(*self.batch_shape, -1)
            flat = torch.multinomial(weights.reshape(-1, weights.shape[-1]), size, replacement=True)
            chosen = flat.T.reshape(*sample_shape, *self.batch_shape)  # [*sample, *batch]
            if isinstance(p, DiagonalNormal) and len(p.batch_shape) == 1:
                scale = p.scale.expand(*p.batch_shape, *p.event_shape)
                return DiagonalNormal(p.mean[chosen], scale[chosen], len(p.event_shape)).sample()
            rows = chosen.reshape(size, *self.batch_shape)
            step = max(1, _AT_ONCE // max(1, math.prod(self._full_shape)))
            drawn = [self._pick(self._all(len(part)), part) for part in rows.split(step)]
            return torch.cat(drawn).reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    @property
    def _axis(self) -> int:
        return -1 - len(self.event_shape)

    @property
    def _full_shape(self) -> tuple[int, ...]:
        return (*self.batch_shape, self.log_weights.shape[-1], *self.event_shape)

    def _all(self, size: int) -> Tensor:
        """Draw from every component, `[size, *batch, M, *event]`."""
        missing = len(self._full_shape) - len(self.components.batch_shape) - len(self.event_shape)
        return self.components.sample((size, *self._full_shape[:missing]))

    def _pick(self, values: Tensor, chosen: Tensor) -> Tensor:
        """Take the chosen component of `values [..., M, *event]`."""
        index = chosen.reshape(*chosen.shape, 1, *(1 for _ in self.event_shape))
        return values.take_along_dim(index, self._axis).squeeze(self._axis)

    def _average(self, values: Tensor) -> Tensor:
        weights = self.weights.reshape(*self.weights.shape, *(1 for _ in self.event_shape))
        return (weights * values).sum(self._axis).expand(*self.batch_shape, *self.event_shape)


def _normal_log_probs(p: DiagonalNormal, value: Tensor) -> Tensor:
    """Return log N(value; m, diag(s^2)) for every component, `[..., M]`, of values `[..., *event]`.

    sum_d ((x - m) / s)^2 = x^2 . s^-2 - 2 x . (m s^-2) + |m / s|^2, with x and m counted from the components' middle.
    """
    start = value.ndim - len(p.event_shape)
    shape = (*p.batch_shape, *p.event_shape)
    loc, scale = (t.expand(shape).flatten(1).double() for t in (p.loc, p.scale))
    middle = loc.detach().mean(0)
    x, m, precision = value.flatten(start).double() - middle, loc - middle, scale.square().reciprocal()
    squares = x.square() @ precision.T - 2 * (x @ (m * precision).T) + (m.square() * precision).sum(1)
    log_prob = -0.5 * (squares + loc.shape[1] * LOG_2PI) - scale.log().sum(1)
    return log_prob.to(torch.promote_types(value.dtype, p.loc.dtype))
