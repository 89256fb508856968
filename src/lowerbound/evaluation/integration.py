"""log p(x), the ELBO and the exact posterior by integration over z, for models whose latent has one or two dimensions.

The integrand p(x|z) p(z) is summed over the centres of equal cells. For a smooth function that vanishes at the edge
this converges faster than any power of the width: once cells are as wide as the posterior's standard deviation, the
relative error is about 1e-8. Cells without mass are dropped and the others halved until log p(x) no longer moves.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.distribution import Distribution
from ..core.errors import NoDensity, UsageError
from ..core.model import VAE, Group, inference
from ..core.noise import Stream, seeded
from ..core.rules import check_values
from ..core.types import Batch
from ..data.dataset import Dataset
from .likelihood import Units, log_volume, no_density_reason

REACH = 8.0  # the box ends so many standard deviations of the prior from its mean; 1e-15 of the prior lies outside
HALVINGS = 12  # at most
MARGIN = 35.0  # a cell this many nats below the best one is dropped: exp(-35) = 6e-16
COARSE_MARGIN = 64.0  # added for the first cells, whose centres may lie far from the peak in them
EDGE = 1e-6  # more of the mass than this in the outermost cells: the posterior leaves the box
BLOCK_ROWS = 50
BLOCK_CELLS = 2048  # cells scored at once
Q_REACH, Q_POINTS = 6.0, 25  # of the grid under q, in its standard deviations and points a dimension


@dataclass(frozen=True)
class Integrals:
    """What integration over z gives for each row, float64 on the CPU, in nats.

    Args:
        log_px: log p(x), `[N]`.
        error: |log p(x) less its value with cells twice as wide|, `[N]`; the error of those wider cells, and so far
            more than that of `log_px`. Infinite where the posterior reaches the edge of the box.
        elbo: E_q[log p(x, z) - log q(z|x)], `[N]`.
        elbo_error: the same difference for the ELBO, `[N]`.
        mean: mean of the exact posterior p(z|x), `[N, D]`.
        covariance: its covariance, `[N, D, D]`.
    """

    log_px: Tensor
    error: Tensor
    elbo: Tensor
    elbo_error: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def gap(self) -> Float[Tensor, " N"]:
        """KL(q(z|x) || p(z|x)) = log p(x) - ELBO, `[N]`."""
        return self.log_px - self.elbo


def integrate(
    model: VAE, data: Dataset, *, points: int = 64, tolerance: float = 1e-4, units: Units = "data"
) -> Integrals:
    """Integrate over z for each row: log p(x), the ELBO, and mean and covariance of the exact posterior.

    Nothing is drawn. A model in float32 rounds log p(x|z) to about 1e-7 of its size, which no error estimate shows;
    `model.double()` does not.

    Args:
        model: the model; evaluated in evaluation mode without gradients, and left in the mode it was in.
        data: rows as the model wants them (`Dataset.matching`).
        points: cells a dimension at the start. A second mode much narrower than such a cell can be missed.
        tolerance: cells of a row are halved, at least twice, until log p(x) moves by less than this, in nats.
        units: "data" or "model": whose units densities of standardised columns are in (see `score`).

    Raises:
        UsageError: if the model has not one continuous latent of 1 or 2 dimensions, or a setting is impossible.
        NoDensity: if the model has no density.
    """
    if not isinstance(points, int) or points < 8:
        raise UsageError(f"a grid cannot have {points} points a dimension", expected="a whole number of at least 8")
    if not tolerance > 0:
        raise UsageError(f"the tolerance cannot be {tolerance:g}", expected="a number of nats above 0")
    _check_model(model)
    if not len(data):
        raise UsageError(f"{data.spec.name} has 0 {data.split} examples", expected="at least 1")
    check_values(model.decoder.family, data.support, data.spec.name)
    found = []
    with inference(model), seeded(Stream.EVALUATION, 0):
        for batch in data.to(model.device).blocks(BLOCK_ROWS):
            joint = _Joint(model, batch)
            found.append((*_refine(joint, points, tolerance), *_bound(joint)))
    log_px, error, mean, covariance, elbo, elbo_error = (torch.cat(column).cpu() for column in zip(*found, strict=True))
    volume = log_volume(data, units)
    return Integrals(log_px - volume, error, elbo - volume, elbo_error, mean, covariance)


def log_joint(model: VAE, batch: Batch, z: Float[Tensor, "M *latent"]) -> Float[Tensor, "M B"]:
    """Return log p(x, z) in nats of each row of the batch at each code, float64.

    Raises:
        UsageError: if the model has not one continuous latent of 1 or 2 dimensions.
        NoDensity: if the model has no density.
    """
    _check_model(model)
    with inference(model):
        return _Joint(model, batch).everywhere(z.flatten(1))


def _check_model(model: VAE) -> None:
    if not model.has_density:
        raise NoDensity(no_density_reason(model), fix="use a variational recipe, such as `vae`")
    groups = [g for g in model.groups if isinstance(g, Group)]
    expected = "one continuous latent of 1 or 2 dimensions"
    if len(groups) != 1:
        raise UsageError(f"a ladder of {len(groups)} latent groups cannot be integrated on a grid", expected=expected)
    if groups[0].prior_estimated:
        raise UsageError(
            "a latent whose log p(z) is an estimate cannot be integrated on a grid",
            expected="a prior with a density of its own",
            fix="use score, which samples",
        )
    if model.decoder.family.estimated:
        raise UsageError(
            f"log p(x|z) of {type(model.decoder.family).__name__} is a draw, which a grid would take for its value",
            expected="a likelihood with a density of its own",
            fix="use score, which samples",
        )
    dims = math.prod(groups[0].posterior_family.event_shape)
    if groups[0].prior_discrete or groups[0].prior_support != "real" or not 1 <= dims <= 2:
        kind = "discrete" if groups[0].prior_discrete else f"of {dims} dimensions"
        kind = kind if groups[0].prior_support == "real" or groups[0].prior_discrete else "of bounded values"
        raise UsageError(
            f"a latent {kind} cannot be integrated on a grid", expected=expected, fix="use score, which samples"
        )


class _Joint:
    """log p(x, z) of the rows of one batch."""

    def __init__(self, model: VAE, batch: Batch) -> None:
        self.kind = next(model.parameters(), batch.x).dtype
        given = {name: getattr(batch, name) for name in ("x", "seen", "y", "mask")}
        self.batch = replace(batch, **{name: t.to(self.kind) for name, t in given.items() if t is not None})
        self.model, self.rows = model, batch.x.shape[0]
        group = model.groups[0]
        assert isinstance(group, Group)
        self.group, self.shape = group, tuple(group.posterior_family.event_shape)
        self.dims = math.prod(self.shape)
        self.prior: Distribution = group.prior(None, self.batch.y, model.infer)
        events = (self.rows, *self.shape)
        self.centre = self.prior.mean.expand(events).flatten(1).double()
        self.reach = REACH * self.prior.variance.sqrt().expand(events).flatten(1).double()

    def q(self) -> Distribution:
        """Return the posterior that the encoder gives, batch shape `[B]`."""
        seen = self.batch.x if self.batch.seen is None else self.batch.seen
        return self.model.infer(seen, self.batch.y, self.batch.mask)

    def everywhere(self, z: Tensor) -> Tensor:
        """Return log p(x, z) `[M, B]` at each of the codes z `[M, D]`, or of codes for each row `[M, B, D]`."""
        if z.ndim == 2:
            z = z[:, None]
        step = max(1, BLOCK_CELLS // self.rows)
        return torch.cat([self._score(part, slice(None)) for part in z.split(step)])

    def at(self, row: Tensor, z: Tensor) -> Tensor:
        """Return log p(x, z) `[P]` of row `row[i]` at the code `z[i]`, z `[P, D]`."""
        pairs = zip(row.split(BLOCK_CELLS), z.split(BLOCK_CELLS), strict=True)
        return torch.cat([self._score(z_part[None], row_part)[0] for row_part, z_part in pairs])

    def _score(self, z: Tensor, row: Tensor | slice) -> Tensor:
        """Return log p(x, z) of z `[M, B, D]` or `[M, 1, D]` and the rows chosen."""
        x = self.batch.x[row]
        y = None if self.batch.y is None else self.batch.y[row]
        mask = None if self.batch.mask is None else self.batch.mask[row]
        z = z.to(self.kind).unflatten(-1, self.shape)
        prior = self.prior if self.batch.y is None else self.group.prior(None, y, self.model.infer)
        log_px = self.model.decoder(self.group.merge(None, z), y).log_prob(x, mask)
        return log_px.double() + prior.log_prob(z).double()

    def places(self, row: Tensor, cell: Tensor, width: float) -> Tensor:
        """Return the centres `[P, D]` of cells, numbered `[P, D]` from the corner of the box of their row."""
        return self.centre[row] + self.reach[row] * ((cell + 0.5) * width - 1)

    def log_size(self, width: float) -> Tensor:
        """Return the log of the volume of a cell of each row, `[B]`."""
        return (self.reach * width).log().sum(1)


@dataclass
class _Sums:
    """What a sum over cells gives for each row: log p(x), the share of the outermost cells, mean and covariance."""

    log_px: Tensor
    edge: Tensor
    mean: Tensor
    covariance: Tensor

    def where(self, chosen: Tensor, other: "_Sums") -> "_Sums":
        """Return the rows chosen, and the other rows of `other`."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Sums(*(torch.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _refine(joint: _Joint, points: int, tolerance: float) -> tuple[Tensor, ...]:
    """Halve the cells until log p(x) of each row stands still; return it, the difference, mean and covariance."""
    row, cell = _all_cells(joint, points)
    shared = bool((joint.centre == joint.centre[:1]).all() and (joint.reach == joint.reach[:1]).all())
    z = joint.places(row, cell, 2 / points)
    log_p = joint.everywhere(z[: points**joint.dims]).T.flatten() if shared else joint.at(row, z)
    found, best = _sum_up(joint, row, cell, z, log_p, points)
    edge, error = found.edge, torch.full_like(best, math.inf)
    unsettled = torch.ones_like(best, dtype=torch.bool)
    for halving in range(HALVINGS):
        margin = MARGIN + COARSE_MARGIN / 4**halving  # a peak falls off by the square of the distance from it
        kept = unsettled[row] & (log_p > best[row] - margin)
        row, cell = _halved(row[kept], cell[kept], points << halving)
        z = joint.places(row, cell, 2 / (points << halving + 1))
        log_p = joint.at(row, z)
        finer, best = _sum_up(joint, row, cell, z, log_p, points << halving + 1)
        error = torch.where(unsettled, (finer.log_px - found.log_px).abs(), error)
        found = finer.where(unsettled, found)
        unsettled = unsettled & ((error >= tolerance) | (halving == 0))
        if not unsettled.any():
            break
    return found.log_px, torch.where(edge > EDGE, math.inf, error), found.mean, found.covariance


def _sum_up(joint: _Joint, row: Tensor, cell: Tensor, z: Tensor, log_p: Tensor, count: int) -> tuple[_Sums, Tensor]:
    """Return the sums over the cells of each row, and its largest log p(x, z), `[B]`.

    Args:
        joint: the integrand.
        row: row of each cell, `[P]`.
        cell: their numbers, `[P, D]`.
        z: their centres, `[P, D]`.
        log_p: log p(x, z) there, `[P]`.
        count: cells of the box in each dimension.
    """
    best = log_p.new_full((joint.rows,), -math.inf).scatter_reduce(0, row, log_p, "amax")
    weight = (log_p - best[row]).exp()
    total = _per_row(weight, row, joint.rows)
    outermost = ((cell == 0) | (cell == count - 1)).any(1)
    share = weight / total[row]
    mean = _per_row(share[:, None] * z, row, joint.rows)
    away = z - mean[row]
    covariance = _per_row(share[:, None, None] * away[:, :, None] * away[:, None, :], row, joint.rows)
    log_px = best + total.log() + joint.log_size(2 / count)
    return _Sums(log_px, _per_row(share * outermost, row, joint.rows), mean, covariance), best


def _per_row(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Return the sum over the cells of each row, `[B, ...]`."""
    return values.new_zeros(rows, *values.shape[1:]).index_add(0, row, values)


def _all_cells(joint: _Joint, points: int) -> tuple[Tensor, Tensor]:
    """Return the rows `[P]` and numbers `[P, D]` of all cells of all rows, row by row."""
    device = joint.centre.device
    axis = torch.arange(points, device=device)
    cell = torch.cartesian_prod(*[axis] * joint.dims).reshape(-1, joint.dims)
    row = torch.arange(joint.rows, device=device).repeat_interleave(len(cell))
    return row, cell.repeat(joint.rows, 1)


def _halved(row: Tensor, cell: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the halves of the cells and of their neighbours, where a ridge between two centres may run."""
    dims = cell.shape[1]
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=cell.device)] * dims).reshape(-1, dims)
    near = (cell[:, None] + steps).flatten(0, 1)
    rows = row.repeat_interleave(len(steps))
    inside = ((near >= 0) & (near < count)).all(1)
    key = rows[inside]
    for d in range(dims):
        key = key * count + near[inside, d]
    key = key.unique()
    numbers = []
    for _ in range(dims):
        numbers.insert(0, key % count)
        key = key // count
    halves = torch.cartesian_prod(*[torch.arange(2, device=cell.device)] * dims).reshape(-1, dims)
    children = (2 * torch.stack(numbers, 1)[:, None] + halves).flatten(0, 1)
    return key.repeat_interleave(len(halves)), children


def _bound(joint: _Joint) -> tuple[Tensor, Tensor]:
    """Return the ELBO `[B]` on a grid under q, and how far it is from that of every second point."""
    q = joint.q()
    events = (joint.rows, *joint.shape)
    mean, scale = (t.expand(events).flatten(1).double() for t in (q.mean, q.variance.sqrt()))
    axis = torch.linspace(-Q_REACH, Q_REACH, Q_POINTS, dtype=torch.float64, device=mean.device)
    grid = torch.cartesian_prod(*[axis] * joint.dims).reshape(-1, joint.dims)
    z = mean + scale * grid[:, None]
    log_q = q.log_prob(z.to(q.mean.dtype).unflatten(-1, joint.shape)).double()
    gain = joint.everywhere(z) - log_q
    every_second = (torch.arange(Q_POINTS, device=mean.device) % 2 == 0).double()
    coarse = torch.stack(torch.meshgrid(*[every_second] * joint.dims, indexing="ij")).prod(0).flatten()
    share = log_q.exp()
    elbo = (share * gain).sum(0) / share.sum(0)
    wide = coarse[:, None] * share
    return elbo, (elbo - (wide * gain).sum(0) / wide.sum(0)).abs()
