"""`lowerbound report RUN`: one HTML file about a run."""

import inspect
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import LowerboundError, UsageError
from ..explore.report import (
    Shown,
    first_line,
    in_words,
    nothing_shown,
    page,
    page_path,
    reconstructions,
    samples,
    write_page,
)
from ..explore.run_files import RunFiles, clean, read_run
from ..recipes import find
from ..ship.files import newest
from ..train.run import find_run
from .common import RowsOptions, RunOptions, open_with_device, rows_of, spec_of
from .mistakes import parse
from .output import say, wrote


@dataclass(kw_only=True)
class Report(RunOptions):
    """One HTML file about a run: what it is, its data, numbers, curves, samples and reconstructions.

    It fetches nothing and runs nothing, and can be sent to others; only its links lead to the run's other files.
    Whatever is missing is said in words.
    """

    out: Path | None = None
    """File to write (default: report.html in the run)."""


def command(words: list[str]) -> int:
    """Run `lowerbound report`."""
    options = parse(Report, words, "report")
    folder = find_run(options.run)
    path = page_path(options.out or folder / "report.html")
    run = read_run(folder)
    for line in run.damaged:
        say(f"warning: {clean(line)}")
    write_page(path, page(run, _shown(options), about=_about(run), beside=path.parent))
    return wrote(path, _following(run, options.run), as_json=options.json)


def _about(run: RunFiles) -> str:
    try:
        return inspect.getdoc(find(str(run.recipe.get("name")))) or ""
    except UsageError:  # a recipe of the user's own, or of another version
        return ""


def _following(run: RunFiles, name: str) -> str:
    if run.evaluations:
        return "open it in a browser"
    # a run that was killed early has nothing to evaluate
    return f"lowerbound evaluate {clean(name)}" if newest(run.folder / "model").is_dir() else "lowerbound runs"


def _shown(options: Report) -> Shown:
    """Return what the run's model makes; what cannot be shown is said in words, there and on standard error."""
    try:
        folder, model = open_with_device(options.run, options.device)
        spec = spec_of(model)
    except LowerboundError as error:
        say(f"no samples: {first_line(error)}")
        return nothing_shown(first_line(error))
    drawn = in_words(samples, model, spec, seed=options.seed)
    try:
        rows = rows_of(folder, model, RowsOptions(run=options.run, device=options.device))
    except (LowerboundError, OSError) as error:
        say(f"no reconstructions: {first_line(error)}")
        return Shown(drawn, nothing_shown(first_line(error)).reconstructions)
    return Shown(drawn, in_words(reconstructions, model, rows, seed=options.seed))
