"""A probability for each of some evenly spaced levels: 8-bit pixels, without a word on how levels lie to each other."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded

_START = 1e-4
_STEEPEST = 1e7


class CategoricalLevels(Distribution):
    """x = k / (L - 1) with P(k) = softmax(logits)_k for each cell; logits `[..., *event, L]`."""

    def __init__(self, logits: Tensor, *, event_dims: int) -> None:
        self.logits, self.levels = logits, logits.shape[-1]
        shape = logits.shape[:-1]
        cut = len(shape) - event_dims
        super().__init__(shape[:cut], shape[cut:])

    @property
    def _values(self) -> Tensor:
        return torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)

    @property
    def mean(self) -> Tensor:
        """The expected value, most often between two levels."""
        return (self.logits.softmax(-1) * self._values).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The variance."""
        away = (self._values - self.mean[..., None]).square()
        return (self.logits.softmax(-1) * away).sum(-1)

    @property
    def centre(self) -> Tensor:
        """The most probable level."""
        return self.logits.argmax(-1).to(self.logits.dtype) / (self.levels - 1)

    def elements(self) -> "CategoricalLevels":
        """Return one distribution for each cell."""
        return CategoricalLevels(self.logits, event_dims=0)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw levels."""
        shape = self._extended_shape(Size(sample_shape))
        with torch.no_grad():
            flat = self.logits.softmax(-1).flatten(0, -2) if self.logits.ndim > 1 else self.logits.softmax(-1)[None]
            count = Size(sample_shape).numel()
            drawn = torch.multinomial(flat, count, replacement=True) if count else flat.new_zeros(len(flat), 0)
            return (drawn.T.to(self.logits.dtype) / (self.levels - 1)).reshape(shape)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        place = (value * (self.levels - 1)).round().clamp(0, self.levels - 1).long()
        shape = torch.broadcast_shapes(place.shape, self.logits.shape[:-1])
        logs = self.logits.log_softmax(-1).expand(*shape, self.levels)
        return logs.gather(-1, place.expand(shape)[..., None])[..., 0]


@recorded
class Categorical(Family):
    r"""One of L evenly spaced levels 0, 1/(L-1), ..., 1 for each cell, each with a probability of its own.

    log p(x) = sum_d log softmax(h_d)_{k_d}, x_d = k_d / (L - 1): the discrete likelihood of 8-bit pixels of van den
    Oord et al. 2016, "Pixel Recurrent Neural Networks", arXiv 1601.06759, here with independent cells. A value between
    two levels is scored as the nearest. The decoder's output holds L numbers for each cell: 128 images of 784 pixels
    and 256 levels take 103 MB a sample, several times over with the gradient; `DiscretizedLogistic` needs one number.

    Args:
        event_shape: shape of one example.
        levels: how many levels there are; 256 for 8-bit data.

    Raises:
        UsageError: if there are fewer than two levels.

    >>> px = Categorical((1,), levels=5)(torch.zeros(5, 1))
    >>> round(px.log_prob(torch.tensor([0.25])).exp().item(), 4), px.mean.item()
    (0.2, 0.5)
    """

    support = "levels"
    discrete = True
    reparameterised = False

    def __init__(self, event_shape: tuple[int, ...], levels: int = 256) -> None:
        super().__init__()
        if not isinstance(levels, int) or levels < 2:
            raise UsageError(f"the number of levels cannot be {levels}", expected="a whole number of 2 or more")
        self.event_shape, self.levels = tuple(event_shape), levels
        self.params = (levels, *self.event_shape)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the logits of a normal of the data's variance, cut to [0, 1] and tilted to the data's mean.

        Means are kept away from 0 and 1 by one part in 10,000.
        """
        target = mean.double().clamp(_START, 1 - _START)
        spread = variance.double().clamp_min(0.25 / (self.levels - 1) ** 2)
        values = torch.linspace(0, 1, self.levels, dtype=torch.float64, device=target.device)
        values = values.reshape(-1, *([1] * target.ndim))
        low, high = torch.full_like(target, -_STEEPEST), torch.full_like(target, _STEEPEST)
        for _ in range(80):
            tilt = 0.5 * (low + high)
            logits = tilt * values - 0.5 * values.square() / spread
            above = (logits.softmax(0) * values).sum(0) > target
            low, high = torch.where(above, low, tilt), torch.where(above, tilt, high)
        logits = 0.5 * (low + high) * values - 0.5 * values.square() / spread
        return F.log_softmax(logits, 0).clamp_min(-30.0).to(mean.dtype)

    def forward(self, params: Tensor) -> CategoricalLevels:
        """Return the distribution with these logits, `[..., levels, *event]`."""
        dims = len(self.event_shape)
        return CategoricalLevels(wide(params).movedim(-1 - dims, -1), event_dims=dims)
