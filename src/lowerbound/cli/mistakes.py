"""Mistakes in the words of a command, told as every other error is; nothing here imports torch."""

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from ..core.errors import UsageError

T = TypeVar("T")
_ABSENT = (MISSING, tyro.MISSING)


@dataclass(frozen=True)
class _Option:
    """One field of a dataclass of options: the type of a value, and how many values there may be."""

    name: str
    kind: Any
    several: bool
    positional: bool
    required: bool
    prefix: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.prefix}{self.name.replace('_', '-')}"

    @property
    def called(self) -> str:
        return self.name.upper() if self.positional else self.flag


def parse(options: type[T], words: list[str], command: str, *, prefix: str = "") -> T:
    """Parse `words` into the dataclass `options`; its docstring is the help, after which the program ends.

    Args:
        options: a dataclass with a field for each option.
        words: what was typed.
        command: what the words belong to.
        prefix: what stands before each option's name, as in `--prior.pseudo-inputs`.

    Raises:
        UsageError: if an option is unknown, missing, or has a value that it cannot have.
    """
    said = io.StringIO()
    bare = [_without(prefix, word) for word in words]
    try:
        with redirect_stderr(said):
            return tyro.cli(options, args=bare, prog=f"lowerbound {command}")
    except SystemExit as left:
        if left.code in (None, 0):
            raise
        tell = f"lowerbound {command} --help lists the options"
        found = next(_mistakes(_options(options, prefix), words, tell), None)
        reason = "\n    ".join(["the options cannot be read", *said.getvalue().strip().splitlines()])
        raise found or UsageError(reason, fix=tell) from None


def _without(prefix: str, word: str) -> str:
    for dashes in ("--no-", "--"):
        if prefix and word.startswith(dashes + prefix):
            return dashes + word.removeprefix(dashes + prefix)
    return word


def _options(options: type, prefix: str) -> list[_Option]:
    kinds = get_type_hints(options, include_extras=True)
    made = []
    for one in fields(options):
        kind, positional = kinds[one.name], False
        if get_origin(kind) is Annotated:
            positional = tyro.conf.Positional in kind.__metadata__
            kind = get_args(kind)[0]
        choices = [k for k in get_args(kind) if k is not NoneType]
        if NoneType in get_args(kind) and len(choices) == 1:
            kind = choices[0]
        several = get_origin(kind) in (tuple, list, Sequence)
        required = one.default in _ABSENT and one.default_factory in _ABSENT
        made.append(_Option(one.name, get_args(kind)[0] if several else kind, several, positional, required, prefix))
    return made


def _mistakes(options: list[_Option], words: list[str], tell: str) -> Iterator[UsageError]:
    """Yield what is wrong with the words, in their order, and last what is missing."""
    known = {option.flag: option for option in options if not option.positional}
    known |= {option.flag.replace("--", "--no-", 1): option for option in known.values() if option.kind is bool}
    places = [option for option in options if option.positional]
    given = set()
    for flag, values in _grouped(words):
        option = known.get(flag)
        if flag and option is None:
            near = get_close_matches(flag, known, 1)
            yield UsageError(f"there is no option {flag}", fix=f"did you mean {near[0]}?" if near else tell)
            continue
        free = [] if option is None else [option]
        room = len(values) if option is None or option.several else int(option.kind is not bool)
        if option is not None and not values and not option.several and room:
            yield UsageError(f"{option.flag} was given no value", expected=_expected(option), fix=tell)
        given |= {option.name for option in free}
        if option is not None:
            yield from (mistake for value in values[:room] for mistake in _mistake(option, value, tell))
        for value in values[room:] if option is not None else values:
            if not places:
                yield UsageError(f"{value!r} is one word too many", fix=tell)
            else:
                given.add(places[0].name)
                yield from _mistake(places[0], value, tell)
                places = places if places[0].several else places[1:]
    for option in options:
        if option.required and option.name not in given:
            yield UsageError(f"{option.called} is missing", expected=_expected(option), fix=tell)


def _grouped(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with the values after it; first "" with the words before any option."""
    flag, values = "", []
    for word in words:
        if word.startswith("-") and not _is(float, word):
            yield flag, values
            name, equals, value = word.partition("=")
            flag, values = name.replace("_", "-"), [value] if equals else []
        else:
            values.append(word)
    yield flag, values


def _mistake(option: _Option, value: str, tell: str) -> Iterator[UsageError]:
    choices = [str(choice) for choice in get_args(option.kind)] if get_origin(option.kind) is Literal else []
    if (choices and value not in choices) or not _is(option.kind, value):
        near = get_close_matches(value, choices, 1, cutoff=0.8)
        fix = f"did you mean {near[0]}?" if near else tell
        yield UsageError(f"{option.called} cannot be {value!r}", expected=_expected(option), fix=fix)


def _is(kind: Any, text: str) -> bool:
    if kind not in (int, float):
        return True
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _expected(option: _Option) -> str:
    if get_origin(option.kind) is Literal:
        return ", ".join(str(choice) for choice in get_args(option.kind))
    return {int: "a whole number", float: "a number"}.get(option.kind, "a value")
