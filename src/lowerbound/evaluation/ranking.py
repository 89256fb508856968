"""How well one number tells two groups of rows apart: area under the ROC curve, average precision, false alarms."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError
from ..core.noise import Stream, generator

NORMAL_95 = 1.959963984540054  # 97.5% point of the standard normal distribution
TAIL = 0.025  # beyond either end of a 95 % interval
_DRAWS = 1 << 20  # rows drawn at once


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval.

    Args:
        value: the number.
        low: lower end of the interval; None where the rows tell too little for one.
        high: its upper end.
        se: standard error.
    """

    value: float
    low: float | None = None
    high: float | None = None
    se: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        spread = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{spread}"


@dataclass(frozen=True)
class Ranking:
    """How well a score puts outside rows above inside ones.

    Args:
        auroc: chance that a row from outside scores higher than one from inside, equal scores counting half.
        auprc: average precision in finding the rows from outside.
        fpr95: share of the inside rows that are flagged where at least 95 % of the outside ones are.
        chance: the average precision of a score that says nothing: the share of the outside rows.
        inside: how many rows there are inside.
        outside: how many there are outside.
    """

    auroc: Interval
    auprc: Interval
    fpr95: float
    chance: float
    inside: int
    outside: int

    def to_json(self) -> dict[str, Any]:
        """Return the ranking as JSON."""
        return {**vars(self), "auroc": self.auroc.to_json(), "auprc": self.auprc.to_json()}


def ranking(inside: Tensor, outside: Tensor, *, resamples: int = 1000, seed: int = 0) -> Ranking:
    """Return how well scores put outside rows, which should be higher, above inside ones.

    Args:
        inside: scores of the usual rows `[N]`.
        outside: scores of the unusual ones `[M]`.
        resamples: how many bootstrap samples the interval of the average precision is made of.
        seed: decides which.

    Raises:
        ShapeError: if scores are not one number for each row.
        DataError: if a group is empty, or a score is NaN.
        UsageError: if there are fewer than 2 resamples.

    >>> found = ranking(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.5, 4.0]), resamples=10)
    >>> round(found.auroc.value, 3), round(found.auprc.value, 3), round(found.fpr95, 3)
    (0.833, 0.833, 0.333)
    """
    groups = _Groups.of(inside, outside)
    true, false = groups.counted()
    enough = (true / groups.outside >= 0.95).int().argmax()
    return Ranking(
        auroc=auroc(inside, outside),
        auprc=auprc(inside, outside, resamples=resamples, seed=seed),
        fpr95=float(false[enough]) / groups.inside,
        chance=groups.outside / (groups.inside + groups.outside),
        inside=groups.inside,
        outside=groups.outside,
    )


def auroc(inside: Tensor, outside: Tensor) -> Interval:
    r"""Return the area under the ROC curve with its 95 % interval.

    A = 1/(N M) sum_ij [o_j > i_i] + 1/2 [o_j = i_i]. Its variance is that of DeLong, DeLong & Clarke-Pearson 1988
    (Biometrics 44): Var_j(V_j) / M + Var_i(W_i) / N, with V_j the share of inside rows below o_j and W_i that of
    outside rows above i_i, here by midranks (Sun & Xu 2014, IEEE Signal Processing Letters 21). The interval is
    symmetric for log A / (1 - A), so that it stays between 0 and 1. Where all pairs are in order, A = 1, the variance
    is 0 and says nothing; then the lower end is 0.025^(1 / min(N, M)), since that many pairs without a common row
    would all be in order with probability A^min(N, M); and likewise for A = 0.

    Args:
        inside: scores of the usual rows `[N]`.
        outside: scores of the unusual ones `[M]`.

    Raises:
        ShapeError: if scores are not one number for each row.
        DataError: if a group is empty, or a score is NaN.

    >>> print(auroc(torch.arange(0.0, 40.0), torch.arange(20.0, 60.0)))
    0.875 (0.784 to 0.931)
    """
    groups = _Groups.of(inside, outside)
    n, m = groups.inside, groups.outside
    rank_all, rank_in, rank_out = (_midranks(c) for c in (groups.inner + groups.outer, groups.inner, groups.outer))
    above = (rank_all - rank_out) / n  # of each group of ties: the share of inside rows below its outside rows
    below = 1 - (rank_all - rank_in) / m
    value = float((groups.outer * above).sum() / m)
    if value in (0.0, 1.0):
        end = TAIL ** (1 / min(n, m))
        return Interval(value, end, 1.0) if value else Interval(value, 0.0, 1 - end)
    if min(n, m) < 2:
        return Interval(value)
    se = math.sqrt(_variance(above, groups.outer) / m + _variance(below, groups.inner) / n)
    if not se:  # all scores are equal
        return Interval(value)
    middle, width = math.log(value / (1 - value)), NORMAL_95 * se / (value * (1 - value))
    return Interval(value, _logistic(middle - width), _logistic(middle + width), se)


def auprc(inside: Tensor, outside: Tensor, *, resamples: int = 1000, seed: int = 0) -> Interval:
    r"""Return the average precision in finding outside rows, with the 95 % interval of a stratified bootstrap.

    AP = sum_k (R_k - R_{k-1}) P_k over the thresholds k from the highest score down, P_k the precision and R_k the
    recall of flagging all scores from there up; rows of equal scores are flagged together. Rows are drawn with
    replacement within each group, so that the share of outside rows, which AP depends on, stays as it is; the
    interval goes from the 2.5 % to the 97.5 % quantile (Boyd, Eng & Page 2013, ECML PKDD, compare such intervals).
    Where every outside row is above every inside one, AP = 1, so are all redrawn ones: there is no interval.

    Args:
        inside: scores of the usual rows `[N]`.
        outside: scores of the unusual ones `[M]`.
        resamples: how many bootstrap samples are drawn.
        seed: decides which.

    Raises:
        ShapeError: if scores are not one number for each row.
        DataError: if a group is empty, or a score is NaN.
        UsageError: if there are fewer than 2 resamples.

    >>> found = auprc(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0]), resamples=50)
    >>> round(found.value, 3)  # precision 1 at the first, 2 of 3 at the second
    0.833
    """
    if not isinstance(resamples, int) or resamples < 2:
        raise UsageError(f"a bootstrap cannot have {resamples} samples", expected="a whole number above 1")
    groups = _Groups.of(inside, outside)
    value = float(_average_precision(groups.outer[None], groups.inner[None])[0])
    if min(groups.inside, groups.outside) < 2 or value == 1:
        return Interval(value)
    draws, found = generator(Stream.EVALUATION, seed), []
    at_once = max(1, _DRAWS // (groups.inside + groups.outside))
    for start in range(0, resamples, at_once):
        num = min(at_once, resamples - start)
        found.append(_average_precision(*(_redrawn(c, num, draws) for c in (groups.outer, groups.inner))))
    values = torch.cat(found)
    low, high = values.quantile(torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64)).tolist()
    return Interval(value, low, high, float(values.std()))


class _Groups(NamedTuple):
    """The rows by their scores: how many of each group have the k-th highest score, `[G]` float64 each."""

    inner: Tensor
    outer: Tensor

    @classmethod
    def of(cls, inside: Tensor, outside: Tensor) -> "_Groups":
        for name, scores in (("inside", inside), ("outside", outside)):
            if scores.ndim != 1:
                raise ShapeError(f"scores of shape {tuple(scores.shape)} were given", expected="[rows]")
            if not len(scores):
                raise DataError(f"there are no {name} rows: one class alone cannot be ranked", expected="at least 1")
            bad = int(scores.isnan().sum())
            if bad:
                raise DataError(f"{bad} of {len(scores)} {name} rows have a score that is no number")
        pooled = torch.cat([inside, outside]).detach().cpu().double()
        values, place = pooled.unique(return_inverse=True)
        place = len(values) - 1 - place
        parts = place.split([len(inside), len(outside)])
        return cls(*(torch.bincount(part, minlength=len(values)).double() for part in parts))

    @property
    def inside(self) -> int:
        return int(self.inner.sum())

    @property
    def outside(self) -> int:
        return int(self.outer.sum())

    def counted(self) -> tuple[Tensor, Tensor]:
        """Return how many outside and how many inside rows are flagged at each threshold, from the highest down."""
        return self.outer.cumsum(0), self.inner.cumsum(0)


def _midranks(counts: Tensor) -> Tensor:
    """Return the mean rank, from the lowest score up, of a row at each score: rows below, and half of its equals."""
    return counts.flip(0).cumsum(0).flip(0) - counts / 2


def _variance(values: Tensor, counts: Tensor) -> float:
    """Return the unbiased variance of values that occur so many times."""
    num = counts.sum()
    mean = (counts * values).sum() / num
    return float((counts * (values - mean).square()).sum() / (num - 1))


def _average_precision(true: Tensor, false: Tensor) -> Tensor:
    """Return the average precision `[B]` of counts `[B, G]` from the highest score down."""
    flagged_true = true.cumsum(1)
    flagged = flagged_true + false.cumsum(1)
    return (true * flagged_true / flagged.clamp_min(1)).sum(1) / true.sum(1)


def _redrawn(counts: Tensor, num: int, draws: torch.Generator) -> Tensor:
    """Return the counts `[num, G]` of as many rows drawn with replacement."""
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts.long())
    picked = rows[torch.randint(len(rows), (num, len(rows)), generator=draws)]
    places = picked + len(counts) * torch.arange(num)[:, None]
    return torch.bincount(places.flatten(), minlength=num * len(counts)).view(num, -1).double()


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
