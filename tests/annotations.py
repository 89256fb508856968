"""Run the package's annotations: shapes where a function names them, plain types elsewhere.

As it comes, jaxtyping's import hook binds the arguments of every function, keeps a record of dimensions for it and
looks at each argument twice, also where no annotation has a shape: tens of microseconds a call. Here beartype alone,
under a microsecond, checks functions without shapes, and with shapes arguments and result are looked at once.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping

Check = Callable[[Callable], Callable]
decorated = jaxtyping.jaxtyped


def parts(annotation: object) -> Iterator[object]:
    """Give an annotation and all that stands within it."""
    yield annotation
    for part in annotation if isinstance(annotation, list | tuple) else typing.get_args(annotation):
        yield from parts(part)


def checked(function: Callable, check: Check) -> Callable:
    """Return a function that has its annotations checked by `check`, within a record of dimensions if it has shapes."""
    held = list(parts(list(function.__annotations__.values())))
    if any(isinstance(part, str | typing.ForwardRef) for part in held):  # a name that may not be there to be looked up
        return decorated(function, typechecker=check)
    if any(inspect.isclass(part) and issubclass(part, jaxtyping.AbstractArray) for part in held):
        return decorated(check(function), typechecker=None)
    return check(function)


def jaxtyped(*, typechecker: Check) -> Callable[[Any], Any]:
    """Stand for the decorator that the import hook writes above each function and class."""

    def decorate(thing: Any) -> Any:
        if inspect.isfunction(thing):
            return checked(thing, typechecker)
        made = vars(thing).get("__init__")  # of a dataclass; one that was written has been decorated where it stands
        if dataclasses.is_dataclass(thing) and inspect.isfunction(made) and not hasattr(made, "__wrapped__"):
            thing.__init__ = checked(made, typechecker)
        return thing

    return decorate


def install() -> None:
    """Check what is imported of the package from now on."""
    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook("lowerbound", "beartype.beartype")
