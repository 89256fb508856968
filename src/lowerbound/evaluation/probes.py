"""What simple methods read off codes: a linear classifier, nearest neighbours, clusters."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError
from ..core.noise import mix
from .number import Number

NEIGHBOURS = 10
CLUSTERINGS = 5


@dataclass(frozen=True)
class Clusters:
    """Agreement of clusters with the labels, which they were made without; 1 is perfect.

    Args:
        ari: adjusted Rand index, mean over the seeds; 0 on average for clusters by chance, and it can be negative.
        ari_spread: its standard deviation over the seeds.
        nmi: normalised mutual information, between 0 and 1, mean over the seeds; above 0 for clusters by chance.
        nmi_spread: its standard deviation over the seeds.
        clusters: how many, as many as classes.
        seeds: how many.
    """

    ari: float
    ari_spread: float
    nmi: float
    nmi_spread: float
    clusters: int
    seeds: int


@dataclass(frozen=True)
class Probes:
    """What simple methods read off codes of test rows, having learned from those of training rows.

    Args:
        linear: accuracy of multinomial logistic regression on standardised codes, between 0 and 1.
        neighbours: accuracy of the majority of the nearest training codes, between 0 and 1.
        majority: accuracy of always saying the class that most training rows have.
        clusters: agreement of k-means clusters with the labels.
        k: number of neighbours.
        train: number of training rows.
    """

    linear: Number
    neighbours: Number
    majority: Number
    clusters: Clusters
    k: int
    train: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields; see `Number` for theirs."""
        found = {k: v.to_json() if isinstance(v, Number) else v for k, v in vars(self).items()}
        return found | {"clusters": dict(vars(self.clusters))}

    def __str__(self) -> str:
        c = self.clusters
        lines = [
            (f"{a.value:.3f}" + ("" if a.se is None else f" +- {a.se:.3f}"), name)
            for name, a in (
                ("accuracy of a linear probe", self.linear),
                (f"accuracy of {self.k} nearest neighbours", self.neighbours),
                ("accuracy of the largest class, always", self.majority),
            )
        ]
        seeds = f"{c.clusters} k-means clusters, mean and spread over {c.seeds} seeds"
        lines += [(f"{c.ari:.3f} +- {c.ari_spread:.3f}", f"adjusted Rand index of {seeds}")]
        lines += [(f"{c.nmi:.3f} +- {c.nmi_spread:.3f}", "normalised mutual information of the same")]
        head = f"codes of {self.linear.n:,} test rows, after {self.train:,} training rows"
        return "\n".join([head, *(f"  {value}  ({what})" for value, what in lines)])


def probe(
    codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor, *, k: int = NEIGHBOURS, seed: int = 0
) -> Probes:
    """Measure what simple methods read off codes.

    Args:
        codes: of training rows, `[N, *D]`.
        labels: their classes, numbers `[N]`.
        test_codes: of test rows, `[M, *D]`.
        test_labels: `[M]`.
        k: number of nearest neighbours.
        seed: decides where k-means starts.

    Raises:
        ShapeError: if codes and labels do not go together.
        DataError: if a code is not finite, or the training rows have one class.
        UsageError: if there are fewer than k training rows.

    >>> labels = torch.arange(3).repeat(20)
    >>> codes = 10.0 * torch.eye(3)[labels] + torch.linspace(0, 1, 60)[:, None]
    >>> found = probe(codes[:40], labels[:40], codes[40:], labels[40:])
    >>> found.linear.value, found.neighbours.value, found.majority.value, found.clusters.ari
    (1.0, 1.0, 0.3, 1.0)
    """
    z, y, held, truth = _checked(codes, labels, test_codes, test_labels)
    most = np.bincount(y).argmax()
    return Probes(
        linear=accuracy(_linear(z, y, held) == truth),
        neighbours=accuracy(_nearest(z, y, held, k) == truth),
        majority=accuracy(truth == most),
        clusters=_clusters(z, len(np.unique(y)), held, truth, seed),
        k=k,
        train=len(z),
    )


def accuracy(right: np.ndarray | Tensor) -> Number:
    """Return the share of rows `[N]` that are right, with its binomial standard error sqrt(a (1 - a) / (N - 1)).

    >>> found = accuracy(torch.tensor([True, False, True, True]))
    >>> found.value, found.se, found.n
    (0.75, 0.25, 4)
    """
    n, a = len(right), float(torch.as_tensor(right).double().mean())
    se = math.sqrt(a * (1 - a) / (n - 1)) if n > 1 else None
    return Number(a, se, kind="estimate", n=n, target="accuracy")


def _linear(z: np.ndarray, y: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return the classes `[M]` that multinomial logistic regression says, with scikit-learn's penalty |w|^2 / 2."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(z, y).predict(held)


def _nearest(z: np.ndarray, y: np.ndarray, held: np.ndarray, k: int) -> np.ndarray:
    """Return the classes `[M]` that most of the k nearest codes have; of equally frequent ones the first."""
    from sklearn.neighbors import KNeighborsClassifier

    if not 1 <= k <= len(z):
        raise UsageError(f"{len(z)} training rows have no {k} nearest neighbours", expected=f"1 to {len(z)}")
    return np.asarray(KNeighborsClassifier(k).fit(z, y).predict(held))


def _clusters(z: np.ndarray, clusters: int, held: np.ndarray, truth: np.ndarray, seed: int) -> Clusters:
    """Return how clusters of the training codes, made without labels, agree with those of test rows.

    The adjusted Rand index is that of Hubert & Arabie 1985, "Comparing partitions", J. Classification 2, eq. 5.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = []
    for i in range(CLUSTERINGS):
        start: Any = {"n_init": 1, "random_state": mix(seed, i) % (1 << 32)}
        said = KMeans(clusters, **start).fit(z).predict(held)
        found.append((adjusted_rand_score(truth, said), normalized_mutual_info_score(truth, said)))
    (ari, nmi), (ari_spread, nmi_spread) = np.mean(found, 0).tolist(), np.std(found, 0, ddof=1).tolist()
    return Clusters(ari, ari_spread, nmi, nmi_spread, clusters, CLUSTERINGS)


def _checked(codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor) -> tuple[np.ndarray, ...]:
    arrays = []
    for what, z, y in (("training", codes, labels), ("test", test_codes, test_labels)):
        if z.ndim < 2 or tuple(y.shape) != (len(z),):
            raise ShapeError(
                f"{what} codes {list(z.shape)} and labels {list(y.shape)} do not go together", expected="[N, D] and [N]"
            )
        flat = z.detach().cpu().flatten(1).double().numpy()
        bad = int((~np.isfinite(flat)).any(1).sum())
        if bad:
            raise DataError(f"{bad} of {len(flat)} {what} codes have a value that is not finite")
        if not len(flat):
            raise DataError(f"there are no {what} rows", expected="1 or more")
        arrays += [flat, y.detach().cpu().numpy()]
    if arrays[0].shape[1] != arrays[2].shape[1]:
        raise ShapeError(f"test codes have {arrays[2].shape[1]} dimensions", expected=f"{arrays[0].shape[1]}")
    if len(np.unique(arrays[1])) < 2:
        raise DataError("all training rows have one class: nothing can be told apart", expected="2 classes or more")
    return tuple(arrays)
