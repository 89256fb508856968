"""`lowerbound reconstruct RUN`: examples beside what the model makes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.model import VAE, Show
from ..data.dataset import Dataset, SplitName
from ..explore.write import write_reconstructions
from .common import open_with_device, parse, result, rows_of, saved


@dataclass
class Reconstruct:
    """Encode examples, take the posterior's mean, decode it: originals beside reconstructions (PNG or CSV)."""

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    data: str | None = None
    """Other data than the run's own: a name or a path."""
    split: SplitName = "test"
    """Which rows."""
    num: int = 20
    """How many, from the first on."""
    show: Show = "mean"
    """The mean of p(x|z), or a draw from it."""
    seed: int = 0
    """Seed of the draw."""
    out: Path | None = None
    """File to write, without suffix (default: samples/ in the run folder)."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""


def command(words: list[str]) -> int:
    """Run `lowerbound reconstruct`."""
    options = parse(Reconstruct, words, "reconstruct")
    folder, model = open_with_device(options.run, options.device)
    rows = rows_of(folder, model, options.data, options.split)
    out = options.out or folder / "samples" / f"reconstructions-{options.show}"
    path = reconstruct(model, rows, out, options.num, options.show, options.seed)
    result(str(path))
    saved(path, f"lowerbound evaluate {options.run}")
    return 0


def reconstruct(model: VAE, rows: Dataset, out: Path, num: int, show: Show, seed: int) -> Path:
    """Write the first `num` rows and their reconstructions; returns the path."""
    batch = rows.take(num).batch(slice(None))
    made = model.reconstruct(batch.x, batch.y, show=show, seed=seed)
    return write_reconstructions(out, batch.x, made, rows.spec, show)
