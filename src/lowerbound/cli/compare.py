"""`lowerbound compare RUN RUN ...`: two or more runs side by side, and what their examples say of the difference."""

import csv
import io
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro

from ..core.errors import UsageError
from ..core.model import VAE
from ..data.dataset import Dataset, SplitName
from ..evaluation import evaluate
from ..evaluation.compare import (
    Difference,
    SeedDifference,
    Subject,
    check_same,
    differences,
    mixed,
    over_seeds,
    scored,
    subject_of,
)
from ..evaluation.importance import Scores
from ..evaluation.likelihood import Units
from ..evaluation.number import Number
from ..explore.comparison import Side, comparison_page, comparison_path
from ..explore.html import page_path, write_page
from ..explore.pictures import Shown
from ..explore.run_files import RunFiles, clean, inside, number, read_run
from ..ship.files import is_outdated, write_results, write_text
from .common import ReadingOptions, RowsOptions, open_rows
from .evaluate import evaluation_file
from .mistakes import parse
from .output import result, result_json, saved, say
from .runs import show_table

NUMBERS = ("elbo", "distortion", "rate", "nll", "bits_per_dim")


@dataclass(kw_only=True)
class Compare(ReadingOptions):
    """Two or more runs side by side: how they differ, their numbers on the same rows, and paired differences.

    Saved evaluations are used where they fit, and made where they do not, and saved unless one by more samples is
    there. Runs whose numbers are about different things are refused. A difference is the mean over the examples of
    log p(x) under a run less that under the first run, in nats: above 0 the run is better. Its 95% interval is by
    Student's distribution. Runs that differ in their seed alone are also taken together: means and differences with
    intervals over seeds and examples.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Paths, names under runs/, or `last`; the first is what the others are compared with."""
    data: str | None = None
    """Other data than the runs' own: a name or a path."""
    split: SplitName | None = None
    """Which rows: train, valid, test or all (default: all rows of --data; without it the runs' own test rows)."""
    seen: str | None = None
    """What the encoder sees of the same examples, of models trained on pairs."""
    num_samples: int = 100
    """K of the importance-sampled NLL."""
    units: Units = "data"
    """Densities of standardised columns in the data's own units, or in the model's."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    seed: int = 0
    """Decides everything that is drawn."""
    json: bool = False
    """Print the result as JSON."""
    out: Path | None = None
    """A .csv file to write, one line for each run."""
    html: Path | None = None
    """The page to write, an .html file (default: FIRST-vs-SECOND.html beside the first run)."""


@dataclass(frozen=True)
class Compared:
    """One run of a comparison: its files, model and rows, what its numbers are about, and the numbers as JSON."""

    name: str
    files: RunFiles
    model: VAE
    rows: Dataset
    subject: Subject
    numbers: dict[str, Any]


def command(words: list[str]) -> int:
    """Run `lowerbound compare`."""
    options = parse(Compare, words, "compare")
    _check(options)
    runs = [_opened(name, options) for name in options.runs]
    _check_names(runs)
    subject = check_same({run.name: run.subject for run in runs})
    runs = _unmixed([_evaluated(run, options) for run in runs])
    models = {run.name: run.model for run in runs}
    scores = scored(
        models, [r.rows for r in runs], num_samples=options.num_samples, seed=options.seed, units=options.units
    )
    found = differences(scores, runs[0].rows, num_samples=options.num_samples)
    seeds = _over_seeds(runs, scores)
    words = _in_words(runs, subject, found, seeds, options)
    if options.json:
        result_json(_as_json(runs, subject, found, seeds, options))
    else:
        _show(runs, words)
    if options.out is not None:
        _write_csv(options.out, runs, found, options)
        say(f"saved: {options.out}")
    page = _write_page(runs, words, options)
    following = f"lowerbound report {quote(clean(options.runs[0]))}"
    if page is None:
        say(f"next:  {following}")
    else:
        saved(page, following)
    return 0


def _write_page(runs: list[Compared], words: list[str], options: Compare) -> Path | None:
    """Write the page; where nobody asked for it by name, a folder that cannot be written is only said."""
    path = options.html or comparison_path([run.files.folder for run in runs])
    sides = [Side(run.name, run.files, Shown(run.model, run.rows, options.seed), run.numbers) for run in runs]
    chosen = differing([run.files for run in runs])
    page = comparison_page(sides, numbers=NUMBERS, options=chosen, words=words)
    try:
        return write_page(page_path(path), page)
    except (OSError, UsageError) as error:
        if options.html is not None:
            raise
        say(f"warning: no page was written: {' '.join(str(error).split())}")
        return None


def _check(options: Compare) -> None:
    if len(options.runs) < 2:
        raise UsageError("a comparison needs two runs", expected="RUN RUN ...", fix="lowerbound runs lists them")
    if options.num_samples < 1:
        raise UsageError(
            f"the number of samples cannot be {options.num_samples}", expected="a whole number above 0"
        )  # refused before anything is read or written
    if options.out is not None and options.out.suffix.lower() != ".csv":
        raise UsageError(f"a comparison cannot be written to {options.out}", expected="a file that ends in .csv")
    if options.html is not None:
        page_path(options.html)


def _check_names(runs: list[Compared]) -> None:
    places = [run.files.folder.resolve() for run in runs]
    twice = [run.name for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice", expected="different runs")


def _opened(name: str, options: Compare) -> Compared:
    shared = {field.name: getattr(options, field.name) for field in fields(RowsOptions) if field.name != "run"}
    opened = open_rows(RowsOptions(run=name, **shared))
    files = read_run(opened.folder)
    for line in files.damaged:
        say(f"warning: {clean(line)}")
    fingerprint = files.data.get("fingerprint")
    if options.data is not None:  # the same rows for all, whatever each was trained on; pixels are drawn by data seed
        fingerprint = (
            f"{options.data}, data seed {opened.spec.data_seed}" if opened.rows.spec.binarized else options.data
        )
    subject = subject_of(
        opened.model,
        opened.rows,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        units=options.units,
    )
    inside_runs = opened.folder.parent == Path("runs")
    label = clean(files.name if inside_runs else opened.folder)
    return Compared(label, files, opened.model, opened.rows, subject, {})


def _evaluated(run: Compared, options: Compare) -> Compared:
    """Return the run with its numbers: those in eval/ if they are what was asked for, else new ones.

    New ones are saved there, unless those are by more samples.
    """
    path = evaluation_file(run.files.folder, run.rows, options.data, options.units)
    known = {} if is_outdated(run.files.folder, path.stem) else run.files.evaluations.get(path.stem, {})
    if options.data is None and _fits(known, run, options):  # a file may have changed since
        return replace(run, numbers=known)
    say(f"{run.name}: evaluating {len(run.rows):,} {run.rows.split} examples, K = {options.num_samples}")
    found = evaluate(
        run.model, run.rows, num_samples=options.num_samples, seed=options.seed, units=options.units
    ).to_json()
    if (number(inside(known, "nll").get("num_samples")) or 0) <= options.num_samples:  # more samples cost more to make
        path.parent.mkdir(exist_ok=True)
        write_results(path, found)
        say(f"saved: {path}")
    return replace(run, numbers=found)


def _fits(known: dict[str, Any], run: Compared, options: Compare) -> bool:
    """Tell whether a saved evaluation has all numbers, of the K, seed, units and rows that are asked for."""
    settings = (options.units, run.subject.binarisation, run.rows.split)
    if not all(inside(known, name) for name in NUMBERS):
        return False
    if (known.get("units"), known.get("binarisation"), known.get("split")) != settings:
        return False
    if inside(known, "distortion").get("n") != len(run.rows):
        return False
    if not run.model.has_density:  # its distortion is taken at the code: nothing is drawn
        return True
    nll = inside(known, "nll")
    return (nll.get("num_samples"), nll.get("target"), known.get("seed")) == (
        options.num_samples,
        run.subject.target,
        options.seed,
    )


def _options_of(files: RunFiles) -> dict[str, Any]:
    """Return everything a run was asked for: the recipe's options, those of training, the seed, and a later prior."""
    training = inside(files.recipe, "training", "args")
    fitted = {"fitted prior": " or ".join(dict.fromkeys(files.fitted_priors))} if files.fitted_priors else {}
    return {**inside(files.recipe, "options"), **training, "seed": files.env.get("seed"), **fitted}


def differing(runs: list[RunFiles]) -> dict[str, list[Any]]:
    """Return the options in which runs differ, with each run's value; None where a run has no such option."""
    each = [_options_of(run) for run in runs]
    names = dict.fromkeys(name for options in each for name in options)
    values = {name: [options.get(name) for options in each] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _variants(runs: list[Compared]) -> dict[str, dict[int, Compared]]:
    """Return the runs by what they were asked for but their seed, and by their seed; a seed that recurs is left out."""
    asked = [{**_options_of(run.files), "recipe": run.files.recipe.get("name")} for run in runs]
    found: dict[str, dict[int, Compared]] = {}
    names = [name for name in dict.fromkeys(name for each in asked for name in each) if name not in ("seed", "recipe")]
    telling = [name for name in names if any(each.get(name) != asked[0].get(name) for each in asked)]
    for run, each in zip(runs, asked, strict=True):
        label = " ".join([str(each["recipe"]), *(f"{n} {_shown(each[n])}" for n in telling if n in each)])
        if isinstance(each["seed"], int):
            found.setdefault(clean(label), {}).setdefault(each["seed"], run)
    return found


def _over_seeds(runs: list[Compared], scores: dict[str, Scores]) -> list[SeedDifference]:
    """Return the mean of each variant that has several seeds, and its difference to the first of them."""
    dense = [run for run in runs if run.name in scores]
    several = {
        label: {seed: scores[run.name].log_px for seed, run in by_seed.items()}
        for label, by_seed in _variants(dense).items()
        if len(by_seed) > 1
    }
    for label in [label for label, by_seed in several.items() if not all(v.isfinite().all() for v in by_seed.values())]:
        say(f"warning: nothing over the seeds of {label}: some examples have a log p that is not finite")
        del several[label]
    found = [over_seeds(label, by_seed, dense[0].rows) for label, by_seed in several.items()]
    first = next(iter(several), None)
    for label, by_seed in several.items():
        if first is not None and label != first:
            found.append(over_seeds(label, by_seed, dense[0].rows, first=first, others=several[first]))
    return found


def _facts(run: Compared) -> dict[str, Any]:
    return {
        "recipe": run.files.recipe.get("name"),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "epochs": run.files.epochs_done,
        "seconds": run.files.seconds,
    }


def _as_json(
    runs: list[Compared],
    subject: Subject,
    found: list[Difference],
    seeds: list[SeedDifference],
    options: Compare,
) -> dict[str, Any]:
    options_of = differing([run.files for run in runs])
    return {
        **asdict(subject),
        "num_samples": options.num_samples,
        "seed": options.seed,
        "runs": [
            {
                "run": run.name,
                **_facts(run),
                "options": {name: values[i] for name, values in options_of.items()},
                **{name: run.numbers[name] for name in NUMBERS},
            }
            for i, run in enumerate(runs)
        ],
        "differences": [d.to_json() for d in found],
        "over_seeds": [d.to_json() for d in seeds],
    }


def _unmixed(runs: list[Compared]) -> list[Compared]:
    """Return the runs without the numbers that different estimators gave: those are not put side by side."""
    known = {field.name for field in fields(Number)}
    for name in NUMBERS:
        held = {run.name: {k: v for k, v in inside(run.numbers, name).items() if k in known} for run in runs}
        words = mixed({run: Number(**{"value": None, **kept}) for run, kept in held.items()})
        if words is not None:
            refused = {"value": None, "reason": f"refused, the estimators differ ({words})"}
            runs = [replace(run, numbers={**run.numbers, name: refused}) for run in runs]
    return runs


def _in_words(
    runs: list[Compared],
    subject: Subject,
    found: list[Difference],
    seeds: list[SeedDifference],
    options: Compare,
) -> list[str]:
    """Return what the numbers are about, what is missing and why, and each difference: one line for each."""
    return [
        f"{subject.n:,} {subject.split} examples of {subject.data}, binarisation {subject.binarisation}; "
        "nats for each example, +- standard error over the examples",
        f"nll: bound on -{subject.target}, K = {options.num_samples}, seed {options.seed}, "
        f"{subject.values} in units of the {subject.units}",
        *_reasons(runs),
        *(_difference_line(d) for d in found),
        *(_seeds_line(d) for d in seeds),
    ]


def _show(runs: list[Compared], words: list[str]) -> None:
    facts = [_facts(run) for run in runs]
    rows = [["recipe", *(_shown(f["recipe"]) for f in facts)]]
    rows += [[name, *map(_shown, values)] for name, values in differing([run.files for run in runs]).items()]
    done = {"parameters": "parameters", "epochs done": "epochs", "seconds": "seconds"}
    rows += [[label, *(_shown(f[name]) for f in facts)] for label, name in done.items()]
    rows += [[name, *(_number_text(run.numbers[name]) for run in runs)] for name in NUMBERS]
    show_table(["", *(run.name for run in runs)], rows)
    result("\n" + "\n".join(words))


def _reasons(runs: list[Compared]) -> list[str]:
    """Return why numbers are missing, one line for each run and reason."""
    lines = []
    for run in runs:
        reasons: dict[str, list[str]] = {}
        for name in NUMBERS:
            if number(run.numbers[name].get("value")) is None:
                reasons.setdefault(clean(run.numbers[name].get("reason", "no reason is given")), []).append(name)
        lines += [f"{run.name}: no {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return lines


def _difference_line(found: Difference) -> str:
    mean = found.number
    head = f"log p of {found.run} less {found.first}, example by example: "
    if mean.value is None:
        return f"{head}- ({mean.reason})"
    if mean.se is None:
        return f"{head}{mean.value:+.3f} (one example has no standard error)"
    sampler = "" if mean.mc_se is None else f"; sampler +- {mean.mc_se:.4f}"
    verdict = "better" if (found.low or 0) > 0 else "worse" if (found.high or 0) < 0 else "no clear difference"
    interval = f"95% interval {found.low:+.3f} to {found.high:+.3f}{sampler}"
    return f"{head}{mean.value:+.3f} +- {mean.se:.3f} nats ({interval}): {verdict}"


def _seeds_line(found: SeedDifference) -> str:
    of = f"{found.variant} over {found.seeds[0]} seeds"
    head = f"log p of {of}: "
    if found.paired:
        head = f"log p of {found.variant} less {found.first}, over {found.seeds[0]} seeds, pair by pair: "
    elif found.first is not None:
        head = f"log p of {of} less {found.first} over {found.seeds[1]} others: "
    if found.low is None or found.high is None:
        alone = "seed" if found.se_seeds is None else "example"
        return f"{head}{found.value:+.3f} (one {alone} has no interval)"
    line = f"{head}{found.value:+.3f} nats (95% interval over seeds and examples {found.low:+.3f} to {found.high:+.3f})"
    if found.first is None:
        return line
    verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "no clear difference"
    return f"{line}: {verdict}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(_shown(v) for v in value) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number_text(found: dict[str, Any]) -> str:
    value, se = number(found.get("value")), number(found.get("se"))
    if value is None:
        return "-"
    return f"{value:.3f}" if se is None else f"{value:.3f} +- {se:.3f}"


def _write_csv(path: Path, runs: list[Compared], found: list[Difference], options: Compare) -> None:
    """Write one line for each run, an empty cell where there is no value."""
    by_run = {d.run: d for d in found}
    chosen = differing([run.files for run in runs])
    lines = []
    for i, run in enumerate(runs):
        line = {"run": run.name, **_facts(run)}
        line |= {f"option_{name}": _cell(values[i]) for name, values in chosen.items()}
        line |= {**asdict(run.subject), "num_samples": options.num_samples, "seed": options.seed}
        for name in NUMBERS:
            line |= {name: run.numbers[name].get("value"), f"{name}_se": run.numbers[name].get("se")}
        line |= _difference_cells(by_run.get(run.name))
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be a folder: {error.strerror}", fix="choose another --out") from error
    write_text(path, text.getvalue())


def _difference_cells(found: Difference | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("difference", "difference_se", "difference_low", "difference_high"))
    values = (found.number.value, found.number.se, found.low, found.high)
    return dict(zip(("difference", "difference_se", "difference_low", "difference_high"), values, strict=True))


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value
