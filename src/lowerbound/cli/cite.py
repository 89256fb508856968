"""`lowerbound cite RUN|RECIPE`: BibTeX of what was used."""

from dataclasses import dataclass
from shlex import quote
from typing import Annotated

import tyro

from ..core.recipe import RECIPES
from ..data import load_data
from ..recipes import find
from ..recipes.modalities import OF_MODALITIES
from ..ship.cite import cite
from ..ship.files import read_json
from ..train import find_run
from .mistakes import parse
from .output import result, say


@dataclass(kw_only=True)
class Cite:
    """Print BibTeX of lowerbound and of the papers that a run's recipe and its parts stand on."""

    name: Annotated[str, tyro.conf.Positional]
    """A run (a path, a name under runs/, or `last`), or a recipe."""


def command(words: list[str]) -> int:
    """Run `lowerbound cite`."""
    options = parse(Cite, words, "cite")
    if options.name in RECIPES:
        several = options.name in OF_MODALITIES
        result(cite(find(options.name)(load_data("digits", with_label=several).spec).describe()))
        say(f"next:  lowerbound train {options.name} --data mnist{' --with-label' * several}")
    else:
        result(cite(read_json(find_run(options.name) / "recipe.json")))
        say(f"next:  lowerbound report {quote(options.name)}")
    return 0
