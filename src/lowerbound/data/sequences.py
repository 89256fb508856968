"""Sequences of symbols: texts, molecules, anything of varying length; from lists or the lines of a file, and back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.spec import DataSpec, Form
from ..core.symbols import numbers_of, present
from .arrays import labels_of
from .dataset import Data, Dataset
from .splits import Rows, make_data, plan_splits, weights_of

PREFIX = "lines:"
_LONGEST = 10_000


def from_sequences(
    sequences: Iterable[Any],
    y: Any = None,
    *,
    weight: Any = None,
    name: str = "sequences",
    vocabulary: Sequence[str] | Sequence[int] | None = None,
    max_length: int | None = None,
    seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Data:
    """Make a `Data` of sequences, split by seed; the recipe `sequence_vae` is for them.

    A model sees `[N, T]` numbers of symbols, that of the vocabulary's size after a sequence's end, and a mask that is 1
    up to it. What it makes comes back as text by `to_sequences`.

    Args:
        sequences: texts, whose characters are the symbols, or lists of words or of whole numbers.
        y: labels `[N]`, or None.
        weight: row weights `[N]`, or None.
        name: what to call the data.
        vocabulary: the symbols in order; None: all that there are, sorted.
        max_length: T, the most symbols of a sequence; None: those of the longest.
        seed: seed of the splits.
        valid_fraction: share of the training rows held out for validation.
        test_fraction: share of all rows held out for the test.

    Raises:
        DataError: if there are fewer than 2 sequences, one is too long, or holds a symbol that is not in `vocabulary`.
        UsageError: if the vocabulary is empty or names a symbol twice, or `max_length` is no whole number above 0.

    >>> data = from_sequences(["CCO", "CC", "C=O", "CCC"], valid_fraction=0.25, test_fraction=0.25)
    >>> data.spec.vocabulary, data.spec.shape
    (('=', 'C', 'O'), (3,))
    >>> to_sequences(data.split("all").values(), data.spec)
    ['CCO', 'CC', 'C=O', 'CCC']
    """
    return _made(
        sequences, None, y, weight=weight, name=name, vocabulary=vocabulary, max_length=max_length, seed=seed,
        valid_fraction=valid_fraction, test_fraction=test_fraction,
    )  # fmt: skip


def _made(
    sequences: Iterable[Any],
    where: Sequence[str] | None,
    y: Any = None,
    *,
    weight: Any = None,
    name: str,
    vocabulary: Sequence[str] | Sequence[int] | None = None,
    max_length: int | None = None,
    seed: int,
    valid_fraction: float,
    test_fraction: float,
) -> Data:
    """Return data of sequences, as `from_sequences` does; `where` says the place of each in messages (None: rows)."""
    rows, form = _rows(sequences, name, where)
    known = _vocabulary(rows, vocabulary)
    lengths = [len(row) for row in rows]
    longest = max([1, *lengths]) if max_length is None else max_length
    if longest < 1:
        raise UsageError(f"the most symbols of a sequence cannot be {max_length}", expected="a whole number above 0")
    if longest > _LONGEST:
        place = _place(where, lengths.index(longest)) if longest in lengths else ""
        expected = f"at most {_LONGEST:,}"
        raise DataError(f"{name} has a sequence of {longest:,} symbols", where=place, expected=expected, fix="cut it")
    plan = plan_splits(len(rows), None, seed, valid_fraction, test_fraction)
    x, mask = _cells(rows, known, longest, name, where)
    labels, classes = labels_of(y, len(rows), name)
    spec = DataSpec(
        name, (longest,), "sequence", "symbols", len(plan.train), classes, "none", seed, form=form, vocabulary=known
    )
    return make_data(Rows(x, labels, weights_of(weight, len(rows), name), mask=mask), None, plan, spec)


def to_sequences(x: Tensor, spec: DataSpec) -> list[Any]:
    """Return the sequences that numbers of symbols `[N, T]` stand for: texts, or tuples of symbols.

    Args:
        x: as a model makes them; each ends before the first cell that holds no symbol.
        spec: of the data or the model.

    Raises:
        UsageError: if the spec is of other data.
    """
    if spec.kind != "sequence":
        raise UsageError(f"{spec.name} has no sequences", expected="the spec of sequences")
    size = len(spec.vocabulary)
    numbers = numbers_of(x.detach().cpu(), size)
    lengths = present(numbers, size).sum(-1).tolist()
    rows = (
        tuple(spec.vocabulary[i] for i in row[:length]) for row, length in zip(numbers.tolist(), lengths, strict=True)
    )
    return ["".join(row) for row in rows] if spec.form == "lines" else list(rows)


def is_lines(source: str | Path) -> bool:
    """Tell whether a source names a file whose lines are sequences."""
    return str(source).startswith(PREFIX)


def lines_source(source: str | Path) -> str:
    """Return the name of such a file, its path absolute."""
    return PREFIX + str(path_of(source).resolve())


def path_of(source: str | Path) -> Path:
    """Return the path in the name of a file of sequences."""
    return Path(str(source).removeprefix(PREFIX))


def read_lines(path: Path, encoding: str = "utf-8") -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the lines of a file that hold something by their numbers, and what was left out, for people.

    Raises:
        DataError: if it cannot be read as text, or holds nothing.
    """
    try:
        text = path.read_bytes().decode(encoding)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", expected="a text file") from error
    except LookupError as error:
        raise UsageError(f"there is no encoding {encoding!r}", expected="utf-8, latin-1, ...") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path.name} is no {encoding} text",
            where=f"line {line}",
            expected="one sequence on each line",
            fix=f"say how it is encoded: --encoding {_guessed(error.object)}",
        ) from error
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    held = {number: line for number, line in enumerate(lines, 1) if line}
    if not held:
        raise DataError(f"0 sequences in {path}", expected="one on each line")
    empty = len(lines) - len(held) - (not lines[-1])
    return held, (f"{empty} empty lines were left out",) if empty else ()


def _guessed(content: bytes) -> str:
    """Return an encoding to try of a text that is not in the one that was given."""
    return "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"


def load_lines(
    source: str | Path, *, like: DataSpec | None, seed: int, valid: float | None, test: float | None, encoding: str
) -> Data:
    """Return the sequences of a file, one on each line; `like` is the spec of a trained model, whose symbols are used.

    Raises:
        DataError: if it cannot be read, or does not fit the model.
    """
    _check_like(like, str(source))
    lines, notes = read_lines(path_of(source), encoding)
    shares = {"valid_fraction": 0.1 if valid is None else valid, "test_fraction": 0.1 if test is None else test}
    known = {} if like is None else {"vocabulary": like.vocabulary, "max_length": like.shape[0]}
    where = [f"line {number}" for number in lines]
    data = _made(lines.values(), where, name=_stem(source), seed=seed, **shares, **known)
    return replace(data, notes=notes)


def line_rows(source: str | Path, like: DataSpec, encoding: str) -> tuple[Dataset, tuple[str, ...]]:
    """Return the lines of a file as a trained model sees them, and what was found, for people.

    Raises:
        DataError: if it cannot be read, a line is too long, or holds a symbol that the model does not know.
    """
    _check_like(like, str(source))
    lines, notes = read_lines(path_of(source), encoding)
    where = [f"line {number}" for number in lines]
    x, mask = _cells(list(lines.values()), like.vocabulary, like.shape[0], _stem(source), where)
    spec = replace(like, name=_stem(source), size=len(lines), classes=())
    return Dataset(x, None, spec, "all", mask=mask), notes


def _check_like(like: DataSpec | None, source: str) -> None:
    if like is not None and like.form != "lines":
        raise DataError(
            f"{source} holds lines of text, the model was built for {like.name}: {like.kind}",
            expected="data of the kind it was trained on",
        )


def _stem(source: str | Path) -> str:
    path = path_of(source)
    return path.resolve().name.split(".")[0] or path.name


def _rows(sequences: Iterable[Any], name: str, where: Sequence[str] | None) -> tuple[list[Sequence[str]], Form]:
    """Return the symbols of each sequence as texts, and "lines" if they are characters."""
    given = [sequences] if isinstance(sequences, str) else list(sequences)
    if all(isinstance(row, str) for row in given) and given:
        broken = next((i for i, row in enumerate(given) if "\n" in row or "\r" in row), None)
        if broken is not None:
            raise DataError(f"{name} has a line break in a text", where=_place(where, broken), expected="one line each")
        return [str(row) for row in given], "lines"
    for i, row in enumerate(given):
        symbols = () if isinstance(row, str) or not isinstance(row, Sequence | np.ndarray) else row
        wrong = [v for v in symbols if isinstance(v, bool) or not isinstance(v, str | int | np.integer)]
        if wrong or isinstance(row, str) or not isinstance(row, Sequence | np.ndarray):
            raise DataError(
                f"{name} has a sequence of {type(wrong[0] if wrong else row).__name__}",
                where=_place(where, i),
                expected="texts alone, or lists of words or whole numbers",
            )
    return [[str(v) for v in row] for row in given], "arrays"


def _vocabulary(rows: list[Sequence[str]], given: Sequence[str] | Sequence[int] | None) -> tuple[str, ...]:
    """Return the symbols in order; whole numbers by their size."""
    if given is not None:
        names = tuple(str(v) for v in given)
        if not names or len(set(names)) < len(names):
            raise UsageError("the vocabulary is empty or names a symbol twice", expected="each symbol once")
        return names
    found = {symbol for row in rows for symbol in row}
    if not found:
        raise DataError("there is no symbol in any sequence", expected="at least 2 sequences, one of them not empty")
    numbers = all(symbol.removeprefix("-").isdecimal() for symbol in found)
    return tuple(sorted(found, key=lambda s: (int(s), s) if numbers else (0, s)))


def _place(where: Sequence[str] | None, row: int) -> str:
    """Say where a sequence stands."""
    return f"row {row + 1}" if where is None else where[row]


def _cells(
    rows: Sequence[Sequence[str]], known: tuple[str, ...], length: int, name: str, where: Sequence[str] | None
) -> tuple[Tensor, Tensor]:
    """Return the numbers of the symbols, `[N, T]`, and True where there is one."""
    place = {symbol: i for i, symbol in enumerate(known)}
    x = np.full((len(rows), length), len(known), np.float32)
    for i, row in enumerate(rows):
        if len(row) > length:
            raise DataError(
                f"{name} has a sequence of {len(row)} symbols", where=_place(where, i), expected=f"{length} at most"
            )
        try:
            x[i, : len(row)] = [place[symbol] for symbol in row]
        except KeyError as error:
            first = next(j for j, symbol in enumerate(row) if symbol not in place)
            shown = ", ".join(repr(symbol) for symbol in known[:20]) + (", ..." if len(known) > 20 else "")
            raise DataError(
                f"{name} holds {row[first]!r}, which is no symbol of the vocabulary",
                where=f"{_place(where, i)}, symbol {first + 1}",
                expected=shown,
            ) from error
    return torch.from_numpy(x), torch.from_numpy(x < len(known))
