"""`lowerbound decode RUN CODES`: examples from codes."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro
from torch import Tensor

from ..core.codes import Embedded
from ..core.errors import DataError, UsageError
from ..core.model import VAE, spec_of
from ..data.sources import places_in
from ..explore.latents import far_from, latent_shape, on_space, prior_of
from ..explore.sheets import example_grid, sheet_caption
from ..explore.write import read_codes, read_labels, target, write_examples
from .common import RunOptions, ShownOptions, open_model, say_levels
from .mistakes import parse
from .output import say, wrote
from .sample import label_numbers, one_hot

NEAR = 1e-4  # what a table's digits may lose


@dataclass(kw_only=True)
class Decode(ShownOptions, RunOptions):
    """Decode codes, as `encode` writes them: a sheet of images, or rows with the columns of the data."""

    codes: Annotated[Path, tyro.conf.Positional]
    """File of codes: z in .npz or .npy, or columns z0, z1, ... of .csv or .parquet."""
    label: str | None = None
    """The class of all of them, of a conditional model (default: the label of each code in the file)."""


def command(words: list[str]) -> int:
    """Run `lowerbound decode`."""
    options = parse(Decode, words, "decode")
    folder, model, spec = open_model(options)
    show = options.show or "mean"
    codes = read_codes(options.codes, latent_shape(model))
    classes = _classes(model, options, len(codes))
    y = None if classes is None else one_hot(model, classes)
    prior = prior_of(model, y)
    if not isinstance(prior, Embedded):  # of a code book any vectors can be decoded
        given, codes = codes, on_space(model, codes)
        _say_moved(codes, given)
    far = far_from(codes.to(model.device), prior)
    if far:
        say(f"warning: {far} of {len(codes)} codes lie more than 10 standard deviations from the prior's mean")
    say_levels(model)
    path = target(options.out, folder / "samples" / f"decoded-{show}", spec)
    made = model.decode(codes, y, show=show, seed=options.seed)
    write_examples(
        path,
        made,
        spec,
        lambda: example_grid(made, spec, columns=8, caption=sheet_caption("codes", show)),
        y=classes,
    )
    return wrote(path, f"lowerbound sample {quote(options.run)}", as_json=options.json, num=len(codes), show=show)


def _say_moved(codes: Tensor, given: Tensor) -> None:
    """Say how many codes were no points of the model's space."""
    moved = int(((codes - given).abs() > NEAR).flatten(1).any(1).sum())
    if moved:
        say(
            f"{moved} of {len(codes)} codes are no points of this model's space: the points nearest to them are decoded"
        )


def _classes(model: VAE, options: Decode, num: int) -> Tensor | None:
    if options.label is not None or not model.conditional:
        return label_numbers(model, options.label, num)
    labels = read_labels(options.codes)
    if labels is not None and len(labels) != num:
        raise DataError(f"{options.codes.name} has {len(labels)} labels for {num} codes", expected="one for each")
    if labels is None:
        raise UsageError("this model is conditional: each code needs a class", fix="say which: --label CLASS")
    return places_in(spec_of(model).classes, labels, options.codes.name)
