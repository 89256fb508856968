"""Measures of a latent space: neighbours, holes, and how far apart similar inputs are put.

Distances are Euclidean, in float64, and every pair is looked at, a block of rows at a time: nothing is approximate.
No measure changes when the codes are moved, turned or scaled as a whole. All need only codes, so they serve an
autoencoder as well as a VAE. For holes, codes of a VAE are draws from q(z|x), which its decoder learned from: in a
dimension that it does not use, the means are all 0 and every draw from the prior would be far from them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError

BLOCK_PAIRS = 1 << 22  # distances held at once: 32 MiB
DIRECT = 64  # dimensions up to which differences are subtracted; above, a matrix product is several times faster


def neighbour_purity(codes: Tensor, labels: Tensor, k: int = 10) -> Tensor:
    r"""Return for each row the share of its k nearest other codes that have its label, `[N]` float64.

    purity_i = 1/k sum_{j in N_k(i)} [y_j = y_i], where N_k(i) are the k rows j != i with the smallest |z_j - z_i|;
    among equal distances any may be taken. With shuffled labels its mean is the chance that two rows share a label.

    Args:
        codes: one code for each row, `[N, *D]`.
        labels: one label for each row, `[N]`.
        k: number of neighbours.

    Raises:
        ShapeError: if there is not one label for each code.
        UsageError: if k is not between 1 and N - 1.
        DataError: if a code is not finite.

    >>> codes = torch.tensor([[0.0], [1.0], [5.0], [7.0]])
    >>> neighbour_purity(codes, torch.tensor([0, 0, 0, 1]), k=1).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    points = _points("codes", codes)
    if tuple(labels.shape) != (len(points),):
        raise ShapeError(f"labels of shape {tuple(labels.shape)} were given", expected=f"({len(points)},), one a code")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < len(points):
        raise UsageError(f"{len(points)} codes cannot have {k} neighbours each", expected=f"1 to {len(points) - 1}")
    own = labels.to(points.device)
    shares = []
    for rows, distances in _distances(points, points, exclude_self=True):
        near = distances.topk(k, largest=False).indices
        shares.append((own[near] == own[rows, None]).double().mean(1))
    return torch.cat(shares)


def nearest_distance(points: Tensor, reference: Tensor, *, exclude_self: bool = False) -> Tensor:
    r"""Return the distance of each point to its nearest reference point, min_j |p_i - r_j|, `[M]` float64.

    Args:
        points: from where, `[M, *D]`.
        reference: to where, `[N, *D]`.
        exclude_self: leave out j = i, for points that are the reference itself.

    Raises:
        ShapeError: if points and reference differ in size, or in number where a point is to be left out.
        UsageError: if there is no (other) reference point.
        DataError: if a value is not finite.

    >>> nearest_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 3.0]])).tolist()
    [1.0, 1.0]
    """
    a, b = _points("points", points), _points("reference points", reference)
    near = _nearest(a, b, exclude_self=exclude_self)
    # from the difference itself: a matrix product loses half of the digits of small distances
    return (a - b.to(a.device)[near]).norm(dim=1)


def hole_distance(codes: Tensor, held_out: Tensor, *, share: float = 0.99) -> Tensor:
    """Return how far from every training code a point must be to lie in a hole.

    r = quantile_share { min_j |h_i - z_j| : i = 1..H }, the distance that all but 1 % of codes of held-out data keep,
    which the model encodes as well as any and has not been trained on.

    Args:
        codes: codes z_j of the training rows, `[N, *D]`.
        held_out: codes h_i of rows that were not trained on, `[H, *D]`.
        share: the share of the held-out codes that are in no hole.

    Raises:
        ShapeError: if the codes differ in size.
        UsageError: if there are none, or the share is no share.
        DataError: if a code is not finite.

    >>> hole_distance(torch.tensor([[0.0], [10.0]]), torch.tensor([[0.0], [1.0], [12.0]]), share=0.5).item()
    1.0
    """
    if not 0 < share < 1:
        raise UsageError(f"the share of codes in no hole cannot be {share}", expected="above 0 and below 1")
    if len(held_out) == 0:
        raise UsageError("there are no held-out codes to measure holes by", expected="at least 1")
    return nearest_distance(held_out, codes).quantile(share)


def holes(draws: Tensor, codes: Tensor, held_out: Tensor, *, share: float = 0.99) -> Tensor:
    """Mark the draws that lie in holes: farther from every training code than 99 % of held-out codes, `[M]`.

    hole_i = [ min_j |d_i - z_j| > r ], with r of `hole_distance`. By this construction about 1 % of the held-out codes
    are holes themselves: draws from the law of the codes have a rate of 1 %, and only more than that says something.
    A code near some training code is no hole, whatever its density: draws that all fall on one spot have a rate of 0.

    Args:
        draws: where samples are decoded, `[M, *D]`.
        codes: codes of the training rows, `[N, *D]`.
        held_out: codes of rows that were not trained on, `[H, *D]`.
        share: the share of the held-out codes that are in no hole.

    Raises:
        ShapeError: if the codes differ in size.
        UsageError: if there are none, or the share is no share.
        DataError: if a code is not finite.

    >>> codes = torch.arange(10.0)[:, None]
    >>> holes(torch.tensor([[4.4], [12.0]]), codes, codes + 0.5).tolist()
    [False, True]
    """
    limit = hole_distance(codes, held_out, share=share)
    return nearest_distance(draws, codes) > limit.to(draws.device)


def hole_rate(draws: Tensor, codes: Tensor, held_out: Tensor, *, share: float = 0.99) -> float:
    """Return the share of the draws that `holes` marks; its standard error over M draws is sqrt(rate (1 - rate) / M).

    Raises:
        ShapeError: if the codes differ in size.
        UsageError: if there are none, or the share is no share.
        DataError: if a code is not finite.

    >>> codes = torch.arange(10.0)[:, None]
    >>> hole_rate(torch.tensor([[4.4], [12.0]]), codes, codes + 0.5)
    0.5
    """
    if len(draws) == 0:
        raise UsageError("no draw has no rate of holes", expected="at least 1 draw")
    return float(holes(draws, codes, held_out, share=share).double().mean())


def stretch(inputs: Tensor, codes: Tensor) -> Tensor:
    r"""Return for each row how far its code is from that of the most similar input, strangers being 1, `[N]` float64.

    stretch_i = |z_i - z_n(i)| / mean_{j != l} |z_j - z_l|, where n(i) is the row != i whose input is nearest to x_i. 1
    means that neighbours are put as far apart as strangers; the scale of the codes does not matter.

    Args:
        inputs: the rows, `[N, *event]`; Euclidean distances of their values say which are similar.
        codes: one code for each row, `[N, *D]`.

    Raises:
        ShapeError: if there is not one code for each input.
        UsageError: if there are fewer than 2 rows, or all codes are the same.
        DataError: if a value is not finite.

    >>> stretch(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[2.0], [3.0], [4.0]])).tolist()  # strangers: 4/3
    [0.75, 0.75, 0.75]
    """
    x, z = _points("inputs", inputs), _points("codes", codes)
    if len(x) != len(z):
        raise ShapeError(f"{len(z)} codes were given for {len(x)} inputs", expected="one for each")
    near = _nearest(x, x, exclude_self=True).to(z.device)
    pairs = len(z) * (len(z) - 1)
    strangers = sum(float(distances.sum()) for _, distances in _distances(z, z)) / pairs
    if bool((z == z[0]).all()):
        raise UsageError("all codes are the same: no distance can be compared with theirs")
    return (z - z[near]).norm(dim=1) / strangers


def _points(name: str, values: Tensor) -> Tensor:
    """Return values `[N, *D]` as `[N, D]` float64."""
    if values.ndim < 2:
        raise ShapeError(f"{name} of shape {tuple(values.shape)} were given", expected="[rows, dimensions]")
    flat = values.detach().flatten(1).double()
    bad = int((~torch.isfinite(flat)).any(1).sum())
    if bad:
        raise DataError(f"{bad} of {len(flat)} {name} have a value that is not finite: they have no distances")
    return flat


def _nearest(points: Tensor, reference: Tensor, *, exclude_self: bool) -> Tensor:
    """Return the row of the nearest reference point of each point, `[M]`."""
    least = 2 if exclude_self else 1
    if len(reference) < least:
        raise UsageError(f"{len(reference)} reference points have no nearest one", expected=f"{least} or more")
    blocks = _distances(points, reference, exclude_self=exclude_self)
    return torch.cat([points.new_zeros(0, dtype=torch.long), *(distances.argmin(1) for _, distances in blocks)])


def _distances(a: Tensor, b: Tensor, *, exclude_self: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield row numbers of `a` and their distances to all of `b`, a block at a time; inf to a row that is left out."""
    if a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"points of {a.shape[1]} dimensions are compared with points of {b.shape[1]}",
            expected="the same dimensions",
        )
    if exclude_self and len(a) != len(b):
        raise ShapeError(f"{len(a)} points are not the {len(b)} reference points", expected="the same rows")
    b = b.to(a.device)
    centre = b.mean(0)  # a product loses digits with the distance from the origin
    a, b = a - centre, b - centre
    mode = "donot_use_mm_for_euclid_dist" if a.shape[1] <= DIRECT else "use_mm_for_euclid_dist"
    for rows in torch.arange(len(a), device=a.device).split(max(BLOCK_PAIRS // max(len(b), 1), 1)):
        distances = torch.cdist(a[rows], b, compute_mode=mode)
        if exclude_self:
            distances[torch.arange(len(rows), device=a.device), rows] = torch.inf
        yield rows, distances
