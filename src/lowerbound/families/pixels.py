"""Images whose pixels are scored one after the other, each given those before it."""

from math import prod
from typing import Any, Protocol, cast

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import ShapeError
from ..core.model import Family, Network
from ..core.record import recorded


class Seer(Protocol):
    """A causal network: the output at a pixel depends on the pixels before it, and on a context."""

    context: int
    reach: int

    def __call__(self, x: Tensor, context: Tensor) -> Tensor:
        """Map `[N, C, H, W]` and `[N, context, H, W]` to `[N, values, H, W]`."""
        ...


class PixelByPixel(Distribution):
    """p(x|c) = prod_i p(x_i | x_1, ..., x_{i-1}, c) over the pixels, row by row; the channels of one are independent.

    Args:
        params: of each pixel before it has seen others, `[..., values, H, W]`.
        context: what the network reads, `[..., C, H, W]`.
        family: says what each pixel's distribution is, and holds the network.
    """

    def __init__(self, params: Tensor, context: Tensor, family: "AutoregressivePixels") -> None:
        self.params, self.context, self.family = params, context, family
        super().__init__(params.shape[:-3], Size(family.event_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of each pixel, given the most probable levels (where there are levels) of those before it."""
        return self._walk(self.batch_shape, draws=False)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw pixel by pixel."""
        with torch.no_grad():
            return self._walk(self._extended_shape(Size(sample_shape))[:-3], draws=True)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of `value` in nats, in one pass.

        Raises:
            ShapeError: if pixels are masked, which no formula sums over.
        """
        if mask is not None and not bool(mask.all()):
            raise ShapeError(
                "pixels are missing", expected="whole images: no formula sums over missing pixels", fix="fill them"
            )
        lead = torch.broadcast_shapes(value.shape[:-3], self.batch_shape)
        flat = [_flat(t, lead) for t in (value, self.params, self.context)]
        return self._given(*flat).log_prob(flat[0]).reshape(lead)

    def _given(self, x: Tensor, params: Tensor, context: Tensor) -> Distribution:
        """Return the distribution of every pixel given those before it in x `[N, C, H, W]`."""
        seen = cast(Seer, self.family.network)(2 * x - 1, context)
        return self.family.pixels(params + seen)

    def _walk(self, lead: Size, *, draws: bool) -> Tensor:
        """Return what pixel after pixel gives, `[*lead, *event]`: draws, or means."""
        params, context = _flat(self.params, lead), _flat(self.context, lead)
        height, width = self.event_shape[-2:]
        reach = cast(Seer, self.family.network).reach
        x = params.new_zeros(len(params), *self.event_shape)
        shown = x
        for row in range(height):
            rows = slice(max(0, row - reach), row + 1)
            for column in range(width):
                seen = cast(Seer, self.family.network)(2 * x[:, :, rows] - 1, context[:, :, rows])
                # parameters of the whole image, since those of a family may differ from pixel to pixel
                given = params.clone()
                given[:, :, row] += seen[:, :, -1]
                pixel = self.family.pixels(given)
                made = pixel.sample() if draws else pixel.mean
                here = torch.zeros_like(x, dtype=torch.bool)
                here[:, :, row, column] = True
                shown = torch.where(here, made, shown)
                x = torch.where(here, made if draws else self.family.level_near(made), x)
        return shown.reshape(*lead, *self.event_shape)


@recorded
class AutoregressivePixels(Family):
    r"""Another family whose parameters at each pixel also depend on the pixels before it.

    log p(x|z) = sum_i log p(x_i | x_1, ..., x_{i-1}, z), in one pass (Gulrajani et al. 2017, arXiv 1611.05013, sec.
    3.1). Where z alone decides the other family's parameters h(z), here h(z) + f(x_1, ..., x_{i-1}, c(z)) does: before
    the network learns to look at pixels, it is the other family. Drawing takes one pass for each pixel, of the rows
    that the network reaches.

    Args:
        family: of the pixels, independent given their parameters `[..., H, W]`, such as `Bernoulli`.
        network: causal, such as `PixelCNN`, from images and a context of so many channels to these parameters, their
            leading axes flattened.

    Raises:
        ShapeError: if the network does not fit the family.
    """

    reparameterised = False
    factorised = False
    marginal = False

    def __init__(self, family: Family, network: Network) -> None:
        super().__init__()
        self.family, self.network = family, network
        self.event_shape, size = tuple(family.event_shape), tuple(family.event_shape[-2:])
        self.values = prod(family.params[:-2])
        fits = len(self.event_shape) == 3 and tuple(family.params[-2:]) == size
        if not fits or tuple(network.in_shape) != self.event_shape or network.out_shape != (self.values, *size):
            raise ShapeError(
                f"a {type(network).__name__} from {network.in_shape} to {network.out_shape} for a "
                f"{type(family).__name__} of {tuple(family.params)}",
                expected="images, and a network from them to the family's parameters at each pixel",
            )
        self.params = (self.values + cast(Any, network).context, *size)
        self.support, self.discrete, self.target = family.support, family.discrete, family.target
        self.estimated = family.estimated
        self.levels = 2 if family.support == "binary" else getattr(family, "levels", 0)

    def level_near(self, value: Tensor) -> Tensor:
        """Return the level nearest to each value; the value itself where there are no levels."""
        steps = self.levels - 1
        return value if steps < 1 else (value * steps).round() / steps

    def pixels(self, params: Tensor) -> Distribution:
        """Return the other family's distribution with parameters `[..., values, H, W]`."""
        return self.family(params.unflatten(-3, self.family.params[:-2]))

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the other family makes of x."""
        return self.family.observations(x, mask)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the other family's parameters, and a context of 0."""
        bias = self.family.bias_for(mean, variance).flatten(0, -3)
        return torch.cat([bias, bias.new_zeros(self.params[0] - self.values, *self.event_shape[-2:])])

    def forward(self, params: Tensor) -> PixelByPixel:
        """Return the distribution with these parameters and contexts, `[..., *self.params]`."""
        own, context = params.split([self.values, self.params[0] - self.values], -3)
        return PixelByPixel(own, context, self)


def _flat(t: Tensor, lead: Sizes) -> Tensor:
    """Return `[N, C, H, W]` of leading axes that are first broadcast to `lead`."""
    return t.expand(*lead, *t.shape[-3:]).reshape(-1, *t.shape[-3:])
