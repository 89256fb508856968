"""`lowerbound translate RUN --given label --to image`: one modality of examples made from others."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import UsageError
from ..core.modalities import modality, split, translate
from ..core.model import VAE, Show
from ..core.noise import mix
from ..core.spec import DataSpec
from ..core.walk import from_posterior, mode
from ..data.dataset import Dataset
from ..explore.modalities import only
from ..explore.sheets import WHAT, grid, in_rows, words_in_rows
from ..explore.write import target, write_examples, write_values
from .common import RowsOptions, ShownOptions, open_rows
from .mistakes import parse
from .output import wrote

SHOWN, BLOCK = 20, 1000


@dataclass(kw_only=True)
class Translate(ShownOptions, RowsOptions):
    """Make one modality of examples from others: images beside those of the data, labels with their probabilities."""

    given: tuple[str, ...]
    """Names of the modalities that the encoder sees."""
    to: str
    """Name of the modality that is made."""
    num: int | None = None
    """How many examples, from the first on (default: 20 images on a sheet, else all rows)."""
    draw_z: bool = False
    """Draw z from q(z|given) instead of taking its mean."""


def command(words: list[str]) -> int:
    """Run `lowerbound translate`."""
    options = parse(Translate, words, "translate")
    opened = open_rows(options)
    wanted = modality(opened.spec, options.to).spec
    for name in options.given:
        modality(opened.spec, name)
    if options.to in options.given:
        raise UsageError(f"{options.to} is given and is to be made", expected="another modality")
    show = options.show or "mean"
    name = f"{'+'.join(options.given)}-to-{options.to}-{show}"
    path = target(options.out, opened.folder / "samples" / name.replace("/", "_"), wanted)
    count = len(opened.rows)
    few = min(count, SHOWN) if path.suffix.lower() == ".png" else count
    rows = opened.rows.take(few if options.num is None else options.num)
    made, own, there = made_of(opened.model, rows, options, show)
    if wanted.support == "onehot" and path.suffix.lower() != ".png":
        shares = made if show == "mean" else made_of(opened.model, rows, options, "mean")[0]
        _write_classes(path, made, own, there, wanted, shares)
    else:
        known = bool(there.any())
        beside = {"original": (own, there)} if known else {}
        seen = torch.where(there, own, 1.0)  # white where the data have none
        write_examples(path, made, wanted, lambda: _sheet(rows, seen, made, options, show), beside=beside)
    return wrote(path, f"lowerbound sample {quote(options.run)}", as_json=options.json, num=len(made), show=show)


def made_of(model: VAE, rows: Dataset, options: Translate, show: Show) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is made of the wanted modality, the data's own, and where that is observed, `[N, *shape]` each."""
    made, own, there = [], [], []
    for i, batch in enumerate(rows.blocks(BLOCK)):
        how = {"source": from_posterior if options.draw_z else mode, "show": show, "seed": mix(options.seed, i)}
        made.append(translate(model, batch.x, given=options.given, to=options.to, mask=batch.mask, **how).cpu())
        own.append(split(rows.spec, batch.x)[options.to].cpu())
        known = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        there.append(split(rows.spec, known)[options.to].cpu() > 0)
    return torch.cat(made), torch.cat(own), torch.cat(there)


def _sheet(rows: Dataset, own: Tensor, made: Tensor, options: Translate, show: Show) -> Image.Image:
    """Return what is given, the data's own of what is made, and what is made, one below the other."""
    spec, x, observed = rows.spec, rows.batch(slice(None)).x, rows.mask_values()
    given = [only(spec, x, name, observed) for name in options.given]
    images = [tiles for tiles, _ in given if tiles is not None and tiles.shape == own.shape]
    told = ["\n".join(lines) for lines in zip(*(words for _, words in given if words), strict=True)]
    shown, words, names = [*images, own, made], [*([] for _ in images), told, ()], ["given"] * len(images)
    columns = min(10, len(made))
    z = "a draw from" if options.draw_z else "the mean of"
    caption = f"{options.to} from {' + '.join(options.given)}: {WHAT[show]} at {z} q(z|given)"
    labels = [*names, "data", "made"] * ceil(len(made) / columns)
    below = words_in_rows(words, columns)
    support = modality(spec, options.to).spec.support
    return grid(in_rows(shown, columns), columns=columns, caption=caption, labels=labels, words=below, support=support)


def _write_classes(path: Path, made: Tensor, own: Tensor, there: Tensor, spec: DataSpec, shares: Tensor) -> None:
    """Write the class that is most probable (or drawn), that of the data (empty where missing), and probabilities."""
    names = np.asarray(spec.classes)
    data = np.where(there.all(1).numpy(), names[own.argmax(1).numpy()], "")
    write_values(path, {"made": names[made.argmax(1).numpy()], "data": data, "p": shares.numpy()})
