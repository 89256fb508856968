"""Whether samples are copies of training rows: distances to the nearest ones, against those of held-out rows."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError

CERTAIN = 5.0  # standard deviations: one in 3 million by chance
CANDIDATES = 8  # nearest rows by a quick product that are measured exactly; ties are counted up to so many
_CHUNK = 4096  # reference rows at once
_BLOCK = 500  # rows at once


@dataclass(frozen=True)
class Neighbours:
    """The nearest reference row of each row.

    Args:
        distance: Euclidean, `[M]` float64.
        nearest: which reference row, `[M]`; the first of several that are equally near.
        ties: how many are equally near, 8 at most, `[M]`.
    """

    distance: Tensor
    nearest: Tensor
    ties: Tensor


@dataclass(frozen=True)
class Memorisation:
    """Distances of samples to their nearest training rows, and two tests of whether they are copies.

    Args:
        distance: of each sample, `[M]` float64 in the unit of the rows.
        nearest: its nearest training row, `[M]`.
        held_out: distance of each held-out row to its nearest training row, `[H]`.
        copies: share of the samples at distance 0.
        held_out_copies: share of the held-out rows at distance 0: rows that the data repeat.
        share: a share of the held-out rows, 0.05.
        nearer: share of the samples that lie nearer to a training row than that share of the held-out rows.
        nearer_p: probability of so many or more, if samples and held-out rows have one distribution; exact.
        nearer_z: standard deviations by which distances of samples are larger than those of held-out rows; far below 0
            they are nearer.
        seen: share of the samples whose nearest row, of training and held-out rows together, is a training row.
        seen_expected: its expectation, if training has made no difference: the share of the training rows.
        seen_z: standard deviations by which `seen` is above that.
        most_z: what `seen_z` would be if `seen` were 1: below 5, there are too few rows to tell.
    """

    distance: Tensor
    nearest: Tensor
    held_out: Tensor
    copies: float
    held_out_copies: float
    share: float
    nearer: float
    nearer_p: float
    nearer_z: float
    seen: float
    seen_expected: float
    seen_z: float
    most_z: float

    @property
    def copied(self) -> bool:
        """True if training rows are nearer to samples than as many other real rows would be, by five deviations."""
        return self.seen_z > CERTAIN

    @property
    def verdict(self) -> str:
        """What the two tests say together."""
        if self.copied:
            return "samples copy training rows: these are nearer to them than rows of the data that were not trained on"
        if self.nearer_z < -CERTAIN and self.most_z < CERTAIN:
            return "samples lie nearer to training rows than held-out rows do; too few to tell whether they copy"
        if self.nearer_z < -CERTAIN:
            return "samples lie near to the data, but no nearer to the rows trained on than to others: no copies"
        return "no sign that samples copy training rows"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, with medians in place of the distances."""
        tensors = ("distance", "nearest", "held_out")
        numbers = {k: v for k, v in vars(self).items() if k not in tensors}
        medians = {"median_distance": _median(self.distance), "held_out_median_distance": _median(self.held_out)}
        return {"n": len(self.distance), **medians, **numbers, "copied": self.copied, "verdict": self.verdict}

    def __str__(self) -> str:
        ours, theirs = _median(self.distance), _median(self.held_out)
        return "\n".join(
            [
                f"nearest row    {ours:.3f} away, of held-out rows {theirs:.3f} (medians; z = {self.nearer_z:+.1f})",
                f"  copies       {self.copies:.2%} at distance 0, of held-out rows {self.held_out_copies:.2%}",
                f"  nearer       {self.nearer:.2%} than the nearest {self.share:.0%} of held-out rows "
                f"(p = {self.nearer_p:.2g})",
                f"  trained on   {self.seen:.2%} of the rows nearest to samples, {self.seen_expected:.2%} of all "
                f"(z = {self.seen_z:+.1f})",
                self.verdict,
            ]
        )


def memorisation(samples: Tensor, train: Tensor, held_out: Tensor, *, share: float = 0.05) -> Memorisation:
    r"""Compare the distances of samples to their nearest training rows with those of rows that were not trained on.

    Let d(x) be the distance of x to its nearest training row. `nearer` is the share of samples whose d is below the
    5 % quantile of held-out rows' d, and `nearer_z` the Mann-Whitney statistic of all d, over its standard deviation:
    Z_U of Meehan et al. 2020, arXiv 2004.05675, sec. 3, in one cell instead of many. Both also see samples that are
    merely smoother or simpler than the data, which are nearer to every row. `seen` does not: it takes the nearest of
    training and held-out rows together and asks whether it is a training row. If training made no difference, the N
    training rows are a random choice of all P = N + H, and the number of samples, c_j for row j, that are nearest to
    training rows has mean M N / P and variance N H / (P (P - 1)) sum_j (c_j - M / P)^2. Rows that are equally near
    share a sample.

    Args:
        samples: `[M, *event]`.
        train: the training rows, all of them, `[N, *event]`.
        held_out: rows of the same distribution that were not trained on, `[H, *event]`.
        share: of the held-out rows, for `nearer`.

    Raises:
        ShapeError: if the rows differ in size.
        DataError: if one has fewer than 2 rows, or a value is not finite.
        UsageError: if the share is no share.

    >>> rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    >>> memorisation(rows[:100], rows[:200], rows[200:]).copied  # samples that are training rows
    True
    """
    if not 0 < share < 1:
        raise UsageError(f"the share of held-out rows cannot be {share}", expected="above 0 and below 1")
    for name, rows in (("samples", samples), ("training rows", train), ("held-out rows", held_out)):
        if len(rows) < 2:
            raise DataError(f"{len(rows)} {name} were given", expected="at least 2")
    ours, theirs, others = nearest_rows(samples, train), nearest_rows(held_out, train), nearest_rows(samples, held_out)
    rank = math.ceil(share * len(held_out))
    limit = theirs.distance.sort().values[rank - 1]
    below = int((ours.distance < limit).sum())
    seen, seen_z, most_z = _seen(ours, others, len(train), len(held_out))
    return Memorisation(
        distance=ours.distance,
        nearest=ours.nearest,
        held_out=theirs.distance,
        copies=_share(ours.distance == 0),
        held_out_copies=_share(theirs.distance == 0),
        share=share,
        nearer=below / len(samples),
        nearer_p=_tail(below, below + rank - 1, len(samples), len(held_out)),
        nearer_z=_mann_whitney(ours.distance, theirs.distance),
        seen=seen,
        seen_expected=len(train) / (len(train) + len(held_out)),
        seen_z=seen_z,
        most_z=most_z,
    )


def nearest_rows(rows: Tensor, reference: Tensor) -> Neighbours:
    """Return the nearest reference row of each row, every pair looked at, in blocks of bounded memory.

    A product in float32 picks eight candidates, whose distances are then taken in float64 from the differences.

    Args:
        rows: `[M, *event]`.
        reference: `[N, *event]`, on any device: the work is done where it lies.

    Raises:
        ShapeError: if the rows differ in size.
        DataError: if there is no reference row, or a value is not finite.

    >>> found = nearest_rows(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [5.0], [-1.0]]))
    >>> found.distance.tolist(), found.ties.tolist()
    ([1.0, 1.0], [2, 1])
    """
    a, b = rows.detach().to(reference.device).flatten(1), reference.detach().flatten(1)
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"rows of {a.shape[1]} and of {b.shape[1]} values cannot be compared", expected="one size")
    if not len(b):
        raise DataError("no reference row was given", expected="at least 1")
    for values in (a, b):
        bad = int((~torch.isfinite(values)).any(1).sum())
        if bad:
            raise DataError(f"{bad} of {len(values)} rows have a value that is not finite: they have no distances")
    found = [_nearest(block, b) for block in a.split(_BLOCK)]
    return Neighbours(*(torch.cat(column).cpu() for column in zip(*found, strict=True)))


def _nearest(rows: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distance, place and number of the nearest reference rows of each of a block of rows."""
    centre = reference[:_CHUNK].double().mean(0)  # a product loses digits with the distance from the origin
    a = (rows - centre).float()
    best = torch.empty(len(rows), 0, device=rows.device)
    place = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
    for start in range(0, len(reference), _CHUNK):
        b = (reference[start : start + _CHUNK] - centre).float()
        squares = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)  # less |a|^2, which changes no order
        near = squares.topk(min(CANDIDATES, len(b)), 1, largest=False)
        best, place = torch.cat([best, near.values], 1), torch.cat([place, near.indices + start], 1)
        kept = best.topk(min(CANDIDATES, best.shape[1]), 1, largest=False).indices
        best, place = best.gather(1, kept), place.gather(1, kept)
    place = place.sort(1).values
    exact = (rows[:, None].double() - reference[place].double()).square().sum(2)
    least = exact.min(1)
    ties = (exact == least.values[:, None]).sum(1)
    return least.values.sqrt(), place.gather(1, least.indices[:, None])[:, 0], ties


def _seen(ours: Neighbours, others: Neighbours, train: int, held_out: int) -> tuple[float, float, float]:
    """Return the share of samples nearest to a training row, its z, and what z a share of 1 would have."""
    everyone = train + held_out
    part = ours.ties.double() / (ours.ties + others.ties)
    part[torch.maximum(ours.ties, others.ties) == CANDIDATES] = train / everyone
    tied = ours.distance == others.distance
    of_train = torch.where(tied, part, (ours.distance < others.distance).double())
    counts = torch.zeros(everyone, dtype=torch.float64)
    counts.index_add_(0, ours.nearest, of_train).index_add_(0, train + others.nearest, 1 - of_train)
    samples = len(of_train)
    spread = (counts - samples / everyone).square().sum() * train * held_out / (everyone * (everyone - 1))
    seen, expected = float(of_train.mean()), train / everyone
    unit = samples / math.sqrt(float(spread)) if spread > 0 else 0.0
    return seen, (seen - expected) * unit, (1 - expected) * unit


def _mann_whitney(x: Tensor, y: Tensor) -> float:
    """Return the Mann-Whitney statistic of x being larger than y over its standard deviation, ties halved."""
    n, m = len(x), len(y)
    ordered = y.sort().values
    larger = torch.searchsorted(ordered, x).double() + torch.searchsorted(ordered, x, right=True)
    _, equal = torch.cat([x, y]).unique(return_counts=True)
    total, equal = n + m, equal.double()
    variance = n * m / 12 * (total + 1 - float((equal**3 - equal).sum()) / (total * (total - 1)))
    return (float(larger.sum()) / 2 - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0


def _tail(least: int, drawn: int, marked: int, others: int) -> float:
    """Return P(T >= least), T the number of marked rows among `drawn` of all, drawn without replacement."""
    counts = torch.arange(least, min(drawn, marked) + 1, dtype=torch.float64)
    ways = _log_choose(marked, counts) + _log_choose(others, drawn - counts)
    every = _log_choose(marked + others, torch.tensor(float(drawn), dtype=torch.float64))
    return min(1.0, float((ways - every).exp().sum()))


def _log_choose(n: int, k: Tensor) -> Tensor:
    return math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def _median(values: Tensor) -> float:
    return float(values.median())
