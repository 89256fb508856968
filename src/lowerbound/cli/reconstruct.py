"""`lowerbound reconstruct RUN`: examples and what the model makes of them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..core.model import VAE, Show
from ..core.spec import DataSpec
from ..data.dataset import Dataset
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


def command(words: list[str]) -> int:
    """Run `lowerbound reconstruct`."""
    options = parse(Reconstruct, words, "reconstruct")
    opened = open_rows(options)
    show = options.show or "mean"
    path = target(options.out, opened.folder / "samples" / f"reconstructions-{show}", opened.spec)
    sheet = path.suffix.lower() == ".png"
    rows = opened.rows.take(_number(options.num, len(opened.rows), sheet=sheet))
    reconstruct(opened.model, rows, path, opened.spec, show, options.seed)
    return wrote(path, f"lowerbound evaluate {options.run}", as_json=options.json, num=len(rows), show=show)


def _number(asked: int | None, rows: int, *, sheet: bool) -> int:
    return asked if asked is not None else min(rows, SHOWN) if sheet else rows


def reconstruct(model: VAE, rows: Dataset, path: Path, spec: DataSpec, show: Show, seed: int) -> Path:
    """Write reconstructions of all rows to `path` (beside the originals on a sheet); returns the path."""
    made, originals = [], []
    for i, batch in enumerate(rows.blocks(1000)):
        originals.append(batch.x.cpu())
        seen = batch.x if batch.seen is None else batch.seen
        made.append(model.reconstruct(seen, batch.y, batch.mask, show=show, seed=seed + i).cpu())
    x, original, seen = torch.cat(made), torch.cat(originals), rows.seen_values()

    def sheet() -> Image.Image:
        shown = None if seen is None else seen.cpu()
        binarized = rows.spec.binarized
        return reconstruction_grid(original, x, show, seen=shown, binarized=binarized, support=spec.support)

    return write_examples(path, x, spec, sheet, y=rows.y, more={"original": original})
