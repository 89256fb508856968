"""What a trained model makes of rows of data, as figures with captions: the part of a report that needs the model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from ..core.errors import DataError, LowerboundError
from ..core.model import VAE, spec_of
from ..core.noise import Stream, generator
from ..core.spec import DataSpec
from ..core.types import Batch
from ..data.dataset import Data, Dataset
from ..data.sequences import to_sequences
from ..evaluation import rate_per_dimension
from ..train.snapshots import read_snapshots
from . import figures
from .latents import (
    Codes,
    below_top,
    between,
    draw_prior,
    draw_rows,
    encode_rows,
    even,
    has_axes,
    has_standard_prior,
    latent_shape,
    manifold,
    most_used,
    prior_of,
    quantiles,
    shares,
    traversal,
)
from .modalities import has_pictures, table_of, tiles_of
from .write import to_array

ROWS = 2000  # looked at for codes
LARGEST = 160  # pixels of a side that a figure shows
SAMPLES, TABLE_ROWS, COLUMNS, STEPS, DIMS, GRID = 40, 10, 10, 11, 8, 16


@dataclass(frozen=True)
class Picture:
    """A figure or a table, its heading, and what it shows; or in place of both why there is nothing.

    Args:
        name: the heading.
        text: what is shown, or why nothing is.
        figure: the figure.
        columns: the table's columns by their names.
    """

    name: str
    text: str
    figure: Figure | None = None
    columns: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What pictures are made of.

    Args:
        model: a trained model that knows its data.
        found: rows as the model wants them, on its device; None if there are none.
        seed: decides everything that is drawn.
        snapshots: folder of what it made in training.
        why: why there are no rows.
    """

    model: VAE
    found: Dataset | None
    seed: int = 0
    snapshots: Path | None = None
    why: str = ""

    @classmethod
    def of(cls, model: VAE, data: Data, *, seed: int = 0, snapshots: Path | None = None) -> "Shown":
        """Return a model with the test rows of its data, or those of the first split that has any."""
        rows = next(split for split in (data.test, data.valid, data.train) if len(split))
        if model.conditional and rows.y is None:
            return cls(model, None, seed, snapshots, f"{rows.spec.name} has no labels, and this model gives p(x|y).")
        return cls(model, rows.matching(spec_of(model)).to(model.device), seed, snapshots)

    @property
    def spec(self) -> DataSpec:
        """What the model was built for."""
        return spec_of(self.model)

    @property
    def rows(self) -> Dataset:
        """The rows.

        Raises:
            DataError: if there are none.
        """
        if self.found is None:
            raise DataError(self.why.removesuffix("."))
        return self.found

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The values drawn as black and white: 0 and 1, or those of the rows where real values leave that range."""
        if self.spec.support != "real" or self.found is None:
            return 0.0, 1.0
        values = self.found.values(slice(100))
        low, high = float(values.min()), float(values.max())
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-6))

    def words(self, x: Tensor, mask: Tensor | None = None) -> list[str]:
        """Return what examples of several modalities are beside their images, in words; none for images alone."""
        return tiles_of(self.spec, x, mask)[1]

    def visible(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return images on the CPU with `limits` brought to 0 and 1, the largest in fewer pixels; masked ones white."""
        low, high = self.limits
        x, _ = tiles_of(self.spec, x, mask)
        x = (x.detach().cpu().float() - low) / (high - low)
        factor = max(x.shape[-2:]) / LARGEST
        if factor <= 1:
            return x
        height, width = (max(1, round(size / factor)) for size in x.shape[-2:])
        return functional.interpolate(x, (height, width), mode="area")

    @property
    def first_rows(self) -> Dataset:
        """The rows whose codes are looked at."""
        return self.rows.take(min(ROWS, len(self.rows)))

    @cached_property
    def codes(self) -> Codes:
        """The codes of the first rows."""
        return encode_rows(self.model, self.first_rows)

    def classes(self, count: int) -> Tensor | None:
        """Return so many one-hot labels, the classes in turn, for a conditional model."""
        if not self.model.conditional:
            return None
        number = self.spec.num_classes
        return torch.eye(number)[torch.arange(count) % number]

    def labels(self, rows: Dataset | None = None) -> Tensor | None:
        """Return the one-hot labels of rows, of those whose codes are looked at by default, for a conditional model."""
        return (self.first_rows if rows is None else rows).labels() if self.model.conditional else None


def pictures(shown: Shown) -> Iterator[Picture]:
    """Yield the pictures of a model, one after the other; what cannot be drawn is said in words."""
    makers: Mapping[str, Callable[[Shown], Picture | None]] = {
        "Samples": samples,
        "Reconstructions": _reconstructions,
        "Reconstructions in the course of training": _by_epoch,
        "What a data point is, and what the model draws": _points,
        "What each latent dimension costs": _rates,
        "Codes and the prior": _aggregate,
        "Where the codes lie": _scatter,
        "Along one dimension at a time": _traversals,
        "From one example to another": _interpolations,
        "The learned manifold": _manifold,
    }
    if shown.found is None:
        kept = ("Samples", "Reconstructions", "Reconstructions in the course of training", "The learned manifold")
        makers = {name: makers[name] for name in kept}
    for name, make in makers.items():
        try:
            made = make(shown)
        except LowerboundError as error:
            made = Picture(name, f"None: {first_line(error)}")
        if made is not None:
            yield replace(made, name=name)


def first_line(error: Exception) -> str:
    """Return what happened, without where and what to do."""
    return (str(error).splitlines() or [type(error).__name__])[0] + "."


def _is_image(shown: Shown) -> bool:
    return has_pictures(shown.spec)


def _given(shown: Shown) -> str:
    names = shown.spec.classes
    more = ", ..." if len(names) > 20 else ""
    return f", classes in turn: {', '.join(names[:20])}{more}" if shown.model.conditional else ""


def _of_first(shown: Shown) -> str:
    """Say of which class is decoded where it is the first, and of a ladder where its other levels are."""
    return (f" Class {shown.spec.classes[0]}." if shown.model.conditional else "") + _levels(shown)


def _levels(shown: Shown) -> str:
    words = below_top(shown.model)
    return f" {words.capitalize()}." if words else ""


def samples(shown: Shown) -> Picture:
    """Return samples: images, or rows of a table in the data's units."""
    if not _is_image(shown):
        return _sampled_rows(shown)
    drawn = shown.model.sample(SAMPLES, shown.classes(SAMPLES), seed=shown.seed)
    made = shown.visible(drawn)
    text = f"{SAMPLES} means of p(x|z) at draws z from the prior, seed {shown.seed}{_given(shown)}."
    if shown.limits != (0.0, 1.0):
        text += f" Black is {shown.limits[0]:.3g}, white {shown.limits[1]:.3g}, here and below."
    if shown.spec.modalities:
        text += " Below each what is not an image, classes by the most probable one."
    return Picture("", text + _note(shown), figures.samples(made, columns=COLUMNS, words=shown.words(drawn)))


def _note(shown: Shown) -> str:
    """Say where draws of the prior may be far from all codes: no bound was optimised, and no prior fitted since."""
    if shown.model.has_density or not has_standard_prior(shown.model, shown.classes(1)):
        return ""
    return " This model has no density: only where its codes follow the prior are such draws like the data."


def _sampled_rows(shown: Shown) -> Picture:
    model, spec, y = shown.model, shown.spec, shown.classes(TABLE_ROWS)
    names, cells = _columns(model.sample(TABLE_ROWS, y, show="draw", seed=shown.seed), spec)
    columns = dict(zip(names, cells, strict=True))
    if y is not None:
        columns[spec.label.name if spec.label else "class"] = [spec.classes[int(i)] for i in y.argmax(1)]
    text = f"{TABLE_ROWS} draws from p(x|z) at draws z from the prior, seed {shown.seed}.{_note(shown)}"
    return Picture("", text, columns=columns)


def _reconstructed_rows(shown: Shown) -> Picture:
    rows = shown.rows.take(min(TABLE_ROWS, len(shown.rows)))
    names, originals = _columns(rows.batch(slice(None)).x, rows.spec, rows.mask_values())
    _, cells = _columns(reconstructed(shown, rows)[1], rows.spec)
    columns = {}
    for name, original, made in zip(names, originals, cells, strict=True):
        columns |= {name: original, f"reconstructed {name}": made}
    what = "the symbols most probable after those before" if shown.spec.kind == "sequence" else "the mean of p(x|z)"
    text = f"The first {len(rows)} {rows.split} examples, each with {what} at the mean of q(z|x)."
    return Picture("", text, columns=columns)


def reconstructed(shown: Shown, rows: Dataset) -> tuple[Batch, Tensor]:
    """Return a batch of these rows, and their reconstructions on the CPU."""
    batch = rows.batch(slice(None))
    made = shown.model.reconstruct(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask, seed=shown.seed)
    return batch, made.cpu()


def _columns(x: Tensor, spec: DataSpec, mask: Tensor | None = None) -> tuple[list[str], list[list[Any]]]:
    """Return names and cells of the data's columns; cells where `mask` is 0 are None."""
    from ..data.tables import to_table

    observed = None if mask is None else mask.cpu().numpy() > 0
    if spec.columns:
        table = to_table(x.detach().cpu().float().flatten(1).numpy(), spec.columns, observed=observed)
        return table.column_names, [column.to_pylist() for column in table.columns]
    if spec.modalities:
        found = table_of(spec, x, mask)
        return list(found), [_listed(cells) for cells in found.values()]
    if spec.kind == "sequence":
        return ["text"], [[row if isinstance(row, str) else " ".join(row) for row in to_sequences(x, spec)]]
    flat = to_array(x, spec).reshape(len(x), -1)
    return [f"x{i}" for i in range(flat.shape[1])], [column.tolist() for column in flat.T]


def _listed(cells: Any) -> list[Any]:
    """Return cells of a column, an Arrow array or a list, as a list."""
    return cells if isinstance(cells, list) else cells.to_pylist()


def _reconstructions(shown: Shown) -> Picture | None:
    if not _is_image(shown):
        return _reconstructed_rows(shown)
    batch, made = reconstructed(shown, shown.rows.take(min(2 * COLUMNS, len(shown.rows))))
    seen = None if batch.seen is None else shown.visible(batch.seen)
    text = (
        f"The first {len(made)} {shown.rows.split} examples, and below each the mean of p(x|z) at the mean of q(z|x)."
    )
    own = shown.visible(batch.x, batch.mask if shown.spec.modalities else None)
    words = (shown.words(batch.x, batch.mask), shown.words(made))
    figure = figures.reconstructions(own, shown.visible(made), columns=COLUMNS, seen=seen, words=words)
    return Picture("", text, figure)


def _by_epoch(shown: Shown) -> Picture | None:
    kept = read_snapshots(shown.snapshots) if shown.snapshots is not None else {}
    if not kept:
        return None
    originals = shown.visible(next(iter(kept.values()))["originals"])
    made = {epoch: shown.visible(held["reconstructions"]) for epoch, held in kept.items()}
    figure = figures.reconstructions_by_epoch(originals, made)
    return Picture("", "Reconstructions of the same examples after so many epochs.", figure)


def _points(shown: Shown) -> Picture | None:
    spec = shown.spec
    if spec.kind != "points" or spec.dims != 2 or spec.modalities:
        return None
    data = shown.rows.values(slice(1000)).flatten(1).cpu()
    drawn = shown.model.sample(len(data), shown.classes(len(data)), show="draw", seed=shown.seed).flatten(1).cpu()
    figure = figures.point_clouds({f"{shown.rows.split} data": data, "draws from the model": drawn})
    text = (
        f"{len(data)} {shown.rows.split} examples, and as many draws from p(x|z) with z from the prior.{_note(shown)}"
    )
    return Picture("", text, figure)


def _rates(shown: Shown) -> Picture | None:
    if not shown.model.has_density:
        return None
    rates = rate_per_dimension(shown.model, shown.first_rows)
    alone = len(shown.model.groups) == 1
    mean = "mean" if shown.rows.weight is None else "weighted mean"
    text = f"KL(q(z_d|x) || p(z_d)) of each dimension{'' if alone else ' of the top latent'}, {mean} over the examples"
    text += ": they sum to the rate." if alone else "."
    return Picture("", text, figures.rate_per_dimension(rates.float()))


def _aggregate(shown: Shown) -> Picture:
    rows = _by_weight(shown.first_rows, shown.seed)
    draws, y = draw_rows(shown.model, rows, seed=shown.seed).flatten(1), shown.labels(rows)
    against = None
    if not has_standard_prior(shown.model, y):
        against = draw_prior(shown.model, y, len(draws), seed=shown.seed).flatten(1)
    dims = most_used(shown.codes, 6)
    chosen = "" if rows.weight is None else ", drawn by their weights"
    text = (
        f"One draw from q(z|x) for each of {len(draws)} {rows.split} examples{chosen}, against the prior: samples are "
        "good only where the two agree. The dimensions whose means vary most come first."
    )
    return Picture("", text, figures.aggregate_against_prior(draws, against, dims=dims))


def _by_weight(rows: Dataset, seed: int) -> Dataset:
    """Return the rows, or where they have weights as many drawn by these: q(z) is the mean of q(z|x) by weight."""
    if rows.weight is None or not bool(rows.weight.any()):
        return rows
    weight = rows.weight.double().cpu()
    chosen = torch.multinomial(weight, len(rows), replacement=True, generator=generator(Stream.SHOWN, seed, 3))
    return rows.rows(chosen.to(rows.x.device))


def _scatter(shown: Shown) -> Picture | None:
    codes = shown.codes
    mean, scale = codes.mean.flatten(1), codes.scale.flatten(1)
    if mean.shape[1] < 2:
        return None
    dims = most_used(codes, 2)
    rows = shown.rows
    labels = None if rows.y is None else rows.y[: len(mean)].cpu()
    spread = scale if bool((scale > 0).any()) else None
    standard = has_standard_prior(shown.model, shown.labels())
    figure = figures.latent_scatter(mean, spread, labels, rows.spec.classes, dims=(dims[0], dims[1]), circles=standard)
    text = f"Means of q(z|x) of {len(mean)} {rows.split} examples in the two dimensions that vary most"
    text += "." if spread is None else "; ellipses: one standard deviation of q(z|x) of some of them."
    return Picture("", text, figure)


def _traversals(shown: Shown) -> Picture | None:
    if not _is_image(shown) or not has_axes(shown.model):
        return None
    y = shown.classes(1)
    prior, below = prior_of(shown.model, y), shares(STEPS)
    dims = most_used(shown.codes, DIMS)
    codes = traversal(prior.mean.flatten().cpu(), quantiles(prior, below), dims).unflatten(1, latent_shape(shown.model))
    decoded = shown.model.decode(codes, None if y is None else y.expand(len(codes), -1))
    text = f"One dimension at a time over quantiles of the prior, the others at the prior's mean.{_of_first(shown)}"
    how = {"dims": dims, "probabilities": below.tolist(), "words": shown.words(decoded)}
    return Picture("", text, figures.traversals(shown.visible(decoded), **how))


def _interpolations(shown: Shown) -> Picture | None:
    written = shown.spec.kind == "sequence"
    if not (written or _is_image(shown)) or len(shown.rows) < 2:
        return None
    first, second = _two(shown)
    ends = shown.codes.mean[[first, second]]
    made = {}
    for name, slerp in (("linear", False), ("spherical", True)):
        codes = between(shown.model, ends[0], ends[1], STEPS, slerp=slerp)
        y = shown.rows.labels(slice(first, first + 1)) if shown.model.conditional else None
        made[name] = shown.model.decode(codes, None if y is None else y.expand(len(codes), -1)).cpu()
    text = f"From {shown.rows.split} example {first} to example {second}, on a line and on an arc around 0."
    text += _levels(shown)
    if written:
        ways = {name: _columns(x, shown.spec)[1][0] for name, x in made.items()}
        text += " Each text has the symbols most probable after those before."
        return Picture("", text, columns={"share of the way": [f"{i / (STEPS - 1):.0%}" for i in range(STEPS)], **ways})
    words = [word for x in made.values() for word in shown.words(x)]
    return Picture("", text, figures.interpolations({k: shown.visible(x) for k, x in made.items()}, words=words))


def _two(shown: Shown) -> tuple[int, int]:
    """Return two rows: of different classes, or of one class where the model is conditional."""
    y = shown.rows.y
    if y is None:
        return 0, 1
    found = (y[:ROWS] == y[0]) if shown.model.conditional else (y[:ROWS] != y[0])
    others = [i for i in torch.nonzero(found).flatten().tolist() if i]
    return 0, others[0] if others else 1


def _manifold(shown: Shown) -> Picture | None:
    if not _is_image(shown) or not has_axes(shown.model) or torch.Size(latent_shape(shown.model)).numel() != 2:
        return None
    y = shown.classes(1)
    prior = prior_of(shown.model, y)
    grids = {
        "equal steps, 3 sd to each side": even(prior, GRID, 3.0),
        "equal probability (inverse CDF)": quantiles(prior, shares(GRID, 1 - 1 / GRID)),
    }
    made = {}
    for name, values in grids.items():
        z = manifold(prior.mean.flatten().cpu(), values, (0, 1)).unflatten(1, latent_shape(shown.model))
        made[name] = shown.visible(shown.model.decode(z, None if y is None else y.expand(len(z), -1)))
    text = f"Means of p(x|z) over the latent plane, by two ways to place the codes.{_of_first(shown)}"
    return Picture("", text, figures.learned_manifold(made, steps=GRID))
