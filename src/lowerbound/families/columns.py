"""Tables of mixed columns: each real, 0/1 or a category, independent given z."""

import math
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.model import Family, Scale
from ..core.record import recorded
from .normal import LOG_2PI

FLOOR = 1e-3


class Layout(NamedTuple):
    """Which columns are computed together: all real ones, all 0/1 ones, all with as many categories.

    A kernel for each column would cost a wide table its speed. Index tensors are as long as the columns of one value
    and never as the categories, whose number a damaged file could make any.
    """

    sizes: tuple[int, ...]
    runs: list[tuple[int, int]]
    """Neighbours of one width: how many parameters each has (1 for real and 0/1), and how many they are."""
    columns: Tensor
    """Columns of one value, the real ones first."""
    values: Tensor
    """Where their parameters are."""
    back: Tensor
    """Moves these columns, followed by the categories in order of their number, to where they were."""

    def singles(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries of x `[..., any]` at `index` for real columns and for 0/1 columns."""
        reals = self.sizes.count(0)
        real, binary = x.index_select(-1, index).split([reals, len(index) - reals], -1)
        return real, binary

    def categories(self, x: Tensor, widths: list[int]) -> dict[int, Tensor]:
        """Return the columns of each number of categories in x, of which each run takes as much as `widths` says."""
        found: dict[int, list[Tensor]] = {}
        for (size, _), part in zip(self.runs, x.split(widths, -1), strict=True):
            found.setdefault(size, []).append(part)
        return {size: torch.cat(found[size], -1) for size in sorted(found) if size > 1}

    def in_order(self, blocks: list[Tensor]) -> Tensor:
        """Return one entry for each column from those of real, 0/1 and category columns."""
        return torch.cat(blocks, -1).index_select(-1, self.back)


def _runs(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(size, len(list(run))) for size, run in groupby(max(size, 1) for size in sizes)]


def _indices(sizes: tuple[int, ...]) -> dict[str, Tensor]:
    starts = list(accumulate((max(size, 1) for size in sizes), initial=0))
    moved = sorted(range(len(sizes)), key=sizes.__getitem__)
    singles = [i for i in moved if sizes[i] < 2]
    back = sorted(range(len(sizes)), key=moved.__getitem__)
    lists = {"columns": singles, "values": [starts[i] for i in singles], "back": back}
    return {name: torch.tensor(index, dtype=torch.long) for name, index in lists.items()}


class IndependentColumns(Distribution):
    """One value for each column: a normal, a 0/1 value, or the number of a category, over `event_shape` (D,)."""

    def __init__(self, params: Tensor, scale: Tensor, layout: Layout) -> None:
        self.params, self.scale, self.layout, self.sizes = params, scale, layout, layout.sizes
        self.loc, self.logits = layout.singles(params, layout.values)
        blocks = layout.categories(params, [size * count for size, count in layout.runs])
        # [..., columns, categories]
        self.choices = [b.unflatten(-1, (b.shape[-1] // size, size)) for size, b in blocks.items()]
        super().__init__(params.shape[:-1], Size((len(self.sizes),)))

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The parameters of each column."""
        return self.params.split([max(size, 1) for size in self.sizes], -1)

    @property
    def mean(self) -> Tensor:
        """The mean of real columns, P(1) of 0/1 columns, the most probable category."""
        likely = [c.argmax(-1).to(c.dtype) for c in self.choices]
        return self.layout.in_order([self.loc, self.logits.sigmoid(), *likely])

    @property
    def variance(self) -> Tensor:
        """The variance of real and 0/1 columns; NaN for a category, whose number has none that means anything."""
        p = self.logits.sigmoid()
        none = [torch.full_like(c[..., 0], math.nan) for c in self.choices]
        return self.layout.in_order([self.scale.square().expand_as(self.loc), p * (1 - p), *none])

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw one value for each column."""
        lead = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            loc, logits = (t.expand(*lead, t.shape[-1]) for t in (self.loc, self.logits))
            drawn = [_draw_category(c.expand(*lead, *c.shape[-2:])) for c in self.choices]
            drawn = [loc + self.scale * torch.randn_like(loc), torch.bernoulli(logits.sigmoid()), *drawn]
            return self.layout.in_order(drawn)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        real, binary = self.layout.singles(value, self.layout.columns)
        chosen = self.layout.categories(value, [count for _, count in self.layout.runs])
        return self.layout.in_order(
            [
                -0.5 * (((real - self.loc) / self.scale).square() + LOG_2PI) - self.scale.log(),
                binary * self.logits - F.softplus(self.logits, threshold=80.0),
                *(_log_share(c, x) for c, x in zip(self.choices, chosen.values(), strict=True)),
            ]
        )


def _draw_category(logits: Tensor) -> Tensor:
    drawn = torch.multinomial(logits.softmax(-1).reshape(-1, logits.shape[-1]), 1)
    return drawn.reshape(logits.shape[:-1]).to(logits.dtype)


def _log_share(logits: Tensor, chosen: Tensor) -> Tensor:
    one = F.one_hot(chosen.long(), logits.shape[-1]).to(logits.dtype)
    return (one * logits.log_softmax(-1)).sum(-1)


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
    floors: Tensor
    columns: Tensor
    values: Tensor
    back: Tensor

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
        self.discrete = not reals
        self.widths = [max(size, 1) for size in sizes]
        self.params = (sum(self.widths),)
        self.runs = _runs(self.sizes)
        self.log_variance = Scale(torch.zeros(reals))
        self.register_buffer("floors", torch.tensor(floors, dtype=torch.float32), persistent=False)
        for name, index in _indices(self.sizes).items():
            self.register_buffer(name, index, persistent=False)

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return x with categories one-hot, `[N, *params]`, and which of it is observed."""
        # by runs, not by index: the data may be on another device than the family
        counts = [count for _, count in self.runs]
        values, known = [], []
        for (size, _), part, seen in zip(self.runs, x.split(counts, 1), mask.split(counts, 1), strict=True):
            values.append(F.one_hot(part.long(), size).to(x.dtype).flatten(1) if size > 1 else part)
            known.append(seen.repeat_interleave(size, 1))
        return torch.cat(values, 1), torch.cat(known, 1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return means, logits and log shares of the data; each sigma_d starts at its column's."""
        real, binary = self.values.split([self.sizes.count(0), self.sizes.count(1)])
        bias = mean.clamp_min(1e-4).log()
        bias[real] = mean[real]
        bias[binary] = torch.logit(mean[binary], eps=1e-4)
        floor = self.floors.square()
        self.log_variance.copy_(torch.maximum(variance[real] - floor, floor).log())
        return bias

    @property
    def layout(self) -> Layout:
        """Where the columns of each kind are."""
        return Layout(self.sizes, self.runs, self.columns, self.values, self.back)

    def forward(self, params: Tensor) -> IndependentColumns:
        """Return the distribution with these parameters, `[..., *self.params]`."""
        # without a real column there is none to learn: its empty block must not ask for a gradient
        log_variance = self.log_variance.detach() if self.discrete else self.log_variance
        scale = (wide(log_variance).exp() + self.floors.square()).sqrt()
        return IndependentColumns(wide(params), scale, self.layout)
