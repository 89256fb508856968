"""How far importance weights can be trusted: the shape of their largest ones, and how many draws they are worth."""

import math

import torch
from torch import Tensor

LEAST_TAIL = 5  # fewer weights say nothing of a tail
ROUNDED, ALIKE = 256 * torch.finfo(torch.float32).eps, 0.01  # of |log w|, and nats: a tail that narrow is flat


def tail_size(num_samples: int) -> int:
    """Return how many of K weights are their tail: min(K / 5, 3 sqrt(K)), rounded up.

    Vehtari et al. 2024, "Pareto Smoothed Importance Sampling", arXiv 1507.02646, sec. 3.

    >>> tail_size(100), tail_size(10_000)
    (20, 300)
    """
    return math.ceil(min(0.2 * num_samples, 3 * math.sqrt(num_samples)))


def largest_shape(num_samples: int) -> float:
    """Return the shape above which K samples are too few: min(1 - 1 / log10 K, 0.7).

    Vehtari et al. 2024, arXiv 1507.02646, sec. 3: a larger shape needs more samples, and above 0.7 impractically many.

    >>> largest_shape(100), largest_shape(1_000_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf


def pareto_shape(largest: Tensor) -> Tensor:
    r"""Return k-hat of each column: the shape of a generalised Pareto law fitted to the tail of the weights, `[N]`.

    The tail are the weights above a threshold u, which is the next largest weight; their excess w - u is fitted by the
    estimator of Zhang & Stephens 2009 ("A New and Efficient Estimation Method for the Generalized Pareto Distribution",
    Technometrics 51, eq. 6-8), drawn a little towards 1/2 as by ten further weights (Vehtari et al. 2024, arXiv
    1507.02646, appendix C). Weights have a finite variance if the shape is below 1/2, a finite mean if it is below 1.
    Weights within 1 % of each other that are equal but for the rounding of their logs to single precision have no tail
    and the shape 0.

    Args:
        largest: the logs of the T + 1 largest weights of each example, in any order, `[T + 1, N]`; NaN comes out if T
            is below 5.

    >>> shape = 0.6
    >>> quantiles = (torch.arange(1000.0, dtype=torch.float64) + 0.5) / 1000
    >>> weights = ((1 - quantiles) ** -shape - 1) / shape  # of a generalised Pareto law
    >>> logs = torch.cat([torch.full((1,), -99.0), weights.log()])  # and one weight that is next to nothing
    >>> abs(pareto_shape(logs[:, None]).item() - shape) < 0.02
    True
    """
    ordered = largest.double().sort(0).values
    scaled = (ordered - ordered[-1]).exp()
    excess = (scaled[1:] - scaled[0]).clamp_min(torch.finfo(torch.float64).tiny)  # [T, N], ascending
    size = len(excess)
    if size < LEAST_TAIL:
        return torch.full((largest.shape[1],), math.nan, dtype=torch.float64)
    # where rounding of log w to single precision leaves few values in the tail, many equal the threshold
    level = ordered[-1] - ordered[0] <= (ROUNDED * ordered[-1].abs()).clamp(1e-12, ALIKE)
    excess = torch.where(level, torch.linspace(0.5, 1.0, size, dtype=torch.float64)[:, None].to(excess), excess)
    shape = (_zhang_stephens(excess) * size + 0.5 * 10) / (size + 10)
    return torch.where(level, 0.0, shape)


def _zhang_stephens(excess: Tensor) -> Tensor:
    """Return the shape of each column of ordered excesses `[T, N]`, averaged over candidates by profile likelihood."""
    size = len(excess)
    count = 30 + math.isqrt(size)
    place = torch.arange(1, count + 1, dtype=torch.float64, device=excess.device)[:, None]
    quartile = excess[int(size / 4 + 0.5) - 1]
    candidates = 1 / excess[-1] + (1 - (count / (place - 0.5)).sqrt()) / (3 * quartile)  # [J, N]
    shapes = torch.stack([torch.log1p(-candidate * excess).mean(0) for candidate in candidates])
    profile = size * ((-candidates / shapes).log() - shapes - 1)
    best = (candidates * torch.softmax(profile, 0)).sum(0)
    return torch.log1p(-best * excess).mean(0)
