"""Telling a tracker of a run: each number once, also by several commands, and of a run that was killed and resumed."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..core.errors import UsageError
from ..explore.run_files import RunFiles, inside, read_run
from ..ship.files import write_json
from .reader import Reader, options_of, results_of
from .trackers import About, Name, Tracker, open_tracker

MEMORY, LOCK = "tracked.json", ".tracked.lock"


class Tracking:
    """Passes on what is new in a run folder; the folder's tracked.json remembers what was sent to whom.

    Where nothing is new the tracker is not opened.

    It is written after each sending: only a process that is killed between the two sends a row twice.

    Args:
        folder: the run folder.
        name: of the tracker.
        project: what to file the run under.
        anew: begin another run of the tracker with all there is.

    Raises:
        UsageError: if the tracker is not installed, or another process tells it of this run.
    """

    def __init__(self, folder: Path, name: Name, project: str, *, anew: bool) -> None:
        self.folder, self._key = folder, f"{name}:{project}"
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another process tells a tracker of {folder}", fix="wait until it ends") from None
        run = read_run(folder)
        known = {} if anew else inside(_memory(folder), self._key)
        steps = {k: v for k, v in inside(known, "steps").items() if isinstance(v, int)}
        self._results = dict(inside(known, "results"))
        self._status = known.get("status")
        self._about = name, About(folder, run.name, project, options_of(run), str(known.get("id", "")))
        self._tracker: Tracker | None = None
        self.reader = Reader(folder / "metrics.jsonl", steps)

    def _open(self) -> Tracker:
        if self._tracker is None:
            self._tracker = open_tracker(*self._about)
        return self._tracker

    def update(self, run: RunFiles) -> int:
        """Send what is new, and return how many rows that was."""
        rows = self.reader.new()
        for row in rows:
            self._open().log(row.values, row.step)
        if run.state not in ("running", "running?"):
            self._send_results(results_of(run))
        self._remember()
        return len(rows)

    def _send_results(self, results: dict[str, float]) -> None:
        new = {name: value for name, value in results.items() if self._results.get(name) != value}
        if new:
            self._open().results(new, max(self.reader.sent.values(), default=0))
        self._results |= new

    def _remember(self) -> None:
        if self._tracker is None:
            return
        steps, results = self.reader.sent, self._results
        about = {"id": self._tracker.id, "status": self._status, "steps": steps, "results": results}
        memory = _memory(self.folder)
        if memory.get(self._key) != about:
            write_json(self.folder / MEMORY, {**memory, self._key: about})

    def close(self, status: str) -> None:
        """Tell the tracker what became of the run, and let it end."""
        try:
            if self._tracker is not None or status != self._status:
                self._open().close(status)
                self._status = status
                self._remember()
        finally:
            self._lock.release()


def _memory(folder: Path) -> dict[str, Any]:
    """Return what was sent to whom; empty if nothing was, or the file is damaged."""
    try:
        held = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
