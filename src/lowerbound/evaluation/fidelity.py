"""Quality of samples: how far their distribution of features is from the data's, and how much of it they cover."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError, Incompatible, UsageError
from ..core.model import VAE, Show, inference, spec_of
from ..core.noise import Stream, generator, seeded
from ..data.dataset import Data, Dataset, SplitName
from .features import Extractor, features_for
from .memorisation import Memorisation, memorisation
from .number import Number
from .two_samples import checked_samples, frechet_distance

NUM = 10_000
NEAR, WIDE = 3, 5  # neighbours of precision and recall, of density and coverage: the papers' own
BLOCKS = 10  # of the kernel distance
FEWEST = 2 * BLOCKS  # rows
KNOWN = 0.05  # share of the held-out rows that may be training rows, unsaid
COMPARED = 2000  # samples whose nearest training rows are looked for, however few rows are held out
_DRAWN = 100  # samples at once
_PAIRS = 1 << 22  # distances at once: 32 MiB


@dataclass(frozen=True)
class Neighbourhoods:
    """How samples and real rows lie among each other's nearest neighbours.

    Args:
        precision: share of the samples that lie near some real row.
        recall: share of the real rows that lie near some sample.
        density: mean number of real neighbourhoods that a sample lies in, over their size; 1 if both are alike.
        coverage: share of the real rows that have a sample among their nearest neighbours.
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Fidelity:
    """One sample against real rows, by its features.

    Args:
        fd: squared Frechet distance; too large for few rows, so that 0 is never reached.
        kid: kernel distance, unbiased: 0 on average for equal distributions, and sometimes below.
        precision: as in `Neighbourhoods`, as are `recall`, `density` and `coverage`.
        recall: share of the real rows.
        density: 1 if both are alike.
        coverage: share of the real rows.
    """

    fd: Number
    kid: Number
    precision: Number
    recall: Number
    density: Number
    coverage: Number

    def named(self, extractor: str) -> dict[str, Number]:
        """Return the numbers by their full names: `fd_<extractor>`, `kid_<extractor>`, `precision`, ..."""
        return {f"{k}_{extractor}" if k in ("fd", "kid") else k: v for k, v in vars(self).items()}


@dataclass(frozen=True)
class SampleQuality:
    """Samples of a model and held-out rows, both against the same number of training rows.

    The held-out rows are what samples of a perfect model would be: their numbers are what can be reached.

    Args:
        samples: numbers of the samples.
        held_out: the same numbers of the held-out rows.
        memorisation: distances of samples to all training rows.
        n: number of samples, of held-out and of training rows that were compared.
        extractor: name of the features.
        about: what the features are.
        key: what they were made from: numbers compare only where it is the same.
        show: whether samples are draws from p(x|z) or its means.
        split: which rows were held out.
        binarisation: how grey values became 0/1, of samples' counterparts.
        seed: decides the samples and which rows are compared.
        warnings: what is wrong with the numbers, or with the cache of the features.
    """

    samples: Fidelity
    held_out: Fidelity
    memorisation: Memorisation
    n: int
    extractor: str
    about: str
    key: str
    show: Show
    split: str
    binarisation: str
    seed: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all numbers by their full names, and what they are about."""
        sides = {side: getattr(self, side).named(self.extractor) for side in ("samples", "held_out")}
        numbers = {side: {k: v.to_json() for k, v in named.items()} for side, named in sides.items()}
        facts = {k: v for k, v in vars(self).items() if k not in (*numbers, "memorisation", "warnings")}
        return {**numbers, "memorisation": self.memorisation.to_json(), **facts, "warnings": list(self.warnings)}

    def __str__(self) -> str:
        ours, theirs = self.samples.named(self.extractor), self.held_out.named(self.extractor)
        wide = max(map(len, ours))
        lines = [f"{'':<{wide}}  {'samples':>19}  {'held-out rows':>19}"]
        lines += [f"{name:<{wide}}  {_cell(ours[name]):>19}  {_cell(theirs[name]):>19}" for name in ours]
        lines.append(f"each: {self.n:,} against {self.n:,} training rows; samples are {self.show}s; {self.about}")
        return "\n".join([*lines, str(self.memorisation), *(f"warning: {line}" for line in self.warnings)])


def sample_quality(
    model: VAE,
    data: Data,
    *,
    num: int = NUM,
    seed: int = 0,
    show: Show = "draw",
    split: SplitName = "test",
    held_out: Dataset | None = None,
    extractor: Extractor | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> SampleQuality:
    """Draw samples and compare them, and as many held-out rows, with as many training rows.

    Everything is in the form the model was trained on: draws of a model of binarised pixels are 0/1 and compared with
    training rows binarised once by the data seed. A conditional model is given the labels of the held-out rows. The
    training rows that are compared are a random choice; those for `memorisation` are all of them, and distances there
    are in model units for images, in features for tables and points.

    Args:
        model: a trained model.
        data: the data it was trained on.
        num: how many samples; at most as many as there are held-out rows, and training rows.
        seed: decides the samples and the choice of rows.
        show: "draw" from p(x|z), which is what a sample of the model is, or its "mean", which is not, where x is real.
        split: which rows were held out.
        held_out: other rows to compare with, in place of a split.
        extractor: features to compare by; None takes `features_for(data)`.
        cache: folder of trained classifiers; None means `features.cache_folder()`.
        say: is told what takes long.

    Raises:
        UsageError: if the model does not know its data, `num` is too small, or means of 0/1 pixels are asked for.
        DataError: if there are too few rows, or samples are not finite.
        Incompatible: if they are sequences.
    """
    spec = spec_of(model)
    if spec.kind == "sequence":
        raise Incompatible(
            f"{spec.name} holds sequences: the numbers of their symbols have no distances",
            expected="images, tables or points",
        )
    own = Data(data.train.matching(spec), data.valid.matching(spec), data.test.matching(spec))
    if show == "mean" and own.train.support == "binary":
        raise UsageError(
            "means of 0/1 values are no samples: they are grey where the data are 0 and 1", fix='use show="draw"'
        )
    warnings = _warnings(own.train, show)
    train, held = _whole(own.train), _whole(own.split(split) if held_out is None else held_out.matching(spec))
    n = _number(num, train, held)
    extractor = extractor or features_for(replace(own, train=train), cache=cache, say=say)
    real, rest = (_some(rows, n, seed, place) for place, rows in enumerate((train, held)))
    labels, more = rest.labels(), torch.arange(max(n, COMPARED)) % n
    made = draw_samples(model, len(more), labels=None if labels is None else labels[more], seed=seed, show=show)
    features = [extractor(x) for x in (made[:n], real.values(), rest.values())]
    if n < 10 * features[0].shape[1]:
        warnings.append(
            f"{n:,} rows are few for {features[0].shape[1]} features: most of fd_{extractor.name} may be its bias"
        )
    near = made[:COMPARED], train.values(), held.values()
    near = near if spec.kind == "image" else tuple(extractor(x) for x in near)
    copies = memorisation(*near)
    if copies.held_out_copies > KNOWN:
        warnings.append(
            f"{copies.held_out_copies:.0%} of the held-out rows are training rows, too: they are no measure of samples"
        )
    return SampleQuality(
        samples=fidelity(features[0], features[1], seed=seed),
        held_out=fidelity(features[2], features[1], seed=seed),
        memorisation=copies,
        n=n,
        extractor=extractor.name,
        about=extractor.about,
        key=extractor.key,
        show=show,
        split=held.split,
        binarisation=own.train.spec.binarize,
        seed=seed,
        warnings=(*warnings, *extractor.notes),
    )


def draw_samples(model: VAE, num: int, *, labels: Tensor | None = None, seed: int = 0, show: Show = "draw") -> Tensor:
    """Return samples of the model, `[num, *shape]` on the CPU, drawn by seed in blocks of 100.

    Args:
        model: a trained model.
        num: how many.
        labels: one-hot labels `[num, C]` for a conditional model; others do not look at them.
        seed: decides the draws.
        show: "draw" or "mean" of p(x|z).

    Raises:
        UsageError: if a conditional model is given no labels.
        DataError: if a sample is not finite.
    """
    if model.conditional and labels is None:
        raise UsageError("this model is conditional, and there are no labels to draw samples for", fix="label the data")
    made = []
    with inference(model):
        for block, start in enumerate(range(0, num, _DRAWN)):
            rows = slice(start, min(start + _DRAWN, num))
            y = labels[rows].to(model.device) if labels is not None and model.conditional else None
            with seeded(Stream.EVALUATION, seed, block):
                made.append(model.sample(rows.stop - start, y, show=show).cpu())
    samples = torch.cat(made)
    bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if bad:
        raise DataError(f"{bad} of {num} samples have a value that is not finite", fix="train with a smaller --lr")
    return samples


def fidelity(rows: Tensor, real: Tensor, *, seed: int = 0) -> Fidelity:
    """Compare the features of one sample with those of real rows.

    Args:
        rows: features of the sample `[N, F]`.
        real: features of the real rows `[M, F]`.
        seed: decides the blocks of the kernel distance.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        DataError: if one has fewer than 20 rows, or a value is not finite.
    """
    rows, real = checked_samples(rows, real, least=FEWEST)
    lying = neighbourhoods(rows, real)
    numbers = {k: Number(v, kind="estimate", n=len(rows)) for k, v in vars(lying).items()}
    fd = Number(frechet_distance(rows, real), kind="estimate", n=len(rows))
    return Fidelity(fd, kernel_distance(rows, real, seed=seed), **numbers)


def kernel_distance(x: Tensor, y: Tensor, *, blocks: int = BLOCKS, seed: int = 0) -> Number:
    """Return the squared maximum mean discrepancy with the kernel (x . y / F + 1)^3, unbiased, with standard error.

    The mean over blocks of mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j): on features
    of the Inception network this is the KID of Binkowski et al. 2018, arXiv 1801.01401, sec. 4. Blocks share no rows,
    so that the standard error, from their spread, is right; the paper's subsets overlap.

    Args:
        x: features of one sample `[N, F]`.
        y: those of the other `[M, F]`.
        blocks: into how many the rows are divided.
        seed: decides which rows come together.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        UsageError: if there are fewer than 2 blocks.
        DataError: if a block has fewer than 2 rows, or a value is not finite.

    >>> rows = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> kernel_distance(rows.repeat(9, 1), 0 * rows.repeat(9, 1), blocks=2).n
    18
    """
    if not isinstance(blocks, int) or blocks < 2:
        raise UsageError(f"the number of blocks cannot be {blocks}", expected="2 or more")
    x, y = checked_samples(x, y, least=2 * blocks)
    draws = generator(Stream.EVALUATION, seed)
    parts = [rows[torch.randperm(len(rows), generator=draws)].tensor_split(blocks) for rows in (x, y)]
    found = torch.stack([_block_distance(a, b) for a, b in zip(*parts, strict=True)])
    return Number(float(found.mean()), float(found.std()) / math.sqrt(blocks), kind="estimate", n=len(x))


def neighbourhoods(rows: Tensor, real: Tensor, *, near: int = NEAR, wide: int = WIDE) -> Neighbourhoods:
    """Return precision, recall, density and coverage of a sample, from the distances of features.

    A row's k-neighbourhood is the ball around it that reaches to its k-th nearest other row of its own sample, border
    included. Precision is the share of the sample in real neighbourhoods of k = `near`, recall the share of real rows
    in those of the sample (Kynkaanniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2). Density is the mean number of
    real neighbourhoods of k = `wide` that a row of the sample lies in, over k, and coverage the share of them with such
    a row inside (Naeem et al. 2020, arXiv 2002.09797). Of two equally large samples of one continuous distribution
    density is 1 and coverage about 1 - 2^-k on average; precision and recall are below 1, too. Features that many rows
    share, as those of categories, make the neighbourhoods points and density large.

    Args:
        rows: features of the sample `[N, F]`.
        real: features of real rows `[M, F]`.
        near: k of precision and recall.
        wide: k of density and coverage.

    Raises:
        ShapeError: if these are no two samples of one dimension.
        UsageError: if a k is below 1.
        DataError: if one has not more rows than k, or a value is not finite.

    >>> rows = torch.arange(12.0)[:, None]
    >>> found = neighbourhoods(rows, rows)
    >>> found.precision, found.recall, found.coverage
    (1.0, 1.0, 1.0)
    >>> neighbourhoods(rows + 100, rows).density
    0.0
    """
    for k in (near, wide):
        if not isinstance(k, int) or k < 1:
            raise UsageError(f"a neighbourhood cannot reach to neighbour {k}", expected="a whole number above 0")
    rows, real = checked_samples(rows, real, least=max(near, wide) + 1)
    centre = real.mean(0)
    rows, real = rows - centre, real - centre
    # a row on a border, such as a copy of a real one, is inside however the product rounds
    slack = 1e-12 * float(torch.cat([rows, real]).square().sum(1).max())
    narrow, broad = (_reach(real, k) + slack for k in (near, wide))
    own = _reach(rows, near) + slack
    in_real, counts = [], []
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    for part, reach in zip(_blocks(rows, len(real)), _blocks(own, len(real)), strict=True):
        squares = _squares(part, real)
        inside = squares <= broad
        in_real.append((squares <= narrow).any(1))
        counts.append(inside.sum(1))
        covered |= inside.any(0)
        recalled |= (squares <= reach[:, None]).any(0)
    precision, density = torch.cat(in_real).double().mean(), torch.cat(counts).double().mean() / wide
    return Neighbourhoods(
        float(precision), float(recalled.double().mean()), float(density), float(covered.double().mean())
    )


def _block_distance(x: Tensor, y: Tensor) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def others(a: Tensor) -> Tensor:
        every = kernel(a, a)
        return (every.sum() - every.diagonal().sum()) / (len(a) * (len(a) - 1))

    return others(x) + others(y) - 2 * kernel(x, y).mean()


def _blocks(rows: Tensor, against: int) -> tuple[Tensor, ...]:
    return rows.split(max(_PAIRS // against, 1))


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1)[:, None])


def _reach(rows: Tensor, k: int) -> Tensor:
    """Return the squared distance of each row to its k-th nearest other row, `[N]`."""
    # the row itself is the nearest of all, at distance 0
    return torch.cat([_squares(part, rows).kthvalue(k + 1, 1).values for part in _blocks(rows, len(rows))])


def _warnings(train: Dataset, show: Show) -> list[str]:
    said = []
    if show == "mean":
        said.append("samples are means of p(x|z), which vary less than the model's own draws")
    if train.weight is not None:
        said.append("the rows' weights are not used: each real row counts once")
    mask = train.mask_values()
    if mask is not None and not bool(mask.all()):
        said.append("rows with missing cells are left out")
    return said


def _whole(rows: Dataset) -> Dataset:
    """Return the rows without missing cells."""
    mask = rows.mask_values()
    return rows if mask is None else rows.rows(mask.flatten(1).all(1).nonzero()[:, 0])


def _number(num: int, train: Dataset, held: Dataset) -> int:
    if not isinstance(num, int) or num < FEWEST:
        raise UsageError(f"{num} samples cannot be compared", expected=f"a whole number of {FEWEST} or more")
    for rows in (train, held):
        if len(rows) < FEWEST:
            raise DataError(
                f"{rows.spec.name} has {len(rows)} {rows.split} rows to compare samples with",
                expected=f"{FEWEST} or more without missing cells",
            )
    return min(num, len(train), len(held))


def _some(rows: Dataset, num: int, seed: int, place: int) -> Dataset:
    """Return a random choice of rows, in their order."""
    order = torch.randperm(len(rows), generator=generator(Stream.EVALUATION, seed, place))
    return rows.rows(order[:num].sort().values)


def _cell(number: Number) -> str:
    spread = "" if number.se is None else f" +- {number.se:.4f}"
    return f"{number.value:.4f}{spread}"
