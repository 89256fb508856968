"""`lowerbound train RECIPE --data NAME|PATH`: the recipe's signature is the list of options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import docstring_parser

from ..core.errors import UsageError
from ..core.recipe import Recipe, RecipeFunction, Training
from ..core.spec import DataSpec
from ..data import Data, load_data
from ..recipes import find
from ..recipes.modalities import OF_MODALITIES
from ..trackers.trackers import Name
from ..train import fit, open_run
from ..train.plan import start_threads
from ..train.predict import predict
from ..train.processes import Launched, check_divisible
from ..train.run import Run, RunFolder, free_name
from ..train.shardable import check_shardable
from .common import RUNS, dataclass_of, option, options_of
from .config import Config, read_config, to_yaml, words_of
from .launching import in_processes, to_launch
from .mistakes import parse
from .output import result, saved, say
from .parts import KINDS, Chosen, Kind, as_options, chosen_parts, names_of, split_words, with_parts
from .recipes import listing
from .track import TRACK, followed

DATA = ("like", "seed", "source")
RESTARTS = "With --devices: how often lost processes are started again, from the last checkpoint."
FIT = ("data", "init", "listeners", "out", "progress", "recipe", "watchers")


def command(words: list[str]) -> int:
    """Run `lowerbound train`."""
    if not words or words[0] in ("-h", "--help"):
        result("usage: lowerbound train RECIPE --data NAME|PATH [options]")
        result("       lowerbound train --config FILE [options]\n")
        result("lowerbound train RECIPE --help lists the options of a recipe.\n\nrecipes:\n" + listing())
        return 0 if words else 2
    asked = read(words)
    if asked.options["print_config"]:
        result(to_yaml({"recipe": asked.name, **_options(asked.options)}).rstrip())
        say("next:  lowerbound train --config FILE")
        return 0
    return train(asked.name, asked.function, asked.options, asked.parts, words)


@dataclass(frozen=True)
class Asked:
    """What the words of `train` ask for.

    Args:
        name: of the recipe.
        function: the recipe.
        options: of the recipe, of reading data and of training, by name.
        parts: those that take the place of the recipe's.
    """

    name: str
    function: RecipeFunction
    options: dict[str, Any]
    parts: dict[Kind, Chosen]


def read(words: list[str]) -> Asked:
    """Read the words of `train`.

    Raises:
        UsageError: if they make no sense.
    """
    name, rest, config = _recipe_and_config(words)
    function = find(name)
    kind = train_options(name, function)
    if config is not None:
        of_parts = [key for key in config.values if key.partition(".")[0] in KINDS]
        known = [f.name for f in fields(kind) if f.name not in ("config", "print_config", "dry_run")]
        switches = [f.name for f in fields(kind) if isinstance(f.default, bool)]
        rest = [*words_of(config, [*known, *of_parts], [*switches, *of_parts]), *rest]
    rest, dotted = split_words(rest)
    options = vars(parse(kind, rest, f"train {name}"))
    parts = chosen_parts(options, dotted)
    return Asked(name, function, {**{k: v for k, v in options.items() if k not in KINDS}, **as_options(parts)}, parts)


def _recipe_and_config(words: list[str]) -> tuple[str, list[str], Config | None]:
    """Return the recipe, the other words, and the file of options if there is one, whose recipe may stand in it."""
    name, rest = (None, words) if words[0].startswith("-") else (words[0], words[1:])
    config = None
    for i, word in enumerate(rest):
        if word.split("=")[0] == "--config":
            path = word.partition("=")[2] or (rest[i + 1] if i + 1 < len(rest) else "")
            if not path:
                raise UsageError("--config was given no file", expected="--config FILE")
            config = read_config(Path(path))
            rest = [*rest[:i], *rest[i + (1 if "=" in word else 2) :]]
            break
    if config is not None and "recipe" in config.values:
        name = name or str(config.values["recipe"])
        config = replace(config, values={k: v for k, v in config.values.items() if k != "recipe"})
    if name is None:
        raise UsageError(
            "no recipe was given",
            expected="lowerbound train RECIPE ..., or a line `recipe: vae` in the file of --config",
            fix="list them: lowerbound recipes",
        )
    return name, rest, config


def train(
    name: str, function: RecipeFunction, chosen: dict[str, Any], parts: Mapping[Kind, Chosen], words: list[str]
) -> int:
    """Load the data, make the recipe, and train it or say what that would need; returns the exit code.

    For several devices, `words` are given to as many processes once it is clear that they make sense.
    """
    start_threads()
    init = None if chosen["init_from"] is None else open_run(chosen["init_from"])[1]
    like = None if init is None else init.spec
    data = load_data(chosen["data"], like=like, seed=chosen["data_seed"], **_for(load_data, chosen, DATA))
    recipe = made_recipe(Asked(name, function, chosen, dict(parts)), data.spec)
    if chosen["dry_run"]:
        return dry_run(recipe, data, chosen)
    out = chosen["out"] or free_name(RUNS, f"{name}-{data.spec.name}")
    if to_launch(chosen["devices"], chosen["max_restarts"]):
        check_divisible(recipe.objective, "among processes")
        if chosen["shard"]:
            model, objective = recipe.build()
            check_shardable(objective, model, _training(recipe, chosen), chosen["kernels"])
        RunFolder.check_free(out)
        given = [] if chosen["out"] else ["--out", str(out)]
        return in_processes(["train", *words, *given], out, chosen)
    with followed(chosen["track"], out) as listeners:
        run = fit(recipe, data, out=out, init=init, listeners=listeners, **_for(fit, chosen, FIT))
    return finish(run, data)


def made_recipe(asked: Asked, spec: DataSpec) -> Recipe:
    """Return the recipe with the parts that were asked for.

    Raises:
        Incompatible: if it cannot mean anything for these data.
    """
    return with_parts(asked.function(spec, **_for(asked.function, asked.options, ("spec",))), spec, asked.parts)


def dry_run(recipe: Recipe, data: Data, chosen: dict[str, Any]) -> int:
    """Say what a training would need, without starting it."""
    needs = predict(recipe.replace(training=_training(recipe, chosen)), data)
    result(f"parameters    {needs.parameters:,}")
    result(f"steps         {needs.steps:,} ({needs.steps_per_epoch:,} an epoch)")
    parts = (("model", needs.model_bytes), ("data", needs.data_bytes), ("one step", needs.batch_bytes))
    listed = ", ".join(f"{part} {_mib(size)}" for part, size in parts)
    result(f"memory        {_mib(needs.memory)} beside Python and torch ({listed})")
    for line in (*data.notes, *(f"warning: {line}" for line in data.warnings)):
        say(line)
    say("nothing was trained or written")
    say("next:  the same command without --dry-run")
    return 0


def _training(recipe: Recipe, chosen: Mapping[str, Any]) -> Training:
    given = {f.name: chosen[f.name] for f in fields(Training) if chosen[f.name] is not None}
    return replace(recipe.training, **given)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _for(function: Callable[..., Any], chosen: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """Return those options that are arguments of `function`."""
    return {name: chosen[name] for name in inspect.signature(function).parameters if name not in without}


def _options(chosen: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in chosen.items() if k not in ("config", "print_config", "dry_run")}


def defaults_of(name: str) -> dict[str, Any]:
    """Return the default options of a recipe, with digits for its data, beside their labels if it needs two kinds."""
    chosen = _options(vars(train_options(name, find(name))(data="digits", with_label=name in OF_MODALITIES)))
    return {"recipe": name, **{option: value for option, value in chosen.items() if option not in KINDS}}


def finish(run: Run, data: Data) -> int:
    """Print what came out, where it is and the next command; return the exit code.

    Of several processes, the first one does.
    """
    launched = Launched.found()
    if launched is not None and launched.rank > 0:
        return run.exit_code
    scores = [e for e in run.history if e["split"] == "valid"] or run.history
    monitor = run.recipe.objective.monitor
    kept = next((e for e in scores if e["epoch"] == run.best_epoch), None)
    scale = "" if run.recipe.spec.log_scale is None else ", in the model's standardised units"
    if kept is not None:
        terms = "  ".join(f"{k} {kept[k]:.2f}" for k in ("elbo", "distortion", "rate") if kept.get(k) is not None)
        result(f"best epoch {kept['epoch']} ({kept['split']}): {terms} (nats for each example{scale})")
    elif run.best_epoch:
        result(f"no better epoch: the weights of epoch {run.best_epoch} are kept ({monitor} {run.best:.2f}{scale})")
    if run.status == "stopped":
        say("stopped by a signal; the state of training was saved")
    if run.folder is not None:
        named = quote(run.folder.name if run.folder.parent == RUNS else str(run.folder))
        held_out = "" if len(data.test) else " --split valid" if len(data.valid) else " --split train"
        saved(run.folder, f"lowerbound evaluate {named}{held_out}")
    return run.exit_code


def _part_option(kind: Kind) -> tuple[str, Any, Any]:
    text = f"Another {kind} than the recipe's; its options follow as --{kind}.OPTION (lowerbound parts {kind} NAME)."
    return option(kind, Literal[names_of(kind)] | None, text, default=None)  # pyright: ignore


def train_options(name: str, function: RecipeFunction) -> type:
    """Return a dataclass of all options: the recipe's, of reading data, of training; their docstrings are the help."""
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    source = next(p for p in docstring_parser.parse(inspect.getdoc(load_data) or "").params if p.arg_name == "source")
    options = [
        option("data", str, " ".join((source.description or "").split())),
        *options_of(function, without=("spec",)),
        *(_part_option(kind) for kind in KINDS),
        *options_of(load_data, without=DATA),
        option("data_seed", int, "Seed of the splits and of every fixed binarisation.", default=0),
        *options_of(fit, without=FIT),
        option("init_from", str | None, "Run whose weights to start from (fine-tuning).", default=None),
        option("max_restarts", int, RESTARTS, default=0),
        option("track", Name | None, TRACK, default=None),
        option("out", Path | None, "Run folder (default: runs/RECIPE-DATA, with a number if it exists).", default=None),
        option("config", Path | None, "File of options, as export-config writes it; other options win.", default=None),
        option("print_config", bool, "Print all options as such a file, and stop.", default=False),
        option("dry_run", bool, "Say what training would need (parameters, steps, memory), and stop.", default=False),
    ]
    return dataclass_of(name, options, f"{doc.short_description}\n\n{doc.long_description or ''}")
