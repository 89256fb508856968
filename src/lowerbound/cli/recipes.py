"""`lowerbound recipes [NAME] [--json]`: what there is to train."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import tyro

from ..core.recipe import RECIPES
from ..recipes import find
from ..recipes.modalities import OF_MODALITIES
from .mistakes import parse
from .output import result, result_json, say


@dataclass
class Recipes:
    """List the recipes, or show one: its options with their defaults, its equation and its paper."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """The recipe to show."""
    json: bool = False
    """Print JSON."""


def command(words: list[str]) -> int:
    """Run `lowerbound recipes`."""
    options = parse(Recipes, words, "recipes")
    if options.name is None and options.json:
        result_json([_facts(name) for name in sorted(RECIPES)])
    elif options.name is None:
        result(listing())
        say("next:  lowerbound recipes NAME, or lowerbound train NAME --data mnist")
    elif options.json:
        find(options.name)
        result_json(_facts(options.name))
    else:
        function = find(options.name)
        result(f"{options.name}{_options(inspect.signature(function))}\n\n{inspect.getdoc(function)}")
        several = options.name in OF_MODALITIES
        say(f"next:  lowerbound train {options.name} --data mnist{' --with-label' * several}")
    return 0


def listing() -> str:
    """Return one line for each recipe."""
    rows, width = [], max(map(len, RECIPES)) + 2
    for name in sorted(RECIPES):
        summary = (inspect.getdoc(RECIPES[name]) or "").splitlines()[0].rstrip(".")
        rows.append(f"  {name:<{width}}{summary.split(': ')[0]}")
    return "\n".join(rows)


def _options(signature: inspect.Signature) -> str:
    return "(" + ", ".join(str(p) for p in list(signature.parameters.values())[1:]) + ")"


def _facts(name: str) -> dict[str, object]:
    function = RECIPES[name]
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {
        "name": name,
        "doc": inspect.getdoc(function),
        "options": {p.name: p.default for p in parameters},
    }
