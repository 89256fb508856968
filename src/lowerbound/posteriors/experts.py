"""Posteriors of several experts, one for each modality: their product, their mixture, or a mixture of products."""

from itertools import combinations
from math import prod

import torch
from torch import Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded
from ..families.mixture import Mixture
from ..families.normal import DiagonalNormal, Normal

MOST_EXPERTS = 8  # 255 subsets


def product(experts: DiagonalNormal, member: Tensor, *, prior: Tensor | float = 0.0) -> DiagonalNormal:
    r"""Return the product of normal experts: precisions add up, means are averaged by them.

    1/s^2 = sum_m 1/s_m^2 and mu = s^2 sum_m mu_m / s_m^2 (Wu & Goodman 2018, arXiv 1802.05335,
    sec. 2.2).

    Args:
        experts: batch shape `[..., M]`.
        member: 1 for experts that take part, `[..., M]`.
        prior: how often N(0, I) takes part as an expert of its own, `[...]`.

    >>> two = DiagonalNormal(torch.tensor([[1.0], [3.0]]), torch.ones(2, 1), 1)
    >>> q = product(two, torch.ones(2), prior=1.0)
    >>> round(q.mean.item(), 4), round(q.variance.item(), 4)  # (1 + 3) / 3, 1 / 3
    (1.3333, 0.3333)
    """
    dims = len(experts.event_shape)
    each = member.to(experts.loc.dtype).reshape(*member.shape, *(1 for _ in range(dims)))
    precision = each * experts.scale.square().reciprocal()
    own = torch.as_tensor(prior, dtype=experts.loc.dtype, device=experts.loc.device)
    total = precision.sum(-1 - dims) + own.reshape(*own.shape, *(1 for _ in range(dims)))
    return DiagonalNormal((precision * experts.loc).sum(-1 - dims) / total, total.rsqrt(), dims)


class StratifiedMixture(Distribution):
    """A mixture of normals whose K draws are shared out among the components: each gets its weight times K of them.

    Where that is no whole number, one more or one less, so that each has its share on average; K may be smaller than
    the number of components. Each draw by itself is one of the mixture, `log_prob` is the mixture's density, and a
    mean over the draws has no larger variance than one over independent draws (Shi et al. 2019, arXiv 1911.03393,
    sec. 3.2). Which draw belongs to which component is random, so that any part of the draws is as good as another.

    Args:
        components: batch shape `[..., M]`.
        log_weights: `[..., M]`; -inf leaves a component out.
    """

    has_rsample = True

    def __init__(self, components: DiagonalNormal, log_weights: Tensor) -> None:
        self.components, self.mixture = components, Mixture(components, log_weights)
        super().__init__(self.mixture.batch_shape, self.mixture.event_shape)

    @property
    def mean(self) -> Tensor:
        """The mean of all components' means, by weight."""
        return self.mixture.mean

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension: within the components, and between their means."""
        return self.mixture.variance

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of the mixture in nats."""
        return self.mixture.log_prob(value, mask)

    def strata(self, count: int) -> Tensor:
        """Draw which component each of `count` draws is of, `[count, *batch]`.

        Place k is (k + u) / count with one u ~ U(0, 1) for all, and falls into the component whose share of [0, 1] it
        lies in (systematic sampling); the places are then shuffled.
        """
        edges = self.mixture.weights.double().cumsum(-1)
        edges = edges / edges[..., -1:]
        return (self._places(count)[..., None] >= edges).sum(-1)

    def _places(self, count: int) -> Tensor:
        device = self.mixture.log_weights.device
        u = torch.rand(self.batch_shape, device=device).double()
        steps = torch.arange(count, device=device).reshape(-1, *(1 for _ in self.batch_shape))
        order = torch.rand((count, *self.batch_shape), device=device).argsort(0)
        return ((steps + u) / count).gather(0, order)

    def independent(self) -> "IndependentMixture":
        """Return the mixture whose draws each choose their component alone."""
        return IndependentMixture(self.components, self.mixture.log_weights)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw `[*sample_shape, *batch, *event]`, with a path for the gradient inside of each component."""
        count, experts, dims = prod(sample_shape), self.mixture.log_weights.shape[-1], len(self.event_shape)
        shape = (*self.batch_shape, experts, *self.event_shape)
        loc, scale = (t.expand(shape).flatten(-dims) for t in (self.components.loc, self.components.scale))
        index = self.strata(count)[..., None, None]
        loc, scale = (t.expand(count, *t.shape).take_along_dim(index, -2).squeeze(-2) for t in (loc, scale))
        z = loc + scale * torch.randn_like(loc)
        return z.reshape(*sample_shape, *self.batch_shape, *self.event_shape)


class IndependentMixture(StratifiedMixture):
    """The same mixture, of which each draw chooses its component whatever the others do."""

    def _places(self, count: int) -> Tensor:
        return torch.rand((count, *self.batch_shape), device=self.mixture.log_weights.device).double()


class _Experts(Family):
    """Base of the posteriors of M normal experts; what a network gives for each ends in 1 if its data are observed."""

    support = "real"

    def __init__(self, event_shape: tuple[int, ...], experts: int) -> None:
        super().__init__()
        if not isinstance(experts, int) or not 1 <= experts <= MOST_EXPERTS:
            raise UsageError(f"the number of experts cannot be {experts}", expected=f"1 to {MOST_EXPERTS}")
        self.event_shape, self.experts, self.expert = tuple(event_shape), experts, Normal(tuple(event_shape))
        self.params = (experts, prod(self.expert.params) + 1)

    def read(self, params: Tensor) -> tuple[DiagonalNormal, Tensor]:
        """Return the experts, batch shape `[..., M]`, and which of them are observed, `[..., M]` bool."""
        return self.expert(params[..., :-1].unflatten(-1, self.expert.params)), params[..., -1] > 0.5

    def mixed(self, experts: DiagonalNormal, there: Tensor) -> StratifiedMixture:
        """Return the mixture in equal parts of those that are there, `[..., M]`; of none it is N(0, I)."""
        dims, shape = len(self.event_shape), (*there.shape[:-1], 1, *self.event_shape)
        loc, scale = (t.expand(*there.shape, *self.event_shape) for t in (experts.loc, experts.scale))
        loc, scale = (torch.cat([t, t.new_full(shape, v)], -1 - dims) for t, v in ((loc, 0.0), (scale, 1.0)))
        used = torch.cat([there, ~there.any(-1, keepdim=True)], -1)
        log_weights = torch.zeros_like(used, dtype=loc.dtype).masked_fill(~used, -torch.inf)
        return StratifiedMixture(DiagonalNormal(loc, scale, dims), log_weights)


@recorded
class ProductOfExperts(_Experts):
    r"""q(z|x) proportional to p(z) prod_m q(z|x_m) over the modalities that are observed, p(z) = N(0, I).

    Wu & Goodman 2018, arXiv 1802.05335, eq. 4 and sec. 2.2. The product of normals is one, so the KL has its closed
    form. With nothing observed it is N(0, I).

    Args:
        event_shape: shape of z.
        experts: number of modalities M.
        prior_expert: False leaves N(0, I) out of the product.

    Raises:
        UsageError: if there are fewer than 1 or more than 8 experts.

    >>> family = ProductOfExperts((1,), 2)
    >>> q = family(torch.tensor([[1.0, 0.0, 1.0], [9.0, 0.0, 0.0]]))  # mean, log variance, observed or not
    >>> round(q.mean.item(), 4), round(q.variance.item(), 4)
    (0.5, 0.5)
    """

    def __init__(self, event_shape: tuple[int, ...], experts: int, *, prior_expert: bool = True) -> None:
        super().__init__(event_shape, experts)
        self.prior_expert = prior_expert

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return the product, params `[..., M, P + 1]`."""
        experts, seen = self.read(params)
        none = torch.ones_like(seen[..., 0]) if self.prior_expert else ~seen.any(-1)
        return product(experts, seen, prior=none)


@recorded
class MixtureOfExperts(_Experts):
    r"""q(z|x) = 1/M sum_m q(z|x_m) over the modalities that are observed, with stratified draws.

    Shi et al. 2019, arXiv 1911.03393, eq. 2 and sec. 3.2. With nothing observed it is N(0, I).

    Args:
        event_shape: shape of z.
        experts: number of modalities M.

    Raises:
        UsageError: if there are fewer than 1 or more than 8 experts.

    >>> q = MixtureOfExperts((1,), 2)(torch.tensor([[1.0, 0.0, 1.0], [3.0, 0.0, 1.0]]))
    >>> q.mean.item(), q.rsample((6,)).shape
    (2.0, torch.Size([6, 1]))
    """

    factorised = False

    def forward(self, params: Tensor) -> StratifiedMixture:
        """Return the mixture, params `[..., M, P + 1]`."""
        return self.mixed(*self.read(params))


@recorded
class MixtureOfProducts(_Experts):
    r"""q(z|x) = 1/N sum_s prod_{m in s} q(z|x_m) over the N = 2^M - 1 non-empty sets s of observed modalities.

    Sutter et al. 2021, arXiv 2105.02470, eq. 6 and 7; each product is made a density. With nothing observed it is
    N(0, I).

    Args:
        event_shape: shape of z.
        experts: number of modalities M.

    Raises:
        UsageError: if there are fewer than 1 or more than 8 experts.

    >>> q = MixtureOfProducts((1,), 2)(torch.tensor([[1.0, 0.0, 1.0], [3.0, 0.0, 1.0]]))
    >>> q.mixture.components.mean[:3, 0].tolist()  # of the first, of the second, of both
    [1.0, 3.0, 2.0]
    """

    factorised = False
    members: Tensor

    def __init__(self, event_shape: tuple[int, ...], experts: int) -> None:
        super().__init__(event_shape, experts)
        sets = [s for size in range(1, experts + 1) for s in combinations(range(experts), size)]
        rows = [[float(m in s) for m in range(experts)] for s in sets]
        self.register_buffer("members", torch.tensor(rows), persistent=False)

    def forward(self, params: Tensor) -> StratifiedMixture:
        """Return the mixture, params `[..., M, P + 1]`."""
        experts, seen = self.read(params)
        dims = len(self.event_shape)
        loc, scale = (t.unsqueeze(-2 - dims) for t in (experts.loc, experts.scale))
        there = ((self.members > 0) <= seen.unsqueeze(-2)).all(-1)
        return self.mixed(product(DiagonalNormal(loc, scale, dims), self.members), there)
