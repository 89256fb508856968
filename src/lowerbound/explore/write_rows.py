"""Write numbers of many rows as they come: the file is whole at the end or is not there."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..core.errors import UsageError
from ..ship.files import replaced
from .write import flat_columns, make_folder

Write = Callable[[Mapping[str, np.ndarray]], None]


@contextmanager
def rows_written(path: Path, count: int) -> Iterator[Write]:
    """Give a function that takes the columns of the next rows, `[n]` or `[n, D]` each, until there are `count`.

    Args:
        path: .csv, .parquet or .npz, as `write_values` writes it.
        count: number of rows in all.

    Raises:
        UsageError: if the suffix is another one.
        OutOfResource: if the disk is full.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet", ".npz"):
        raise UsageError(f"numbers cannot be written as {suffix or path.name}", expected=".npz, .csv or .parquet")
    make_folder(path.parent)
    with _arrays(path, count) if suffix == ".npz" else _table(path) as write:
        yield write


@contextmanager
def _table(path: Path) -> Iterator[Write]:
    import pyarrow as pa

    from ..data.table_files import table_writer, whole_file

    with whole_file(path) as file, ExitStack() as stack:
        writers = []

        def write(columns: Mapping[str, np.ndarray]) -> None:
            flat = flat_columns(columns)
            rows = pa.table({name: pa.array(np.ascontiguousarray(values)) for name, values in flat.items()})
            if not writers:
                writers.append(stack.enter_context(table_writer(file, path, rows.schema)))
            writers[0].write_table(rows)

        yield write


@contextmanager
def _arrays(path: Path, count: int) -> Iterator[Write]:
    """Write each column to a file of its own, and pack these at the end."""
    with TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        held: dict[str, np.memmap] = {}
        done = 0

        def write(columns: Mapping[str, np.ndarray]) -> None:
            nonlocal done
            for name, values in columns.items():
                if name not in held:
                    file, shape = Path(folder) / f"{len(held)}.npy", (count, *values.shape[1:])
                    held[name] = np.lib.format.open_memmap(file, "w+", values.dtype, shape)
                held[name][done : done + len(values)] = values
            done += len(next(iter(columns.values())))

        yield write
        with replaced(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, (name, array) in enumerate(held.items()):
                array.flush()
                archive.write(Path(folder) / f"{number}.npy", f"{name}.npy")
