"""Write examples as they came: images as PNG, arrays as NPZ, texts as lines, tables as CSV or Parquet."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.modalities import modality, split
from ..core.spec import DataSpec
from ..data.images import write_images
from ..data.numpy_files import read_arrays
from ..data.sequences import to_sequences
from ..ship.files import MANIFEST, replaced
from .modalities import has_pictures, table_of

SUFFIXES = (".png", ".npz", ".csv", ".parquet", ".txt")


def target(out: str | Path | None, default: Path, spec: DataSpec) -> Path:
    """Return the file (or folder of images) to write: `out`, or `default` with the suffix in which the data came.

    Args:
        out: what the user asked for: a file with a suffix, or without one; a folder, which ends in / or exists.
        default: file to write without `out`, without suffix.
        spec: what is written.

    Raises:
        UsageError: if the suffix is unknown, the data cannot be written so, or a folder cannot be made.
    """
    usual = _suffixes(spec)[0]
    if out is None:
        return default.with_name(default.name + usual)
    folder = str(out).endswith("/")
    out = Path(out)
    if spec.kind == "image" and (folder or out.is_dir()):
        if spec.support == "real":
            raise UsageError("pixels of any real value do not fit image files", expected="a file of arrays: .npz")
        make_folder(out)
        return out
    suffix = out.suffix.lower()
    if suffix in SUFFIXES:
        fit = _suffixes(spec)
        if suffix not in fit:
            raise UsageError(f"{spec.name} cannot be written as {suffix}", expected=", ".join(fit))
        return out
    if suffix[1:].isalpha() and out.name != suffix:
        raise UsageError(f"nothing is written as {suffix}", expected=f"{', '.join(SUFFIXES)}, or no suffix")
    return out.with_name(out.name + usual)


def _suffixes(spec: DataSpec) -> tuple[str, ...]:
    """Return the suffixes of files that can hold such data, the usual one first."""
    if spec.kind == "image":
        return (".png", ".npz")
    if spec.kind == "sequence":
        return (".txt", ".npz")
    if has_pictures(spec):
        return (".png", ".npz", ".csv", ".parquet")
    return (".parquet", ".npz", ".csv") if spec.form == "parquet" else (".csv", ".npz", ".parquet")


def write_examples(
    path: Path,
    x: Tensor,
    spec: DataSpec,
    sheet: Callable[[], Image.Image],
    *,
    y: Tensor | None = None,
    more: Mapping[str, Tensor] | None = None,
    beside: Mapping[str, tuple[Tensor, Tensor | None]] | None = None,
) -> Path:
    """Write examples to `path`, which `target` gave: the data's units, types, axes and column names.

    Args:
        path: a .png sheet, a folder of one PNG each, .npz, .csv, .parquet, or .txt of one sequence on each line.
        x: `[N, *shape]` in model units.
        spec: what they are.
        sheet: draws the sheet of a .png file.
        y: labels `[N]` as numbers, written beside x.
        more: further arrays of an .npz file; of a table, its codes `z` are written beside it (`codes_beside`).
        beside: further examples of an .npz file in model units, and where they are observed (None: everywhere), which
            are written as x is, each column or modality under its name with that of these examples before it.

    Raises:
        UsageError: if the folder cannot be made.
    """
    make_folder(path.parent)
    if path.is_dir():
        write_images(path, to_bytes(x))
    elif path.suffix.lower() == ".png":
        with replaced(path) as temporary:
            sheet().save(temporary)
    elif path.suffix.lower() == ".txt":
        rows = to_sequences(x, spec)
        with replaced(path) as temporary:
            temporary.write_text("".join(f"{_line(row)}\n" for row in rows), encoding="utf-8")
    elif path.suffix.lower() == ".npz":
        arrays = _arrays(x, spec)
        for name, (values, observed) in (beside or {}).items():
            for own, array in _arrays(values, spec, observed).items():
                arrays[_free(arrays, name if own == "x" and not _by_name(spec) else f"{name}_{own}")] = array
        for name, values in (more or {}).items():
            arrays[_free(arrays, name)] = values.cpu().numpy()
        if y is not None:
            arrays[_free(arrays, "y")] = np.asarray(spec.classes)[y.cpu().numpy()]
        _savez(path, arrays)
    else:
        _write_table(path, x, spec, y)
        if more and "z" in more:
            write_values(codes_beside(path), {"z": more["z"].cpu().numpy()})
    return path


def _line(row: str | tuple[str, ...]) -> str:
    """Return a sequence as one line: a text as it is, symbols of other kinds with spaces between."""
    return row if isinstance(row, str) else " ".join(row)


def codes_beside(path: Path) -> Path:
    """Return the file of the codes of a table's rows, which have no column of their own in it."""
    return path.with_name(f"{path.stem}-codes{path.suffix}")


def _savez(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # by hand: numpy's savez takes arrays as keyword arguments, so none could be called `file`
    with replaced(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def to_bytes(x: Tensor) -> np.ndarray:
    """Return images `[N, C, H, W]` in [0, 1] as bytes 0..255."""
    return (x.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def to_array(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Return images or points as arrays like those that came in: in their layout, whole numbers where those were."""
    values = x.detach().cpu().float()
    if spec.kind != "image":
        return values.numpy()
    if spec.layout == "hw":
        values = values.squeeze(1)
    if spec.layout == "hwc":
        values = values.permute(0, 2, 3, 1)
    if not spec.resolution:
        return values.numpy()
    whole = (values.double().clamp(0, 1) / spec.resolution).round().numpy()
    return whole.astype(np.min_scalar_type(spec.levels - 1))


def _arrays(x: Tensor, spec: DataSpec, observed: Tensor | None = None) -> dict[str, np.ndarray]:
    """Return examples as arrays by name; numbers that are not observed are NaN, texts empty."""
    if spec.modalities:
        seen = {} if observed is None else split(spec, observed)
        arrays: dict[str, np.ndarray] = {}
        for name, part in split(spec, x).items():
            each = modality(spec, name).spec
            own = _arrays(part, each, seen.get(name))
            arrays |= {_free(arrays, key if _by_name(each) else name): array for key, array in own.items()}
        return arrays
    if spec.columns:
        return _columns(x, spec, observed)
    array = to_array(x, spec)
    if observed is None or spec.kind == "sequence" or bool(observed.all()):
        return {"x": array}
    there = observed.cpu().flatten(1).bool().any(1).numpy().reshape(-1, *[1] * (array.ndim - 1))
    return {"x": np.where(there, array, np.float32(np.nan))}


def _by_name(spec: DataSpec) -> bool:
    """Tell whether examples become an array for each column or modality, and not one."""
    return bool(spec.modalities) or (bool(spec.columns) and spec.form != "arrays")


def _free(taken: Mapping[str, object], name: str) -> str:
    """Return the name, with underscores behind it if it is taken."""
    return _free(taken, f"{name}_") if name in taken else name


def _columns(x: Tensor, spec: DataSpec, observed: Tensor | None) -> dict[str, np.ndarray]:
    """Return the columns of a table in the data's units: one array `x` if it came as one, else an array a column."""
    from ..data.tables import to_table

    there = None if observed is None else observed.cpu().numpy() > 0
    table = to_table(x.detach().cpu().float().numpy(), spec.columns, observed=there)
    held = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    if spec.form == "arrays":
        return {"x": np.stack(list(held.values()), 1)}
    return {name: _plain(values) for name, values in held.items()}


def _plain(values: np.ndarray) -> np.ndarray:
    """Return values `[N]` of a type that a file of arrays holds: objects as texts, None as an empty one."""
    if values.dtype != object:
        return values
    return np.asarray(["" if value is None else str(value) for value in values.tolist()], str)


def _write_table(path: Path, x: Tensor, spec: DataSpec, y: Tensor | None) -> None:
    import pyarrow as pa

    from ..data.table_files import write_table
    from ..data.tables import arrow_column, to_table

    values = x.detach().cpu().float().flatten(1).numpy()
    if spec.columns:
        table = to_table(values, spec.columns)
    elif spec.modalities:
        table = pa.table(table_of(spec, x))
    else:
        table = pa.table({f"x{i}": values[:, i] for i in range(values.shape[1])})
    if y is not None and not spec.modalities:  # there the label is one of them
        names = [spec.classes[i] for i in y.tolist()]
        name = _free(dict.fromkeys(table.column_names), "y") if spec.label is None else spec.label.name
        table = table.append_column(name, pa.array(names) if spec.label is None else arrow_column(names, spec.label))
    write_table(table, path)


def write_values(path: Path, columns: Mapping[str, np.ndarray]) -> Path:
    """Write numbers or names, one array `[N]` or `[N, D]` each, as .npz, .csv or .parquet (there `[N, D]` as name0...).

    Raises:
        UsageError: if the suffix is another one.
    """
    import pyarrow as pa

    from ..data.table_files import write_table

    make_folder(path.parent)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        _savez(path, columns)
        return path
    if suffix not in (".csv", ".parquet"):
        raise UsageError(f"numbers cannot be written as {suffix or path.name}", expected=".npz, .csv or .parquet")
    flat = flat_columns(columns)
    write_table(pa.table({name: pa.array(np.ascontiguousarray(values)) for name, values in flat.items()}), path)
    return path


def flat_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one array `[N]` for each column of a table: of `[N, D]` they are called name0, name1, ..."""
    flat: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            flat |= {f"{name}{i}": column for i, column in enumerate(values.reshape(len(values), -1).T)}
    return flat


def read_codes(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read codes `[N, *shape]` from .npz or .npy (z, or the only array), or the columns z0, z1, ... of a table.

    Raises:
        DataError: if there are none, of another shape, or not finite.
    """
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}", fix="write codes first: lowerbound encode RUN")
    size = int(np.prod(shape))
    table = path.suffix.lower() in (".csv", ".parquet")
    values = _code_columns(path, size) if table else _code_array(path)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path.name} holds texts", expected="codes, which are numbers")
    if values.shape[0] == 0 or values.size != values.shape[0] * size:
        raise DataError(f"{path.name} holds codes of shape {values.shape}", expected=f"[N, {size}]")
    codes = torch.from_numpy(np.ascontiguousarray(values, np.float64).copy()).float().reshape(-1, *shape)
    bad = int((~torch.isfinite(codes)).sum())
    if bad:
        raise DataError(f"{path.name} has {bad} codes that are not finite", expected="numbers that fit float32")
    return codes


def _code_array(path: Path) -> np.ndarray:
    from ..data.numpy_files import read_npz

    if path.suffix.lower() == ".npz":
        held = read_npz(path)
        if "z" in held:
            return held["z"]
    return read_arrays(path).x


def _code_columns(path: Path, size: int) -> np.ndarray:
    from ..data.table_files import read_table

    table = read_table(path)
    wanted = [f"z{i}" for i in range(size)]
    lost = [name for name in wanted if name not in table.column_names]
    if lost:
        raise DataError(f"{path.name} has no column {lost[0]}", expected=f"z0 to z{size - 1}")
    columns = [table.column(name).to_numpy() for name in wanted]
    text = [name for name, column in zip(wanted, columns, strict=True) if column.dtype.kind not in "biuf"]
    if text:
        raise DataError(f"column {text[0]} of {path.name} holds other things than numbers", expected="codes")
    return np.stack([column.astype(np.float64) for column in columns], 1)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        UsageError: if that cannot be done, or it is a saved model's: another file would damage it.
    """
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder} is a saved model, to which no file may be added", fix="choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be a folder: {error.strerror}", fix="choose another --out") from error


def read_labels(path: Path) -> list[str] | None:
    """Return the labels that `encode` wrote beside the codes, or None if there are none."""
    from ..data.numpy_files import read_npz
    from ..data.table_files import read_table

    suffix = path.suffix.lower()
    if suffix == ".npz":
        held = read_npz(path)
        return None if "label" not in held else [str(v) for v in held["label"].tolist()]
    if suffix in (".csv", ".parquet"):
        table = read_table(path, texts=("label",), missing=False)
        if "label" not in table.column_names:
            return None
        labels = table.column("label").to_pylist()
        empty = sum(not label for label in labels)
        if empty:
            raise DataError(f"{path.name} has {empty} empty labels", expected="a class for each code")
        return [str(v) for v in labels]
    return None
