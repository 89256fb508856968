"""`lowerbound train RECIPE --data NAME|PATH`: the recipe's signature is the list of options."""

import inspect
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import docstring_parser
import tyro

from ..core.recipe import LrSchedule, OptimizerName, RecipeFunction
from ..core.spec import Binarize
from ..data import load_data
from ..recipes import find
from ..train import fit
from ..train.loop import Precision
from ..train.run import Run, free_name
from .common import parse, result, saved, say
from .recipes import listing

RUNS = Path("runs")


@dataclass(kw_only=True)
class TrainOptions:
    """Options of every recipe."""

    data: str
    """mnist, digits, ring, moons, 8gaussians, or the path of an IDX file or of a folder of IDX files."""
    binarize: Binarize = "auto"
    """How grey pixels become 0/1; auto: as the recipe's likelihood needs."""
    data_seed: int = 0
    """Seed of the splits and of every fixed binarisation."""
    epochs: int | None = None
    """Passes through the training data (None: the recipe's, here and below)."""
    batch_size: int | None = None
    """Examples in one step."""
    lr: float | None = None
    """Learning rate."""
    lr_schedule: LrSchedule | None = None
    """constant, or cosine from lr to 0."""
    optimizer: OptimizerName | None = None
    """The optimiser."""
    weight_decay: float | None = None
    """L2 penalty of the optimiser."""
    clip: float | None = None
    """Largest norm of a gradient."""
    patience: int | None = None
    """Epochs without a better validation score before stopping."""
    seed: int = 0
    """Decides initial weights, order and noise."""
    out: Path | None = None
    """Run folder to create (default: runs/RECIPE-DATA, with a number if that exists)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Precision = "float32"
    """bf16 runs the networks in bfloat16."""


def command(words: list[str]) -> int:
    """Run `lowerbound train`."""
    if not words or words[0] in ("-h", "--help"):
        result("usage: lowerbound train RECIPE --data NAME|PATH [options]\n")
        result("lowerbound train RECIPE --help lists the options of a recipe.\n\nrecipes:\n" + listing())
        return 0 if words else 2
    name, *rest = words
    function = find(name)
    options = parse(options_of(name, function), rest, f"train {name}")
    common = {f.name: getattr(options, f.name) for f in fields(TrainOptions)}
    chosen = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in common}
    run = train(name, function, chosen, common)
    return finish(run)


def train(name: str, function: RecipeFunction, chosen: dict[str, Any], common: dict[str, Any]) -> Run:
    """Load the data, make the recipe and train it; `common` are the fields of TrainOptions."""
    source, out = common.pop("data"), common.pop("out")
    data = load_data(source, binarize=common.pop("binarize"), seed=common.pop("data_seed"))
    recipe = function(data.spec, **chosen)
    return fit(recipe, data, out=out or free_name(RUNS, f"{name}-{data.spec.name}"), **common)


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


def options_of(name: str, function: RecipeFunction) -> type[TrainOptions]:
    """Return a dataclass of TrainOptions and the recipe's own options, with the recipe's docstring as help."""
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    texts = {p.arg_name: p.description or "" for p in doc.params}
    made = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        note = tyro.conf.arg(help=texts.get(parameter.name, ""))
        made.append((parameter.name, Annotated[parameter.annotation, note], field(default=parameter.default)))
    options = make_dataclass(name, made, bases=(TrainOptions,), kw_only=True)
    options.__doc__ = f"{doc.short_description}\n\n{doc.long_description or ''}"
    return options
