"""What lies at a path: images, arrays, IDX files or a table, read but not yet split or scaled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.spec import Column, DataSpec, Form, Kind, Layout
from .columns import Fitted, Missing, fit_cells, table_spec
from .idx import idx_files, read_idx
from .images import Alpha, has_images, is_image, read_images, split_folders
from .numpy_files import read_arrays
from .splits import Plan
from .stored_sets import SavedSet, is_saved_set, read_set

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet")
ARRAYS = (".npy", ".npz")
PARQUET = ".parquet"
_SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        size: height and width of images, or None for their own.
        channels: 1 or 3 for images, or None for grey if all are.
        alpha: what to do with transparent pixels.
        skip_bad: leave out image files that cannot be read.
        label: label column of a table.
        weight: weight column of a table.
        delimiter: of CSV files.
        encoding: of CSV files.
        texts: columns of a CSV file whose cells are texts whatever they look like.
        whole: True if a test split that the data bring is joined to the other rows.
        codes: columns of a CSV file that hold classes: where one is written as 01, they are texts.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    alpha: Alpha = "refuse"
    skip_bad: bool = False
    label: str | None = None
    weight: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    texts: tuple[str, ...] = ()
    whole: bool = False
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """Images or arrays: x `[N, ...]`, what else belongs to each row, and a test split if there is one."""

    name: str
    x: np.ndarray
    form: Form
    kind: Kind
    layout: Layout | None = None
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    test: tuple[np.ndarray, np.ndarray | None] | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def _own_files(self) -> tuple[str, ...]:
        """The files of x, without those of the test rows."""
        return self.files[: len(self.x)]

    def paired(self, other: "Found") -> np.ndarray:
        """Return the x of `other` in the order of these rows: by file name where both have files, else by place.

        Raises:
            DataError: if a partner is missing.
        """
        order = partners((self.name, len(self.x), self._own_files), (other.name, len(other.x), other._own_files))
        return other.x if order is None else other.x[order]


def partners(one: tuple[str, int, Sequence[str]], other: tuple[str, int, Sequence[str]]) -> np.ndarray | None:
    """Return the place in `other` of the partner of each row of `one`, `[N]`; None if rows are paired by place.

    Args:
        one: name, number of rows, and their files if rows are files.
        other: the same of the partners.

    Raises:
        DataError: if a partner is missing.
    """
    (name, count, files), (other_name, other_count, other_files) = one, other
    if not (files and other_files):
        if count != other_count:
            raise DataError(f"{name} has {count} examples, {other_name} {other_count}", expected="pairs")
        return None
    place = {str(PurePath(file).with_suffix("")): i for i, file in enumerate(other_files)}
    mine = [str(PurePath(file).with_suffix("")) for file in files]
    for called, number, names in ((name, count, set(mine)), (other_name, other_count, set(place))):
        if len(names) < number:
            raise DataError(f"two images of {called} differ in their suffix alone", expected="one of each name")
    lone = [file for file in mine if file not in place] or [file for file in place if file not in set(mine)]
    if lone:
        raise DataError(
            f"{len(lone)} images of {name} and {other_name} have no partner: {', '.join(lone[:5])}",
            expected="the same file names in both folders, whatever their suffix",
        )
    return np.array([place[file] for file in mine])


@dataclass(frozen=True)
class Table:
    """A table with named columns, its label and weight columns taken out."""

    name: str
    table: "pa.Table"
    form: Form
    label: Column | None = None
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    weight_name: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.table.num_rows

    def fit(self, wanted: Sequence[str], plan: Plan, *, missing: Missing, standardize: bool) -> Fitted:
        """Type the columns, and fit them on the training rows.

        Raises:
            DataError: if a column cannot be used, or cells are missing under `missing="error"`.
        """
        from .tables import columns_of, encode

        if not self.table.num_columns:
            raise DataError(
                f"{self.name} has no column beside those of labels and weights",
                expected="a column to model",
                fix="drop --label or --weight",
            )
        columns = columns_of(self.table, wanted, name=self.name)
        cells, notes = encode(self.table, columns, name=self.name)
        lost = int((~cells.observed).sum())
        if lost and missing == "error":
            row, column = np.argwhere(~cells.observed)[0]
            raise DataError(
                f"{self.name} has {lost} missing cells",
                where=f"first in row {row + 1}, column {columns[column].name!r}",
                fix="fill or remove them, or keep them as missing (--missing keep)",
            )
        fitted = fit_cells(cells, columns, plan, standardize=standardize)
        return replace(fitted, notes=(*notes, *fitted.notes))

    def describe(self, fitted: Fitted, *, seed: int) -> tuple[DataSpec, Tensor | None]:
        """Return the spec of these columns, and the labels as numbers."""
        classes = () if self.label is None else self.label.categories
        spec = table_spec(self.name, fitted, classes, seed, self.form)
        return replace(spec, label=self.label, weight=self.weight_name), self.numbers_of(classes)

    def numbers_of(self, classes: tuple[str, ...]) -> Tensor | None:
        """Return the labels as places in `classes`, or None without labels.

        Raises:
            DataError: if a label is none of them.
        """
        return None if self.y is None else places_in(classes, self.y.astype(str).tolist(), self.name)


def places_in(classes: tuple[str, ...], labels: Sequence[str], name: str) -> Tensor:
    """Return each label's place in `classes`, `[N]`.

    Raises:
        DataError: if one is none of them.
    """
    place = {c: i for i, c in enumerate(classes)}
    unknown = sorted({label for label in labels if label not in place})
    if unknown:
        raise DataError(
            f"{name} has rows of the class {unknown[0]!r}, which the model does not know",
            expected=", ".join(classes[:20]),
        )
    return torch.tensor([place[label] for label in labels])


def stem_of(path: Path) -> str:
    """Return what data at a path are called."""
    return path.resolve().name.split(".")[0] or path.resolve().name


def find(path: Path, reading: Reading) -> Found | Table:
    """Read what lies at `path`, a file or a folder.

    Raises:
        DataError: if it is nothing that can be read.
    """
    name = stem_of(path)
    if is_saved_set(path):
        return _saved_set(path, name, reading)
    if path.is_dir():
        return _folder(path, name, reading)
    low = path.name.lower()
    if low.endswith(TABLES):
        return _table(path, name, reading)
    if low.endswith(ARRAYS):
        return _arrays(path, name, reading)
    if is_image(path):
        return _images(path, name, reading)
    return _idx_file(path, name)


def parquet_files(path: Path) -> tuple[Path, ...]:
    """Return the Parquet files at a path: itself, or all data files of a folder, if they are Parquet.

    Raises:
        DataError: if files of several splits lie in one folder.
    """
    if path.is_file():
        return (path,) if path.name.lower().endswith(PARQUET) else ()
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith((".", "_"))]
    data = [p for p in files if p.name.lower().endswith((*TABLES, *ARRAYS))]
    if not data or any(not p.name.lower().endswith(PARQUET) for p in data) or is_saved_set(path) or has_images(path):
        return ()
    starts = {next((s for s in _SPLIT_NAMES if p.name.lower().startswith(s)), "") for p in data}
    if len(starts) > 1:
        raise DataError(
            f"{path} holds Parquet files of several splits: {', '.join(p.name for p in (data[0], data[-1]))}",
            expected="the files of one table: rows are split by seed",
            fix="put those of each split into a folder of their own, and give one",
        )
    return tuple(data)


def _folder(path: Path, name: str, reading: Reading) -> Found | Table:
    try:
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if any("idx" in p.name.lower() and not is_image(p) for p in files):
        return _idx_folder(path, name, reading)
    shards = parquet_files(path)
    if len(shards) > 1:
        from .parquet_shards import read_shards

        return _as_table(read_shards(shards), name, "parquet", reading)
    readable = [p for p in files if p.name.lower().endswith((*TABLES, *ARRAYS))]
    if has_images(path):
        return _images(path, name, reading)
    if len(readable) == 1:
        return find(readable[0], reading)
    if readable:
        raise DataError(
            f"{path} holds {len(readable)} data files: {', '.join(p.name for p in readable[:5])}",
            expected="one",
            fix="give the path of one of them",
        )
    raise DataError(
        f"0 examples in {path}", expected="images, or a CSV, Parquet, NumPy or IDX file (train-images-idx3-ubyte.gz)"
    )


def _saved_set(path: Path, name: str, reading: Reading) -> Found | Table:
    """Read a data set that `datasets` saved: one column of images or arrays, or single values as a table."""
    found = read_set(path, reading.label, whole=reading.whole)
    if not isinstance(found, SavedSet):
        return _as_table(found, name, "parquet", reading)
    x, count = found.rows.read(np.arange(found.rows.shape[0])), found.rows.shape[0] - found.held
    y = found.labels
    test = None if not found.held else (x[count:], None if y is None else y[count:])
    layout = "chw" if found.kind == "image" else None  # as the rows are read
    return Found(name, x[:count], "arrays", found.kind, layout, None if y is None else y[:count], test=test)


def _images(path: Path, name: str, reading: Reading) -> Found:
    options = {"channels": reading.channels, "alpha": reading.alpha, "skip_bad": reading.skip_bad}
    splits = split_folders(path) if path.is_dir() else {}
    if not splits:
        made = read_images(path, size=reading.size, **options)
        y = None if made.labels is None else np.asarray(made.labels)
        return Found(
            name, made.x, "images", "image", "chw", y, files=made.files, notes=_lines(made.notes, made.skipped)
        )
    train = read_images(splits["train"], size=reading.size, **options)
    like = {"size": (train.x.shape[2], train.x.shape[3]), **options, "channels": train.x.shape[1]}
    x, labels, notes = train.x, train.labels, [*_lines(train.notes, train.skipped)]
    files = [f"train/{file}" for file in train.files]
    held = {key: read_images(splits[key], **like) for key in ("valid", "test") if key in splits}
    joined = [key for key in held if key == "valid" or reading.whole]
    for key in joined:
        x = np.concatenate([x, held[key].x])
        files += [f"{key}/{file}" for file in held[key].files]
        labels = _more_labels(labels, held[key].labels, path, key, whole=reading.whole)
    if "valid" in joined and not reading.whole:
        notes.append("the images of the validation folder were joined to the training images, and rows split by seed")
    for made in held.values():
        notes += _lines(made.notes, made.skipped)
    y = None if labels is None else np.asarray(labels)
    test = None
    if "test" in held and not reading.whole:
        files += [f"test/{file}" for file in held["test"].files]  # their places follow those of the other rows
        given = held["test"].labels
        test = held["test"].x, None if given is None else np.asarray(given)
    return Found(name, x, "images", "image", "chw", y, test=test, files=tuple(files), notes=tuple(notes))


def _more_labels(
    labels: tuple[str, ...] | None, more: tuple[str, ...] | None, path: Path, split: str, *, whole: bool
) -> tuple[str, ...] | None:
    """Return the labels of images and of those of another folder joined to them; None if either has none.

    Raises:
        DataError: if the validation images of data to train on have none, and would cost the others theirs.
    """
    if labels is not None and more is None and not whole:
        raise DataError(
            f"the training images lie in one folder for each class, those of the {split} folder do not",
            where=str(path),
            fix="sort them into folders of the same names, or give the path of the training folder alone",
        )
    return None if labels is None or more is None else (*labels, *more)


def _lines(notes: tuple[str, ...], skipped: tuple[str, ...]) -> tuple[str, ...]:
    return (*notes, *(f"skipped {line}" for line in skipped))


def _arrays(path: Path, name: str, reading: Reading) -> Found:
    given = read_arrays(path)
    x, y, test = given.x, given.y, given.test
    if x.ndim < 2:
        raise DataError(f"{path.name} holds single numbers of shape {x.shape}", expected="examples [N, ...]")
    if reading.whole and test is not None:
        x, y, test = _with_test(x, test[0], path), _joined(y, test[1]), None
    return Found(name, x, "arrays", _kind(x), None, y, given.weight, test, notes=given.notes)


def _with_test(x: np.ndarray, test: np.ndarray, path: Path) -> np.ndarray:
    """Return examples and those of a test split in one array.

    Raises:
        DataError: if these have another shape.
    """
    if test.shape[1:] != x.shape[1:]:
        raise DataError(
            f"the test examples of {path.name} have shape {test.shape[1:]}",
            where=str(path),
            expected=f"{x.shape[1:]}, as the others",
        )
    return np.concatenate([x, test])


def _joined(y: np.ndarray | None, more: np.ndarray | None) -> np.ndarray | None:
    return None if y is None or more is None else np.concatenate([y, more])


def _table(path: Path, name: str, reading: Reading) -> Table:
    from .table_files import read_table

    how = {"delimiter": reading.delimiter, "encoding": reading.encoding}
    table = read_table(path, texts=reading.texts, codes=reading.codes, **how)
    return _as_table(table, name, "parquet" if path.name.lower().endswith(".parquet") else "csv", reading)


def _as_table(table: "pa.Table", name: str, form: Literal["csv", "parquet"], reading: Reading) -> Table:
    """Return a table without its label and weight columns, which are kept beside it."""
    from .tables import numbers, texts

    label, y, weight = None, None, None
    known = table.column_names
    if reading.label is not None and (reading.label in known or not reading.whole):
        given, label = texts(table, reading.label)
        y, table = given, table.drop_columns([reading.label])
    if reading.weight is not None and (reading.weight in known or not reading.whole):
        weight = numbers(table, reading.weight)
        table = table.drop_columns([reading.weight])
    return Table(name, table, form, label, y, weight, reading.weight)


def _kind(array: np.ndarray) -> Kind:
    return "image" if array.ndim >= 3 else "table"


def _idx_file(path: Path, name: str) -> Found:
    array = read_idx(path)
    if array.ndim < 2:
        raise DataError(f"{path.name} holds labels or single numbers, not examples", where=str(path))
    if array.shape[0] == 0:
        raise DataError(f"0 examples in {path}", expected="at least 2")
    return Found(name, array, "arrays", _kind(array))


def _idx_folder(folder: Path, name: str, reading: Reading) -> Found:
    files = idx_files(folder)
    if files.alone:
        return _idx_file(files.images, name)
    x, y = read_idx(files.images), None if files.labels is None else read_idx(files.labels)
    if files.test_images is None:
        return Found(name, x, "arrays", _kind(x), None, y)
    test = read_idx(files.test_images), None if files.test_labels is None else read_idx(files.test_labels)
    if reading.whole:
        return Found(name, _with_test(x, test[0], folder), "arrays", _kind(x), None, _joined(y, test[1]))
    return Found(name, x, "arrays", _kind(x), None, y, test=test)
