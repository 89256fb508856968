"""Whether single dimensions of a code stand for single factors that are known: seven measures in use.

All are defined as in disentanglement_lib (Locatello et al. 2019, arXiv 1811.12359, appendix B), except that rows with a
common factor are drawn from the rows at hand, where it asks a renderer for new ones. No measure depends on the order of
the dimensions. They disagree with each other, and differ more by seed than by method (the same, sec. 5): train several.
"""

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.noise import Stream, mix
from .factor_information import checked, irs, mig, modularity, mutual_information, top_gap

__all__ = [
    "DCI", "Disentanglement", "Predictor", "beta_vae_score", "dci", "disentanglement", "factor_vae_score", "irs", "mig",
    "modularity", "mutual_information", "sap",
]  # fmt: skip

Predictor: TypeAlias = Literal["forest", "boosted"]
TRAIN, TEST, PAIRS = 10_000, 5_000, 64
COLLAPSED = 0.05  # standard deviation of a dimension below which it votes for no factor
_AT_ONCE = 500  # groups of rows


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness, each between 0 and 1.

    Args:
        disentanglement: how nearly each dimension helps to predict one factor alone.
        completeness: how nearly each factor is predicted from one dimension alone.
        informativeness: share of held-out rows whose factor is predicted right, mean over the factors.
        by: what predicts the factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    by: Predictor


@dataclass(frozen=True)
class Disentanglement:
    """Seven measures of codes against known factors, each between 0 and 1, higher being more disentangled.

    Args:
        beta_vae: accuracy of telling which factor two rows share, from |z - z'|; 1/F by chance.
        factor_vae: accuracy of telling the factor that was held fixed by the dimension that moved least; 1/F by chance.
        mig: mutual information gap.
        sap: gap of the accuracies of single dimensions.
        dci: disentanglement, completeness and informativeness.
        modularity: how nearly each dimension says something of one factor alone.
        irs: whether a dimension stays where its factor stays.
        rows: N.
        dimensions: D.
        factors: F.
    """

    beta_vae: float
    factor_vae: float
    mig: float
    sap: float
    dci: DCI
    modularity: float
    irs: float
    rows: int
    dimensions: int
    factors: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        d = self.dci
        lines = [
            ("beta-VAE score", self.beta_vae, f"chance {1 / self.factors:.2f}"),
            ("FactorVAE score", self.factor_vae, f"chance {1 / self.factors:.2f}"),
            ("MIG", self.mig, "mutual information gap, 20 bins"),
            ("SAP", self.sap, "gap of accuracies"),
            ("DCI", d.disentanglement, f"disentanglement, by {d.by}"),
            ("", d.completeness, "completeness"),
            ("", d.informativeness, "informativeness"),
            ("modularity", self.modularity, "each dimension one factor"),
            ("IRS", self.irs, "interventional robustness"),
        ]
        head = f"disentanglement of {self.dimensions} dimensions, {self.factors} factors, {self.rows:,} rows"
        return "\n".join([head, *(f"  {name:<15} {value:5.3f}  ({what})" for name, value, what in lines)])


def disentanglement(codes: Tensor, factors: Tensor, *, by: Predictor = "forest", seed: int = 0) -> Disentanglement:
    """Measure codes against known factors in all seven ways.

    Args:
        codes: `[N, *D]`, two dimensions or more; the means of q(z|x), most often.
        factors: the number of each factor's value, `[N, F]`, two factors or more.
        by: what predicts the factors in DCI; see `dci`.
        seed: decides what is drawn.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, a factor has one value alone, or there are fewer than 12 rows.
        UsageError: if there is no such predictor.
    """
    z, v = checked(codes, factors)
    return Disentanglement(
        beta_vae=beta_vae_score(codes, factors, seed=seed),
        factor_vae=factor_vae_score(codes, factors, seed=seed),
        mig=mig(codes, factors),
        sap=sap(codes, factors, seed=seed),
        dci=dci(codes, factors, by=by, seed=seed),
        modularity=modularity(codes, factors),
        irs=irs(codes, factors),
        rows=len(z),
        dimensions=z.shape[1],
        factors=v.shape[1],
    )


def beta_vae_score(codes: Tensor, factors: Tensor, *, seed: int = 0) -> float:
    """Return how often a linear classifier tells which factor pairs of rows share: between 0 and 1, 1/F by chance.

    One example is the mean of |z - z'| over 64 pairs of rows that have one value of a factor in common, and its label
    is the factor; logistic regression learns from 10,000 and is tested on 5,000 (Higgins et al. 2017, "beta-VAE", sec.
    3). It is 1 for a code turned in any way that keeps each factor's own plane, too.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        seed: decides the pairs.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, or a factor has one value alone.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(2))
    >>> beta_vae_score(factors.float(), factors)
    1.0
    """
    from sklearn.linear_model import LogisticRegression

    z, v, draws = _ordered(codes, factors, seed)
    labels = draws.integers(v.shape[1], size=TRAIN + TEST)
    alike, parts = _Alike(v, draws), []
    for fixed in np.split(labels, range(_AT_ONCE, len(labels), _AT_ONCE)):
        first = draws.integers(len(z), size=(len(fixed), PAIRS))
        parts.append(abs(z[first] - z[alike(first, fixed)]).mean(1))
    apart = np.concatenate(parts)
    model = LogisticRegression(max_iter=1000).fit(apart[:TRAIN], labels[:TRAIN])
    return float(model.score(apart[TRAIN:], labels[TRAIN:]))


def factor_vae_score(codes: Tensor, factors: Tensor, *, seed: int = 0) -> float:
    """Return how often the dimension that moves least tells which factor is fixed: between 0 and 1, 1/F by chance.

    Of 64 rows with one value of a factor in common, the dimension d with the smallest Var(z_d) / Var of all rows votes
    for that factor; the majority of 10,000 votes decides what each dimension means, which is tested on 5,000 (Kim &
    Mnih 2018, arXiv 1802.05983, sec. 4). Dimensions with a standard deviation below 0.05 have no vote; 0 if all have.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        seed: decides the rows.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, or a factor has one value alone.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(2))
    >>> factor_vae_score(factors.float(), factors)
    1.0
    """
    z, v, draws = _ordered(codes, factors, seed)
    spread = z.std(0, ddof=1)
    z = z[:, spread >= COLLAPSED] / spread[spread >= COLLAPSED]
    if not z.shape[1]:
        return 0.0
    fixed = draws.integers(v.shape[1], size=TRAIN + TEST)
    alike, least = _Alike(v, draws), []
    for part in np.split(fixed, range(_AT_ONCE, len(fixed), _AT_ONCE)):
        value_of = np.broadcast_to(draws.integers(len(z), size=(len(part), 1)), (len(part), PAIRS))
        least.append(z[alike(value_of, part)].var(1, ddof=1).argmin(1))
    voted = np.concatenate(least)
    votes = np.zeros((v.shape[1], z.shape[1]), np.int64)
    np.add.at(votes, (fixed[:TRAIN], voted[:TRAIN]), 1)
    return float((votes.argmax(0)[voted[TRAIN:]] == fixed[TRAIN:]).mean())


def sap(codes: Tensor, factors: Tensor, *, seed: int = 0) -> float:
    """Return the separated attribute predictability, between 0 and 1: one dimension predicts a factor, no second does.

    SAP = 1/F sum_f (a_(1)f - a_(2)f), with a_df the share of held-out rows whose v_f a linear support vector machine
    (C = 0.01, classes weighed equally) reads off z_d alone (Kumar et al. 2018, arXiv 1711.00848, sec. 3). Factors of
    many values in a line are hard for it even where z_d = v_f: it is compared between models, not with 1. A third of
    the rows is held out.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        seed: decides which rows.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, a factor has one value alone, or there are fewer than 12 rows.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(50))[:, :2]
    >>> 0.2 < sap(10 * factors.float(), factors) < 0.8  # alone, the other dimension is right about half of the time
    True
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    z, v, draws = _ordered(codes, factors, seed)
    train, test = _halves(len(z), draws)
    right = np.empty((z.shape[1], v.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for d, f in np.ndindex(*right.shape):
            model: Any = LinearSVC(C=0.01, class_weight="balanced").fit(z[train, d, None], v[train, f])
            right[d, f] = (model.predict(z[test, d, None]) == v[test, f]).mean()
    return top_gap(right)


def dci(codes: Tensor, factors: Tensor, *, by: Predictor = "forest", seed: int = 0) -> DCI:
    """Return disentanglement, completeness and informativeness of predictors of each factor from all dimensions.

    With R_df the importance of z_d to the predictor of v_f, each dimension counts 1 - H_F(R_d. / sum_f R_df), weighed
    by its share of all importance, and each factor 1 - H_D(R_.f / sum_d R_df) likewise; entropies have the base F and D
    (Eastwood & Williams 2018, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR, sec.
    2). Informativeness is the accuracy on the held-out third of the rows.

    Args:
        codes: `[N, *D]`.
        factors: `[N, F]`.
        by: "forest" (a random forest of 20 trees that look at all dimensions, as in the paper; seconds), or "boosted"
            (boosted trees as in disentanglement_lib, whose published numbers compare; minutes).
        seed: decides the rows and the trees.

    Raises:
        ShapeError: if there is not one code for each row of factors, or one dimension or factor alone.
        DataError: if a code is not finite, a factor has one value alone, or there are fewer than 12 rows.
        UsageError: if there is no such predictor.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(30))[:, :2]
    >>> found = dci(factors.float(), factors)
    >>> round(found.disentanglement, 6), round(found.completeness, 6), found.informativeness
    (1.0, 1.0, 1.0)
    """
    if by not in get_args(Predictor):
        raise UsageError(f"there is no predictor {by!r}", expected=", ".join(get_args(Predictor)))
    z, v, draws = _ordered(codes, factors, seed)
    train, test = _halves(len(z), draws)
    importance, right = np.empty((z.shape[1], v.shape[1])), []
    for f, values in enumerate(v.T):
        model = _trees(by, seed).fit(z[train], values[train])
        importance[:, f] = abs(model.feature_importances_)
        right.append((model.predict(z[test]) == values[test]).mean())
    return DCI(_concentration(importance), _concentration(importance.T), float(np.mean(right)), by)


def _trees(by: Predictor, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    state = mix(seed) % (1 << 32)
    every_dimension: Any = 1.0
    if by == "boosted":
        return GradientBoostingClassifier(random_state=state)
    return RandomForestClassifier(20, max_features=every_dimension, min_samples_leaf=5, random_state=state)


def _concentration(importance: np.ndarray) -> float:
    """Return the mean, weighed by rows' sums, of 1 - entropy of each row's shares, in the base of their number."""
    total = importance.sum()
    if total == 0:
        return 0.0
    shares = importance + 1e-11  # as disentanglement_lib has it: a row of zeros is even
    shares = shares / shares.sum(1, keepdims=True)
    apart = 1 + (shares * np.log(shares)).sum(1) / np.log(importance.shape[1])
    return float(np.clip(apart @ importance.sum(1) / total, 0, 1))


def _ordered(codes: Tensor, factors: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return codes whose dimensions stand in an order of their own, so that none given matters, factors and noise."""
    z, v = checked(codes, factors)
    order = sorted(range(z.shape[1]), key=lambda d: z[:, d].tolist())
    return z[:, order], v, np.random.default_rng(mix(Stream.EVALUATION, seed))


def _halves(rows: int, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to learn from, two thirds, and of those to test on; at most 15,000 in all."""
    if rows < 12:
        raise DataError(f"{rows} rows are too few to learn from and to test on", expected="12 or more")
    order = draws.permutation(rows)[: TRAIN + TEST]
    return order[len(order) // 3 :], order[: len(order) // 3]


class _Alike:
    """Draws rows that have a factor's value in common with given ones."""

    def __init__(self, v: np.ndarray, draws: np.random.Generator) -> None:
        self.v, self.draws = v, draws
        self.sizes = [np.bincount(values) for values in v.T]
        self.order = [values.argsort(kind="stable") for values in v.T]

    def __call__(self, rows: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        """Return a row for each of `rows` `[S, P]`, one that has the same value of the factor `fixed` `[S]`."""
        drawn, uniform = np.empty_like(rows), self.draws.random(rows.shape)
        for f, (sizes, order) in enumerate(zip(self.sizes, self.order, strict=True)):
            mine = fixed == f
            value = self.v[rows[mine], f]
            start = np.cumsum(sizes) - sizes
            drawn[mine] = order[start[value] + (uniform[mine] * sizes[value]).astype(np.int64)]
        return drawn
