"""`lowerbound interpolate RUN --from A --to B`: examples on the way from one to another."""

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import torch
import tyro

from ..core.errors import UsageError
from ..core.model import VAE, spec_of
from ..core.spec import DataSpec
from ..data import Dataset, load_rows
from ..explore.latents import between, encode_rows
from ..explore.sheets import example_grid, sheet_caption
from ..explore.write import target, write_examples
from .common import RowsOptions, ShownOptions, open_model, rows_of, say_levels
from .mistakes import parse
from .output import say, wrote
from .sample import label_numbers, one_hot

COLUMNS = 12


@dataclass(kw_only=True)
class Interpolate(ShownOptions, RowsOptions):
    """Decode codes on the way from one example to another, both ends included."""

    start: Annotated[str, tyro.conf.arg(name="from")]
    """Where to start: the number of a row, from 0, or an image file."""
    end: Annotated[str, tyro.conf.arg(name="to")]
    """Where to end: the number of a row, or an image file."""
    steps: int = 12
    """How many examples, both ends included."""
    slerp: bool = False
    """Along an arc around 0 in place of a line."""
    label: str | None = None
    """The class of all of them, of a conditional model (default: that of the ends)."""


def command(words: list[str]) -> int:
    """Run `lowerbound interpolate`."""
    options = parse(Interpolate, words, "interpolate")
    folder, model, spec = open_model(options)
    numbered = any(_number(word) is not None for word in (options.start, options.end))
    rows = rows_of(folder, model, options) if numbered else None
    ends = [_end(word, rows, spec, options).matching(spec) for word in (options.start, options.end)]
    label = _label(options, model, ends)
    a, b = (encode_rows(model, _of_class(end, label, spec)).mean[0] for end in ends)
    codes = between(model, a, b, options.steps, slerp=options.slerp)
    classes = None if label is None else torch.full((len(codes),), label)
    y, show = None if classes is None else one_hot(model, classes), options.show or "mean"
    made = model.decode(codes, y, show=show, seed=options.seed)
    say_levels(model)
    way = "arc" if options.slerp else "line"
    caption = sheet_caption(f"from {options.start} to {options.end} on {'an' if way == 'arc' else 'a'} {way}", show)
    path = target(options.out, folder / "samples" / f"interpolation-{way}-{show}", spec)
    write_examples(
        path,
        made,
        spec,
        lambda: example_grid(made, spec, columns=COLUMNS, caption=caption),
        y=classes,
        more={"z": codes.flatten(1)},
    )
    return wrote(path, f"lowerbound traverse {quote(options.run)}", as_json=options.json, num=len(made), show=show)


def _number(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None


def _end(word: str, rows: Dataset | None, spec: DataSpec, options: Interpolate) -> Dataset:
    """Return one row: that of a number, or the image at a path.

    Raises:
        UsageError: if there is no such row or path, or the path holds several images.
    """
    number = _number(word)
    if number is not None and rows is not None:
        if not 0 <= number < len(rows):
            raise UsageError(
                f"there is no row {word} among {len(rows)} {rows.split} rows", expected=f"0 to {len(rows) - 1}"
            )
        return rows.rows(slice(number, number + 1))
    if not Path(word).exists():
        raise UsageError(f"there is no file {word!r}", expected="the number of a row, from 0, or the path of an image")
    found, notes = load_rows(
        word, spec, alpha=options.alpha, skip_bad=options.skip_bad,
        delimiter=options.delimiter, encoding=options.encoding,
    )  # fmt: skip
    for line in notes:
        say(line)
    if len(found) != 1:
        raise UsageError(f"{word} holds {len(found)} examples", expected="one, or the number of a row")
    return found


def _label(options: Interpolate, model: VAE, ends: list[Dataset]) -> int | None:
    """Return the class number to decode with, of a conditional model; the ends' own unless one is asked for."""
    if options.label is not None or not model.conditional:
        asked = label_numbers(model, options.label, 1)
        return None if asked is None else int(asked[0])
    own = [None if end.y is None else int(end.y[0]) for end in ends]
    if own[0] is None or own[0] != own[1]:
        raise UsageError(
            "this model is conditional, and the ends have no class in common", fix="say which: --label CLASS"
        )
    say(f"class {spec_of(model).classes[own[0]]}, as both ends")
    return own[0]


def _of_class(end: Dataset, label: int | None, spec: DataSpec) -> Dataset:
    """Return an end with a class for the encoder: its own, or the one that is decoded with."""
    if label is None or end.y is not None:
        return end
    return replace(end, y=torch.full((1,), label, device=end.x.device), spec=replace(end.spec, classes=spec.classes))
