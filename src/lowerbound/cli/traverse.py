"""`lowerbound traverse RUN`: examples along single latent dimensions."""

from dataclasses import dataclass
from shlex import quote
from typing import Annotated

import torch
import tyro
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..data import Dataset
from ..explore.latents import (
    check_axes,
    encode_rows,
    latent_shape,
    most_used,
    prior_of,
    quantiles,
    shares,
    traversal,
)
from ..explore.sheets import example_grid, sheet_caption
from ..explore.write import target, write_examples
from .common import RowsOptions, ShownOptions, open_rows, say_levels
from .mistakes import parse
from .output import say, wrote
from .sample import label_numbers, one_hot

MOST = 10  # dimensions shown unless asked for
LOOKED_AT = 1000  # rows


@dataclass(kw_only=True)
class Traverse(ShownOptions, RowsOptions):
    """Move one latent dimension at a time over its prior's quantiles and decode: a row of images for each dimension."""

    dims: tuple[int, ...] = ()
    """Which dimensions (default: at most ten, those whose posterior mean varies most over the rows)."""
    steps: int = 11
    """How many values of each."""
    index: int | None = None
    """The row whose code the other dimensions keep (default: the prior's mean)."""
    reach: Annotated[float, tyro.conf.arg(name="range")] = 0.99
    """Share of the prior's probability to move over."""
    label: str | None = None
    """The class, of a conditional model (default: that of the row of --index, else the first)."""


def command(words: list[str]) -> int:
    """Run `lowerbound traverse`."""
    options = parse(Traverse, words, "traverse")
    opened = open_rows(options)
    model, rows, spec = opened.model, opened.rows, opened.spec
    check_axes(model)
    origin_rows = None if options.index is None else _row(rows, options.index)
    classes = _class(options, model, origin_rows)
    y = None if classes is None else one_hot(model, classes)
    prior = prior_of(model, y)
    origin = prior.mean.flatten().cpu() if origin_rows is None else encode_rows(model, origin_rows).mean.flatten()
    below = shares(options.steps, options.reach)
    dims = options.dims or most_used(encode_rows(model, rows.take(LOOKED_AT)), MOST)
    codes = traversal(origin, quantiles(prior, below), dims).unflatten(1, latent_shape(model))
    say_levels(model)
    show = options.show or "mean"
    every = None if classes is None else classes.expand(len(codes))
    made = model.decode(codes, None if every is None else one_hot(model, every), show=show, seed=options.seed)
    path = target(options.out, opened.folder / "samples" / f"traversal-{show}", spec)
    caption = sheet_caption("one dimension a row, at quantiles of its prior", show)
    labels = [f"z{d}" for d in dims]
    heads = [f"{100 * share:.3g}%" for share in below.tolist()]
    write_examples(
        path,
        made,
        spec,
        lambda: example_grid(made, spec, columns=options.steps, caption=caption, labels=labels, heads=heads),
        y=every,
        more={"z": codes.flatten(1), "dims": torch.tensor(dims)},
    )
    of_class = "" if classes is None else f", class {spec.classes[int(classes[0])]}"
    say(f"dimensions {', '.join(map(str, dims))}, {options.steps} values each{of_class}")
    following = f"lowerbound manifold {quote(options.run)}"
    return wrote(path, following, as_json=options.json, dims=list(dims), steps=options.steps)


def _row(rows: Dataset, index: int) -> Dataset:
    if not 0 <= index < len(rows):
        raise UsageError(
            f"there is no row {index} among {len(rows)} {rows.split} rows", expected=f"0 to {len(rows) - 1}"
        )
    return rows.rows(slice(index, index + 1))


def _class(options: Traverse, model: VAE, origin: Dataset | None) -> Tensor | None:
    """Return the class to decode with, `[1]`, of a conditional model."""
    if options.label is None and model.conditional and origin is not None and origin.y is not None:
        return origin.y.cpu()
    return label_numbers(model, options.label, 1)
