"""`lowerbound sweep RECIPE --grid NAME=A,B ... --seeds N`: train over a grid and several seeds, and compare."""

import inspect
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro
from safetensors.torch import load_file
from torch import Tensor

from ..core.errors import CorruptArtifact, UsageError
from ..core.model import VAE
from ..data import Dataset, load_data
from ..evaluation import active_units, score
from ..evaluation.compare import SeedDifference, over_seeds
from ..evaluation.number import shares
from ..explore.run_files import RunFiles, read_run
from ..ship.files import read_json, replaced, save_tensors, write_results
from ..train import open_run
from . import resume, train
from .common import RUNS, own_data
from .launching import going_on, to_launch
from .mistakes import parse
from .output import result, result_json, saved, say
from .runs import show_table

_OWN = ("--grid", "--seeds", "--score-samples", "--out", "--json")
_HOW = ("--max-restarts", "--process-timeout", "--save-every")  # options of train that change no weight
_TAKEN = ("seed", "out", "data", "config")
# points that are judged by other rows, or by the same in other form, cannot be compared
_SAME_ROWS = ("memory", "seen", "standardize")  # densities are in the data's own units
_ROWS = {"data_seed", *inspect.signature(load_data).parameters} - {*_SAME_ROWS, "like", "source"}
_SAME_PIXELS = {"dynamic", "static-seed"}  # they differ in training only


@dataclass(kw_only=True)
class Sweep:
    """Train a recipe at every point of a grid of its options, with several seeds each, and compare on validation rows.

    lowerbound sweep beta_vae --data digits --grid beta=1,2,4 --grid latent-dim=8,16 --seeds 3 --epochs 20

    All other options are those of train (lowerbound train RECIPE --help): --devices 2 --max-restarts 1 trains each run
    in two processes, and starts them again if one is lost. Each run is a folder of its own in the sweep's; a run that
    is done is not trained again and one that was cut off is taken up, so the same command goes on after any end. The
    table gives means over the seeds with 95% intervals over seeds and examples, and says whether more epochs or latents
    would help.
    """

    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=VALUE,VALUE,...: an option of train and its values (several times for several options; without any, the
    recipe is trained with several seeds)."""
    seeds: int = 3
    """Each point is trained with the seeds 0, 1, ..."""
    score_samples: int = 100
    """K of the importance-sampled log p(x) by which points are compared."""
    out: Path | None = None
    """The sweep's folder (default: runs/sweep-RECIPE)."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Point:
    """One point of the grid: its options as they are typed, by name."""

    options: dict[str, str]

    @property
    def label(self) -> str:
        """What the point is called in the table."""
        return " ".join(f"{name} {value}" for name, value in self.options.items()) or "as it is"

    @property
    def words(self) -> list[str]:
        """The point as words of `train`."""
        return [word for name, value in self.options.items() for word in (f"--{name}", *value.split())]

    def folder(self, seed: int) -> str:
        """Return the name of the run with a seed."""
        parts = [f"{name}-{value}" for name, value in self.options.items()]
        return "_".join([*(re.sub(r"[^\w.+-]+", "-", part) for part in parts), f"seed-{seed}"])


@dataclass(frozen=True)
class Scored:
    """One run of a sweep, on its validation rows.

    Args:
        log_px: importance-sampled log p(x) of each row in nats, `[N]`; None without a density.
        distortion: weighted mean over the rows, in nats.
        rate: weighted mean over the rows, in nats.
        active: active units of the top latent; None for one row, which does not vary.
        latents: dimensions of the top latent.
        best_epoch: whose weights are kept.
        epochs: how many were trained.
        seconds: of training.
    """

    log_px: Tensor | None
    distortion: float | None
    rate: float | None
    active: int | None
    latents: int
    best_epoch: int | None
    epochs: int | None
    seconds: float | None


def command(words: list[str]) -> int:
    """Run `lowerbound sweep`."""
    if not words or words[0].startswith("-"):
        parse(Sweep, ["--help"] if "--help" in words or "-h" in words else [], "sweep RECIPE")
        raise UsageError("no recipe was given", expected="lowerbound sweep RECIPE --data NAME|PATH --grid NAME=A,B")
    own, rest = _split(words[1:])
    if "-h" in rest or "--help" in rest:
        own = ["--help"]
    options = parse(Sweep, own, f"sweep {words[0]}")
    _check(options, rest)
    points = [Point(dict(zip(_names(options), values, strict=True))) for values in itertools.product(*_values(options))]
    folder = options.out or RUNS / f"sweep-{words[0]}"
    cells = [(point, seed) for point in points for seed in range(options.seeds)]
    asked = {cell_name(cell): [words[0], *rest, *cell[0].words, "--seed", str(cell[1])] for cell in cells}
    for each in asked.values():
        chosen = train.read(each).options  # a mistake in the last point must not cost the others
        to_launch(chosen["devices"], chosen["max_restarts"])
    _same_sweep(folder, words[0], rest)
    for i, (name, each) in enumerate(asked.items()):
        with _results_as_talk():
            code = _trained(folder / name, each, f"run {i + 1} of {len(cells)}: {name}")
        if code:
            say("the same command goes on from there")
            return code
    return _compared(folder, points, options)


@contextmanager
def _results_as_talk() -> Iterator[None]:
    """Send what is printed inside, by processes that start there too, to standard error: the result is the table."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def cell_name(cell: tuple[Point, int]) -> str:
    """Return the name of the run of a point and a seed."""
    return cell[0].folder(cell[1])


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of the sweep itself, and those of `train`."""
    own, rest, waiting = [], [], False
    for word in words:
        name = word.split("=")[0] if word.startswith("--") else word
        if waiting or name in _OWN:
            own.append(word)
            waiting = not waiting and name != "--json" and "=" not in word
        else:
            rest.append(word)
    return own, rest


def _names(options: Sweep) -> list[str]:
    return [text.partition("=")[0].removeprefix("--").strip() for text in options.grid]


def _values(options: Sweep) -> list[list[str]]:
    return [[value.strip() for value in text.partition("=")[2].split(",")] for text in options.grid]


def _check(options: Sweep, rest: list[str]) -> None:
    for text, name, values in zip(options.grid, _names(options), _values(options), strict=True):
        if not name or not all(values) or len(set(values)) < len(values):
            raise UsageError(f"--grid {text} makes no sense", expected="NAME=VALUE,VALUE,..., each value once")
        if name.replace("-", "_") in _TAKEN:
            raise UsageError(f"--grid cannot vary {name}", expected="another option of train", fix="seeds: --seeds N")
        if name.replace("-", "_") in _ROWS and not (name == "binarize" and set(values) <= _SAME_PIXELS):
            raise UsageError(
                f"--grid cannot vary {name}: its points would be judged by different rows",
                expected="another option of train",
                fix=f"choose one value: --{name} VALUE",
            )
    if len(set(_names(options))) < len(options.grid):
        raise UsageError("an option is in the grid twice", expected="all its values in one --grid")
    if options.seeds < 1 or options.score_samples < 1:
        raise UsageError("--seeds and --score-samples cannot be below 1", expected="whole numbers above 0")
    for word in rest:
        if word.split("=")[0] == "--seed":
            raise UsageError("a sweep chooses the seeds itself", expected="--seeds N", fix="leave out --seed")


def _same_sweep(folder: Path, recipe: str, rest: list[str]) -> None:
    """Note what is swept, or refuse a folder in which something else was: points may come and go, nothing else."""
    path, asked = folder / "sweep.json", {"recipe": recipe, "options": _what(rest)}
    if path.exists():
        before = _noted(path)
        if {name: before[name] for name in asked} != asked:
            raise UsageError(
                f"{folder} holds another sweep: {before['recipe']} {' '.join(before['options'])}",
                fix="choose another --out",
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be a folder: {error.strerror}", fix="choose another --out") from error
    write_results(path, asked)


def _noted(path: Path) -> dict[str, Any]:
    """Return what sweep.json says."""
    fix = "remove it if this is the same sweep: it is written anew, and no run is trained again"
    try:
        found = read_json(path)
    except CorruptArtifact as error:
        raise CorruptArtifact(str(error).splitlines()[0], where=str(path), fix=fix) from error
    words = found.get("options") if isinstance(found, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in (found.get("recipe"), *words)):
        raise CorruptArtifact(f"{path.name} does not say what is swept", where=str(path), fix=fix)
    return found


def _what(words: list[str]) -> list[str]:
    """Return the words of `train` without those that change no weight."""
    kept, skipped = [], False
    for word in words:
        if not skipped and word.split("=")[0] not in _HOW:
            kept.append(word)
        skipped = not skipped and word in _HOW
    return kept


def _trained(path: Path, words: list[str], about: str) -> int:
    """Train a run, take it up, or leave it as it is; returns the exit code."""
    state = read_run(path).state if (path / "status.json").exists() else None
    if state == "done":
        return 0
    say(about)
    if state is not None:
        chosen = {**train.read(words).options, "report": False}
        restarts = ["--max-restarts", str(chosen["max_restarts"])] if chosen["max_restarts"] else []
        return resume.command([*going_on(path, chosen), *restarts])
    if path.exists():  # killed before it began
        raise UsageError(f"{path} is no run", fix="remove it, or choose another --out")
    return train.command([*words, "--out", str(path), "--no-report"])


def _scored(path: Path, num_samples: int) -> tuple[Scored, Dataset]:
    folder, model = open_run(path)
    assert model.spec is not None
    data = own_data(folder, model.spec)
    rows = (data.valid if len(data.valid) else data.train).matching(model.spec)
    files = read_run(folder)
    kept = folder / "eval" / f"log_px-{rows.split}-{num_samples}.safetensors"
    latents = math.prod(model.groups[0].posterior_family.event_shape)  # pyright: ignore
    facts = {
        "active": active_units(model, rows) if len(rows) > 1 else None,
        "latents": latents,
        "best_epoch": None if files.best is None else files.best[1],
        "epochs": files.epochs_done,
        "seconds": files.seconds,
    }
    if not model.has_density:
        return Scored(None, None, None, **facts), rows
    log_px, distortion, rate = _kept_scores(kept, model, rows, num_samples, files)
    return Scored(log_px, distortion, rate, **facts), rows


def _kept_scores(
    path: Path, model: VAE, rows: Dataset, num_samples: int, files: RunFiles
) -> tuple[Tensor, float, float]:
    """Return log p(x), distortion and rate, as they were saved if the model is no newer."""
    weights = files.folder / "model" / "model.safetensors"
    if not path.exists() or path.stat().st_mtime < weights.stat().st_mtime:
        scores = score(model, rows, num_samples=num_samples)
        path.parent.mkdir(exist_ok=True)
        with replaced(path) as temporary:
            save_tensors({name: getattr(scores, name) for name in ("log_px", "distortion", "rate")}, temporary)
    made, share = load_file(path), shares(rows)
    return made["log_px"], float(share @ made["distortion"]), float(share @ made["rate"])


def _compared(folder: Path, points: list[Point], options: Sweep) -> int:
    """Score all runs, show the table and the answers, and save them."""
    found: dict[str, dict[int, Scored]] = {}
    rows: Dataset | None = None
    for point in points:
        for seed in range(options.seeds):
            made, rows = _scored(folder / point.folder(seed), options.score_samples)
            found.setdefault(point.label, {})[seed] = made
    assert rows is not None
    means = {label: _mean(label, runs, rows) for label, runs in found.items()}
    best = _best(means)
    lines = [_line(label, runs, means[label]) for label, runs in found.items()]
    split = "validation" if rows.split == "valid" else "training"
    words = [
        f"{len(rows):,} {split} examples of {rows.spec.name}, {options.seeds} seeds; nats for each example, NLL with "
        f"K = {options.score_samples}, 95% intervals over seeds and examples",
        *_against_best(found, best, rows),
        *_answers(found),
    ]
    facts = [_facts(label, runs, means[label]) for label, runs in found.items()]
    before = _noted(folder / "sweep.json")
    write_results(folder / "sweep.json", {**before, "points": facts, "best": best, "words": words})
    if options.json:
        result_json({"points": facts, "best": best, "words": words})
    else:
        header = ["point", "NLL", "distortion", "rate", "rate/distortion", "active units", "best epoch", "seconds"]
        show_table(header, lines)
        result("\n" + "\n".join(words))
    named = next(p for p in points if p.label == best) if best else points[0]
    saved(folder / "sweep.json", f"lowerbound evaluate {quote(str(folder / named.folder(0)))}")
    return 0


def _log_px(runs: Mapping[int, Scored]) -> dict[int, Tensor]:
    return {seed: run.log_px for seed, run in runs.items() if run.log_px is not None}


def _mean(label: str, runs: Mapping[int, Scored], rows: Dataset) -> SeedDifference | None:
    known = _log_px(runs)
    return over_seeds(label, known, rows) if known else None


def _best(means: Mapping[str, SeedDifference | None]) -> str | None:
    known = {label: mean.value for label, mean in means.items() if mean is not None}
    return max(known, key=known.__getitem__) if known else None


def _average(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _facts(label: str, runs: Mapping[int, Scored], mean: SeedDifference | None) -> dict[str, Any]:
    each = list(runs.values())
    averages = {name: _average([getattr(run, name) for run in each]) for name in ("distortion", "rate", "seconds")}
    lists = {name: [getattr(run, name) for run in each] for name in ("active", "best_epoch", "epochs")}
    ends = None if mean is None or mean.low is None or mean.high is None else [-mean.high, -mean.low]
    nll = None if mean is None else -mean.value
    return {"point": label, "nll": nll, "interval": ends, **averages, **lists, "latents": each[0].latents}


def _line(label: str, runs: Mapping[int, Scored], mean: SeedDifference | None) -> list[str]:
    facts = _facts(label, runs, mean)

    def shown(value: float | int | None, form: str = ".2f") -> str:
        return "-" if value is None else format(value, form)

    ends = facts["interval"]
    nll = shown(facts["nll"]) + ("" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]")
    distortion, rate = facts["distortion"], facts["rate"]
    ratio = None if not distortion or rate is None else rate / distortion
    active = [str(n) for n in facts["active"] if n is not None]
    epochs = ", ".join(shown(n, "d") for n in facts["best_epoch"]) + f" of {facts['epochs'][0]}"
    of = f"{', '.join(active)} of {facts['latents']}" if active else "-"
    return [label, nll, shown(distortion), shown(rate), shown(ratio), of, epochs, shown(facts["seconds"], ".1f")]


def _against_best(found: Mapping[str, Mapping[int, Scored]], best: str | None, rows: Dataset) -> list[str]:
    """Say of each other point how far behind the best one it is."""
    if best is None:
        return ["these models have no density: there is no NLL to compare them by"]
    lines = [f"lowest NLL: {best}"]
    for label, runs in found.items():
        if label != best:
            gap = over_seeds(label, _log_px(runs), rows, first=best, others=_log_px(found[best]))
            if gap.low is None or gap.high is None:
                alone = "seed" if gap.se_seeds is None else "example"
                lines.append(f"{label}: {-gap.value:.2f} nats more (one {alone}: no interval)")
            else:
                clear = "worse" if gap.high < 0 else "no clear difference"
                lines.append(f"{label}: {-gap.value:.2f} nats more, {-gap.high:.2f} to {-gap.low:.2f}: {clear}")
    return lines


def _answers(found: Mapping[str, Mapping[int, Scored]]) -> list[str]:
    """Answer what one asks first: were the epochs and the latents enough, and how do rate and distortion share?"""
    runs = [run for by_seed in found.values() for run in by_seed.values()]
    known = [(run.best_epoch, run.epochs) for run in runs if run.best_epoch is not None and run.epochs]
    late = sum(best >= 0.9 * epochs for best, epochs in known)
    lines = []
    if known:
        more = "train longer" if 2 * late > len(known) else "the epochs were enough"
        lines.append(f"epochs: the best one was among the last tenth in {late} of {len(known)} runs: {more}")
    full = [run for run in runs if run.active is not None and run.active >= run.latents]
    counted = [run for run in runs if run.active is not None]
    if counted:
        most = max(run.active or 0 for run in counted)
        more = "more latent dimensions may help" if 2 * len(full) > len(counted) else "more would stay unused"
        lines.append(f"latents: all are used in {len(full)} of {len(counted)} runs, at most {most} in any: {more}")
    ratios = [run.rate / run.distortion for run in runs if run.rate is not None and run.distortion]
    if ratios:
        lines.append(
            f"rate / distortion: {min(ratios):.2f} to {max(ratios):.2f}; no ratio is right by itself: the lower NLL is "
            "better, and at beta = 1 their sum is its bound"
        )
    return lines
