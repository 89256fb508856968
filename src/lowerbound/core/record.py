"""Recorded constructors: a part remembers its arguments, so it can be written as JSON and rebuilt.

Rebuilding looks names up in a closed registry that is filled when classes are defined; nothing a file says is
ever imported or run.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import CorruptArtifact, LowerboundError, UsageError

T = TypeVar("T", bound=type)
JSON = Any

_REGISTRY: dict[str, type] = {}
# what a constructor raises when it is given something it was not made for
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, LowerboundError)


def recorded(cls: T) -> T:
    """Make the constructor of `cls` remember its arguments and add `cls` to the registry.

    Raises:
        UsageError: if another class of that name is registered already.

    >>> @recorded
    ... class Doubled:
    ...     def __init__(self, size: int = 3) -> None:
    ...         self.size = 2 * size
    >>> describe(Doubled(4))
    {'part': 'Doubled', 'args': {'size': 4}}
    >>> rebuild({'part': 'Doubled', 'args': {'size': 5}}).size
    10
    """
    known = _REGISTRY.get(cls.__name__)
    if known is not None and known.__module__ != cls.__module__:
        raise UsageError(
            f"two parts are called {cls.__name__}",
            where=f"{known.__module__} and {cls.__module__}",
            fix="rename one: saved models name their parts",
        )
    init: Callable[..., None] = cls.__init__
    signature = inspect.signature(init)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p.name for p in list(signature.parameters.values())[1:] if p.kind not in variadic]

    @functools.wraps(init)
    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = {k: v for k, v in bound.arguments.items() if k in named}
        object.__setattr__(self, "_recorded", arguments)

    cls.__init__ = remember
    _REGISTRY[cls.__name__] = cls
    return cls


def part_named(name: str) -> type | None:
    """Return the recorded class called `name`, or None."""
    return _REGISTRY.get(name)


def arguments_of(part: Any) -> dict[str, Any]:
    """Return the arguments a recorded part was made with.

    Raises:
        UsageError: if it is not recorded.
    """
    if _REGISTRY.get(type(part).__name__) is not type(part):
        raise UsageError(
            f"{type(part).__name__} does not know how it was made: its constructor is not recorded",
            fix="decorate the class with @lowerbound.recorded",
        )
    return dict(part._recorded)


def describe(value: Any) -> JSON:
    """Return `value` as JSON: numbers, strings, lists, and recorded parts as `{"part", "args"}`.

    Raises:
        UsageError: if a part is not recorded.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if isinstance(value, types.MappingProxyType | dict):
        return {str(k): describe(v) for k, v in value.items()}
    if _REGISTRY.get(type(value).__name__) is type(value):
        arguments = {k: describe(v) for k, v in value._recorded.items()}
        return {"part": type(value).__name__, "args": arguments}
    raise UsageError(
        f"{type(value).__name__} cannot be saved: its constructor is not recorded",
        fix="decorate the class with @lowerbound.recorded",
    )


def rebuild(description: JSON) -> Any:
    """Build anew what `describe` returned; random initial weights come from torch's default generator.

    Raises:
        CorruptArtifact: if a name is not in the registry or the arguments do not fit its constructor.
    """
    if isinstance(description, list):
        return tuple(rebuild(v) for v in description)
    if not isinstance(description, dict):
        return description
    if set(description) != {"part", "args"}:
        return {k: rebuild(v) for k, v in description.items()}
    cls = _REGISTRY.get(description["part"]) if isinstance(description["part"], str) else None
    if cls is None or not isinstance(description["args"], dict):
        raise CorruptArtifact(
            f"unknown part {description['part']!r}",
            expected="one of the parts this version of lowerbound has",
            fix="load it with the version that wrote it, or import the module that defines the part first",
        )
    arguments = {k: rebuild(v) for k, v in description["args"].items()}
    try:
        return cls(**arguments)
    except CorruptArtifact:
        raise
    except _MISFITS as error:
        raise CorruptArtifact(f"part {description['part']} does not accept its saved arguments: {error}") from error
