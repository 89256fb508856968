"""`lowerbound doctor RUN`: what is wrong with a run's model, and what to do about it."""

import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..core.errors import LowerboundError
from ..core.model import VAE
from ..core.spec import DataSpec
from ..data import Data
from ..evaluation.doctor import Commands, Diagnosis, default_commands, doctor
from ..recipes import find
from ..ship.files import read_json, write_results
from ..train.fit_prior import check_priors
from . import fit_prior, train
from .common import RunOptions, open_model, own_data
from .config import Config, options_of_run, words_of
from .mistakes import parse
from .output import result, result_json, saved, say
from .parts import split_words
from .train import defaults_of


@dataclass(kw_only=True)
class Doctor(RunOptions):
    """What is wrong with a run's model, in sentences with their numbers, and the command that repairs it.

    Is z used? Is q more than a point? Does the prior match the codes? Is q calibrated? What does the ELBO lose?

    The aggregate posterior is that of all training rows, holes are measured by 10,000 of their codes, the gaps on 50
    held-out rows, the rest on `rows` of them. On MNIST this takes half a minute on one core.
    """

    rows: int = 1000
    """Held-out rows (the run's test rows, or validation rows without any), at most."""


def command(words: list[str]) -> int:
    """Run `lowerbound doctor`."""
    options = parse(Doctor, words, "doctor")
    folder, model, spec = open_model(options)
    data = own_data(folder, spec)
    say(f"{folder.name}: {len(data.train):,} training rows of {spec.name}, at most {options.rows:,} held out")
    commands = commands_of(folder, model, data, options.run)
    found = doctor(model, data, rows=options.rows, seed=options.seed, commands=commands)
    path = folder / "eval" / "doctor.json"
    path.parent.mkdir(exist_ok=True)
    write_results(path, {**found.to_json(), "text": str(found)})
    if options.json:
        result_json(found.to_json())
    else:
        result(str(found))
    saved(path, _following(found, options.run))
    return 0


def _following(found: Diagnosis, run: str) -> str:
    remedies = [finding.command for finding in found.wrong if finding.command]
    return remedies[0] if remedies else f"lowerbound sample {shlex.quote(run)}"


def commands_of(folder: Path, model: VAE, data: Data, run: str) -> Commands:
    """Return what the commands of remedies are made of: the run's own, or a plain recipe if it was no ELBO."""
    try:
        options, recipe = options_of_run(folder), read_json(folder / "recipe.json")
        objective = recipe["objective"]["part"]
    except (LowerboundError, KeyError, TypeError):  # a run of older files; the data are known all the same
        return replace(default_commands(model, data), run=shlex.quote(run))
    by_elbo = objective == "ELBO" and options.get("beta", 1.0) == 1.0
    works = partial(is_applicable, model=model, spec=data.spec)
    plain = "sequence_vae" if data.spec.kind == "sequence" else "cvae" if model.conditional else "vae"
    names = (options["recipe"],) if by_elbo else (plain, options["recipe"])
    lines = [_training_command(name, folder, options, data, whole=by_elbo) for name in names]
    line = next(filter(works, lines), lines[-1])
    return Commands(shlex.quote(run), line, by_elbo, works)


def _training_command(name: str, folder: Path, options: dict[str, Any], data: Data, *, whole: bool) -> str:
    """Return the command that trains a recipe with a run's options: all, or those alone that are the recipe's own."""
    usual = {**defaults_of(name), **vars(find(name)(data.spec).training)}
    kept = {"recipe", "data", "precision", "kernels"}  # the last two follow from the work of the new training
    kept |= set() if options.get("epochs") else {"epochs"}  # what was not trained is not repaired by training no more
    other = {k: v for k, v in options.items() if k not in kept and _plain(v) != _plain(usual.get(k))}
    if not whole:
        other = {k: v for k, v in other.items() if k in usual}
    words = [name, "--data", options["data"], *words_of(Config(folder, other, {}), other)]
    return f"lowerbound train {shlex.join(words)}"


def is_applicable(line: str, model: VAE, spec: DataSpec) -> bool:
    """Tell whether a command that trains, or fits a prior, would not be refused for a model and data like its own."""
    kind, *words = shlex.split(line)[1:]
    try:
        if kind == "fit-prior":
            rest, dotted = split_words(words)
            options: Any = parse(fit_prior.options_type(), rest, kind)
            parts = fit_prior.chosen_priors(options.prior, dotted)
            check_priors(model, fit_prior.made_priors(parts, model, spec, options.group), spec, options.group)
        else:
            asked = train.read(words)
            train.made_recipe(asked, spec)
    except LowerboundError:
        return False
    return True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
