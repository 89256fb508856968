"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n): what its dimensions know, and whether it is the prior.

It is summed over the whole set of rows, never over a minibatch. All numbers are of the top latent, in nats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import Distribution, sample_shape
from ..core.errors import Incompatible, NoDensity, UsageError
from ..core.model import VAE, Group, inference
from ..core.noise import Stream, generator, seeded
from ..data.dataset import Dataset
from .codes import hole_rate
from .importance import no_density_reason
from .number import Number, mean_number, shares
from .two_samples import ClassifierTest, MMDTest, classifier_two_sample, mmd_test

ROWS = 1000
AT_ONCE = 1 << 18  # densities of single dimensions held at once
_PRIOR, _DRAWN, _CHOSEN = 0, 1, 2  # keys of uses of noise

Read = TypeVar("Read")


@dataclass(frozen=True)
class Aggregate:
    """What the aggregate posterior of a set of rows says, in nats.

    With KL(q(z|x) || p(z)) averaged over the rows, rate = I(x; z) + total correlation + dimension-wise KL, where p(z)
    factorises (Chen et al. 2018, arXiv 1802.04942, eq. 2). All three are averages over draws, whose error `se` is; for
    other rows of the same source they are biased, and in which direction stands beside each.

    Args:
        mutual_information: I(x; z) = E log q(z|x) - log q(z): a lower bound in expectation of what z tells of x, since
            q(z) contains the row that z was drawn from; it cannot exceed `ceiling` (Poole et al. 2019, arXiv
            1905.06922), so rate - I(x; z) is no measure of holes. The rate is an upper bound.
        ceiling: log N in nats, or the entropy of the rows' weights.
        total_correlation: KL(q(z) || prod_d q(z_d)): too high by about as much as I(x; z) is too low.
        dimension_kl: sum_d KL(q(z_d) || p(z_d)); the bias of one dimension is small, and upwards.
        dimension_kl_each: its terms, one for each dimension; empty if there is none.
        rows: N, the rows the aggregate is made of.
        draws: how many z were drawn from it.
    """

    mutual_information: Number
    ceiling: float
    total_correlation: Number
    dimension_kl: Number
    dimension_kl_each: tuple[float, ...]
    rows: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields; see `Number` for theirs."""
        found = {k: v.to_json() if isinstance(v, Number) else v for k, v in vars(self).items()}
        return found | {"dimension_kl_each": list(self.dimension_kl_each)}


def aggregate(model: VAE, data: Dataset, *, draws: int = 500, seed: int = 0) -> Aggregate:
    r"""Measure the aggregate posterior of all rows of `data`: mutual information, total correlation, dimension-wise KL.

    log q(z) = log sum_m w_m q(z|x_m) and log q(z_d) likewise, over all N rows (w_m = 1/N, or the rows' weights), at
    draws z ~ q(z|x_n) of some of them (Hoffman & Johnson 2016, "ELBO surgery"; Chen et al. 2018, arXiv 1802.04942).

    Args:
        model: a trained model; its top latent is measured.
        data: rows as the model wants them (`Dataset.matching`).
        draws: rows whose z is drawn, at most all; the time is in proportion to draws times rows times dimensions.
        seed: decides which, and the draws.

    Raises:
        UsageError: if there are fewer than 2 rows or draws.
        NoDensity: if the posterior is a point.
        Incompatible: if the dimensions of q(z|x) are not independent.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> model = lb.recipes.vae(data.spec, latent_dim=3, hidden=(8,)).build(0)[0]
    >>> found = aggregate(model, data.test.matching(model.spec), draws=20)
    >>> found.rows, round(found.ceiling, 2), found.mutual_information.kind, len(found.dimension_kl_each)
    (179, 5.19, 'bound', 3)
    """
    family = top_of(model).posterior_family
    if not family.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    if min(len(data), draws) < 2:
        raise UsageError(
            f"an aggregate posterior cannot be measured by {draws} draws from {len(data)} rows", expected="2 at least"
        )
    share = shares(data)
    index = _chosen(share, draws, seed)
    rows = data.rows(index.to(data.x.device))
    z = draw_codes(model, rows, seed=seed).to(model.device)
    own, prior = _own_and_prior(model, rows, z)
    joint, each = _log_aggregate(z, read_posteriors(model, data, lambda q, i: _elements(q)), share.log().split(ROWS))
    weight = share[index] / share[index].sum() if len(index) == len(data) else _equal(len(index))
    target = "I(x, y; z)" if model.conditional else "I(x; z)"
    apart = each - prior if prior is not None else None
    return Aggregate(
        mutual_information=mean_number(own - joint, weight, kind="bound", side="lower", target=target),
        ceiling=float(-(share * share.clamp_min(1e-300).log()).sum()),
        total_correlation=mean_number(joint - each.sum(1), weight, kind="estimate"),
        dimension_kl=Number(None, reason="p(z) does not split into dimensions, or depends on y")
        if apart is None
        else mean_number(apart.sum(1), weight, kind="estimate"),
        dimension_kl_each=() if apart is None else tuple((weight @ apart).tolist()),
        rows=len(data),
        draws=len(index),
    )


@dataclass(frozen=True)
class Match:
    """Whether draws of q(z|x) of held-out rows could be draws of the prior, which samples are decoded from.

    With enough rows any difference is found, however small: the sizes say more than the p-values.

    Args:
        mmd: a permutation test by the kernel distance of both samples.
        classifier: a test by a classifier; its accuracy a says that both laws differ by 2 a - 1 at least, of 1.
        distances: of each dimension, the largest distance of the two distribution functions (Kolmogorov-Smirnov).
        p_values: of each dimension, corrected for their number (Holm 1979).
        against: what the dimensions are compared with: "the prior's distribution function", or "draws of the prior".
        holes: share of draws of the prior that lie farther from every training code than 99 % of held-out codes do.
        holes_se: its standard error over the draws.
        rows: number of held-out rows, and of draws of the prior.
        codes: number of training codes.
    """

    mmd: MMDTest
    classifier: ClassifierTest
    distances: tuple[float, ...]
    p_values: tuple[float, ...]
    against: str
    holes: float
    holes_se: float
    rows: int
    codes: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        tests = {"mmd": self.mmd.to_json(), "classifier": self.classifier.to_json()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()} | tests


def match(model: VAE, train: Dataset, held_out: Dataset, *, seed: int = 0) -> Match:
    r"""Compare draws of the aggregate posterior of held-out rows with draws of the prior, p(z|y) by their own labels.

    Where the prior is a normal of independent dimensions, each dimension u = F_d(z_d) is compared with the prior's
    distribution function itself, else with draws of the prior.

    Args:
        model: a trained model; its top latent is compared.
        train: training rows, whose codes say where there are none.
        held_out: rows the model was not trained on, as it wants them (`Dataset.matching`).
        seed: decides the draws.

    Raises:
        DataError: if there are fewer than 20 held-out rows, or codes are not finite.
        Incompatible: if the latent is discrete.

    >>> import lowerbound as lb
    >>> data = lb.load_data("digits")
    >>> model = lb.recipes.vae(data.spec, latent_dim=2, hidden=(8,)).build(0)[0]
    >>> train, test = (rows.matching(model.spec) for rows in (data.train, data.test))
    >>> found = match(model, train, test)
    >>> found.rows, found.codes, len(found.p_values)
    (179, 1457, 2)
    """
    family = top_of(model).posterior_family
    if family.discrete:
        raise Incompatible(f"the latent is discrete ({type(family).__name__}): codes have no distances")
    z, prior = draw_codes(model, held_out, seed=seed).double(), draw_prior(model, held_out, seed=seed).double()
    codes = draw_codes(model, train, seed=seed + 1).double()
    flat, drawn = z.flatten(1), prior.flatten(1)
    distances, p_values, against = _each_dimension(model, held_out, z, drawn)
    holes = hole_rate(drawn, codes, flat)
    return Match(
        mmd=mmd_test(flat, drawn, seed=seed),
        classifier=classifier_two_sample(flat, drawn, seed=seed),
        distances=tuple(distances.tolist()),
        p_values=tuple(holm(p_values).tolist()),
        against=against,
        holes=holes,
        holes_se=math.sqrt(holes * (1 - holes) / len(drawn)),
        rows=len(flat),
        codes=len(codes),
    )


def holm(p_values: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
    """Return p-values corrected for their number: the chance that any is below a is at most a if all hypotheses hold.

    Sorted, p_(i) becomes the largest of (D - j + 1) p_(j), j <= i (Holm 1979, "A Simple Sequentially Rejective Multiple
    Test Procedure", Scand. J. Statist. 6).

    >>> [round(p, 3) for p in holm(torch.tensor([0.03, 0.01, 0.02])).tolist()]
    [0.04, 0.03, 0.04]
    """
    ordered, places = p_values.sort()
    factor = torch.arange(len(ordered), 0, -1, dtype=ordered.dtype)
    return torch.empty_like(ordered).index_copy_(0, places, (factor * ordered).cummax(0).values.clamp_max(1))


def _each_dimension(model: VAE, rows: Dataset, z: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, str]:
    """Return the Kolmogorov-Smirnov distance and p-value of each dimension, and what it was compared with."""
    from scipy.stats import ks_2samp, kstwo

    y = rows.labels()
    with inference(model):
        p = top_of(model).prior(None, None if y is None else y.to(model.device), model.infer)
    if not p.normal:
        found = [ks_2samp(a, b) for a, b in zip(z.flatten(1).T.numpy(), drawn.T.numpy(), strict=True)]
        values = torch.tensor([[float(test.statistic), float(test.pvalue)] for test in found], dtype=torch.float64)  # pyright: ignore
        return values[:, 0], values[:, 1], "draws of the prior"
    u = torch.special.ndtr((z - p.mean.double().cpu()) / p.variance.double().cpu().sqrt()).flatten(1).sort(0).values
    steps = torch.arange(len(u) + 1, dtype=torch.float64)[:, None] / len(u)
    distances = torch.maximum(steps[1:] - u, u - steps[:-1]).amax(0)
    return distances, torch.from_numpy(kstwo.sf(distances.numpy(), len(u))), "the prior's distribution function"


def top_of(model: VAE) -> Group:
    """Return the top group of a model."""
    return next(g for g in model.groups if isinstance(g, Group))


def read_posteriors(model: VAE, data: Dataset, read: Callable[[Distribution, int], Read]) -> list[Read]:
    """Return `read(q, i)` of each block i of 1000 rows, q the top posterior q(z|x, y) on the model's device."""
    with inference(model):
        return [
            read(model.infer(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask), i)
            for i, batch in enumerate(data.to(model.device).blocks(ROWS))
        ]


def draw_codes(model: VAE, data: Dataset, *, seed: int = 0) -> Tensor:
    """Return one draw from the top posterior q(z|x) of each row, `[N, *latent]` on the CPU.

    Args:
        model: a trained model.
        data: rows as the model wants them (`Dataset.matching`).
        seed: decides the draws.
    """
    return torch.cat(read_posteriors(model, data, lambda q, i: _drawn(q, len(q.mean), (seed, i, _DRAWN))))


def draw_prior(model: VAE, data: Dataset, *, seed: int = 0) -> Tensor:
    """Return one draw from the top prior p(z), or p(z|y) of each row's label, `[N, *latent]` on the CPU.

    Args:
        model: a trained model.
        data: as many rows as are to be drawn; only their labels are read.
        seed: decides the draws.
    """
    made = []
    with inference(model):
        for i, start in enumerate(range(0, len(data), ROWS)):
            y = data.labels(slice(start, start + ROWS))
            count = min(ROWS, len(data) - start)
            p = top_of(model).prior(None, None if y is None else y.to(model.device), model.infer)
            made.append(_drawn(p, count, (seed, i, _PRIOR)))
    return torch.cat(made)


def _drawn(distribution: Distribution, count: int, keys: tuple[int, ...]) -> Tensor:
    """Return one draw for each of `count` rows, which the distribution may have in common, `[count, *latent]`."""
    with seeded(Stream.EVALUATION, *keys, 0, 0):
        return distribution.sample(sample_shape(distribution, (count,))).cpu()


def _chosen(share: Tensor, draws: int, seed: int) -> Tensor:
    """Return the rows whose z is drawn: all in order, or a sample by their shares."""
    source = generator(Stream.EVALUATION, seed, _CHOSEN)
    if draws >= len(share):
        return torch.arange(len(share))
    if bool((share == share[0]).all()):
        return torch.randperm(len(share), generator=source)[:draws]
    return torch.multinomial(share, draws, replacement=True, generator=source)


def _equal(count: int) -> Tensor:
    return torch.full((count,), 1 / count, dtype=torch.float64)


def _elements(q: Distribution) -> Distribution:
    each = q.elements()
    if each is None:
        raise Incompatible(
            f"q(z|x) does not split into dimensions ({type(q).__name__}), so that q(z_d) has no simple density"
        )
    return each


def _own_and_prior(model: VAE, rows: Dataset, z: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return log q(z|x) of each draw, `[S]`, and log p(z_d), `[S, D]`, where p(z) splits and is the same for all."""
    parts = z.split(ROWS)
    own = read_posteriors(model, rows, lambda q, i: _elements(q).log_prob(parts[i]).flatten(1).double().sum(1).cpu())
    with inference(model):
        y = rows.labels(slice(1))
        p = top_of(model).prior(None, None if y is None else y.to(model.device), model.infer)
        each = None if p.batch_shape else p.elements()
        prior = None if each is None else each.log_prob(z).flatten(1).double().cpu()
    return torch.cat(own), prior


def _log_aggregate(
    z: Float[Tensor, "S *latent"], each: list[Distribution], log_share: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Return log q(z) `[S]` and log q(z_d) `[S, D]` of the mixture of all blocks of posteriors."""
    dims = math.prod(z.shape[1:])
    joint, single = [], []
    for part in z.split(max(1, AT_ONCE // (ROWS * dims))):
        whole = torch.full((len(part),), -math.inf, dtype=torch.float64)
        alone = torch.zeros(len(part), dims, dtype=torch.float64)
        for q, weight in zip(each, log_share, strict=True):
            log_q = q.log_prob(part[:, None]).flatten(2)  # [s, rows, D]
            log_w = weight.to(log_q)
            whole = torch.logaddexp(whole, torch.logsumexp(log_q.sum(2) + log_w, 1).double().cpu())
            # z came from one of the rows, so one dimension's density neither vanishes nor overflows
            alone += torch.matmul(log_w.exp(), log_q.exp()).double().cpu()
        joint.append(whole)
        single.append(alone.log())
    return torch.cat(joint), torch.cat(single)
