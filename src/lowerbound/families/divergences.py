r"""Divergences between two normal distributions with diagonal covariances, in closed form.

Each function takes q = N(m_q, diag s_q^2) and p = N(m_p, diag s_p^2) and returns the common batch shape, summed over
dimensions. All but `hellinger` and `wasserstein_2` are in nats. BC = int sqrt(q p) is the Bhattacharyya coefficient,
the expectation E_p[sqrt(q / p)].
"""

import math

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.kl import kl_divergence
from .normal import DiagonalNormal


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""KL(q || p) = 1/2 sum [(s_q^2 + (m_q - m_p)^2) / s_p^2 - 1 - log(s_q^2 / s_p^2)] (Kullback & Leibler 1951).

    Not symmetric: KL(p || q) is `kl(p, q)`.

    Args:
        q: the distribution under which the log-ratio is averaged.
        p: the other.

    >>> q = DiagonalNormal(torch.tensor([1.0]), torch.tensor([2.0]), 1)
    >>> kl(q, DiagonalNormal(torch.zeros(1), torch.ones(1), 1)).item()  # 2 - log 2
    1.306852...
    """
    value = kl_divergence(q, p)
    assert value is not None, "it is registered beside DiagonalNormal"
    return value


def jeffreys(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""KL(q || p) + KL(p || q), which is symmetric (Jeffreys 1946).

    Args:
        q: one distribution.
        p: the other.

    >>> q, p = (DiagonalNormal(torch.tensor([m]), torch.ones(1), 1) for m in (0.0, 3.0))
    >>> jeffreys(q, p).item()
    9.0
    """
    return kl(q, p) + kl(p, q)


def renyi(q: DiagonalNormal, p: DiagonalNormal, alpha: float) -> Tensor:
    r"""D_alpha(q || p) = 1/(alpha - 1) log int q^alpha p^(1 - alpha) (Renyi 1961).

    With v = alpha s_p^2 + (1 - alpha) s_q^2 it is sum [alpha (m_q - m_p)^2 / (2 v) + log(s_p / s_q) +
    log(s_p^2 / v) / (2 (alpha - 1))] (van Erven & Harremoes 2014, arXiv 1206.2459), and +inf where a v is not
    positive: for alpha > 1 and a q that is too wide the integral diverges. alpha = 1 is its limit KL(q || p);
    alpha = 1/2 is 2 `bhattacharyya`.

    Args:
        q: the distribution with the power alpha.
        p: the other.
        alpha: the order, above 0.

    Raises:
        UsageError: if alpha is not a finite number above 0.

    >>> q = DiagonalNormal(torch.zeros(1), torch.tensor([2.0]), 1)
    >>> renyi(q, DiagonalNormal(torch.zeros(1), torch.ones(1), 1), 2.0).item()
    inf
    """
    if not 0 < alpha < math.inf:
        raise UsageError(f"the order alpha cannot be {alpha}", expected="a finite number above 0")
    if alpha == 1:
        return kl(q, p)
    mixed = alpha * p.scale.square() + (1 - alpha) * q.scale.square()
    finite = mixed > 0
    v = torch.where(finite, mixed, 1.0)
    spread = (p.scale / q.scale).log() + (p.scale.square() / v).log() / (2 * (alpha - 1))
    each = alpha * (q.loc - p.loc).square() / (2 * v) + spread
    return q._sum_events(torch.where(finite, each, math.inf))


def bhattacharyya(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""-log BC = sum [(m_q - m_p)^2 / (4 (s_q^2 + s_p^2)) + 1/2 log((s_q^2 + s_p^2) / (2 s_q s_p))].

    Bhattacharyya 1943. It is half the Renyi divergence of order 1/2, and symmetric; log p(x) - L_1/2 of the Renyi bound
    (Li & Turner 2016, arXiv 1602.02311) is twice that of q and the true posterior.

    Args:
        q: one distribution.
        p: the other.

    >>> q, p = (DiagonalNormal(torch.tensor([m]), torch.ones(1), 1) for m in (0.0, 4.0))
    >>> bhattacharyya(q, p).item()
    2.0
    """
    return 0.5 * renyi(q, p, 0.5)


def hellinger(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""sqrt(1 - BC), the Hellinger distance: a metric between 0 and 1 (Hellinger 1909).

    Args:
        q: one distribution.
        p: the other.

    >>> q, p = (DiagonalNormal(torch.tensor([m]), torch.ones(1), 1) for m in (0.0, 100.0))
    >>> hellinger(q, p).item(), hellinger(q, q).item()
    (1.0, 0.0)
    """
    return (-torch.expm1(-bhattacharyya(q, p))).clamp_min(0).sqrt()


def wasserstein_2(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""W_2 = sqrt(sum [(m_q - m_p)^2 + (s_q - s_p)^2]), in the units of z (Dowson & Landau 1982).

    Args:
        q: one distribution.
        p: the other.

    >>> q = DiagonalNormal(torch.tensor([3.0]), torch.tensor([5.0]), 1)
    >>> wasserstein_2(q, DiagonalNormal(torch.zeros(1), torch.ones(1), 1)).item()
    5.0
    """
    return q._sum_events((q.loc - p.loc).square() + (q.scale - p.scale).square()).sqrt()
