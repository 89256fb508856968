"""`lowerbound export-config RUN|RECIPE`: options as a file for `train --config`."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro

from ..core.errors import UsageError
from ..core.recipe import RECIPES
from ..ship.files import write_text
from ..train import find_run
from .config import options_of_run, to_yaml
from .mistakes import parse
from .output import result, result_json, saved, say
from .train import defaults_of


@dataclass(kw_only=True)
class ExportConfig:
    """Write the options of a run, or the default options of a recipe, as YAML for `lowerbound train --config FILE`."""

    name: Annotated[str, tyro.conf.Positional]
    """A run (a path, a name under runs/, or `last`), or a recipe."""
    out: Path | None = None
    """File to write (default: standard output)."""
    json: bool = False
    """Print JSON."""


def command(words: list[str]) -> int:
    """Run `lowerbound export-config`."""
    options = parse(ExportConfig, words, "export-config")
    chosen = exported(options.name)
    if options.json:
        result_json(chosen)
    elif options.out is None:
        result(to_yaml(chosen).rstrip())
        say("next:  lowerbound train --config FILE")
    else:
        if options.out.is_dir():
            raise UsageError(f"{options.out} is a folder", expected="a file to write, such as options.yaml")
        write_text(options.out, to_yaml(chosen))
        saved(options.out, f"lowerbound train --config {quote(str(options.out))}")
    return 0


def exported(name: str) -> dict[str, Any]:
    """Return the options of a run or, where `name` is a recipe's, its defaults."""
    return defaults_of(name) if name in RECIPES else options_of_run(find_run(name))
