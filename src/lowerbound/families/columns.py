"""Tables of mixed columns: each real, 0/1 or a category, independent given z."""

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family, Scale
from ..core.record import recorded
from .normal import LOG_2PI

FLOOR = 1e-3


class IndependentColumns(Distribution):
    """One value for each column: a normal, a 0/1 value, or the number of a category, over `event_shape` (D,)."""

    def __init__(self, params: Tensor, scale: Tensor, sizes: tuple[int, ...]) -> None:
        self.sizes, self.scale = sizes, scale
        self.parts = params.split([max(size, 1) for size in sizes], -1)
        super().__init__(params.shape[:-1], Size((len(sizes),)))

    @property
    def mean(self) -> Tensor:
        """The mean of real columns, P(1) of 0/1 columns, the most probable category."""
        parts = []
        for size, part in zip(self.sizes, self.parts, strict=True):
            likely = part.argmax(-1).to(part.dtype) if size > 1 else part[..., 0]
            parts.append(likely.sigmoid() if size == 1 else likely)
        return torch.stack(parts, -1)

    @property
    def variance(self) -> Tensor:
        """The variance of real and 0/1 columns; NaN for a category, whose number has none that means anything."""
        reals, parts = iter(self.scale.unbind(-1)), []
        for size, part in zip(self.sizes, self.parts, strict=True):
            if size == 0:
                parts.append(next(reals).square().expand(part.shape[:-1]))
            else:
                p = part[..., 0].sigmoid()
                parts.append(p * (1 - p) if size == 1 else torch.full_like(p, math.nan))
        return torch.stack(parts, -1)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw one value for each column."""
        lead = (*sample_shape, *self.batch_shape)
        reals, drawn = iter(self.scale.unbind(-1)), []
        with torch.no_grad():
            for size, part in zip(self.sizes, self.parts, strict=True):
                wanted = part.expand(*lead, part.shape[-1])
                if size == 0:
                    drawn.append(wanted[..., 0] + next(reals) * torch.randn_like(wanted[..., 0]))
                elif size == 1:
                    drawn.append(torch.bernoulli(wanted[..., 0].sigmoid()))
                else:
                    chosen = torch.multinomial(wanted.softmax(-1).reshape(-1, size), 1)
                    drawn.append(chosen.reshape(lead).to(part.dtype))
        return torch.stack(drawn, -1)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        reals, logs = iter(self.scale.unbind(-1)), []
        for i, (size, part) in enumerate(zip(self.sizes, self.parts, strict=True)):
            x = value[..., i]
            if size == 0:
                scale = next(reals)
                logs.append(-0.5 * (((x - part[..., 0]) / scale).square() + LOG_2PI) - scale.log())
            elif size == 1:
                logs.append(x * part[..., 0] - F.softplus(part[..., 0], threshold=80.0))
            else:
                chosen = F.one_hot(x.long(), size).to(part.dtype)
                logs.append((chosen * part.log_softmax(-1)).sum(-1))
        return torch.stack(torch.broadcast_tensors(*logs), -1)


@recorded
class Columns(Family):
    r"""Independent columns of a table: N(f_d(z), sigma_d^2), Bernoulli(f_d(z)) or Categorical(softmax f_d(z)).

    log p(x|z) = sum_d log p(x_d|z): densities of real columns (one learned sigma_d each, sigma_d^2 = floor_d^2 +
    exp(h_d)), probabilities of the others. The decoder of Nazabal et al. 2020, arXiv 1807.03653, sec. 3 (there the
    variances are of z).

    Args:
        sizes: for each column 0 (real), 1 (0/1) or the number of its categories.
        floors: the smallest sigma of each real column; empty: 0.001 for all.

    Raises:
        UsageError: if a size is negative or the floors are not one for each real column.

    >>> family = Columns((0, 1, 3))
    >>> family.params, family.event_shape
    ((5,), (3,))
    >>> px = family(torch.zeros(5))
    >>> round(px.log_prob(torch.tensor([0.0, 1.0, 2.0])).exp().item(), 4)  # 1/sqrt(2 pi) * 1/2 * 1/3
    0.0665
    """

    support = "mixed"

    def __init__(self, sizes: tuple[int, ...], floors: tuple[float, ...] = ()) -> None:
        super().__init__()
        reals = sum(size == 0 for size in sizes)
        floors = tuple(floors) or (FLOOR,) * reals
        if not sizes or min(sizes) < 0 or len(floors) != reals or not all(0 < f < math.inf for f in floors):
            raise UsageError(
                f"columns of sizes {sizes} with floors {floors}",
                expected="sizes of 0 (real), 1 (0/1) or more (categories), one positive floor for each real column",
            )
        self.sizes, self.event_shape = tuple(sizes), (len(sizes),)
        self.widths = [max(size, 1) for size in sizes]
        self.params = (sum(self.widths),)
        self.log_variance = Scale(torch.zeros(reals))
        self.register_buffer("floors", torch.tensor(floors, dtype=torch.float32), persistent=False)

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return x with categories one-hot, `[N, *params]`, and which of it is observed."""
        parts = [
            F.one_hot(x[:, i].long(), size).to(x.dtype) if size > 1 else x[:, i, None]
            for i, size in enumerate(self.sizes)
        ]
        return torch.cat(parts, 1), mask.repeat_interleave(torch.tensor(self.widths, device=mask.device), 1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return means, logits and log shares of the data; each sigma_d starts at its column's."""
        bias, real, start = mean.clone(), [], 0
        for size, width in zip(self.sizes, self.widths, strict=True):
            here = slice(start, start + width)
            if size == 0:
                real.append(variance[start])
            else:
                bias[here] = torch.logit(mean[here], eps=1e-4) if size == 1 else mean[here].clamp_min(1e-4).log()
            start += width
        if real:
            floor = self._floors().square()
            self.log_variance.copy_(torch.maximum(torch.stack(real) - floor, floor).log())
        return bias

    def forward(self, params: Tensor) -> IndependentColumns:
        """Return the distribution with these parameters, `[..., *self.params]`."""
        scale = (wide(self.log_variance).exp() + self._floors().square()).sqrt()
        return IndependentColumns(wide(params), scale, self.sizes)

    def _floors(self) -> Tensor:
        assert isinstance(self.floors, Tensor)
        return self.floors
