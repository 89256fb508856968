"""`lowerbound data [NAME|PATH]`: the data sets there are, and what is in one, before a model is trained on it."""

import inspect as python_inspect
import shlex
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..core.errors import LowerboundError
from ..core.recipe import RECIPES
from ..core.spec import DataSpec
from ..data import BUILTIN, load_data
from ..data.inspect import ColumnFacts, Facts, inspect
from ..recipes.parts import default_likelihood
from .common import dataclass_of, option, options_of
from .mistakes import parse
from .output import result, result_json, say

PATHS = (
    "a folder of images, with one sub-folder for each class, or train/ and test/ above them",
    "a .csv, .tsv or .parquet table, or a folder of .parquet files of one schema",
    "a .npy or .npz file of arrays",
    "an IDX file, or a folder of them with MNIST's names",
    "a data set saved by Hugging Face `datasets`, or hf:NAME or hf:FOLDER, what `datasets` streams under that name",
    "lines:FILE, a text file with one sequence on each line",
)
CONV_FROM = 24  # pixels of the smaller side
SMALL: dict[str, Any] = {"hidden": (4,), "channels": (2,), "latent_dim": 1}  # for models that are built to be refused


@dataclass
class Inspect:
    """List the data sets that come with the package, or inspect one of them or a path.

    Says what the data hold, which likelihood they get and why, and which recipes fit.
    """

    source: Annotated[str | None, tyro.conf.Positional] = None
    """The name or path of the data to inspect (default: list the data sets)."""
    json: bool = False
    """Print JSON."""


def command(words: list[str]) -> int:
    """Run `lowerbound data`."""
    fields = [*options_of(load_data, without=("source", "like", "seed")), _data_seed()]
    options: Any = parse(dataclass_of("Data", fields, Inspect.__doc__ or "", (Inspect,)), words, "data")
    if options.source is None:
        return _list(as_json=options.json)
    names = [name for name in python_inspect.signature(load_data).parameters if name not in ("source", "like", "seed")]
    data = load_data(options.source, seed=options.data_seed, **{name: getattr(options, name) for name in names})
    facts, fits = inspect(data), recipe_fits(data.spec)
    likelihood = likelihood_of(data.spec)
    if options.json:
        result_json({**facts.to_json(), "likelihood": likelihood, "recipes": fits})
    else:
        result(
            "\n".join([*_summary(facts), "", *_table(facts), f"likelihood  {likelihood['name']}: {likelihood['why']}"])
        )
        result("\n".join(_fit_lines(fits)))
    for line in data.warnings + tuple(w for w in facts.warnings if w not in data.warnings):
        say(f"warning: {line}")
    say(f"next:  lowerbound train {_recommended(fits, data.spec)} --data {shlex.join(_again(words, options.source))}")
    return 0


def _data_seed() -> tuple[str, Any, Any]:
    return option("data_seed", int, "Seed of the splits and of every fixed binarisation.", default=0)


def _list(*, as_json: bool) -> int:
    """Print the data sets that come with the package, and what paths can be given."""
    listed = [_facts_of(name) for name in BUILTIN]
    if as_json:
        result_json(listed)
        return 0
    for one in listed:
        shape = " x ".join(str(n) for n in one["shape"])
        classes = f"{one['classes']} classes" if one["classes"] else "no classes"
        result(f"  {one['name']:<12}{one['rows']:>7,} x {shape:<12}{one['kind']:<8}{classes:<12}{one['what']}")
    result("\nor a path:\n" + "\n".join(f"  {line}" for line in PATHS))
    say("next:  lowerbound data NAME|PATH inspects one")
    return 0


def _facts_of(name: str) -> dict[str, Any]:
    data = BUILTIN[name]()
    spec = data.spec
    what = (BUILTIN[name].__doc__ or "").splitlines()[0]
    rows = sum(len(part) for part in (data.train, data.valid, data.test))
    shape, classes = list(spec.shape), spec.num_classes
    return {"name": name, "shape": shape, "kind": spec.kind, "rows": rows, "classes": classes, "what": what}


def likelihood_of(spec: DataSpec) -> dict[str, str]:
    """Return the name of the likelihood that these data get by default, and why."""
    if spec.modalities:
        each = ", ".join(f"{m.name} {type(default_likelihood(m.spec)).__name__}" for m in spec.modalities)
        return {"name": "Modalities", "why": f"each modality gets one of its own: {each}"}
    named = {"mixed": "mixed", "symbols": "Symbols"}
    support = named.get(spec.scored_support) or type(default_likelihood(spec)).__name__
    if support == "Symbols":
        return {"name": support, "why": "each symbol is scored given those before it, and the end as well"}
    if support == "mixed":
        kinds = sorted({c.kind for c in spec.modelled})
        return {"name": "Columns", "why": f"columns of several kinds ({', '.join(kinds)}) get one distribution each"}
    grey = "grey pixels are made 0/1 anew in each batch (--binarize none keeps them grey, with a Normal)"
    reasons = {
        "Bernoulli": "all values are 0 or 1" if spec.support == "binary" else grey,
        "DiscretizedLogistic": "colours of 8 bits get the probability of each level under a logistic of one learned "
        "scale",
        "NegativeBinomial": "whole numbers from 0 on get a negative binomial with one learned dispersion each",
        "SharedNormal": f"{'real' if spec.support == 'real' else 'grey or colour'} values get a Normal with one "
        "learned variance",
    }
    return {"name": support, "why": reasons.get(support, f"values are {spec.scored_support}")}


def recipe_fits(spec: DataSpec) -> dict[str, str | None]:
    """Return for each recipe None if it can be built for these data, else the reason why not."""
    fits: dict[str, str | None] = {}
    for name, function in sorted(RECIPES.items()):
        known = {k: type(v.default) for k, v in python_inspect.signature(function).parameters.items()}
        try:
            function(spec, **{option: value for option, value in SMALL.items() if known.get(option) is type(value)})
            fits[name] = None
        except LowerboundError as error:
            fits[name] = str(error).splitlines()[0]
    return fits


def _summary(facts: Facts) -> list[str]:
    """Return the facts about all rows, one line each."""
    rows = ", ".join(f"{count:,} {name}" for name, count in facts.rows.items())
    shape = " x ".join(str(n) for n in facts.shape)
    lines = [
        f"{facts.name}: {sum(facts.rows.values()):,} rows ({rows}), each {shape}",
        f"kind        {facts.kind}, read from {facts.form}, values {facts.support}",
    ]
    if facts.low is not None:
        lines.append(f"range       {facts.low:.6g} to {facts.high:.6g}")
    if facts.classes:
        more = f" ... ({facts.num_classes} in all)" if facts.num_classes > len(facts.classes) else ""
        lines.append("classes     " + ", ".join(f"{_word(name)} {count:,}" for name, count in facts.classes) + more)
    lines.append(f"duplicates  {facts.duplicates:,} rows repeat an earlier one")
    if facts.constant:
        lines.append(f"constant    {', '.join(_word(name) for name in facts.constant)}")
    elif facts.constant_values and not facts.columns:
        lines.append(f"constant    {facts.constant_values:,} values are the same in all training rows")
    if facts.missing:
        lines.append("missing     " + ", ".join(f"{_word(name)} {count:,}" for name, count in facts.missing.items()))
    if facts.paired:
        lines.append("pairs       the encoder sees other values than those that are modelled")
    if facts.weighted:
        lines.append("weights     rows have weights")
    return lines + [f"note        {note}" for note in facts.notes]


def _table(facts: Facts) -> list[str]:
    """Return one line for each column of a table."""
    if not facts.columns:
        return []
    width = max(6, *(len(_word(c.name)) for c in facts.columns))
    lines = [f"{'column':<{width}}  {'kind':<9} {'type':<14} {'missing':>7} {'distinct':>8}  values"]
    for c in facts.columns:
        words = f"{_word(c.name):<{width}}  {c.kind:<9} {c.dtype[:14]:<14} {c.missing:>7,} {c.distinct:>8,}  "
        lines.append(words + _values(c))
    return [*lines, ""]


def _values(column: ColumnFacts) -> str:
    if column.categories:
        more = f", ... ({column.distinct} in all)" if column.distinct > len(column.categories) else ""
        return ", ".join(f"{_word(name)} {count:,}" for name, count in column.categories) + more
    if column.mean is None or column.std is None:
        return f"{column.low} to {column.high}"
    if column.constant:
        return f"{column.low:.6g}"
    return f"{column.low:.6g} to {column.high:.6g}, mean {column.mean:.6g} +- {column.std:.6g}"


def _fit_lines(fits: dict[str, str | None]) -> list[str]:
    fit = [name for name, reason in fits.items() if reason is None]
    refused = [f"  not {name}: {reason}" for name, reason in fits.items() if reason is not None]
    return [f"recipes     {', '.join(fit) or 'none'}", *refused]


def _word(text: str) -> str:
    """Return a name as it is, or quoted where a terminal or an eye would trip over it."""
    plain = text.isprintable() and text == text.strip() and text and len(text) <= 40
    return text if plain else repr(text[:40])


def _recommended(fits: dict[str, str | None], spec: DataSpec) -> str:
    """Return the recipe to begin with: convolutions for images that are not tiny."""
    large = spec.kind == "image" and min(spec.shape[1:]) >= CONV_FROM
    first = (*(("conv_vae",) if large else ()), "vae", "gaussian_vae", *fits)
    return next((name for name in first if name in fits and fits[name] is None), "RECIPE")


def _again(words: list[str], source: str) -> list[str]:
    """Return source and options in the order in which `lowerbound train --data` takes them."""
    others = [word for word in words if word not in ("--json", "--no-json")]
    others.remove(source)
    return [source, *others]
