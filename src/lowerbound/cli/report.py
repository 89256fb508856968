"""`lowerbound report RUN`: one HTML file about a run."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from ..explore.html import page_path
from ..explore.report import shown_of, write_report
from ..explore.run_files import RunFiles, clean, read_run
from ..ship.files import newest
from ..train.run import find_run
from .common import RunOptions
from .mistakes import parse
from .output import say, wrote


@dataclass(kw_only=True)
class Report(RunOptions):
    """One HTML file about a run: what it is, its numbers with their kinds, figures, data, command and environment.

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
    shown, why = shown_of(folder, device=options.device, seed=options.seed)
    if why:
        lost = "no pictures: " if shown is None else "no reconstructions: " if shown.found is None else "warning: "
        say(lost + clean(why))
    write_report(folder, path, shown, why)
    return wrote(path, _following(run, options.run), as_json=options.json)


def _following(run: RunFiles, name: str) -> str:
    if run.evaluations:
        return "open it in a browser"
    # a run that was killed early has nothing to evaluate
    return f"lowerbound evaluate {quote(clean(name))}" if newest(run.folder / "model").is_dir() else "lowerbound runs"
