"""Whether two samples come from one distribution, from the samples alone: no density, no pairs."""

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError
from ..core.noise import Stream, generator

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the Gaussian kernels, in bandwidths
HIDDEN, EPOCHS, BATCH = 64, 50, 50  # of the classifier
_BLOCK = 100  # permutations at once


@dataclass(frozen=True)
class MMDTest:
    """A permutation test by the MMD.

    Args:
        mmd: unbiased estimate of MMD^2, without unit; it can be negative.
        p_value: share of the permutations, the given order included, whose MMD^2 is at least as large.
        bandwidth: in the unit of the rows.
        permutations: how many were drawn.
    """

    mmd: float
    p_value: float
    bandwidth: float
    permutations: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


@dataclass(frozen=True)
class ClassifierTest:
    """A test by a classifier that learned to tell two samples apart.

    Args:
        accuracy: share of the held-out rows that it gives to the right sample; 1/2 if there is nothing to tell apart.
        se: standard error of `accuracy`.
        p_value: probability of such an accuracy or a higher one, if both samples have one distribution; exact.
        n: held-out rows, half of them from each sample.
    """

    accuracy: float
    se: float
    p_value: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


def mmd(x: Tensor, y: Tensor, *, bandwidth: float | None = None) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy of two samples; no unit.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j), with k(a, b) the sum of
    exp(-|a - b|^2 / (2 s^2)) over s = 1/4, 1/2, 1, 2 and 4 bandwidths (Gretton et al. 2012, "A Kernel Two-Sample
    Test", JMLR 13, eq. 3). It is 0 on average if both distributions are one, and can be negative. Needs
    about 24 (N + M)^2 bytes of memory.

    Args:
        x: one sample `[N, D]`.
        y: the other `[M, D]`.
        bandwidth: in the unit of the rows; None takes the median distance of two rows of the pooled sample.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        DataError: if one has fewer than 2 rows, a value is not finite, or the median distance is 0.
        UsageError: if the bandwidth is not positive.

    >>> rows = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> round(mmd(rows, rows + 1e6, bandwidth=1.0), 3)  # 2 k(0, 1): no kernel reaches across
    5.188
    """
    x, y = checked_samples(x, y)
    kernel, _ = _kernel(torch.cat([x, y]), bandwidth)
    first = torch.arange(len(x) + len(y)) < len(x)
    return float(_mmd_of(kernel, first[:, None].double())[0])


def mmd_test(
    x: Tensor, y: Tensor, *, bandwidth: float | None = None, permutations: int = 500, seed: int = 0
) -> MMDTest:
    """Test by `mmd` whether two samples come from one distribution, against random divisions of the pooled sample.

    The p-value (1 + number of permutations with an MMD^2 at least as large) / (1 + permutations) is below a with
    probability at most a if the distributions are one, for any sample sizes (Gretton et al. 2012, JMLR 13, sec. 5).

    Args:
        x: one sample `[N, D]`.
        y: the other `[M, D]`.
        bandwidth: as for `mmd`.
        permutations: how many divisions are drawn.
        seed: decides which.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        DataError: as `mmd`.
        UsageError: if the bandwidth is not positive, or there is no permutation.

    >>> rows = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    >>> mmd_test(rows[::2], rows[1::2]).p_value > 0.1
    True
    >>> mmd_test(rows[:20], rows[20:]).p_value < 0.01
    True
    """
    if not isinstance(permutations, int) or permutations < 1:
        raise UsageError(f"the number of permutations cannot be {permutations}", expected="a whole number above 0")
    x, y = checked_samples(x, y)
    kernel, used = _kernel(torch.cat([x, y]), bandwidth)
    rows = len(x) + len(y)
    first = (torch.arange(rows) < len(x)).double()
    draws = generator(Stream.EVALUATION, seed)
    given, larger = float(_mmd_of(kernel, first[:, None])[0]), 0
    for start in range(0, permutations, _BLOCK):
        orders = [torch.randperm(rows, generator=draws) for _ in range(min(_BLOCK, permutations - start))]
        drawn = _mmd_of(kernel, torch.stack([first[order] for order in orders], 1))
        larger += int((drawn >= given - 1e-12).sum())  # rounding must not make an equal division smaller
    return MMDTest(given, (1 + larger) / (1 + permutations), used, permutations)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the squared Wasserstein-2 distance of normals with the samples' means and covariances.

    |m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), in the squared unit of the rows (Dowson & Landau 1982, "The
    Frechet distance between multivariate normal distributions", J. Multivariate Analysis 12, eq. 4). Covariances have
    1 / (N - 1). The estimate is too large for small samples, so only distances of equally large ones compare.

    Args:
        x: one sample `[N, D]`.
        y: the other `[M, D]`.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        DataError: if one has fewer than 2 rows, or a value is not finite.

    >>> rows = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> round(frechet_distance(rows, 3 * rows + 5), 6)  # (0 - 5)^2 + (sqrt(2) - 3 sqrt(2))^2
    33.0
    """
    x, y = checked_samples(x, y)
    # A = R'R and B = S'S: the trace of the root is the sum of the singular values of R S', and no eigenvalue that
    # rounding made other than 0 has its root taken, which would lose half of the digits where rows are few
    r, s = (torch.linalg.qr((rows - rows.mean(0)) / math.sqrt(len(rows) - 1), mode="r").R for rows in (x, y))
    mixed = torch.linalg.svdvals(r @ s.T).sum()
    apart = (x.mean(0) - y.mean(0)).square().sum() + r.square().sum() + s.square().sum() - 2 * mixed
    return max(0.0, float(apart))


def classifier_two_sample(x: Tensor, y: Tensor, *, seed: int = 0) -> ClassifierTest:
    """Train a classifier to tell two samples apart on half of the rows, and test it on the other half.

    Accuracy is that of Lopez-Paz & Oquab 2017, "Revisiting Classifier Two-Sample Tests", arXiv 1610.06545, sec. 3. The
    classifier is scikit-learn's `MLPClassifier` with one hidden layer of 64 units and weight decay, trained for 50
    epochs on standardised rows. As many rows of either sample are used: of the larger one some are left out. Given
    what the classifier says, each way to give the samples' names to the held-out rows is equally likely if both
    distributions are one, so the p-value is the exact tail of a hypergeometric distribution, where the paper takes a
    normal.

    Args:
        x: one sample `[N, D]`.
        y: the other `[M, D]`.
        seed: decides the halves and the classifier.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        DataError: if one has fewer than 20 rows, or a value is not finite.

    >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    >>> classifier_two_sample(rows, rows + 10).accuracy
    1.0
    """
    x, y = checked_samples(x, y, least=20)
    draws = generator(Stream.EVALUATION, seed)
    half = min(len(x), len(y)) // 2
    picked = [rows[torch.randperm(len(rows), generator=draws)[: 2 * half]] for rows in (x, y)]
    seen = torch.cat([rows[:half] for rows in picked])
    held = torch.cat([rows[half:] for rows in picked])
    names = np.repeat([1, 0], half)
    says = torch.from_numpy(_classifier(seen, names, seed).predict(_standardised(held, seen).numpy()))
    right, positive = int((says[:half] == 1).sum()), int(says.sum())
    accuracy = (2 * right + half - positive) / (2 * half)
    se = math.sqrt(accuracy * (1 - accuracy) / (2 * half))
    return ClassifierTest(accuracy, se, _tail(right, positive, half), 2 * half)


def checked_samples(x: Tensor, y: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return both samples `[N, D]` and `[M, D]` on the CPU as float64.

    Raises:
        ShapeError: if they are not of that shape, with one D.
        DataError: if one has fewer than `least` rows, or a value is not finite.
    """
    for rows in (x, y):
        if rows.ndim != 2 or not rows.shape[1]:
            raise ShapeError(f"{list(rows.shape)} is no shape of a sample", expected="[N, D]", fix="flatten each row")
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"rows of {x.shape[1]} and of {y.shape[1]} values cannot be compared", expected="one size")
    for rows in (x, y):
        if len(rows) < least:
            raise DataError(f"a sample has {len(rows)} rows", expected=f"at least {least}")
        bad = int((~torch.isfinite(rows)).sum())
        if bad:
            raise DataError(f"{bad} values of a sample are not finite", expected="finite numbers")
    return x.detach().cpu().double(), y.detach().cpu().double()


def _kernel(pooled: Tensor, bandwidth: float | None) -> tuple[Tensor, float]:
    """Return the kernel between all rows, 0 from a row to itself, and the bandwidth used."""
    centred = pooled - pooled.mean(0)
    # by differences, not by a matrix product: equal rows have a distance of exactly 0
    squares = torch.cdist(centred, centred, compute_mode="donot_use_mm_for_euclid_dist").square()
    if bandwidth is None:
        above = torch.ones_like(squares, dtype=torch.bool).triu(1)
        bandwidth = math.sqrt(float(squares[above].median()))
        if bandwidth == 0:
            raise DataError(
                "more than half of the pairs of rows are equal: their median distance is 0", fix="give bandwidth="
            )
    if not 0 < bandwidth < math.inf:
        raise UsageError(f"the bandwidth cannot be {bandwidth}", expected="a finite number above 0")
    kernel = torch.zeros_like(squares)
    for width in WIDTHS:
        kernel += torch.exp(squares / (-2 * (width * bandwidth) ** 2))
    return kernel.fill_diagonal_(0), bandwidth


def _mmd_of(kernel: Tensor, first: Tensor) -> Tensor:
    """Return MMD^2 `[P]` for P divisions of the rows: `first` `[N + M, P]` is 1 for the rows of the first sample."""
    n = first.sum(0)
    m = len(first) - n
    sums = kernel @ first
    inside, touching = (first * sums).sum(0), sums.sum(0)
    across = touching - inside
    rest = kernel.sum() - inside - 2 * across
    return inside / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)


def _standardised(rows: Tensor, by: Tensor) -> Tensor:
    """Return rows on the scale where each column of `by` has mean 0 and standard deviation 1, unless it is constant."""
    scale = by.std(0)
    return (rows - by.mean(0)) / torch.where(scale > 0, scale, 1.0)


def _classifier(rows: Tensor, names: np.ndarray, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    size: Any = min(BATCH, len(rows))  # scikit-learn's own annotation knows "auto" only
    model = MLPClassifier((HIDDEN,), alpha=1.0, batch_size=size, max_iter=EPOCHS, random_state=seed % (1 << 32))
    with warnings.catch_warnings():  # the test is valid however far the classifier learned
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(_standardised(rows, rows).numpy(), names)


def _tail(right: int, positive: int, half: int) -> float:
    """Return P(T >= right), T the number of `half` marked rows among `positive` drawn from 2 `half`."""
    counts = torch.arange(right, min(positive, half) + 1, dtype=torch.float64)
    log_ways = _log_choose(half, counts) + _log_choose(half, positive - counts)
    all_ways = _log_choose(2 * half, torch.tensor(float(positive), dtype=torch.float64))
    return min(1.0, float((log_ways - all_ways).exp().sum()))


def _log_choose(n: int, k: Tensor) -> Tensor:
    return math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
