"""Normal distributions with a covariance: a Cholesky factor from the network, or a diagonal plus a few directions."""

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.errors import UsageError
from ..core.kl import register_kl
from ..core.model import Family
from ..core.record import recorded
from .normal import LOG_2PI, LOG_VARIANCE_CAP, DiagonalNormal, _log_above, _scale_from_log_variance


class _Correlated(Distribution):
    """Base of normals over a flattened event of D values, with location `loc` `[..., D]`."""

    has_rsample = True

    def __init__(self, loc: Tensor, event_shape: tuple[int, ...]) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], Size(event_shape))

    def _flat(self, value: Tensor) -> Tensor:
        return value.flatten(value.ndim - len(self.event_shape))

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, self.event_shape)

    @property
    def mean(self) -> Tensor:
        """The mean, which is also the mode."""
        return self._shaped(self.loc)

    def _noise(self, sample_shape: Sizes, size: int) -> Tensor:
        shape = (*sample_shape, *self.batch_shape, size)
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def _log_prob(self, apart: Tensor) -> Tensor:
        """Return the log-density at loc + apart, `[..., D]` flat."""
        raise NotImplementedError

    def _marginal(self, observed: Tensor) -> "_Correlated":
        """Return the distribution in which cells that are not observed are N(., 1) and independent."""
        raise NotImplementedError

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of `value` in nats; with a mask, that of the observed cells, the others integrated out."""
        if mask is None:
            return self._log_prob(self._flat(value) - self.loc)
        observed = self._flat(mask).bool()
        apart = torch.where(observed, self._flat(value), self.loc) - self.loc
        free = 0.5 * LOG_2PI * (~observed).to(apart.dtype).sum(-1)
        return self._marginal(observed)._log_prob(apart) + free


class CholeskyNormal(_Correlated):
    """N(loc, L L^T) with L `[..., D, D]` lower triangular; the event may have any shape of D values."""

    def __init__(self, loc: Tensor, factor: Tensor, event_shape: tuple[int, ...]) -> None:
        self.factor = factor
        super().__init__(loc, event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension, the diagonal of L L^T."""
        return self._shaped(self.factor.square().sum(-1))

    @property
    def log_det(self) -> Tensor:
        """Log of the determinant of the covariance."""
        return 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw loc + L eps, eps ~ N(0, I): a path for the gradient."""
        eps = self._noise(sample_shape, self.loc.shape[-1])
        return self._shaped(self.loc + (self.factor @ eps[..., None])[..., 0])

    def _log_prob(self, apart: Tensor) -> Tensor:
        whitened = solved(self.factor, apart)
        return -0.5 * (whitened.square().sum(-1) + self.log_det + apart.shape[-1] * LOG_2PI)

    def _marginal(self, observed: Tensor) -> "CholeskyNormal":
        rows = self.factor * observed[..., None]
        free = torch.diag_embed((~observed).to(rows.dtype)).expand_as(rows)
        # the triangle of A^T = Q R is the factor of A A^T, whose small pivots squares would lose
        triangle = torch.linalg.qr(torch.cat([rows, free], -1).mT).R
        signs = torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(rows.dtype)
        return CholeskyNormal(self.loc, triangle.mT * signs[..., None, :], self.event_shape)

    def entropy(self) -> Tensor:
        """The entropy in nats."""
        return 0.5 * (self.log_det + self.loc.shape[-1] * (1 + LOG_2PI))


class DiagonalPlusNormal(_Correlated):
    """N(loc, diag(scale^2) + V V^T), V `[..., D, R]`; costs D R^2, by the identity of Woodbury."""

    def __init__(self, loc: Tensor, scale: Tensor, directions: Tensor, event_shape: tuple[int, ...]) -> None:
        self.scale, self.directions = scale, directions
        super().__init__(loc, event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension."""
        return self._shaped(self.scale.square() + self.directions.square().sum(-1))

    def _parted(self) -> tuple[Tensor, Tensor]:
        """Return Q `[..., D + R, R]` and R of the matrix W over I, W = V / scale: R^T R = I + W^T W.

        A Cholesky factor of I + W^T W would need its digits, of which squares of a large W leave none.
        """
        scaled = self.directions / self.scale[..., None]
        one = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
        return torch.linalg.qr(torch.cat([scaled, one.expand(*scaled.shape[:-2], *one.shape)], -2))

    def _log_det(self, triangle: Tensor) -> Tensor:
        return 2 * (triangle.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) + self.scale.log().sum(-1))

    @property
    def log_det(self) -> Tensor:
        """Log of the determinant of the covariance: log|I + W^T W| + sum log scale^2."""
        return self._log_det(self._parted()[1])

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw loc + scale eps + V eps', eps, eps' ~ N(0, I): a path for the gradient."""
        own = self.scale * self._noise(sample_shape, self.loc.shape[-1])
        common = (self.directions @ self._noise(sample_shape, self.directions.shape[-1])[..., None])[..., 0]
        return self._shaped(self.loc + own + common)

    def _log_prob(self, apart: Tensor) -> Tensor:
        # u^T (I + W W^T)^-1 u = min_y |u - W y|^2 + |y|^2, what Q leaves of (u, 0): a sum of squares loses no digits
        across, triangle = self._parted()
        u = F.pad(apart / self.scale, (0, triangle.shape[-1]))[..., None]
        square = (u - across @ (across.mT @ u)).square().sum((-2, -1))
        return -0.5 * (square + self._log_det(triangle) + apart.shape[-1] * LOG_2PI)

    def _marginal(self, observed: Tensor) -> "DiagonalPlusNormal":
        scale = torch.where(observed, self.scale, 1.0)
        return DiagonalPlusNormal(self.loc, scale, self.directions * observed[..., None], self.event_shape)

    def entropy(self) -> Tensor:
        """The entropy in nats."""
        return 0.5 * (self.log_det + self.loc.shape[-1] * (1 + LOG_2PI))


def solved(triangle: Tensor, right: Tensor) -> Tensor:
    """Return triangle^-1 right of a lower triangle for vectors `[..., D]`, leading axes broadcast."""
    return torch.linalg.solve_triangular(triangle, right[..., None], upper=False)[..., 0]


def _kl_to_diagonal(q: CholeskyNormal | DiagonalPlusNormal, p: DiagonalNormal) -> Tensor:
    # 1/2 [sum (Sigma_dd + (m_q - m_p)^2) / s_p^2 - D + sum log s_p^2 - log|Sigma|]
    scale = p.scale.expand(p.mean.shape)
    square = (q.variance + (q.mean - p.mean).square()) / scale.square() - 1 + 2 * scale.log()
    return 0.5 * (q._sum_events(square) - q.log_det)


@register_kl(CholeskyNormal, DiagonalNormal)
def _kl_cholesky_diagonal(q: CholeskyNormal, p: DiagonalNormal) -> Tensor:
    return _kl_to_diagonal(q, p)


@register_kl(DiagonalPlusNormal, DiagonalNormal)
def _kl_plus_diagonal(q: DiagonalPlusNormal, p: DiagonalNormal) -> Tensor:
    return _kl_to_diagonal(q, p)


@register_kl(CholeskyNormal, CholeskyNormal)
def _kl_cholesky_cholesky(q: CholeskyNormal, p: CholeskyNormal) -> Tensor:
    # 1/2 [|L_p^-1 L_q|_F^2 + |L_p^-1 (m_p - m_q)|^2 - D + log|Sigma_p| - log|Sigma_q|]
    ratio = torch.linalg.solve_triangular(p.factor, q.factor, upper=False).square().sum((-2, -1))
    shift = solved(p.factor, p.loc - q.loc).square().sum(-1)
    return 0.5 * (ratio + shift - q.loc.shape[-1] + p.log_det - q.log_det)


class _CorrelatedFamily(Family):
    support = "real"
    factorised = False

    def __init__(self, event_shape: tuple[int, ...], floor: float) -> None:
        super().__init__()
        if not 0 < floor < float("inf"):
            raise UsageError(f"the floor cannot be {floor}", expected="a finite number above 0")
        self.event_shape, self.floor = tuple(event_shape), floor
        self.size = Size(self.event_shape).numel()


@recorded
class FullNormal(_CorrelatedFamily):
    r"""N(mu, L L^T) with mu and the lower triangular L from a network; softplus keeps the diagonal of L positive.

    Kingma & Welling 2019, "An Introduction to Variational Autoencoders", arXiv 1906.02691, sec. 2.5.1: as a posterior
    z = mu + L eps, log q(z|x) = -|eps|^2/2 - D/2 log 2 pi - sum log L_dd. Below the diagonal L_dj = L_dd h_dj / D:
    with the network's h itself, the inverse of L would grow exponentially with D. A masked cell is integrated out
    exactly.

    Args:
        event_shape: shape of one event, of D values in all.
        floor: the diagonal of L is never below this.

    Raises:
        UsageError: if floor is not positive.

    >>> FullNormal((3,)).params  # 3 means, 6 entries of L
    (9,)
    >>> FullNormal((3,))(torch.zeros(4, 9)).rsample((2,)).shape
    torch.Size([2, 4, 3])
    """

    entries: Tensor

    def __init__(self, event_shape: tuple[int, ...], floor: float = 1e-4) -> None:
        super().__init__(event_shape, floor)
        below = self.size * (self.size - 1) // 2
        self.params = (2 * self.size + below,)
        # where each entry of L is in (0, the raw values below the diagonal): row by row
        entries = torch.zeros(self.size, self.size, dtype=torch.long)
        rows, columns = torch.tril_indices(self.size, self.size, -1)
        entries[rows, columns] = torch.arange(1, below + 1)
        self.register_buffer("entries", entries.flatten(), persistent=False)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and the diagonal L that has the data's variances."""
        above = (variance.sqrt() - self.floor).clamp_min(self.floor).flatten()
        raw = above + torch.log(-torch.expm1(-above))
        return torch.cat([mean.flatten(), raw, mean.new_zeros(self.params[0] - 2 * self.size)])

    def forward(self, params: Tensor) -> CholeskyNormal:
        """Return N(mu, L L^T), params `[..., D + D + D (D - 1) / 2]`."""
        loc, raw, below = wide(params).split([self.size, self.size, self.params[0] - 2 * self.size], -1)
        lower = F.pad(below, (1, 0)).index_select(-1, self.entries).unflatten(-1, (self.size, self.size))
        diagonal = F.softplus(raw) + self.floor
        factor = diagonal[..., None] * (lower / self.size) + torch.diag_embed(diagonal)
        return CholeskyNormal(loc, factor, self.event_shape)


@recorded
class LowRankNormal(_CorrelatedFamily):
    r"""N(mu, diag(sigma^2) + V V^T) with a few directions V: correlations at a cost that is linear in D.

    sigma^2 = floor^2 + exp(h). The low-rank posterior of Rezende et al. 2014, arXiv 1401.4082, written for
    the covariance (there for the precision); density by the identity of Woodbury.

    Args:
        event_shape: shape of one event, of D values in all.
        rank: number of directions.
        floor: no sigma is below this.

    Raises:
        UsageError: if rank is below 1 or floor is not positive.

    >>> LowRankNormal((3,), rank=2).params
    (4, 3)
    """

    def __init__(self, event_shape: tuple[int, ...], rank: int = 2, floor: float = 1e-3) -> None:
        super().__init__(event_shape, floor)
        if not isinstance(rank, int) or rank < 1:
            raise UsageError(f"the rank cannot be {rank}", expected="a whole number above 0")
        self.rank = rank
        self.params = (2 + rank, *self.event_shape)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean and sigma^2 at the data's variance, without directions."""
        return torch.stack([mean, _log_above(variance, self.floor), *[torch.zeros_like(mean)] * self.rank])

    def forward(self, params: Tensor) -> DiagonalPlusNormal:
        """Return N(mu, diag(sigma^2) + V V^T), params `[..., 2 + rank, *event]`."""
        flat = wide(params).flatten(params.ndim - len(self.event_shape))
        loc, raw, directions = flat[..., 0, :], flat[..., 1, :], flat[..., 2:, :].mT
        capped = LOG_VARIANCE_CAP - F.softplus(LOG_VARIANCE_CAP - raw)
        return DiagonalPlusNormal(loc, _scale_from_log_variance(capped, self.floor), directions, self.event_shape)
