"""`lowerbound train RECIPE --data NAME|PATH`: the recipe's signature is the list of options."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docstring_parser

from ..core.recipe import RecipeFunction
from ..data import load_data
from ..recipes import find
from ..train import fit
from ..train.run import Run, free_name
from .common import RUNS, dataclass_of, option, options_of, parse, result, saved, say
from .recipes import listing

DATA = ("like", "seed", "source")
FIT = ("data", "listeners", "out", "progress", "recipe")


def command(words: list[str]) -> int:
    """Run `lowerbound train`."""
    if not words or words[0] in ("-h", "--help"):
        result("usage: lowerbound train RECIPE --data NAME|PATH [options]\n")
        result("lowerbound train RECIPE --help lists the options of a recipe.\n\nrecipes:\n" + listing())
        return 0 if words else 2
    name, *rest = words
    function = find(name)
    options = parse(train_options(name, function), rest, f"train {name}")
    return finish(train(name, function, vars(options)))


def train(name: str, function: RecipeFunction, chosen: dict[str, Any]) -> Run:
    """Load the data, make the recipe and train it; `chosen` are the options that `train_options` lists."""
    data = load_data(chosen["data"], seed=chosen["data_seed"], **_for(load_data, chosen, DATA))
    recipe = function(data.spec, **_for(function, chosen, ("spec",)))
    out = chosen["out"] or free_name(RUNS, f"{name}-{data.spec.name}")
    return fit(recipe, data, out=out, **_for(fit, chosen, FIT))


def _for(function: Callable[..., Any], chosen: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """Return those options that are arguments of `function`."""
    return {name: chosen[name] for name in inspect.signature(function).parameters if name not in without}


def finish(run: Run) -> int:
    """Print what came out, where it is and the next command; return the exit code."""
    scores = [e for e in run.history if e["split"] == "valid"] or run.history
    objective = run.recipe.objective
    if scores:
        sign = -1 if objective.maximize else 1
        best = min(scores, key=lambda e: sign * e[objective.monitor])
        terms = "  ".join(f"{k} {best[k]:.2f}" for k in ("elbo", "distortion", "rate") if best.get(k) is not None)
        result(f"best epoch {best['epoch']} ({best['split']}): {terms} (nats for each example)")
    if run.status == "stopped":
        say("stopped by a signal; the state of training was saved")
    if run.folder is not None:
        inside = run.folder.parent == RUNS
        saved(run.folder, f"lowerbound evaluate {run.folder.name if inside else run.folder}")
    return run.exit_code


def train_options(name: str, function: RecipeFunction) -> type:
    """Return a dataclass of all options: the recipe's, of reading data, of training; their docstrings are the help."""
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    source = next(p for p in docstring_parser.parse(inspect.getdoc(load_data) or "").params if p.arg_name == "source")
    fields = [
        option("data", str, " ".join((source.description or "").split())),
        *options_of(function, without=("spec",)),
        *options_of(load_data, without=DATA),
        option("data_seed", int, "Seed of the splits and of every fixed binarisation.", default=0),
        *options_of(fit, without=FIT),
        option(
            "out", Path | None, "Run folder (default: runs/RECIPE-DATA, with a number if that exists).", default=None
        ),
    ]
    return dataclass_of(name, fields, f"{doc.short_description}\n\n{doc.long_description or ''}")
