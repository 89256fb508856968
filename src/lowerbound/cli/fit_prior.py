"""`lowerbound fit-prior RUN --prior NAME ...`: other priors for a trained model, as a run of its own."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from ..core.errors import DataError, UsageError
from ..core.model import VAE
from ..core.noise import Stream, seeded
from ..core.phases import FitPrior
from ..core.recipe import Recipe
from ..core.spec import DataSpec
from ..data import Data, Dataset
from ..evaluation import evaluate
from ..ship.files import read_json
from ..ship.save import save
from ..train import fit_prior, prior_score
from ..train.log import LogFile
from ..train.run import RunFolder, free_name
from .common import RUNS, RunOptions, dataclass_of, open_model, option, options_of, own_data
from .mistakes import parse
from .output import result, saved, say, wrote
from .parts import KINDS, Chosen, Kind, chosen_parts, made_part, names_of, split_words

COPIED = ("data.json", "env.json", "command.txt", "metrics.jsonl", "log.txt")
_SHOWN = 1000  # rows whose rate is compared
_DOC = """Fit another prior to the codes of a run's model, encoder and decoder frozen, and write a new run with it.

The codes are those of the run's own training rows. Of several priors the one with the highest mean log p(z) on its
validation rows is kept. The run itself is not changed; the new one has its files, but for checkpoints and evaluations.
"""


@dataclass(frozen=True)
class Comparison:
    """The prior of a run and the one that was fitted, on the same codes, in nats.

    Args:
        split: whose codes `log_pz` is of.
        log_pz: mean log p(z) before and after.
        rate: the rate of test rows (of `split` without any) before and after; None without a density.
        rows: what these rows are, in words.
    """

    split: str
    log_pz: tuple[float, float]
    rate: tuple[float, float] | None
    rows: str


def options_type() -> type:
    """Return a dataclass of the command's options; the help of `fit_prior`'s arguments is theirs."""
    names = names_of("prior")
    text = "The prior to fit, its options as --prior.OPTION (lowerbound parts prior NAME); or several to choose from."
    fields = [
        option("prior", tuple[Literal[names], ...], text),  # pyright: ignore[reportInvalidTypeForm]
        *options_of(fit_prior, without=("model", "prior", "data", "seed", "say")),
        option(
            "out",
            Path | None,
            "Run folder to write (default: runs/RUN-prior, with a number if it exists).",
            default=None,
        ),
    ]
    return dataclass_of("FitPriorOptions", fields, _DOC, bases=(RunOptions,))


def command(words: list[str]) -> int:
    """Run `lowerbound fit-prior`."""
    rest, dotted = split_words(words)
    options: Any = parse(options_type(), rest, "fit-prior")
    parts = chosen_priors(options.prior, dotted)
    folder, model, spec = open_model(options)
    recipe = _recipe_of(folder)
    out = options.out or free_name(RUNS, f"{folder.resolve().name}-prior")
    if out.exists():
        raise UsageError(f"{out} exists already", fix="choose another --out: a run is never overwritten")
    data = own_data(folder, spec)
    priors = made_priors(parts, model, spec, options.group)
    plan = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr", "group")}
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        (say if options.json or line.startswith("warning") else result)(line)

    fitted = fit_prior(model, priors, data, seed=options.seed, say=tell, **plan)
    found = compared(model, fitted, data, options.seed, options.group)
    for line in _sentences(model, fitted, found, options.group):
        tell(line)
    recipe = recipe.replace(after=(*recipe.after, FitPrior(priors, **plan)))
    write_run(out, folder, fitted, recipe, lines)
    following = f"lowerbound evaluate {quote(out.name if out.parent == RUNS else str(out))}"
    if options.json:
        return wrote(out, following, as_json=True, prior=_kind(fitted, options.group), **_facts(found))
    saved(out, following)
    return 0


def chosen_priors(names: tuple[str, ...], dotted: dict[Kind, list[str]]) -> list[Chosen]:
    """Return the priors that the words ask for.

    Raises:
        UsageError: if there is none, or options were given for several.
    """
    if not names:
        raise UsageError("--prior was given no value", expected=", ".join(names_of("prior")))
    if len(names) > 1 and dotted["prior"]:
        raise UsageError(
            f"{dotted['prior'][0].partition('=')[0]} cannot be told to which of {len(names)} priors it belongs",
            expected="options beside one prior alone; several have their defaults",
        )
    return [chosen_parts(dict.fromkeys(KINDS) | {"prior": name}, dotted)["prior"] for name in names]


def made_priors(parts: list[Chosen], model: VAE, spec: DataSpec, group: int) -> list[Any]:
    """Return the priors for the codes of a model's group; below codes, what can read these does.

    Raises:
        UsageError: if there is no such group.
    """
    groups: list[Any] = list(model.groups)
    if not 0 <= group < len(groups):
        raise UsageError(f"there is no group {group}", expected=f"0 to {len(groups) - 1}, from the top")
    above = groups[group - 1].posterior_family if group else None
    context = above.state_shape if above is not None and above.support == "codes" else ()
    with seeded(Stream.WEIGHTS, 0):
        return [made_part("prior", part, spec, groups[group].posterior_family, context) for part in parts]


def compared(model: VAE, fitted: VAE, data: Data, seed: int, group: int = 0) -> Comparison:
    """Compare the prior of a model and a fitted one on the rows that judged it, and the rates on test rows."""

    def ready(rows: Dataset) -> Dataset:
        return rows.matching(model.spec or rows.spec).to(model.device)

    judges = data.valid if len(data.valid) else data.train
    rows = data.test if len(data.test) else judges
    rows = ready(rows.take(min(_SHOWN, len(rows))))
    before, after = (prior_score(m, ready(judges), seed=seed, group=group) for m in (model, fitted))
    rate = None
    if model.has_density:
        rates = [evaluate(m, rows, num_samples=1, seed=seed).rate.value for m in (model, fitted)]
        rate = (rates[0], rates[1]) if rates[0] is not None and rates[1] is not None else None
    split = "validation" if len(data.valid) else "training"
    return Comparison(split, (before, after), rate, f"{len(rows):,} {rows.split} examples")


def write_run(out: Path, run: Path, model: VAE, recipe: Recipe, lines: list[str]) -> None:
    """Write the new run's folder: the old one's files, what was fitted and said, and the model."""
    folder = RunFolder(out)
    for name in COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)
    folder.describe_again(recipe)
    log = LogFile(out / "log.txt")
    for line in (f"prior fitted to the codes of {run}", *lines):
        log.say(line)
    save(model, out / "model", recipe=recipe.name, options=recipe.options)
    before = read_json(run / "status.json")
    folder.status("done", **{key: before[key] for key in ("epoch", "step") if key in before})
    folder.release()


def _recipe_of(folder: Path) -> Recipe:
    if not (folder / "recipe.json").is_file():
        raise DataError(
            f"{folder} is a saved model and no run",
            expected="a run folder, which tells of its data",
            fix="in Python: lowerbound.fit_prior(model, prior, data)",
        )
    return Recipe.from_description(read_json(folder / "recipe.json"))


def _kind(model: VAE, group: int) -> str:
    chosen: Any = model.groups[group]
    return type(chosen.prior_part).__name__


def _sentences(model: VAE, fitted: VAE, found: Comparison, group: int) -> list[str]:
    before, after = found.log_pz
    lines = [
        f"mean log p(z) of {found.split} codes: {before:.3f} nats before ({_kind(model, group)}), {after:.3f} after"
    ]
    if found.rate is not None:
        lines.append(f"rate of {found.rows}: {found.rate[0]:.3f} nats before, {found.rate[1]:.3f} after")
    if after < before:
        lines.append(
            f"warning: {_kind(fitted, group)} is worse than the run's own prior: more --epochs, or another prior"
        )
    return lines


def _facts(found: Comparison) -> dict[str, Any]:
    pairs = {"log_pz": found.log_pz, "rate": found.rate}
    return {name: pair and dict(zip(("before", "after"), pair, strict=True)) for name, pair in pairs.items()}
