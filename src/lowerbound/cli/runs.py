"""`lowerbound runs [FOLDER]`: the runs of a folder, read from their JSON files alone, so that no torch is loaded."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro

from ..core.errors import UsageError
from ..explore.run_files import RunFiles, clean, find_runs, inside, number, read_run, readable_size, size_on_disk
from .mistakes import parse
from .output import result, result_json, say

# `common` would load torch, for which nothing here has a use
HEADER = ("name", "recipe", "data", "status", "epochs", "best", "nll", "started", "size")
STYLES = {"done": "green", "running": "yellow", "failed": "red", "killed": "red"}


@dataclass
class Runs:
    """List the runs of a folder, newest first.

    status is done, running, stopped (by a signal), failed, or killed: a run whose process is gone without a word. A run
    of another machine that may still be running is `running?`. best is the value that chose the weights, of the
    validation rows if there are any; nll is that of eval/test.json. What a damaged file does not tell is `?`.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Where the runs are."""
    json: bool = False
    """Print JSON."""


def command(words: list[str]) -> int:
    """Run `lowerbound runs`."""
    options = parse(Runs, words, "runs")
    if not options.folder.is_dir():
        raise UsageError(
            f"there is no folder {str(options.folder)!r}",
            expected="a folder of runs",
            fix="train one: lowerbound train vae --data mnist, or say where the runs are: lowerbound runs FOLDER",
        )
    runs = sorted(map(read_run, find_runs(options.folder)), key=lambda run: (-_started(run), run.name))
    for line in (line for run in runs for line in run.damaged):
        say(f"warning: {clean(line)}")
    if options.json:
        result_json([facts(run) for run in runs])
    elif runs:
        show_table(HEADER, [_row(facts(run)) for run in runs], styles=STYLES)
    else:
        result(f"no runs in {clean(options.folder)}")
    say(f"next:  {_following(options.folder, runs)}")
    return 0


def _following(folder: Path, runs: list[RunFiles]) -> str:
    if not runs:
        return "lowerbound train vae --data mnist"
    name = runs[0].name if folder == Path("runs") else str(runs[0].folder)
    return f"lowerbound report {quote(clean(name))}"


def facts(run: RunFiles) -> dict[str, Any]:
    """Return what the list tells of a run; None stands for what its files do not tell."""
    best, started = run.best, number(run.status.get("started"))
    nll = inside(run.evaluations.get("test"), "nll")
    return {
        "name": run.name,
        "path": str(run.folder),
        "recipe": _text(run.recipe.get("name")),
        "data": _text(inside(run.data, "spec").get("name")),
        "status": run.state,
        "epochs": run.epochs_done,
        "epochs_planned": run.epochs_planned,
        "best": best and {"name": run.monitor[0], "value": best[0], "epoch": best[1], "split": best[2]},
        "nll": nll or None,
        "started": None if started is None else _time(started),
        "bytes": size_on_disk(run.folder),
    }


def _row(facts: dict[str, Any]) -> list[str]:
    best = facts["best"]
    epochs = "?" if facts["epochs"] is None else str(facts["epochs"])
    planned = "" if facts["epochs_planned"] in (None, facts["epochs"]) else f"/{facts['epochs_planned']}"
    return [
        facts["name"],
        facts["recipe"] or "?",
        facts["data"] or "?",
        facts["status"],
        epochs + planned,
        "-" if best is None else f"{best['name']} {best['value']:.2f} {best['split']}",
        _nll(facts["nll"]),
        "?" if facts["started"] is None else facts["started"][:16].replace("T", " "),
        readable_size(facts["bytes"]),
    ]


def _nll(nll: dict[str, Any] | None) -> str:
    value, se = number((nll or {}).get("value")), number((nll or {}).get("se"))
    if value is None:
        return "-"
    samples = number((nll or {}).get("num_samples"))  # without it, bounds by other K would look like better models
    spread, by = "" if se is None else f" +- {se:.2f}", "" if samples is None else f" (K {samples:,.0f})"
    return f"{value:.2f}{spread}{by}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _started(run: RunFiles) -> float:
    return number(run.status.get("started")) or 0.0


def _time(seconds: float) -> str | None:
    """Return local time with its distance from UTC, as 2026-11-21T18:34+01:00; None if there is no such year."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="minutes")
    except (OverflowError, ValueError, OSError):
        return None


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, styles: dict[str, str] | None = None) -> None:
    """Print a table: drawn on a terminal, plain aligned text without colours anywhere else.

    Args:
        header: names of the columns.
        rows: their cells; what cannot be shown in them is replaced.
        styles: cells that have a style of their own on a terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        result(_plain([list(header), *shown]))
        return
    table = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in shown:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def _plain(rows: list[list[str]]) -> str:
    """Return rows with aligned columns; wide characters count as what they take on a terminal."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = (
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in padded)
