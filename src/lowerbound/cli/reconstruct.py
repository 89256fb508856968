"""`lowerbound reconstruct RUN`: examples beside what the model makes of them."""

from dataclasses import dataclass
from pathlib import Path

from ..core.model import VAE, Show
from ..data.dataset import Dataset
from ..explore.write import write_reconstructions
from .common import PictureOptions, RowsOptions, open_with_device, parse, result, rows_of, saved


@dataclass(kw_only=True)
class Reconstruct(PictureOptions, RowsOptions):
    """Encode examples, take the posterior's mean, decode it: originals beside reconstructions (PNG or CSV)."""

    num: int = 20
    """How many, from the first on."""
    seed: int = 0
    """Seed of the draw."""


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
