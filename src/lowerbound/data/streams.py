"""`hf:NAME` and `from_stream`: a Hugging Face data set that is streamed becomes splits; which columns are used."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.errors import DataError, UsageError
from ..core.spec import Binarize
from .arrays import check_choices, labels_of
from .dataset import Data
from .mapped import Mapped, Memory, is_mapped, mapped_data
from .sources import Found, Reading, places_in
from .splits import Fractions
from .stored_sets import SPLITS, class_column, library
from .stored_streams import Pictured, Scan, StreamRows

PREFIX = "hf:"
_MANY = 4  # blocks of a shard, each read from the shard's start


def is_stream(source: str | Path) -> bool:
    """Tell whether a source names a data set that is streamed."""
    return str(source).startswith(PREFIX)


def stream_source(source: str) -> str:
    """Return the name of a data set that is streamed, a path in it absolute."""
    name, config = _named(source)
    path = Path(name)
    return PREFIX + (str(path.resolve()) if path.exists() else name) + (f":{config}" if config else "")


def _named(source: str) -> tuple[str, str | None]:
    """Return name or path, and configuration."""
    text = source.removeprefix(PREFIX)
    if Path(text).exists():
        return text, None
    name, _, config = text.rpartition(":")
    return (name, config) if name else (text, None)


def open_stream(source: str) -> Mapping[str, Any]:
    """Return the splits that `datasets.load_dataset(..., streaming=True)` finds under a name or in a folder.

    Raises:
        UsageError: if `datasets` is not installed, or no name is given.
        DataError: if it finds nothing.
    """
    sets = library()
    name, config = _named(source)
    if not name:
        raise UsageError(f"{source} names no data set", expected="hf:NAME, hf:NAME:CONFIGURATION or hf:FOLDER")
    try:
        return sets.load_dataset(name, config, streaming=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        raise DataError(
            f"datasets.load_dataset finds no data set {name!r}: {reason}",
            where=source,
            expected="a name on the Hugging Face Hub, or a folder of Parquet, Arrow, image, tar or other files",
            fix="check the name; what save_to_disk wrote is given without hf:",
        ) from error


def find_stream(splits: Mapping[str, Any], name: str, reading: Reading, column: str | None = None) -> Mapped:
    """Read a stream once from end to end, and return its rows, which stay where they are.

    Args:
        splits: `datasets.IterableDataset`s by name: train, and validation and test if there are some; or a single one.
        name: what the data are called.
        reading: size, channels and alpha of pictures; the column of the labels.
        column: with images or arrays; None: the only one.

    Raises:
        DataError: if it cannot be read, or which column is to be modelled is not clear.
    """
    parts, held = _parts(splits, name)
    features = parts[0].features or {}
    first = _first(parts[0], name)
    _check_columns(first, name, column, reading.label)
    label = reading.label or (class_column(features) if features else None)
    chosen = column or _candidate(first, name, label)
    names = getattr(features.get(label), "names", None) if label is not None else None
    pictured = Pictured(reading.size, reading.channels, reading.alpha)
    source = StreamRows(parts, chosen, name, features.get(chosen), pictured)
    scan = source.scan(label, names)
    if not scan.blocks:
        raise DataError(f"0 examples in {name}", expected="at least 2")
    count = sum(block.count for block in scan.blocks if not held or block.part < len(parts) - 1)
    if not count:
        raise DataError(f"0 training examples in {name}", expected="at least 2")
    total = int(source.bounds[-1])
    y, classes = (None, ()) if label is None else _labels(scan, names, count, name)
    notes = _notes(source, name)
    form = "images" if source.drawn else "arrays"
    return Mapped(
        name, source, form, source.kind, source.layout, y, classes, total - count, notes=notes, facts=scan.facts
    )


def _parts(splits: Mapping[str, Any], name: str) -> tuple[list[Any], bool]:
    """Return the splits, and whether the last is the test split."""
    if len(splits) == 1:
        return list(splits.values()), False
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or "train" not in splits:
        raise DataError(
            f"{name} has the splits {', '.join(splits)}",
            expected="train, validation and test",
            fix='choose in Python: lowerbound.from_stream({"train": splits["..."], "test": splits["..."]})',
        )
    parts = [splits[split] for split in SPLITS if split in splits]
    return parts, "test" in splits


def _first(stream: Any, name: str) -> Mapping[str, Any]:
    try:
        first = next(iter(stream), None)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise DataError(f"{name} cannot be read: {reason}", fix="check the files it reads") from error
    if first is None:
        raise DataError(f"0 examples in {name}", expected="at least 2")
    return first


def _check_columns(first: Mapping[str, Any], name: str, column: str | None, label: str | None) -> None:
    for given, option in ((column, "--columns"), (label, "--label")):
        if given is not None and given not in first:
            raise DataError(f"{name} has no column {given!r}", expected=", ".join(first), fix=f"correct {option}")


def _candidate(first: Mapping[str, Any], name: str, label: str | None) -> str:
    """Return the one column of images or arrays, as the first row has it; rows of numbers if there are no images."""
    axes = {column: _axes(value) for column, value in first.items() if column != label}
    found = [column for column, n in axes.items() if n in (2, 3)] or [column for column, n in axes.items() if n == 1]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{name} has {len(found)} columns of images or arrays: {', '.join(found)}",
            expected="one",
            fix=f"say which: --columns {found[0]}",
        )
    raise DataError(
        f"{name} has no column of images or arrays: {', '.join(first)}",
        expected="one",
        fix="a table of single values is read as Parquet: --data FOLDER or FILE.parquet, without hf:",
    )


def _axes(value: Any) -> int:
    """Return the number of axes of an image or an array of numbers, 0 for anything else."""
    if isinstance(value, Image.Image):
        return 2
    if not isinstance(value, (list, np.ndarray, torch.Tensor)):
        return 0
    try:
        array = np.asarray(value)
    except ValueError:
        return 0
    return array.ndim if array.dtype.kind in "biuf" and array.size else 0


def _labels(scan: Scan, names: list[str] | None, count: int, name: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Return labels as numbers, and the classes of the rows before the test split, as they are for saved sets."""
    codes = np.concatenate(scan.labels)
    values = names if names is not None else list(scan.values)
    present = np.unique(codes[:count])
    called = np.asarray([values[code] for code in present.tolist()])
    number, classes = labels_of(called, len(called), name)
    assert number is not None
    table = np.full(len(values), -1)
    table[present] = number.numpy()
    if (table[codes] < 0).any():
        places_in(classes, [str(values[code]) for code in np.unique(codes).tolist()], name)  # names the class
    return torch.from_numpy(table[codes]), classes


def _notes(source: StreamRows, name: str) -> tuple[str, ...]:
    if source.most <= _MANY:
        return ()
    return (
        f"{name} has shards of up to {source.most} blocks, each read from the start of its shard: an epoch reads "
        f"about {(source.most + 1) / 2:.0f} times what it needs; more and smaller shards are faster",
    )


def stream_data(
    found: Mapped, memory: Memory, *, binarize: Binarize, scale: int | None, fractions: Fractions, like: Any = None
) -> tuple[Data, bool]:
    """Return data whose rows are streamed, or the same rows in the same order held in memory; and which of both."""
    data = mapped_data(found, binarize=binarize, scale=scale, fractions=fractions, like=like)
    if is_mapped(memory, found.source.shape[0] * found.source.row_bytes):
        return data, True
    held = {name: getattr(data, name).in_memory() for name in ("train", "valid", "test")}
    return replace(data, **held, notes=data.notes[:-1]), False


def held_rows(found: Mapped) -> Found:
    """Return all rows of a stream, read into memory."""
    x = found.source.read(np.arange(found.source.shape[0]))
    y = None if found.labels is None else np.asarray(found.classes)[found.labels.numpy()]
    return Found(found.name, x, found.form, found.kind, "chw" if found.kind == "image" else None, y, notes=found.notes)


def from_stream(
    stream: Any,
    *,
    column: str | None = None,
    label: str | None = None,
    name: str = "stream",
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    scale: int | None = None,
    memory: Memory = "map",
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
) -> Data:
    """Make a `Data` of a Hugging Face data set that is streamed, whose rows are read whenever they are needed.

    All rows are read once before training, and an epoch reads each block once; a stream that gives other rows the
    next time is refused. `resume` takes the same data made again.

    Args:
        stream: a `datasets.IterableDataset`, or a dictionary of them: train, validation, test.
        column: with images or arrays; None: the only one.
        label: column of the labels; None: the only one of class labels.
        name: what to call the data.
        image_size: height and width that pictures are scaled and cut to; None: that of the first.
        channels: 1 or 3 for pictures; None: that of the first.
        scale: stored whole number that means 1; unless given, 255 for bytes.
        memory: "map" leaves rows in the stream; "hold" reads the same rows into memory, "auto" if they fit well.
        binarize: how grey values become 0/1.
        seed: seed of the splits and of every fixed binarisation.
        valid_fraction: share of the training rows held out for validation.
        test_fraction: share of all rows split off, where there is no test split.

    Raises:
        DataError: if rows cannot be read or trained on, or which column is meant is not clear.
        UsageError: if it is no stream, or `datasets` is not installed.
    """
    check_choices(binarize=binarize)
    sets = library()
    splits = stream if isinstance(stream, Mapping) else {"train": stream}
    for part in splits.values():
        if not isinstance(part, sets.IterableDataset):
            raise UsageError(
                f"a stream cannot be a {type(part).__name__}",
                expected="a datasets.IterableDataset",
                fix="load_dataset(..., streaming=True), or dataset.to_iterable_dataset(num_shards=64)",
            )
    found = find_stream(splits, name, Reading(image_size, channels, label=label), column)
    fractions = Fractions(seed, valid_fraction, test_fraction)
    return stream_data(found, memory, binarize=binarize, scale=scale, fractions=fractions)[0]
