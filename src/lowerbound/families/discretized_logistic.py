"""Logistic distributions of evenly spaced levels, such as 8-bit pixels: probabilities that sum to exactly one."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family, Scale
from ..core.record import recorded
from .normal import LOG_VARIANCE_CAP, _log_above, _scale_from_log_variance

LogisticScale: TypeAlias = Literal["shared", "network"]
_CHUNK = 16  # levels that an expectation looks at together: all at once would need 256 times the memory
_TO_LOGISTIC = math.sqrt(3) / math.pi  # a logistic of scale s has the standard deviation s pi / sqrt(3)
_FLOOR = 1 / 50  # smallest standard deviation, in steps between levels: there one level has all the mass
_BISECTIONS = 50


def log_share(levels: Tensor, loc: Tensor, scale: Tensor, top: int) -> Tensor:
    """Return log P(level) of a logistic rounded to 0, 1, ..., top, all in steps; 0 and `top` take the tails.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) loses no digits, however small it is.
    """
    above, below = (levels + 0.5 - loc) / scale, (levels - 0.5 - loc) / scale
    first, last = levels <= 0, levels >= top
    inside = torch.log(-torch.expm1(-1 / scale))
    return (
        torch.where(last, 0.0, F.logsigmoid(above))
        + torch.where(first, 0.0, F.logsigmoid(-below))
        + torch.where(first | last, 0.0, inside)
    )


def draw_levels(loc: Tensor, scale: Tensor, top: int) -> Tensor:
    """Draw logistic values and round them to 0, 1, ..., top."""
    u = torch.rand_like(loc).clamp_min(torch.finfo(loc.dtype).tiny)
    return (loc + scale * torch.logit(u, eps=torch.finfo(loc.dtype).eps)).round().clamp(0, top)


def expected(share: Callable[[Tensor], Tensor], function: Callable[[Tensor], Tensor], like: Tensor, top: int) -> Tensor:
    """Return the sum over all levels 0..top of share(level) * function(level), shape of `like`."""
    total = torch.zeros_like(like)
    for some in torch.arange(top + 1, dtype=like.dtype, device=like.device).split(_CHUNK):
        levels = some.reshape(-1, *([1] * like.ndim))
        total = total + (share(levels) * function(levels)).sum(0)
    return total


class _OfLevels(Distribution):
    """Base of the distributions of x = level / top, level = 0, 1, ..., top."""

    top: int

    def _levels(self, value: Tensor) -> Tensor:
        return (value * self.top).round()

    @property
    def centre(self) -> Tensor:
        """The level nearest to the mean."""
        return self._levels(self.mean) / self.top


class RoundedLogistic(_OfLevels):
    """Independent logistic values rounded to levels 0, 1/top, ..., 1; loc and scale are in steps and broadcast."""

    def __init__(self, loc: Tensor, scale: Tensor, top: int, event_dims: int) -> None:
        self.loc, self.scale, self.top = loc, scale, top
        shape = torch.broadcast_shapes(loc.shape, scale.shape)
        cut = len(shape) - event_dims
        super().__init__(Size(shape[:cut]), Size(shape[cut:]))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return log_share(self._levels(value), self.loc, self.scale, self.top)

    def _expected(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        def share(levels: Tensor) -> Tensor:
            return log_share(levels, self.loc, self.scale, self.top).exp()

        return expected(share, function, self.loc.expand(self._extended_shape()), self.top)

    @property
    def mean(self) -> Tensor:
        """The expectation over the levels, exactly: the sum over k = 1, ..., top of P(level >= k)."""

        def at_least(levels: Tensor) -> Tensor:
            return torch.sigmoid((self.loc - levels + 0.5) / self.scale)

        like = self.loc.expand(self._extended_shape())
        return (expected(at_least, lambda level: (level > 0).to(level.dtype), like, self.top) / self.top).clamp(0, 1)

    @property
    def variance(self) -> Tensor:
        """The variance over the levels, exactly."""
        mean = self.mean * self.top
        return self._expected(lambda level: (level - mean).square()) / self.top**2

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw levels."""
        with torch.no_grad():
            shape = self._extended_shape(Size(sample_shape))
            return draw_levels(self.loc.expand(shape), self.scale, self.top) / self.top

    def elements(self) -> "RoundedLogistic":
        """Return one distribution for each dimension."""
        return RoundedLogistic(self.loc, self.scale, self.top, 0)


def check_levels(levels: int) -> int:
    """Return `levels`.

    Raises:
        UsageError: if there are fewer than two.
    """
    if not isinstance(levels, int) or levels < 2:
        raise UsageError(f"the number of levels cannot be {levels}", expected="a whole number of at least 2")
    return levels


def logistic_scale(log_variance: Tensor, levels: int) -> Tensor:
    """Return the scale in steps of a logistic on [0, 1] with this log variance, bent below e^20 and above the floor."""
    capped = LOG_VARIANCE_CAP - F.softplus(LOG_VARIANCE_CAP - log_variance)
    return _TO_LOGISTIC * (levels - 1) * _scale_from_log_variance(capped, _FLOOR / (levels - 1))


@recorded
class DiscretizedLogistic(Family):
    r"""Levels 0, 1/n, ..., 1 with the probability that a logistic variable rounds to them.

    P(x) = sigmoid((x + 1/(2n) - mu) / s) - sigmoid((x - 1/(2n) - mu) / s), where the first term is 1 at x = 1 and the
    second 0 at x = 0 (Kingma et al. 2016, arXiv 1606.04934; Salimans et al. 2017, arXiv 1701.05517, eq. 2 with one
    component). Computed in log space, so it is exact at any mu and s and sums to one. Its mean and variance are those
    of the levels, not mu.

    Args:
        event_shape: shape of one example.
        levels: n + 1, the number of levels.
        scale: "shared": one learned s; "network": s of each value from the network.

    Raises:
        UsageError: if there are fewer than two levels or no such scale.

    >>> px = DiscretizedLogistic((1,), levels=3)(torch.tensor([0.5]))
    >>> x = torch.tensor([[0.0], [0.5], [1.0]])
    >>> round(px.log_prob(x).exp().sum().item(), 6), px.mean.item()
    (1.0, 0.5)
    """

    support = "levels"
    discrete = True
    reparameterised = False

    def __init__(self, event_shape: tuple[int, ...], levels: int = 256, scale: LogisticScale = "shared") -> None:
        super().__init__()
        if scale not in ("shared", "network"):
            raise UsageError(f"there is no scale {scale!r}", expected="shared or network")
        self.event_shape, self.levels, self.scale = tuple(event_shape), check_levels(levels), scale
        self.params = self.event_shape if scale == "shared" else (2, *self.event_shape)
        if scale == "shared":
            self.log_variance = Scale(torch.zeros(()))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the location at which the levels have the data's mean, for a logistic of the data's variance."""
        floor = _FLOOR / (self.levels - 1)
        if self.scale == "network":
            raw = _log_above(variance, floor)
            return torch.stack([location_for(mean, logistic_scale(raw, self.levels), self.levels), raw])
        self.log_variance.copy_(_log_above(variance.mean(), floor))
        return location_for(mean, logistic_scale(self.log_variance.to(mean), self.levels), self.levels)

    def forward(self, params: Tensor) -> RoundedLogistic:
        """Return the distribution with locations `params` (and log variances, where the network gives them)."""
        dims, params = len(self.event_shape), wide(params)
        loc, raw = (params, wide(self.log_variance)) if self.scale == "shared" else params.unbind(-1 - dims)
        top = self.levels - 1
        return RoundedLogistic(loc * top, logistic_scale(raw, self.levels), top, dims)


def location_for(mean: Tensor, scale: Tensor, levels: int) -> Tensor:
    """Return the location in [0, 1] units at which a logistic of this scale, rounded, has `mean`, by bisection."""
    top, mean = levels - 1, mean.clamp(1e-4, 1 - 1e-4)  # at 0 and 1 it would be infinitely far
    reach = top + 20 * scale.expand_as(mean)
    low, high = -reach, top + reach
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        less = RoundedLogistic(middle, scale, top, mean.ndim).mean < mean
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return (low + high) / 2 / top


class RoundedLogisticMixture(_OfLevels):
    """Mixtures of rounded logistics; loc and scale are in steps, their component axis stands before the event's.

    With `slopes` the event is (3, H, W): the three values of a pixel share their component, and the location of green
    depends on red, that of blue on red and green.
    """

    def __init__(
        self, log_weights: Tensor, loc: Tensor, scale: Tensor, slopes: Tensor | None, top: int, event_dims: int
    ) -> None:
        self.log_weights, self.loc, self.scale, self.slopes, self.top = log_weights, loc, scale, slopes, top
        self.axis = -1 - event_dims
        cut = loc.ndim + self.axis
        super().__init__(loc.shape[:cut], loc.shape[cut + 1 :])

    def _locations(self, levels: Tensor) -> Tensor:
        """Return the locations given the levels of the channels before, `[..., components, *event]`."""
        if self.slopes is None:
            return self.loc
        red, green, _ = (levels - self.top / 2).unbind(-3)
        by_red, by_red_too, by_green = self.slopes.unbind(-3)
        shift = torch.stack([torch.zeros_like(by_red * red), by_red * red, by_red_too * red + by_green * green], -3)
        return self.loc + shift

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        levels = self._levels(value).unsqueeze(self.axis)
        each = log_share(levels, self._locations(levels), self.scale, self.top)
        if self.slopes is None:
            return torch.logsumexp(self.log_weights + each, self.axis)
        so_far = torch.logsumexp(self.log_weights + each.cumsum(-3), self.axis)  # log P(r), P(r, g), P(r, g, b)
        return so_far - F.pad(so_far, (0, 0, 0, 0, 1, -1))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of the observed cells, in nats.

        Raises:
            UsageError: if channels of a pixel depend on one that is not observed, which cannot be summed out.
        """
        if mask is not None and self.slopes is not None:
            observed = mask.bool()
            if bool((observed[..., 1:, :, :] & ~observed[..., :-1, :, :]).any()):
                raise UsageError(
                    "a mixture of logistics cannot leave out a channel on which an observed one depends",
                    expected="masks of whole pixels, or without blue, or without green and blue",
                    fix="use DiscretizedLogistic, whose channels are independent",
                )
        return super().log_prob(value, mask)

    def _components(self) -> RoundedLogistic:
        """Return the components; those of green and blue at the means of the channels they depend on."""
        dims, loc = -1 - self.axis, self.loc
        if self.slopes is not None:
            for _ in range(2):  # red is right at once, then green, then blue
                loc = self._locations(RoundedLogistic(loc, self.scale, self.top, dims).mean * self.top)
        return RoundedLogistic(loc, self.scale, self.top, dims)

    @property
    def mean(self) -> Tensor:
        """The expectation over the levels; of dependent channels, with those they depend on at their means."""
        return (self.log_weights.exp() * self._components().mean).sum(self.axis)

    @property
    def variance(self) -> Tensor:
        """The variance over the levels; of dependent channels, with those they depend on at their means."""
        parts, weights = self._components(), self.log_weights.exp()
        apart = (parts.mean - self.mean.unsqueeze(self.axis)).square()
        return (weights * (parts.variance + apart)).sum(self.axis)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw a component, then its values, channel after channel where they depend on each other."""
        with torch.no_grad():
            weights, loc, scale = (t.expand(*sample_shape, *t.shape) for t in (self.log_weights, self.loc, self.scale))
            gumbel = -torch.empty_like(weights).exponential_().log()
            chosen = (weights + gumbel).argmax(self.axis, keepdim=True)
            share = torch.zeros_like(weights).scatter_(self.axis, chosen, 1.0)
            loc, scale = ((share * t).sum(self.axis) for t in (loc, scale))
            if self.slopes is None:
                return draw_levels(loc, scale, self.top) / self.top
            slopes, middle = (share * self.slopes).sum(self.axis), self.top / 2
            loc, scale, slopes = (t.unbind(-3) for t in (loc, scale, slopes))
            red = draw_levels(loc[0], scale[0], self.top)
            green = draw_levels(loc[1] + slopes[0] * (red - middle), scale[1], self.top)
            moved = loc[2] + slopes[1] * (red - middle) + slopes[2] * (green - middle)
            return torch.stack([red, green, draw_levels(moved, scale[2], self.top)], -3) / self.top


@recorded
class LogisticMixture(Family):
    r"""Levels 0, 1/n, ..., 1 under a mixture of discretised logistics, as in PixelCNN++.

    P(x) = sum_c pi_c [sigmoid((x + 1/(2n) - mu_c) / s_c) - sigmoid((x - 1/(2n) - mu_c) / s_c)], the ends as in
    `DiscretizedLogistic` (Salimans et al. 2017, arXiv 1701.05517, eq. 2). The values of a pixel of
    three channels share the component, mu of green is moved by a (r - 1/2), that of blue by b (r - 1/2) + c (g - 1/2)
    with a, b, c in (-1, 1) from the network (sec. 2.2, eq. 3): a probability of whole pixels, which sums to one. Other
    events have one mixture for each value. A dependent channel's mean and variance have no short form: those given
    are with the channels it depends on at their means.

    Args:
        event_shape: shape of one example.
        components: number of components.
        levels: n + 1, the number of levels.

    Raises:
        UsageError: if there is no component or fewer than two levels.

    >>> LogisticMixture((1, 8, 8)).params, LogisticMixture((3, 8, 8)).params
    ((3, 5, 1, 8, 8), (10, 5, 8, 8))
    """

    support = "levels"
    discrete = True
    reparameterised = False

    def __init__(self, event_shape: tuple[int, ...], components: int = 5, levels: int = 256) -> None:
        super().__init__()
        if not isinstance(components, int) or components < 1:
            raise UsageError(f"the number of components cannot be {components}", expected="a whole number above 0")
        self.event_shape, self.components, self.levels = tuple(event_shape), components, check_levels(levels)
        self.colour = len(self.event_shape) == 3 and self.event_shape[0] == 3
        self.factorised = not self.colour
        inside = (10, components, *self.event_shape[1:]) if self.colour else (3, components, *self.event_shape)
        self.params = inside

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return equal components at the data's mean and variance, channels independent."""
        raw = _log_above(variance, _FLOOR / (self.levels - 1))
        loc = location_for(mean, logistic_scale(raw, self.levels), self.levels)
        each = [t.expand(self.components, *t.shape) for t in (loc, raw)]
        if not self.colour:
            return torch.stack([torch.zeros_like(each[0]), *each])
        none = mean.new_zeros(self.components, 1, *mean.shape[1:])
        return torch.cat([none, *each, none.expand_as(each[0])], 1).transpose(0, 1)

    def forward(self, params: Tensor) -> RoundedLogisticMixture:
        """Return the mixture with weights, locations, log variances (and slopes), params `[..., *self.params]`."""
        dims, top, params, slopes = len(self.event_shape), self.levels - 1, wide(params), None
        if self.colour:
            logits, loc, raw, slopes = params.transpose(-3, -4).split([1, 3, 3, 3], -3)
            slopes = slopes.tanh()
        else:
            logits, loc, raw = params.unbind(-2 - dims)
        weights, scale = logits.log_softmax(-1 - dims), logistic_scale(raw, self.levels)
        return RoundedLogisticMixture(weights, loc * top, scale, slopes, top, dims)
