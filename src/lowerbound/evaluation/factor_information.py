"""What single dimensions of a code say of known factors, by counting: nothing is learned, so nothing is drawn."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError

BINS = 20
QUANTILE = 0.99


def mutual_information(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> Float[Tensor, "D F"]:
    r"""Return I(z_d; v_f) of each dimension, cut into equally wide bins, and each factor, `[D, F]` float64 in nats.

    I = sum_{b, v} p(b, v) log p(b, v) / (p(b) p(v)) over the rows' own shares p. Estimates from few rows are too high,
    by about (bins - 1)(values - 1) / (2 N) where z_d and v_f are independent.

    Args:
        codes: `[N, *D]`; the means of q(z|x), most often.
        factors: the number of each factor's value, `[N, F]`.
        bins: of each dimension, from its smallest to its largest value.

    Raises:
        ShapeError: if there is not one code for each row of factors.
        DataError: if a code is not finite, or a factor has one value alone.
        UsageError: if there is less than one bin.

    >>> factors = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> mutual_information(factors * 3.0, factors).round(decimals=3).tolist()
    [[0.693, 0.0], [0.0, 0.693]]
    """
    if bins < 1:
        raise UsageError(f"a dimension cannot be cut into {bins} bins", expected="1 or more")
    z, v = checked(codes, factors, least=1)
    dims = z.shape[1]
    place = _binned(z, bins) + bins * np.arange(dims)
    found = np.empty((dims, v.shape[1]))
    for f, values in enumerate(v.T):
        size = values.max() + 1
        counts = np.bincount((place * size + values[:, None]).ravel(), minlength=dims * bins * size)
        found[:, f] = _information(counts.reshape(dims, bins, size) / len(z))
    return torch.from_numpy(found)


def mig(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> float:
    """Return the mutual information gap, between 0 and 1: by how much one dimension says more of a factor than others.

    MIG = 1/F sum_f (I(z_(1); v_f) - I(z_(2); v_f)) / H(v_f), with z_(1) and z_(2) the dimensions that say most and
    second most of v_f (Chen et al. 2018, arXiv 1802.04942, eq. 6), counted in bins of the codes as by Locatello et al.
    2019, arXiv 1811.12359, appendix B.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        bins: of each dimension.

    Raises:
        ShapeError: if there is not one code for each row of factors, or a code has one dimension alone.
        DataError: if a code is not finite, or a factor has one value alone.
        UsageError: if there is less than one bin.

    >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    >>> round(mig(factors.float(), factors), 6)
    1.0
    >>> round(mig(factors.float()[:, [0, 1, 1]], factors), 6)  # another dimension says as much of the second
    0.5
    """
    _, v = checked(codes, factors)
    share = mutual_information(codes, factors, bins=bins).numpy() / _entropies(v)
    return top_gap(share)


def modularity(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> float:
    """Return the modularity, between 0 and 1: how nearly each dimension says something of one factor alone.

    1/D sum_d [1 - sum_{f != f_d} I(z_d; v_f)^2 / (I(z_d; v_{f_d})^2 (F - 1))], with f_d the factor that z_d says most
    of; a dimension that says nothing counts 0 (Ridgeway & Mozer 2018, arXiv 1802.05312, eq. 2). It asks nothing of how
    a factor is spread over dimensions, and a dimension of noise says equally little of all.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`, two factors or more.
        bins: of each dimension.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, or a factor has one value alone.
        UsageError: if there is less than one bin.

    >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    >>> round(modularity(factors.float()[:, [0, 1, 1]], factors), 6)
    1.0
    """
    checked(codes, factors)
    squares = mutual_information(codes, factors, bins=bins).numpy() ** 2
    most = squares.max(1)
    rest = (squares.sum(1) - most) / (np.where(most > 0, most, 1) * (squares.shape[1] - 1))
    return float(np.where(most > 0, 1 - rest, 0).mean())


def irs(codes: Tensor, factors: Tensor, *, quantile: float = QUANTILE) -> float:
    """Return the interventional robustness score, between 0 and 1: whether a dimension stays where its factor stays.

    Of each dimension d and factor f, r_df = 1 - E_v Q(|z_d - E[z_d | v_f = v]| given v_f = v) / max |z_d - E z_d|, with
    Q the 99 % quantile; the score is the mean of max_f r_df weighted by max |z_d - E z_d| (Suter et al. 2019, arXiv
    1811.00007, sec. 4, where Q is the maximum). Constant dimensions are left out; 0 if there is no other.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        quantile: 1 gives the paper's maximum.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, or a factor has one value alone.
        UsageError: if the quantile is none.

    >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    >>> round(irs(factors.float(), factors), 6)
    1.0
    """
    if not 0 < quantile <= 1:
        raise UsageError(f"the quantile cannot be {quantile}", expected="above 0, at most 1")
    z, v = checked(codes, factors)
    z = z[:, z.max(0) > z.min(0)]
    if not z.shape[1]:
        return 0.0
    largest = abs(z - z.mean(0)).max(0)
    stays = np.stack([1 - _spread(z, values, quantile) / largest for values in v.T], 1)
    return float(np.average(stays.max(1), weights=largest))


def top_gap(shares: np.ndarray) -> float:
    """Return the mean over the columns of the largest value less the second largest, of values `[D, F]`."""
    ordered = np.sort(shares, 0)
    return float((ordered[-1] - ordered[-2]).mean())


def checked(codes: Tensor, factors: Tensor, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return codes `[N, D]` as float64, and the factors with their values numbered 0, 1, ... `[N, F]`.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        least: how many dimensions and factors there must be.

    Raises:
        ShapeError: if there is not one code for each row of factors, or there are fewer dimensions or factors.
        DataError: if a code is not finite, or a factor has one value alone.
    """
    if factors.ndim != 2 or codes.ndim < 2 or len(codes) != len(factors):
        raise ShapeError(
            f"codes {list(codes.shape)} and factors {list(factors.shape)} do not go together",
            expected="[N, D] and [N, F]",
        )
    z, v = codes.detach().cpu().flatten(1).double().numpy(), factors.detach().cpu().numpy()
    for what, size in (("dimensions", z.shape[1]), ("factors", v.shape[1])):
        if size < least:
            raise ShapeError(f"codes were given with {size} {what}", expected=f"at least {least}")
    bad = int((~np.isfinite(z)).any(1).sum())
    if bad:
        raise DataError(f"{bad} of {len(z)} codes have a value that is not finite")
    numbered = [np.unique(values, return_inverse=True)[1] for values in v.T]
    fixed = [f for f, values in enumerate(numbered) if not len(values) or values.max() == 0]
    if fixed:
        raise DataError(f"factor {fixed[0]} has the same value in all {len(v)} rows", expected="two values or more")
    return z, np.stack(numbered, 1)


def _binned(z: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of each value's bin, `[N, D]`."""
    edges = [np.histogram_bin_edges(column, bins)[1:-1] for column in z.T]
    return np.stack([np.searchsorted(e, column, side="right") for e, column in zip(edges, z.T, strict=True)], 1)


def _information(joint: np.ndarray) -> np.ndarray:
    """Return the mutual information in nats of joint shares `[D, A, B]`, `[D]`."""
    apart = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    ratio = np.divide(joint, apart, out=np.ones_like(joint), where=joint > 0)
    return np.maximum((joint * np.log(ratio)).sum((1, 2)), 0)


def _entropies(v: np.ndarray) -> np.ndarray:
    """Return the entropy of each factor in nats, `[F]`."""
    shares = [np.bincount(values) / len(values) for values in v.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def _spread(z: np.ndarray, values: np.ndarray, quantile: float) -> np.ndarray:
    """Return E_v of the quantile of |z_d - E[z_d | v]| given v, each v counted once, `[D]`."""
    groups = np.split(z[values.argsort(kind="stable")], np.bincount(values).cumsum()[:-1])
    return np.mean([np.quantile(abs(group - group.mean(0)), quantile, 0) for group in groups], 0)
