"""The checks of `annotations.py` refuse what jaxtyping's own decorator refuses, and pass what it passes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import pytest
import torch
from beartype import beartype
from jaxtyping import Float
from torch import Tensor

from annotations import decorated, jaxtyped
from lowerbound import load_data
from lowerbound.core.types import Batch

Square = Float[Tensor, "n n"]


def same_rows(x: Float[Tensor, "n d"], *, y: Float[Tensor, "n"]) -> Float[Tensor, " d"]:
    return x.sum(0) if len(y) < 4 else x.sum(1)


def all_of(squares: list[Square] | None, weigh: Callable[[Square], Square] = lambda x: x) -> Tensor | None:
    return None if squares is None else weigh(squares[0])


def plain(name: Literal["a", "b"], count: int = 2) -> str:
    return name * count if count else cast("str", count)


def drawn(rows: tuple[int, ...]) -> Iterator[int]:
    yield from rows


def of_text(x: "Square", least: "float" = 0.0) -> "Square":
    return x if float(x.min()) >= least else x[0]


@dataclass(frozen=True)
class Held:
    side: Square
    name: str = ""


@dataclass(frozen=True)
class Named:
    name: str


X, Y = torch.ones(3, 2), torch.ones(3)
CASES = [
    (same_rows, (X,), {"y": Y}, True),
    (same_rows, (X,), {"y": torch.ones(2)}, False),  # lengths differ
    (same_rows, (X.double().long(),), {"y": Y}, False),
    (same_rows, (torch.ones(5, 2),), {"y": torch.ones(5)}, False),  # the result is of another length
    (all_of, ([torch.ones(2, 2)],), {}, True),
    (all_of, (None,), {}, True),
    (all_of, ([torch.ones(2, 3)],), {}, False),
    (all_of, ([torch.ones(2, 2)], 5), {}, False),
    (plain, ("a",), {}, True),
    (plain, ("c",), {}, False),
    (plain, ("a", "3"), {}, False),
    (plain, ("a", 0), {}, False),  # the result is a number
    (drawn, ((1, 2),), {}, True),
    (drawn, ([1, 2],), {}, False),
    (of_text, (torch.ones(2, 2),), {}, True),
    (of_text, (torch.ones(2, 3),), {}, False),
    (of_text, (-torch.ones(2, 2),), {}, False),
    (Held, (torch.ones(2, 2),), {}, True),
    (Held, (torch.ones(2, 3),), {}, False),
    (Held, (torch.ones(2, 2), 3), {}, False),
    (Named, ("x",), {}, True),
    (Named, (3,), {}, False),
]


def refused(function, arguments, options):
    try:
        made = function(*arguments, **options)
        if isinstance(made, Iterator):  # whose arguments are looked at when it begins
            list(made)
    except Exception as error:
        assert type(error).__module__.split(".")[0] in {"jaxtyping", "beartype"}, error
        return True
    return False


@pytest.mark.parametrize(("thing", "arguments", "options", "right"), CASES)
def test_both_refuse_the_same(thing, arguments, options, right):
    def new():  # a class is decorated in place
        return type(thing.__name__, (thing,), {"__init__": thing.__init__}) if isinstance(thing, type) else thing

    assert refused(jaxtyped(typechecker=beartype)(new()), arguments, options) is not right
    assert refused(decorated(new(), typechecker=beartype), arguments, options) is not right


def test_the_package_is_checked():
    images = torch.ones(2, 3)
    assert refused(Batch, (images,), {"mask": torch.ones(2, 4)})
    assert refused(Batch(images).mean, (images,), {})
    assert refused(load_data, (3,), {})
    assert not refused(Batch(images).mean, (torch.ones(2),), {})
