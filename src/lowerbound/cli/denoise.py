"""`lowerbound denoise RUN`: corrupted or hazy examples in, clean ones out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from shlex import quote
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import CorruptArtifact, DataError, UsageError
from ..core.record import rebuild
from ..core.spec import DataSpec
from ..data import BUILTIN, Dataset, load_data, load_rows
from ..data.corruptions import CorruptionName, corruption
from ..data.dataset import SplitName
from ..evaluation.restoration import NOISE_ROWS, Restoration, corrupted, denoised, mean_se, restoration
from ..explore.sheets import grid, in_rows
from ..explore.write import target, write_examples
from ..ship.files import read_json
from .common import ReadingOptions, RunOptions, check_labels, open_model, own_data
from .mistakes import parse
from .output import result, say, wrote

SHOWN = 20
COLUMNS = 10


@dataclass(kw_only=True)
class Denoise(ReadingOptions, RunOptions):
    """Clean corrupted examples: the mean of p(x|z) at the mean of q(z|what is seen).

    --data gives corrupted files, and --clean the same ones clean, to measure PSNR and SSIM of input and output.
    Without --data clean rows are corrupted first: the run's own, or those of --clean, by the corruption the run was
    trained with or by --noise. Rows of a run trained on pairs are corrupted already.
    """

    data: str | None = None
    """Corrupted rows, a path: what the encoder sees."""
    clean: str | None = None
    """The same images clean, paired by file name or by order; without --data these are corrupted."""
    split: SplitName | None = None
    """Which rows of the run's own data: train, valid, test or all (default: test)."""
    num: int | None = None
    """How many, from the first on (default: all; a sheet shows 20 of them)."""
    noise: CorruptionName | None = None
    """Corrupt clean rows by this instead of the run's own corruption."""
    amount: float | None = None
    """Of --noise: scale of the Gaussian noise, share of values, sigma of the blur in pixels, thickness of the haze."""
    out: str | None = None
    """File to write: .png, .npz, .csv or .parquet; or a folder, ending in /, for one PNG each (default: samples/ in the
    run)."""


@dataclass(frozen=True)
class Noisy:
    """Rows to clean.

    Args:
        rows: what the model is given, with `seen`.
        clean: the clean values `[N, *shape]` in model units, where they are known; grey pixels stay grey, since the
            mean of p(x|z) is that of the 0/1 pixels drawn from them.
        how: what corrupted them, in words.
    """

    rows: Dataset
    clean: Tensor | None
    how: str


def command(words: list[str]) -> int:
    """Run `lowerbound denoise`."""
    options = parse(Denoise, words, "denoise")
    _check(options)
    folder, model, spec = open_model(options)
    path = target(options.out, folder / "samples" / "denoised", spec)
    noisy = noisy_rows(options, folder, spec)
    check_labels(model, noisy.rows)
    say(f"{folder.name}: {len(noisy.rows):,} examples of {noisy.rows.spec.name}, {noisy.how}")
    made = denoised(model, noisy.rows)
    facts = _measured(noisy, made, spec, as_json=options.json)
    write(path, made, noisy, spec, options.num)
    return wrote(path, f"lowerbound evaluate {quote(options.run)}", as_json=options.json, num=len(made), **facts)


def _check(options: Denoise) -> None:
    """Raise UsageError for options that contradict each other."""
    if options.data is not None and options.noise is not None:
        raise UsageError("--noise with --data: these rows are corrupted already", fix="give clean rows as --clean")
    if options.amount is not None and options.noise is None:
        raise UsageError(
            "--amount is that of --noise", fix="say which: --noise gaussian|mask|salt-and-pepper|blur|haze"
        )
    if options.noise not in (None, "multiply-add") and options.amount is None:
        raise UsageError(f"--noise {options.noise} needs an amount", fix="--amount 0.3")
    if options.split not in (None, "all") and (options.clean or options.data not in (None, *BUILTIN)):
        raise UsageError("--split is for the run's own rows: all rows of a path are read", fix="drop --split")
    if options.num is not None and options.num < 1:
        raise UsageError(f"cannot clean {options.num} rows", expected="a whole number above 0")


def noisy_rows(options: Denoise, folder: Path, spec: DataSpec) -> Noisy:
    """Return the rows the options name, corrupted as they came, or now.

    Raises:
        UsageError: if there is nothing to corrupt clean rows by.
        DataError: if rows cannot be read or do not fit the model.
    """
    if spec.modalities:
        raise UsageError(
            f"{spec.name} has several modalities, which no one kind of noise corrupts",
            fix="make one from the others: lowerbound translate RUN --given NAME --to NAME",
        )
    if options.data is not None and options.data not in BUILTIN:
        return _given(options, spec)
    rows = _clean_rows(options, folder, spec)
    if rows.seen is not None and options.noise is None:
        return Noisy(
            _first(rows.matching(spec), options.num), _first(rows, options.num).values(), "seen as in the data"
        )
    module, how = _corruption(options, folder)
    if spec.kind == "sequence" or any(column.size > 1 for column in spec.modelled):
        what = "symbols" if spec.kind == "sequence" else "categories"
        raise UsageError(f"noise on the {what} of {spec.name} means nothing", fix="give corrupted rows: --data PATH")
    keep = len(rows) if options.num is None else min(options.num, len(rows))
    # whole blocks of noise, so that the first rows see the same noise however many are asked for
    blocks = rows.take(min(len(rows), ceil(keep / NOISE_ROWS) * NOISE_ROWS)).matching(spec)
    how = how if blocks.support == rows.support else f"made 0/1 as in training, {how}"
    return Noisy(corrupted(blocks, module, seed=options.seed).take(keep), rows.take(keep).values(), how)


def _given(options: Denoise, spec: DataSpec) -> Noisy:
    """Return the rows of --data as what is seen, beside those of --clean if there are any."""
    assert options.data is not None
    if options.clean is None:
        rows = _first(_read(options.data, options, spec), options.num)
        return Noisy(replace(rows.matching(spec), seen=rows.values(), seen_scale=1), None, "as given")
    if spec.kind != "image":
        raise UsageError(f"--clean is for images, {spec.name} is a {spec.kind}", fix="drop --clean")
    rows = _first(_read(options.clean, options, spec, seen=options.data), options.num)
    return Noisy(rows.matching(spec), rows.values(), "as given, beside the clean ones")


def _read(source: str, options: Denoise, spec: DataSpec, *, seen: str | None = None) -> Dataset:
    rows, notes = load_rows(
        source, spec, seen=seen, alpha=options.alpha, skip_bad=options.skip_bad, delimiter=options.delimiter,
        encoding=options.encoding,
    )  # fmt: skip
    for line in notes:
        say(line)
    return rows


def _clean_rows(options: Denoise, folder: Path, spec: DataSpec) -> Dataset:
    if options.clean is not None:
        rows = _read(options.clean, options, spec)
    elif options.data is not None:
        rows = load_data(options.data, seed=spec.data_seed).split(options.split or "test")
    else:
        rows = own_data(folder, spec).split(options.split or "test")
    if len(rows) == 0:
        raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected="another --split")
    return rows


def _first(rows: Dataset, num: int | None) -> Dataset:
    return rows if num is None else rows.take(num)


def _corruption(options: Denoise, folder: Path) -> tuple[nn.Module, str]:
    """Return the corruption of --noise, or the run's own, and its name."""
    module = own_corruption(folder) if options.noise is None else corruption(options.noise, options.amount or 0.0)
    if module is None:
        raise UsageError(
            f"{folder.name} was trained without a corruption, and the rows are clean",
            fix="say how to corrupt them (--noise gaussian --amount 0.3), or give corrupted ones (--data PATH)",
        )
    arguments = getattr(module, "_recorded", {})
    return module, f"corrupted by {type(module).__name__}({', '.join(f'{k}={v}' for k, v in arguments.items())})"


def own_corruption(folder: Path) -> nn.Module | None:
    """Return the corruption a run was trained with, or None.

    Raises:
        CorruptArtifact: if the run's recipe is damaged.
    """
    path = folder / "recipe.json"
    if not path.exists():
        return None
    described = read_json(path)
    found = list(_find(described.get("objective") if isinstance(described, dict) else None))
    if not found:
        return None
    module = rebuild(found[0])
    if not isinstance(module, nn.Module):
        raise CorruptArtifact("the corruption of the run is none", where=str(path), expected="a part that corrupts")
    return module


def _find(described: Any) -> Iterator[Any]:
    """Yield the corruptions of all `Corrupt` in a described objective, outermost first."""
    if not isinstance(described, dict):
        return
    arguments = described.get("args")
    if described.get("part") == "Corrupt" and isinstance(arguments, dict):
        yield arguments.get("corruption")
    for value in arguments.values() if isinstance(arguments, dict) else ():
        yield from _find(value)


def _measured(noisy: Noisy, made: Tensor, spec: DataSpec, *, as_json: bool) -> dict[str, Any]:
    """Return PSNR and SSIM of input and output against the clean images, and print them, where they mean something."""
    if noisy.clean is None or spec.kind != "image":
        return {"corruption": noisy.how}
    if spec.support == "real":
        say(f"no PSNR and no SSIM: they are of values in [0, 1], and those of {spec.name} are any real ones")
        return {"corruption": noisy.how}
    seen = noisy.rows.seen_values()
    assert seen is not None
    clean = noisy.clean.cpu()
    before, after = restoration(seen.cpu(), clean), restoration(made, clean)
    gain = {name: _gain(getattr(before, name), getattr(after, name)) for name in ("psnr", "ssim")}
    if not as_json:
        for line in _lines(before, after, gain):
            result(line)
    if before.window < 11:
        say(f"the images are small: SSIM with a window of {before.window} pixels, not to be compared with the usual 11")
    return {
        "corruption": noisy.how,
        "input": before.to_json(),
        "output": after.to_json(),
        "gain": gain,
    }


def _gain(before: Tensor, after: Tensor) -> dict[str, Any]:
    """Return mean and standard error of the differences `[N]`, and the share of images that became better."""
    return {**mean_se(after - before), "better": float((after > before).double().mean())}


def _lines(before: Restoration, after: Restoration, gain: dict[str, Any]) -> Iterator[str]:
    for name, unit, digits in (("psnr", " dB", 2), ("ssim", "", 3)):
        parts = [
            f"{what} {_number(numbers, digits)}{unit}"
            for what, numbers in (
                ("input", mean_se(getattr(before, name))),
                ("output", mean_se(getattr(after, name))),
                ("gain", gain[name]),
            )
        ]
        yield f"{name.upper()}  {'   '.join(parts)} ({gain[name]['better']:.0%} of the images better)"
    yield f"mean +- standard error over {len(after.psnr):,} images, against the clean ones"


def _number(numbers: dict[str, Any], digits: int) -> str:
    if numbers["mean"] is None:
        return "-"  # an image equal to the clean one has an infinite PSNR
    spread = "" if numbers["se"] is None else f" +- {numbers['se']:.{digits}f}"
    return f"{numbers['mean']:.{digits}f}{spread}"


def write(path: Path, made: Tensor, noisy: Noisy, spec: DataSpec, num: int | None) -> None:
    """Write the cleaned rows; a sheet shows them below what was seen, and above the clean ones where known."""
    seen = noisy.rows.seen_values()
    assert seen is not None
    rows = [("input", seen.cpu()), ("denoised", made)]
    if noisy.clean is not None:
        rows.append(("clean", noisy.clean.cpu()))
    known = noisy.rows.mask_values()
    beside = {name: (values, known) for name, values in rows if name != "denoised"}
    sheet = [(name, values[: num or SHOWN]) for name, values in rows]
    write_examples(path, made, spec, lambda: sheet_of(sheet, noisy.how, spec.support), y=noisy.rows.y, beside=beside)


def sheet_of(rows: list[tuple[str, Tensor]], how: str, support: Support) -> Image.Image:
    """Return blocks of ten columns with one row for each of these images `[N, C, H, W]`, and a caption saying so."""
    columns = min(COLUMNS, len(rows[0][1]))
    tiles = in_rows([images for _, images in rows], columns)
    names = " above ".join(name for name, _ in rows).replace("denoised", "denoised (mean of p(x|z))")
    return grid(tiles, columns=columns, caption=f"{names}; input {how}", support=support)
