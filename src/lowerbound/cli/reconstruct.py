"""`lowerbound reconstruct RUN`: examples and what the model makes of them."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import torch
from PIL import Image

from ..core.errors import UsageError
from ..core.model import VAE, Show
from ..core.spec import DataSpec
from ..core.walk import Source, mode, unscored, upper
from ..data.dataset import Dataset
from ..explore.modalities import tiles_of
from ..explore.sheets import reconstruction_grid
from ..explore.write import target, write_examples
from .common import RowsOptions, ShownOptions, open_rows
from .mistakes import parse
from .output import wrote

SHOWN = 20


@dataclass(kw_only=True)
class Reconstruct(ShownOptions, RowsOptions):
    """Encode examples, take the posterior's mean, decode it: images beside their originals, rows with their columns."""

    num: int | None = None
    """How many, from the first on (default: 20 images on a sheet, else all rows)."""
    keep: int | None = None
    """Of a ladder, keep what so many of its top levels say of each example and draw the levels below anew."""
    temperature: tuple[float, ...] = (1.0,)
    """Of the levels that --keep draws anew, as in `lowerbound sample`: one, or one for each of them."""


def command(words: list[str]) -> int:
    """Run `lowerbound reconstruct`."""
    options = parse(Reconstruct, words, "reconstruct")
    opened = open_rows(options)
    show = options.show or "mean"
    source = _kept(opened.model, options)
    name = "-".join([f"reconstructions-{show}", *_said(options)])
    path = target(options.out, opened.folder / "samples" / name, opened.spec)
    sheet = path.suffix.lower() == ".png"
    rows = opened.rows.take(_number(options.num, len(opened.rows), sheet=sheet))
    kept = None if options.keep is None else f"the means of the top {_levels(options.keep)}, and draws of those below"
    if kept and _warm(options):
        kept += f" at temperature {' '.join(_warm(options))}"
    reconstruct(opened.model, rows, path, opened.spec, show, options.seed, source, kept)
    return wrote(path, f"lowerbound evaluate {quote(options.run)}", as_json=options.json, num=len(rows), show=show)


def _warm(options: Reconstruct) -> list[str]:
    """Return the temperatures as text; none if there is nothing but 1."""
    return [] if set(options.temperature) == {1.0} else [f"{value:g}" for value in options.temperature]


def _said(options: Reconstruct) -> list[str]:
    """Return what is said in the name of the file of the levels that are drawn anew."""
    if options.keep is None:
        return []
    return [f"keep-{options.keep}", *(["temperature", *_warm(options)] if _warm(options) else [])]


def _kept(model: VAE, options: Reconstruct) -> Source:
    """Return where z comes from: the posterior's means, or those of the top levels and draws below.

    Raises:
        UsageError: if the model has not so many levels, or a temperature means nothing.
    """
    keep, warm = options.keep, options.temperature
    if keep is None:
        if set(warm) != {1.0}:
            raise UsageError("--temperature is of the levels that --keep draws anew", fix="say how many to --keep")
        return mode
    count = len(model.groups)
    if not 0 <= keep <= count:
        raise UsageError(
            f"--keep cannot be {keep}: the model has {count} latent group{'s' * (count > 1)}",
            expected=f"0 to {count}",
        )
    below = warm * (count - keep) if len(warm) == 1 else warm
    if len(below) != count - keep:
        raise UsageError(
            f"{len(warm)} temperatures were given for the {_levels(count - keep)} that --keep {keep} draws anew",
            expected="one, or one for each of them, top to bottom",
        )
    each = (1.0,) * keep + below
    model.check_temperature(each)
    return upper(keep, mode, unscored(each))


def _levels(count: int) -> str:
    return "level" if count == 1 else f"{count} levels"


def _number(asked: int | None, rows: int, *, sheet: bool) -> int:
    return asked if asked is not None else min(rows, SHOWN) if sheet else rows


def reconstruct(
    model: VAE,
    rows: Dataset,
    path: Path,
    spec: DataSpec,
    show: Show,
    seed: int,
    source: Source = mode,
    at: str | None = None,
) -> Path:
    """Write reconstructions of all rows to `path` (beside the originals on a sheet); returns the path.

    `at` says in words which z `source` takes, unless it is the mean of q.
    """
    made, originals = [], []
    for i, batch in enumerate(rows.blocks(1000)):
        originals.append(batch.x.cpu())
        seen = batch.x if batch.seen is None else batch.seen
        made.append(model.reconstruct(seen, batch.y, batch.mask, source=source, show=show, seed=seed + i).cpu())
    x, original, seen = torch.cat(made), torch.cat(originals), rows.seen_values()

    def sheet() -> Image.Image:
        shown = None if seen is None else seen.cpu()
        binarized = rows.spec.binarized
        (images, own), (rebuilt, words) = tiles_of(spec, original, rows.mask_values()), tiles_of(spec, x)
        how = {"seen": shown, "binarized": binarized, "support": spec.support, "at": at, "words": (own, words)}
        return reconstruction_grid(images, rebuilt, show, **how)

    return write_examples(path, x, spec, sheet, y=rows.y, beside={"original": (original, rows.mask_values())})
