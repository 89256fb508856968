"""Tables on disk to data: columns fitted in one pass, rows split by blocks, labels and weights in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..core.errors import DataError, UsageError
from ..core.spec import Column, DataSpec, Form
from .array_blocks import ArrayBlocks
from .arrays import labels_of
from .columns import Fitted, Missing, table_spec
from .csv_blocks import CsvBlocks, csv_blocks
from .dataset import Data, Dataset, SplitName
from .mapped import Memory, held_out, is_mapped, split_blocks
from .mapped_arrays import MappedArrays
from .parquet_shards import parquet_blocks
from .sources import Reading, Table, stem_of
from .splits import Fractions, check_weights, weights_of
from .stored import Spans, Stored
from .stored_tables import TableBlocks, TableRows, check_table, fit_table
from .table_files import whole_columns, written_otherwise


@dataclass(frozen=True)
class MappedTable:
    """A table whose rows stay on disk, with what is read of it: labels and weights."""

    blocks: TableBlocks
    read: Table

    @property
    def form(self) -> Form:
        """What it came as."""
        return self.read.form


def find_table(path: Path, shards: Sequence[Path], reading: Reading, memory: Memory) -> MappedTable | None:
    """Return the Parquet files, or the CSV file, at `path` if their rows stay on disk.

    Args:
        path: file or folder.
        shards: the Parquet files; empty for a CSV file.
        reading: label and weight columns, and how CSV files are read.
        memory: where rows are to be.

    Raises:
        DataError: if it cannot be read.
        UsageError: if a CSV file is to be mapped and cannot be.
    """
    from .tables import numbers, texts

    if memory == "hold" or not (shards or is_mapped(memory, path.stat().st_size)):
        return None
    try:
        whole = parquet_blocks(shards) if shards else _csv(path, reading)
    except UsageError:
        if memory == "map":
            raise
        return None  # a compressed file, or one of another encoding, is read
    bounds, every = whole.bounds, whole.names
    if not is_mapped(memory, int(bounds[-1]) * len(every) * 8) or bounds[-1] < 2:
        return None
    named = [(reading.label, "label"), (reading.weight, "weight")]
    if reading.whole:  # new rows need neither
        named = [(column if column in every else None, what) for column, what in named]
    for column, what in named:
        if column is not None and column not in every:
            raise DataError(f"{path.name} has no column {column!r} for the {what}", expected=", ".join(every[:20]))
    leave = tuple(column for column, _ in named if column is not None)
    (labelled, _), (weighted, _) = named
    y, label = (None, None) if labelled is None else texts(whole.column(labelled), labelled)
    weight = None if weighted is None else numbers(whole.column(weighted), weighted)
    name = stem_of(shards[0] if len(shards) == 1 else path)
    read = Table(name, whole.schema.empty_table(), "parquet" if shards else "csv", label, y, weight, reading.weight)
    return MappedTable(replace(whole, leave=leave), read)


def _csv(path: Path, reading: Reading) -> CsvBlocks:
    """Return a CSV file in blocks, with columns of codes as texts."""
    how = (path, reading.delimiter, reading.encoding)
    whole = csv_blocks(*how, reading.texts)
    names = whole_columns(whole.schema, reading.codes)
    if not names:
        return whole
    again = csv_blocks(*how, (*reading.texts, *names))
    codes = [n for n in names if written_otherwise(again.column(n).column(n), whole.column(n).column(n))]
    return csv_blocks(*how, (*reading.texts, *codes)) if codes else whole


def array_table(found: MappedArrays, name: str) -> MappedTable:
    """Return an array of numbers `[N, D]` as a table whose rows stay on disk; its columns are called x0, x1, ..."""
    found.rows()  # refuses what is none
    blocks = ArrayBlocks(found.x, found.file)
    labels, classes = labels_of(found.y, len(found.x), name)
    y = None if labels is None else np.asarray(classes, object)[labels.numpy()]
    label = None if y is None else Column("label", "category", "string", categories=classes)
    read = Table(name, blocks.schema.empty_table(), "arrays", label, y, found.weight, notes=found.notes)
    return MappedTable(blocks, read)


def mapped_table(
    found: MappedTable,
    columns: Sequence[str],
    *,
    missing: Missing,
    standardize: bool,
    like: DataSpec | None,
    fractions: Fractions,
) -> Data:
    """Return data whose rows stay on disk, in the units of a model.

    Raises:
        DataError: if a column cannot be used.
        UsageError: if they are not to be standardised.
    """
    table, read = found.blocks, found.read
    count = int(table.bounds[-1])
    splits = split_blocks(table.bounds, 0, fractions)
    if not standardize:
        raise UsageError(
            f"{table.called} stays on disk, where columns are standardised", fix="--memory hold, or standardise it"
        )
    if like is None:
        fitted, notes, lost = fit_table(table, columns, splits["train"], read.name)
    else:
        fitted, (notes, lost) = like.columns, check_table(table, like.columns, read.name)
    if lost and missing == "error":
        raise DataError(
            f"{read.name} has {lost:,} missing cells",
            fix="fill or remove them, or keep them as missing (--missing keep)",
        )
    classes = () if read.label is None else read.label.categories
    spec = table_spec(read.name, Fitted(torch.empty(0), None, fitted), classes, fractions.seed, read.form)
    if read.form != "arrays":
        spec = replace(spec, label=read.label, weight=read.weight_name)
    if like is not None:
        spec = replace(like, name=read.name)
        if lost and not like.masked:
            raise DataError(f"{read.name} has {lost:,} missing cells, but the model was trained without any")
    rows = TableRows(table, spec.columns, read.name)
    labels, weight = read.numbers_of(spec.classes) if spec.classes else None, weights_of(read.weight, count, read.name)
    by_row = labels is not None or weight is not None
    places = {name: torch.from_numpy(spans.places()) for name, spans in splits.items()} if by_row else {}
    check_weights(weight, places)
    mean = None if weight is None else weight[places["train"]].mean()
    spec = replace(spec, size=len(splits["train"]))

    def part(split: SplitName, spans: Spans) -> Dataset:
        mask = Stored(rows.mask(), spans) if lost else None
        y = None if labels is None else labels[places[split]]
        own = None if weight is None or mean is None else (weight[places[split]] / mean).float()
        return Dataset(Stored(rows, spans), y, spec, split, mask=mask, weight=own)

    train, valid, test = (part(name, splits[name]) for name in ("train", "valid", "test"))
    data = Data(train, valid, test)
    return replace(data, notes=(*read.notes, *notes, held_out(read.name, rows, data)))
