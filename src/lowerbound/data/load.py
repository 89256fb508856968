"""`load_data`: a name or a path becomes splits and a spec; `load_rows`: new rows, read as a model saw its own."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..core.errors import DataError, UsageError
from ..core.spec import Binarize, Column, DataSpec
from .arrays import from_arrays
from .builtin import BUILTIN
from .columns import Missing
from .dataset import Data, Dataset
from .images import Alpha
from .like import array_rows, table_rows
from .mapped import Mapped, Memory, is_mapped, mapped_data
from .mapped_arrays import MappedArrays
from .mapped_files import find_mapped, mapped_arrays
from .mapped_like import mapped_new_rows, streamed_rows
from .mapped_pairs import with_seen
from .modalities import label_of, labelled
from .modalities import with_label as as_modality
from .sequences import is_lines, line_rows, lines_source, load_lines, path_of
from .sources import TABLES, Found, Reading, Table, find, parquet_files, places_in, stem_of
from .splits import Fractions, Rows, check_seed, make_data, plan_splits, weights_of
from .stored_sets import is_saved_set
from .streams import PREFIX, find_stream, held_rows, is_stream, open_stream, stream_data, stream_source

if TYPE_CHECKING:
    from .mapped_tables import MappedTable

Color: TypeAlias = Literal["auto", "grey", "color"]
Standardize: TypeAlias = Literal["auto", "yes", "no"]
MissingCells: TypeAlias = Literal["auto", "error", "keep"]
_CHANNELS = {"auto": None, "grey": 1, "color": 3}
# what an option is for, and its value where it is not given
_IMAGES = ("image files", {"image_size": None, "color": "auto", "alpha": "refuse", "skip_bad": False})
_TABLES = (
    "CSV and Parquet files",
    {"columns": [], "label": None, "weight": None, "delimiter": None, "encoding": "utf-8"},
)
_GREY = ("images", {"binarize": "auto"})
_NUMBERS = ("tables", {"missing": "auto", "standardize": "auto"})
_STORED = ("arrays and IDX files", {"max_value": None})
_FILES = ("files", {"memory": "auto"})
_STREAMS = ("files", {"skip_bad": False, "weight": None, "delimiter": None, "encoding": "utf-8"})


def load_data(
    source: str | Path,
    *,
    seen: str | Path | None = None,
    like: DataSpec | None = None,
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    max_value: int | None = None,
    image_size: Sequence[int] | None = None,
    color: Color = "auto",
    alpha: Alpha = "refuse",
    skip_bad: bool = False,
    columns: Sequence[str] = (),
    label: str | None = None,
    weight: str | None = None,
    missing: MissingCells = "auto",
    standardize: Standardize = "auto",
    delimiter: str | None = None,
    encoding: str = "utf-8",
    memory: Memory = "auto",
    with_label: bool = False,
) -> Data:
    """Load data by name or path and split them by seed.

    Args:
        source: mnist, digits, ring, moons, 8gaussians, sprites; a folder of images (one sub-folder for each class, or
            train/ and test/ above them); a .csv, .parquet, .npy or .npz file; a folder of .parquet files of one schema;
            an IDX file, or a folder of them (MNIST's names); a data set saved by `datasets`; hf:NAME or
            hf:FOLDER, what `datasets` streams under that name; lines:FILE, a text file with one sequence
            on each line.
        seen: a second folder or file of the same examples, in the same order or with the same file names: what the
            encoder sees, while the model learns to give `source` (hazy images of clean ones).
        like: the spec of a trained model, whose image size, columns, categories and scales are then used.
        binarize: how grey pixels become 0/1. "auto": as the likelihood needs; "dynamic": drawn anew in training,
            test fixed once by seed; "static-seed": all fixed by seed; "threshold": one half and above; "none".
        seed: seed of the splits and of every fixed binarisation, apart from the training seed.
        valid_fraction: share of the training rows held out for validation (default 0.1; 5,000 images of MNIST; of rows
            that stay on disk 10,000 at most).
        test_fraction: share of all rows held out for the test, where the data bring no test split (default 0.1; of rows
            that stay on disk 10,000 at most).
        max_value: stored whole number that means 1, of arrays and IDX files (default: 255 for bytes).
        image_size: height and width, or one number for both, that image files are scaled and cropped to.
        color: "grey" or "color" turns all image files into that; "auto": grey if all are.
        alpha: what to do with transparent pixels: "refuse", "drop" them, or lay them on "white" or "black".
        skip_bad: leave out image files that cannot be read, and say which, instead of stopping.
        columns: columns of a table to use, in this order; NAME:KIND forces numeric, integer, boolean, category or date
            (default: all).
        label: column with the class of each row; it is not part of x.
        weight: column with the weight of each row; it is not part of x.
        missing: missing cells are kept as missing ("keep", the default for CSV and Parquet) or refused ("error", the
            default for arrays, where they are NaN).
        standardize: whether the columns of a table get mean 0 and variance 1 on the training rows; the model keeps
            their units ("auto": yes for tables by path).
        delimiter: what separates the cells of a CSV file (default: found out).
        encoding: of a CSV file or one of lines.
        memory: "map" leaves rows where they are, on disk or in a stream, and reads them batch by batch; "hold" reads
            them all; "auto" holds what takes less than a quarter of the memory.
        with_label: model the label too, as a second modality beside x (for the recipes mvae, mmvae and mopoe).

    Raises:
        DataError: if there is nothing of that name, or what is there cannot be read; the message says where.
        UsageError: if an option has an impossible value.
    """
    if with_label:
        inner = None if like is None or not like.modalities else _inner(like)
        alone = load_data(
            source, seen=seen, like=inner, binarize=binarize, seed=seed, valid_fraction=valid_fraction,
            test_fraction=test_fraction, max_value=max_value, image_size=image_size, color=color, alpha=alpha,
            skip_bad=skip_bad, columns=columns, label=label, weight=weight, missing=missing, standardize=standardize,
            delimiter=delimiter, encoding=encoding, memory=memory,
        )  # fmt: skip
        return replace(as_modality(alone), origin={**(alone.origin or {}), "with_label": True})
    origin: dict[str, Any] = {
        "seen": None if seen is None else str(Path(seen).resolve()),
        "binarize": binarize, "seed": seed, "valid_fraction": valid_fraction, "test_fraction": test_fraction,
        "max_value": max_value, "image_size": image_size and list(image_size), "color": color, "alpha": alpha,
        "skip_bad": skip_bad, "columns": list(columns), "label": label, "weight": weight, "missing": missing,
        "standardize": standardize, "delimiter": delimiter, "encoding": encoding, "memory": memory,
    }  # fmt: skip
    _check_words(color=color, alpha=alpha, missing=missing, standardize=standardize, memory=memory)
    check_seed(seed)
    fractions = {"valid_fraction": valid_fraction, "test_fraction": test_fraction}
    common: dict[str, Any] = {"seed": seed, **{k: v for k, v in fractions.items() if v is not None}}
    if str(source) in BUILTIN:
        return _built_in(str(source), binarize, origin, common)
    if is_stream(source):
        return _of_stream(str(source), like, origin)
    if is_lines(source) or (like is not None and like.form == "lines"):
        return _of_lines(source, like, origin)
    path = existing(source)
    size = _size(image_size) if like is None or like.kind != "image" else (like.shape[1], like.shape[2])
    channels = _CHANNELS[color] if like is None or like.kind != "image" else like.shape[0]
    forced = (name.removesuffix(":category") for name in columns if name.endswith(":category"))
    codes = (*forced, *([] if label is None else [label]))
    reading = Reading(size, channels, alpha, skip_bad, label, weight, delimiter, encoding, codes=codes)
    if like is not None:
        _check_like(like, image_size, color, columns)
        reading = replace(
            reading, label=label or _name(like.label), weight=weight or like.weight, texts=like.text_columns, codes=()
        )
    stays = _stays(path, reading, memory, scale=max_value, paired=seen is not None)
    origin["memory"] = "hold" if stays is None else "map"  # another machine, with other memory, does the same
    found = find(path, reading) if stays is None else stays
    unused = (_TABLES[0], {k: v for k, v in _TABLES[1].items() if k != "label"}) if is_saved_set(path) else _TABLES
    if isinstance(found, Mapped):
        _refuse_unused(origin, path.name, unused, _NUMBERS if found.form == "images" else _IMAGES)
        options = {"binarize": binarize, "scale": max_value, "like": like}
        data = mapped_data(found, fractions=Fractions(seed, valid_fraction, test_fraction), **options)
        if seen is not None:
            data = with_seen(data, found, _mapped_seen(existing(seen), found, reading))
    elif not isinstance(found, Found):
        bare = found.form == "arrays"
        _refuse_unused(origin, path.name, _IMAGES, _STORED, _GREY, *([_TABLES] if bare else []))
        missing = "error" if bare and missing == "auto" else missing
        if seen is not None:
            raise UsageError("rows of a table cannot be paired with others", fix="pair images or arrays")
        data = _of_table(found, columns, missing, standardize, like, common)
    else:
        _refuse_unused(origin, path.name, unused, _NUMBERS if found.form == "images" else _IMAGES)
        shown = None if seen is None else find(existing(seen), replace(reading, size=_size_of(found, size)))
        data = _of_arrays(found, shown, binarize, max_value, missing, standardize, like, common)
    kept = {k: v for k, v in origin.items() if v is not None and v != []}
    return replace(data, origin={"source": str(path.resolve()), **kept})


def _stays(
    path: Path, reading: Reading, memory: Memory, *, scale: int | None, paired: bool
) -> "Mapped | MappedTable | None":
    """Return what stays on disk of what lies at `path`; None if it is to be read."""
    shards = parquet_files(path)
    if shards or (path.is_file() and path.name.lower().endswith(TABLES)):
        if paired:
            raise UsageError("rows of a table cannot be paired with others", fix="pair images or arrays")
        from .mapped_tables import find_table  # loads pyarrow

        return find_table(path, shards, reading, memory)
    found = find_mapped(path, reading, memory)
    if not isinstance(found, MappedArrays):
        return found
    if found.kind == "table" and found.test is None and scale is None and not paired:
        from .mapped_tables import array_table

        return array_table(found, stem_of(path))
    return mapped_arrays(found, stem_of(path))


def _of_lines(source: str | Path, like: DataSpec | None, origin: dict[str, Any]) -> Data:
    """Return the sequences that are the lines of a file."""
    if origin["seen"] is not None:
        raise UsageError(f"{source} cannot be paired", fix="pair images or arrays")
    tables = (_TABLES[0], {k: v for k, v in _TABLES[1].items() if k != "encoding"})
    if origin["label"] is not None or origin["weight"] is not None or origin["columns"]:
        raise UsageError(
            f"the lines of {path_of(source).name} are sequences and nothing else: they have no columns",
            expected="lines:FILE without --columns, --label and --weight",
            fix="read the columns in Python: lowerbound.from_sequences(texts, labels, weight=...)",
        )
    _refuse_unused(origin, str(source), _IMAGES, tables, _GREY, _NUMBERS, _STORED, _FILES)
    shares = {"valid": origin["valid_fraction"], "test": origin["test_fraction"]}
    data = load_lines(source, like=like, seed=origin["seed"], **shares, encoding=origin["encoding"])
    kept = {k: origin[k] for k in ("seed", "valid_fraction", "test_fraction", "encoding") if origin[k] is not None}
    return replace(data, origin={"source": lines_source(source), **kept})


def named_source(source: str | Path) -> str:
    """Return the name under which a data set is remembered: its path absolute."""
    if is_stream(source):
        return stream_source(str(source))
    return lines_source(source) if is_lines(source) else str(Path(source).resolve())


def _built_in(name: str, binarize: Binarize, origin: dict[str, Any], common: dict[str, Any]) -> Data:
    if origin["seen"] is not None:
        raise UsageError(f"{name} cannot be paired with files", fix="give both as paths")
    _refuse_unused(origin, name, _IMAGES, _TABLES, _NUMBERS, _STORED, _FILES)
    return replace(BUILTIN[name](binarize=binarize, **common), origin={"source": name, "binarize": binarize, **common})


def _of_stream(source: str, like: DataSpec | None, origin: dict[str, Any]) -> Data:
    """Return the data that `datasets` streams under a name."""
    if origin["seen"] is not None:
        raise UsageError(f"{source} cannot be paired", fix="pair images or arrays on disk")
    _refuse_unused(origin, source, _STREAMS, _NUMBERS)
    if len(origin["columns"]) > 1:
        raise UsageError("of a data set that is streamed one column is modelled", fix="--columns NAME")
    found = _streamed(source, like, origin)
    if found.form != "images":
        _refuse_unused(origin, source, _IMAGES)
    fractions = Fractions(origin["seed"], origin["valid_fraction"], origin["test_fraction"])
    options = {"binarize": origin["binarize"], "scale": origin["max_value"], "fractions": fractions, "like": like}
    data, stays = stream_data(found, origin["memory"], **options)
    kept = {k: v for k, v in origin.items() if v is not None and v != []}
    return replace(data, origin={"source": stream_source(source), **kept, "memory": "map" if stays else "hold"})


def _streamed(source: str, like: DataSpec | None, given: dict[str, Any]) -> Mapped:
    """Return what is streamed under a name, looked at once; pictures are brought to the size a model wants."""
    size, channels = _size(given.get("image_size")), _CHANNELS[given.get("color", "auto")]
    if like is not None and like.kind == "image" and like.form == "images":
        size, channels = (like.shape[1], like.shape[2]), like.shape[0]
    reading = Reading(size, channels, given["alpha"], label=given.get("label"))
    column = next(iter(given.get("columns", ())), None)
    return find_stream(open_stream(source), stem_of(Path(source.removeprefix(PREFIX))), reading, column)


def _mapped_seen(path: Path, found: Mapped, reading: Reading) -> Mapped:
    """Return what is seen beside rows that stay on disk, which stays there, too."""
    size = (found.source.shape[-2], found.source.shape[-1]) if found.form == "images" else reading.size
    shown = find_mapped(path, replace(reading, size=size), "map")
    assert shown is not None, "what cannot be mapped is refused"
    return mapped_arrays(shown, stem_of(path)) if isinstance(shown, MappedArrays) else shown


def load_rows(
    source: str | Path,
    like: DataSpec,
    *,
    seen: str | Path | None = None,
    alpha: Alpha = "refuse",
    skip_bad: bool = False,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    memory: Memory = "auto",
) -> tuple[Dataset, tuple[str, ...]]:
    """Read all rows of a path as a model built for `like` saw its own, and say what was found.

    Images are scaled to the model's size and colours; columns are looked up by name, typed, and standardised as in
    training; labels are taken where the data have them and the model knows them.

    Args:
        source: a path or a name of data that are streamed, as for `load_data`, or one image.
        like: the model's spec.
        seen: what the encoder sees of the same examples.
        alpha: what to do with transparent pixels.
        skip_bad: leave out image files that cannot be read.
        delimiter: what separates the cells of a CSV file.
        encoding: of a CSV file.
        memory: as for `load_data`; what is seen beside rows is read with them.

    Raises:
        DataError: if it cannot be read or does not fit the model.
    """
    if like.modalities:
        inner = _inner(like)
        rows, notes = load_rows(
            source, inner, seen=seen, alpha=alpha, skip_bad=skip_bad, delimiter=delimiter, encoding=encoding,
            memory="hold",
        )  # fmt: skip
        return labelled(rows, like), notes
    if is_stream(source):
        found = _streamed(str(source), like, {"alpha": alpha})
        size = found.source.shape[0] * found.source.row_bytes
        return streamed_rows(found, like) if is_mapped(memory, size) else array_rows(held_rows(found), None, like)
    if is_lines(source) or like.form == "lines":
        return line_rows(source, like, encoding)
    size = (like.shape[1], like.shape[2]) if like.kind == "image" else None
    channels = like.shape[0] if like.kind == "image" else None
    reading = Reading(
        size, channels, alpha, skip_bad, _name(like.label), like.weight, delimiter, encoding, like.text_columns,
        whole=True,
    )  # fmt: skip
    path = existing(source)
    stays = None if seen is not None else mapped_new_rows(path, like, reading, memory)
    if stays is not None:
        return stays
    found = find(path, reading)
    if isinstance(found, Table):
        if seen is not None:
            raise UsageError("rows of a table cannot be paired with others", fix="pair images or arrays")
        return table_rows(found, like)
    shown = None if seen is None else find(existing(seen), reading)
    if isinstance(shown, Table):
        raise UsageError("images cannot be paired with rows of a table")
    return array_rows(found, shown, like)


def existing(source: str | Path) -> Path:
    """Return the path of `source`.

    Raises:
        DataError: if there is nothing; the message names the nearest data set.
    """
    path = Path(source)
    try:
        if path.exists():
            return path
    except (OSError, ValueError) as error:  # a name too long, or one with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{str(source)[:80]!r} is no path: {reason}", expected="a name or a path") from error
    near = get_close_matches(str(source), BUILTIN, 1)
    raise DataError(
        f"there are no data called {str(source)!r}",
        expected=f"one of {', '.join(BUILTIN)}, or a path: a folder of images, a CSV, Parquet, NumPy or IDX file",
        fix=f"did you mean {near[0]}?" if near else "check the spelling of the path; hf:NAME is streamed",
    )


def _check_words(**given: str) -> None:
    known = {"memory": Memory, "color": Color, "alpha": Alpha, "missing": MissingCells, "standardize": Standardize}
    for name, value in given.items():
        if value not in get_args(known[name]):
            raise UsageError(f"{name} cannot be {value!r}", expected=", ".join(get_args(known[name])))


def _refuse_unused(given: dict[str, Any], name: str, *kinds: tuple[str, dict[str, Any]]) -> None:
    """Raise UsageError for an option that would change nothing, rather than leave it unsaid."""
    for what, usual in kinds:
        for option, value in usual.items():
            if given[option] != value:
                flag = "--" + option.replace("_", "-")
                raise UsageError(f"{flag} is for {what}, and {name} is none of them", fix=f"drop {flag}")


def _inner(like: DataSpec) -> DataSpec:
    """Return the spec of the data whose label became a modality, with the column of the label."""
    return replace(like.modalities[0].spec, classes=like.classes, label=label_of(like))


def _name(column: Column | None) -> str | None:
    return None if column is None else column.name


def _check_like(like: DataSpec, image_size: Sequence[int] | None, color: Color, columns: Sequence[str]) -> None:
    """Raise UsageError for options that contradict a trained model's size, colours or columns."""
    if like.kind == "image":
        size, channels = _size(image_size), _CHANNELS[color]
        if size not in (None, like.shape[1:]) or channels not in (None, like.shape[0]):
            raise UsageError(
                f"the trained model is for images of shape {like.shape}", fix="drop --image-size and --color"
            )
    names = [c.name for c in like.columns]
    if columns and [c if c in names else c.rpartition(":")[0] for c in columns] != names:
        raise UsageError(f"the trained model has the columns {', '.join(names)}", fix="drop --columns")


def _size(image_size: Sequence[int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    sizes = tuple(image_size)
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise UsageError(f"the image size cannot be {sizes}", expected="a height and a width above 0, or one for both")
    return sizes[0], sizes[-1]


def _size_of(found: Found, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the size the images in a pair must have: that asked for, else that of the first of the two."""
    return size if found.form != "images" else (found.x.shape[-2], found.x.shape[-1])


def _of_arrays(
    found: Found,
    shown: Found | Table | None,
    binarize: Binarize,
    scale: int | None,
    missing: MissingCells,
    standardize: Standardize,
    like: DataSpec | None,
    common: dict[str, Any],
) -> Data:
    if isinstance(shown, Table):
        raise UsageError("images and arrays cannot be paired with rows of a table")
    if like is not None and like.columns:
        rows, notes = array_rows(found, shown, like)
        held = None
        if found.test is not None:
            test, _ = array_rows(replace(found, x=found.test[0], y=found.test[1]), None, like)
            held = Rows(test.x, test.y, mask=test.mask)
        plan = plan_splits(len(rows), held, **_fractions(common))
        given = Rows(rows.x, rows.y, weights_of(found.weight, len(rows), found.name), mask=rows.mask)
        return make_data(given, held, plan, replace(like, name=found.name), notes=notes)
    pair = None if shown is None else found.paired(shown)
    alone = found.kind == "table" and found.test is None and shown is None and scale is None
    if standardize == "yes" and not alone:
        raise UsageError(
            f"{found.name} cannot be standardised: its rows come with others, or with a scale of their own",
            fix="drop --standardize yes, or give all rows as one table",
        )
    data = from_arrays(
        found.x, found.y, weight=found.weight, seen=pair, name=found.name, test=found.test, kind=found.kind,
        layout=found.layout, scale=scale, binarize=binarize, missing=_missing(missing),
        standardize=alone and standardize != "no", memory="hold", **common,
    )  # fmt: skip
    as_came = {"form": found.form}
    parts = {
        name: replace(rows, spec=replace(rows.spec, **as_came), files=found.files)
        for name, rows in _parts(data).items()
    }
    if like is not None and like.classes:
        parts = {name: _of_classes(rows, like.classes) for name, rows in parts.items()}
    return replace(data, **parts, notes=(*found.notes, *data.notes))


def _of_classes(rows: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return rows whose labels are numbered as a trained model numbers its classes."""
    if rows.y is None:
        return rows
    place = places_in(classes, rows.spec.classes, rows.spec.name)
    return replace(rows, y=place[rows.y], spec=replace(rows.spec, classes=classes))


def _parts(data: Data) -> dict[str, Dataset]:
    return {"train": data.train, "valid": data.valid, "test": data.test}


def _missing(missing: MissingCells) -> Missing:
    return "keep" if missing == "keep" else "error"


def _fractions(common: dict[str, Any]) -> dict[str, Any]:
    return {"valid_fraction": 0.1, "test_fraction": 0.1, **common}


def _named(common: dict[str, Any]) -> dict[str, Any]:
    """Return seed and shares by the names that `Fractions` has for them."""
    return {name.removesuffix("_fraction"): value for name, value in common.items()}


def _of_table(
    found: "Table | MappedTable",
    columns: Sequence[str],
    missing: MissingCells,
    standardize: Standardize,
    like: DataSpec | None,
    common: dict[str, Any],
) -> Data:
    if not isinstance(found, Table):
        from .mapped_tables import mapped_table

        keep, fractions = ("error" if missing == "error" else "keep"), Fractions(**_named(common))
        options = {"standardize": standardize != "no", "like": like, "fractions": fractions}
        return mapped_table(found, columns, missing=keep, **options)
    plan = plan_splits(found.count, None, **_fractions(common))
    if like is not None:
        rows, notes = table_rows(found, like)
        given = Rows(rows.x, rows.y, weights_of(found.weight, found.count, found.name), mask=rows.mask)
        return make_data(given, None, plan, replace(like, name=found.name), notes=notes)
    keep = "error" if missing == "error" else "keep"
    fitted = found.fit(columns, plan, missing=keep, standardize=standardize != "no")
    spec, labels = found.describe(fitted, seed=common["seed"])
    given = Rows(fitted.x, labels, weights_of(found.weight, found.count, found.name), mask=fitted.mask)
    return make_data(given, None, plan, spec, notes=(*found.notes, *fitted.notes))
