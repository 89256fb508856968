"""`lowerbound parts [KIND [NAME]] [--json]`: what can stand in a recipe's place of a likelihood, posterior, ..."""

import inspect
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any

import docstring_parser
import tyro

from ..core.errors import LowerboundError, UsageError
from ..data import load_data
from . import train
from .mistakes import parse
from .output import result, result_json, say
from .parts import KINDS, Kind, maker, names_of, part_options


@dataclass
class Parts:
    """List the parts that `lowerbound train` can put into a recipe, or show one: its equation, paper and options."""

    kind: Annotated[Kind | None, tyro.conf.Positional] = None
    """likelihood, posterior, prior or objective."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """The part to show."""
    json: bool = False
    """Print JSON."""


def command(words: list[str]) -> int:
    """Run `lowerbound parts`."""
    options = parse(Parts, words, "parts")
    kinds = KINDS if options.kind is None else (options.kind,)
    if options.name is not None:
        assert options.kind is not None, "the kind stands before the name"
        facts = _facts(options.kind, _checked(options.kind, options.name))
        result_json(facts) if options.json else _show(facts)
    elif options.json:
        result_json([_facts(kind, name) for kind in kinds for name in names_of(kind)])
    else:
        result("\n\n".join(f"{kind}:\n" + "\n".join(_line(kind, name) for name in names_of(kind)) for kind in kinds))
        say("next:  lowerbound parts prior NAME, or lowerbound train vae --data mnist --prior NAME")
    return 0


def _checked(kind: Kind, name: str) -> str:
    names = names_of(kind)
    if name in names:
        return name
    near = get_close_matches(name.replace("-", "_"), names, 1)
    fix = f"did you mean {near[0]}?" if near else f"lowerbound parts {kind} lists them"
    raise UsageError(f"there is no {kind} {name!r}", expected=", ".join(names), fix=fix)


def _line(kind: Kind, name: str) -> str:
    return f"  {name:<33}{(docstring_parser.parse(_doc(kind, name)).short_description or '').rstrip('.')}"


def _doc(kind: Kind, name: str) -> str:
    return inspect.getdoc(maker(kind, name)) or ""


def _facts(kind: Kind, name: str) -> dict[str, Any]:
    options = {f.name: f.default for f in fields(part_options(kind, name))}
    return {"kind": kind, "name": name, "doc": _doc(kind, name), "options": options}


def _show(facts: dict[str, Any]) -> None:
    kind, name = facts["kind"], facts["name"]
    result(f"{kind} {name}\n\n{facts['doc'].partition('>>>')[0].rstrip()}\n")
    for option, default in facts["options"].items():
        result(f"  --{kind}.{option.replace('_', '-')}  (default {default})")
    say(f"next:  {_following(kind, name)}")


def _following(kind: Kind, name: str) -> str:
    """Return a command that puts a part to use and is not refused; in capitals what only the user knows."""
    words = ["vae", "--data", "digits", f"--{kind}", name]
    try:
        train.made_recipe(train.read(words), load_data("digits").spec)
    except LowerboundError:
        if kind == "prior":
            return f"lowerbound fit-prior RUN --prior {name}"
        return f"lowerbound train RECIPE --data NAME|PATH --{kind} {name}"
    return f"lowerbound train {' '.join(words)}"
