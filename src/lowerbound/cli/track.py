"""`lowerbound track RUN --to TRACKER`: tell an experiment tracker of a run."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..core.errors import LowerboundError, UsageError
from ..explore.run_files import RunFiles, clean, read_run
from ..trackers.trackers import Name, check_installed
from ..trackers.tracking import Tracking
from ..train.run import find_run
from .mistakes import parse
from .output import say

TRACK = (
    "Tracker (tensorboard, wandb, ...) that a process of its own tells of the run; it changes nothing of the training."
)
POLL, PATIENCE = 1.0, 60.0  # seconds between two looks at a run, and for a tracker to end after it


@dataclass(kw_only=True)
class Track:
    """Tell an experiment tracker of a run: its options, the terms of each epoch (nats), its results and its status.

    Nothing is sent twice: what the run's tracked.json says was sent is left out, and the tracker's run goes on. Say it
    again after `lowerbound evaluate` to add what that found.
    """

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    to: Name
    """tensorboard (files in the run folder), wandb (WANDB_MODE=offline for files), mlflow (MLFLOW_TRACKING_URI says
    where), trackio (a local database)."""
    project: str = "lowerbound"
    """What to file the run under; for TensorBoard the run's own folder does."""
    follow: bool = False
    """Go on until the run ends."""
    anew: bool = False
    """Send everything, as another run of the tracker."""


def command(words: list[str]) -> int:
    """Run `lowerbound track`."""
    options = parse(Track, words, "track")
    folder = find_run(options.run)
    check_installed(options.to)
    with redirect_stdout(sys.stderr):  # trackers talk
        try:
            rows, run = _track(folder, options)
        except (LowerboundError, OSError):
            raise
        except Exception as error:  # theirs: a server that is not there, a key that is missing
            why = clean(" ".join(str(error).split()) or type(error).__name__)
            raise UsageError(f"{options.to} failed: {why}", fix="nothing of the run is lost: try again") from error
    say(f"sent {rows} rows of {clean(run.name)} ({run.state}) to {options.to}")
    say(f"next:  {_NEXT[options.to].format(folder=clean(folder))}")
    return 0


_NEXT = {
    "tensorboard": "tensorboard --logdir {folder}",
    "wandb": "look at wandb.ai; after WANDB_MODE=offline: wandb sync wandb/offline-run-*",
    "mlflow": "mlflow ui",
    "trackio": "trackio show",
}


def _track(folder: Path, options: Track) -> tuple[int, RunFiles]:
    """Send what there is, or until the run ends; returns how many rows, and the run as it was last."""
    tracking = Tracking(folder, options.to, options.project, anew=options.anew)
    rows, run = 0, read_run(folder)
    try:
        rows += tracking.update(run)
        while options.follow and run.state in ("running", "running?"):
            time.sleep(POLL)
            run = read_run(folder)  # before the rows: what is written after it ended is no row of it
            rows += tracking.update(run)
    finally:
        tracking.close(run.state)
    if tracking.reader.changed:
        say(f"warning: {options.to} keeps epochs that were resumed with other options since (--anew sends all again)")
    return rows, run


class Follower:
    """A listener that lets a process of its own tell a tracker of a run from its start; nothing it meets is an error.

    Args:
        name: of the tracker.
        folder: the run folder, which is there once a training starts.
    """

    def __init__(self, name: Name, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.process: subprocess.Popen | None = None
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `wait`)

    def event(self, event: Mapping[str, Any]) -> None:
        """Start the process when the training starts."""
        if event["event"] not in ("start", "resume"):
            return
        words = [sys.executable, "-m", "lowerbound", "track", str(self.folder.resolve()), "--to", self.name, "--follow"]
        try:  # in a session of its own, so that Ctrl-C stops the training alone, and its end is sent
            self.process = subprocess.Popen(  # noqa: S603  (our own command)
                words, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said, start_new_session=True
            )
        except OSError as error:
            say(f"warning: {self.name} is not told of this run: {error}")

    def say(self, line: str) -> None:
        """Talk is for people."""

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Steps are not sent."""

    def wait(self) -> None:
        """Let the process send what is left, and say so if it could not."""
        with self.said:
            if self.process is None:
                return
            try:
                code = self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                say(f"{self.name} is still being told of this run, by process {self.process.pid}")
                return
            if code:
                self.said.seek(0)
                lines = self.said.read().decode(errors="replace").splitlines()
                why = next((line for line in lines if line.startswith("error: ")), f"exit code {code}")
                say(f"warning: {self.name} was not told all of this run: {clean(why.removeprefix('error: '))}")


@contextmanager
def followed(name: Name | None, folder: Path) -> Iterator[tuple[Follower, ...]]:
    """Give the listeners that let a tracker follow a training in `folder`: none without a name.

    Raises:
        UsageError: if the tracker is not installed.
    """
    if name is None:
        yield ()
        return
    check_installed(name)
    follower = Follower(name, folder)
    try:
        yield (follower,)
    finally:
        follower.wait()
