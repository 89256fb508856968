"""What to cite: BibTeX of the papers behind a recipe and its parts, as their docstrings name them."""

import inspect
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..core.recipe import RECIPES
from ..core.record import part_named

_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,]+),.*?^\}", re.MULTILINE | re.DOTALL)
_EPRINT = re.compile(r"eprint\s*=\s*\{([\d.]+)\}")
_CALLED = re.compile(r"^\s*called\s*=\s*\{([^}]*)\},?\n", re.MULTILINE)


class Reference(NamedTuple):
    """One entry of references.bib.

    Args:
        key: BibTeX key.
        text: the entry.
        signs: what a docstring says where it means this paper: "arXiv 1312.6114", "Higgins et al. 2017".
    """

    key: str
    text: str
    signs: tuple[str, ...]


@cache
def references() -> tuple[Reference, ...]:
    """Return all entries of references.bib, in its order.

    An entry is found by its arXiv number, or, where it has none, by what its field `called` says (not printed).
    """
    text = files("lowerbound.ship").joinpath("references.bib").read_text(encoding="utf-8")
    found = []
    for match in _ENTRY.finditer(text):
        entry = match.group()
        signs = [f"arXiv {number}" for number in _EPRINT.findall(entry)]
        for called in _CALLED.findall(entry):
            signs += [sign.strip() for sign in called.split(";")]
        found.append(Reference(match["key"], _CALLED.sub("", entry), tuple(signs)))
    return tuple(found)


def cite(described: Any) -> str:
    """Return BibTeX of lowerbound and of every paper that a recipe and its parts stand on.

    Args:
        described: what `Recipe.describe()` returned, or the contents of a run's recipe.json.

    >>> import lowerbound as lb
    >>> recipe = lb.recipes.vae(lb.load_data("digits").spec)
    >>> "Auto-Encoding Variational Bayes" in cite(recipe.describe())
    True
    """
    docs = [_doc(RECIPES.get(described.get("name", "")) if isinstance(described, dict) else None)]
    docs += [_doc(part_named(name)) for name in sorted(set(_parts(described)))]
    # a line may break between "arXiv" and the number
    said = " ".join(" ".join(docs).split())
    chosen = [r for r in references() if not r.signs or any(re.search(rf"{re.escape(s)}\b", said) for s in r.signs)]
    return "\n\n".join(reference.text for reference in chosen)


def _doc(thing: object) -> str:
    """Return what a docstring says before its arguments, where variants are named that may not be in use."""
    return "" if thing is None else (inspect.getdoc(thing) or "").partition("Args:")[0]


def _parts(described: Any) -> Iterable[str]:
    """Yield the names of all parts in a description."""
    if isinstance(described, dict):
        if isinstance(described.get("part"), str):
            yield described["part"]
        for value in described.values():
            yield from _parts(value)
    elif isinstance(described, list | tuple):
        for value in described:
            yield from _parts(value)
