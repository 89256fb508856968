"""`lowerbound evaluate RUN`: the first numbers and, on demand, further ones, saved beside the run."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro

from ..core.errors import UsageError
from ..data.corruptions import CorruptionName
from ..data.dataset import Dataset
from ..evaluation import Evaluation, evaluate
from ..evaluation.annealed import Annealing, Start
from ..evaluation.importance import BLOCK_SAMPLES, check_samples
from ..evaluation.likelihood import MOST_SAMPLES, Units, check_tolerance
from ..evaluation.number import stamped
from ..ship.files import write_results
from .common import Opened, RowsOptions, open_rows
from .measures import Asked, Measure, measure
from .mistakes import parse
from .output import result, result_json, saved, say
from .progress import Progress


@dataclass(kw_only=True)
class Evaluate(RowsOptions):
    """ELBO, distortion, rate, importance-sampled NLL and bits/dim of a run, in nats for each example.

    An evaluation that was interrupted goes on where it stopped, and a larger K draws only the samples that are missing.
    """

    num_samples: int = 100
    """K of the importance-sampled NLL."""
    tolerance: float | None = None
    """Nats: double K until the sampler's error of the NLL, and what it moved since K/2, are both smaller."""
    most_samples: int = MOST_SAMPLES
    """K is doubled no further than this."""
    units: Units = "data"
    """Densities of standardised columns in the data's own units, or in the model's."""
    also: Annotated[tuple[Measure, ...], tyro.conf.UseAppendAction] = ()
    """Measure this, too (may be given several times). annealed: log p(x) by annealed importance sampling;
    rate-distortion: the decoder's curve over beta; samples: Frechet distance, KID, precision, recall and copies of
    training rows; representation: probes, and disentanglement where the factors are known; reconstruction: PSNR and
    SSIM."""
    annealing_steps: int = 300
    """Temperatures of annealing."""
    chains: int = 8
    """Chains of annealing for each row."""
    start: Start = "prior"
    """Where the chains of annealing start."""
    annealed_rows: int = 100
    """Rows that are annealed, drawn by --seed."""
    corruption: CorruptionName | None = None
    """Corrupt what the encoder sees before images are reconstructed."""
    amount: float | None = None
    """How much, as --amount of denoise."""
    fid_weights: Path | None = None
    """A .safetensors file of the weights of the FID Inception network; without it samples are compared by features of a
    small classifier of the data, and no number is called FID."""


def command(words: list[str]) -> int:
    """Run `lowerbound evaluate`."""
    options = parse(Evaluate, words, "evaluate")
    _check(options)
    opened = open_rows(options)
    rows, folder = opened.rows, opened.folder
    split = "" if rows.split == "all" else f" {rows.split}"
    say(f"{folder.name}: {len(rows):,}{split} examples of {rows.spec.name}, K = {options.num_samples}")
    path = evaluation_file(folder, rows, options.data, options.units)
    path.parent.mkdir(exist_ok=True)
    numbers = _first_numbers(options, opened, path)
    write_results(path, numbers.to_json())
    if not options.json:
        show(numbers)
    further = {name: _further(name, options, opened, path) for name in dict.fromkeys(options.also)}
    if options.json:
        result_json({**numbers.to_json(), **further})
    if options.data is None and (folder / "report.html").exists():
        from ..explore.report import report  # loads matplotlib, for which other evaluations need not wait

        say(f"report: {report(folder, device=options.device)}")
    saved(path, f"lowerbound {'doctor' if options.data is None else 'sample'} {quote(options.run)}")
    return 0


def _check(options: Evaluate) -> None:
    check_samples(options.num_samples)
    check_tolerance(options.tolerance)
    Annealing(options.annealing_steps, options.chains)
    if options.annealed_rows < 1:
        raise UsageError(f"{options.annealed_rows} rows cannot be annealed", expected="a whole number above 0")
    if (options.corruption is None) != (options.amount is None):
        raise UsageError("--corruption and --amount belong together", expected="both or neither")
    needed = {"reconstruction": options.corruption, "samples": options.fid_weights}
    for name, given in needed.items():
        if given is not None and name not in options.also:
            raise UsageError(f"{given} is asked for and {name} is not measured", fix=f"add --also {name}")


def _first_numbers(options: Evaluate, opened: Opened, path: Path) -> Evaluation:
    model, rows = opened.model, opened.rows
    facts = {"num_samples": options.num_samples, "seed": options.seed, "units": options.units}
    if not model.has_density:
        return evaluate(model, rows, **facts)
    most = options.num_samples
    if options.tolerance is not None:  # whole chunks, as `evaluate` draws them
        whole = BLOCK_SAMPLES * -(-most // BLOCK_SAMPLES)
        most = max(options.most_samples // BLOCK_SAMPLES * BLOCK_SAMPLES, whole)
    progress = Progress(path.with_name(f"{path.stem}-sums.safetensors"), model, rows, options.seed, most)
    if options.tolerance is not None and progress.samples:
        facts["num_samples"] = max(options.num_samples, int(progress.sums.samples.max()))
    if progress.samples:
        say(f"{progress.samples:,} samples of each example are known already")
    try:
        found = evaluate(
            model,
            rows,
            tolerance=options.tolerance,
            most_samples=options.most_samples,
            sums=progress.sums,
            after_block=progress.after_block,
            **facts,
        )
    except KeyboardInterrupt:
        progress.write()
        if not progress.keeps_more:
            say(f"saved: {progress.path}; the same command goes on from there")
        raise
    if progress.path.exists():
        progress.write()
    return found


def _further(name: Measure, options: Evaluate, opened: Opened, path: Path) -> dict[str, object]:
    """Measure, save and show one of --also."""
    corruption = None if options.corruption is None else (options.corruption, options.amount or 0.0)
    annealing = Annealing(options.annealing_steps, options.chains, start=options.start)
    asked = Asked(
        opened, options.seed, options.units, options.num_samples, annealing, options.annealed_rows, corruption,
        options.fid_weights,
    )  # fmt: skip
    found = measure(name, asked)
    written = path.with_name(f"{path.stem}-{name}.json")
    facts = {"split": opened.rows.split, "binarisation": opened.rows.spec.binarize, "seed": options.seed}
    numbers = stamped(found.to_json(), **facts)
    write_results(written, {**numbers, "text": str(found)})
    if not options.json:
        result(f"\n{name}\n{found}")
    say(f"saved: {written}")
    return numbers


def evaluation_file(folder: Path, rows: Dataset, data: str | None, units: Units) -> Path:
    """Return where the evaluation of a run on these rows is saved; other data and units get names of their own."""
    name = rows.split if data is None else f"{rows.spec.name}-{rows.split}"
    return folder / "eval" / f"{name}{'' if units == 'data' else '-model-units'}.json"


def show(numbers: Evaluation) -> None:
    """Print an evaluation."""
    facts = f"split {numbers.split}, binarisation {numbers.binarisation}, seed {numbers.seed}"
    weighted = ", weighted by the rows' weights" if numbers.weighted else ""
    result(f"{numbers}\n{facts}, {numbers.units} units{weighted}")
