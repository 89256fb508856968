"""Events of a training run, and the listeners that write or show them.

An event is a dictionary with "event": start, resume, epoch, skipped, checkpoint or end.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..core.finite import finite

Event: TypeAlias = Mapping[str, Any]


@runtime_checkable
class Listener(Protocol):
    """Hears what happens in training."""

    def event(self, event: Event) -> None:
        """Hear an event."""
        ...

    def say(self, line: str) -> None:
        """Hear a line of talk for people."""
        ...

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Hear that `step` of `steps` of an epoch is done; called at most a few times a second."""
        ...


class MetricsFile:
    """Appends each event as one JSON object a line; numbers that are not finite become null."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def event(self, event: Event) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(event)) + "\n")

    def say(self, line: str) -> None:
        """Talk is not a metric."""

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Steps are not logged."""


class LogFile:
    """Appends the talk to log.txt."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def event(self, event: Event) -> None:
        """Write epochs as people read them."""
        if event["event"] == "epoch":
            self.say(epoch_line(event))

    def say(self, line: str) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Steps are not logged."""


class Terminal:
    """A progress bar on a terminal, plain lines otherwise; everything goes to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task: Any = None

    def event(self, event: Event) -> None:
        """Show an epoch as a line."""
        if event["event"] in ("start", "resume") and self.console.is_terminal:
            columns = (TextColumn("epoch {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.start()
            total, epoch = event["epochs"] * event["steps_per_epoch"], event["step"] // event["steps_per_epoch"] + 1
            self.task = self.bar.add_task(str(epoch), total=total, completed=event["step"])
        if event["event"] == "epoch":
            self.say(epoch_line(event))
        if event["event"] == "end" and self.bar is not None:
            self.bar.stop()
            self.bar = None

    def say(self, line: str) -> None:
        """Show one line."""
        self.console.print(line, markup=False, soft_wrap=True)

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=(epoch - 1) * steps + step, description=str(epoch))


class Listeners:
    """Passes everything on to several listeners, and slows `tick` down to four a second."""

    def __init__(self, listeners: list[Listener]) -> None:
        self.listeners = listeners
        self._next = 0.0

    def event(self, kind: str, **values: Any) -> None:
        """Pass on an event of this kind."""
        for listener in self.listeners:
            listener.event({"event": kind, **values})

    def say(self, line: str) -> None:
        """Pass on a line."""
        for listener in self.listeners:
            listener.say(line)

    def tick(self, epoch: int, step: int, steps: int) -> None:
        """Pass on progress."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.25
            for listener in self.listeners:
                listener.tick(epoch, step, steps)


def epoch_line(event: Event) -> str:
    """Return an epoch event as a line for people.

    >>> epoch_line({"epoch": 3, "split": "valid", "elbo": -101.25, "distortion": 76.0, "rate": 25.25, "seconds": 7.9})
    'epoch   3 valid  elbo -101.25  distortion 76.00  rate 25.25  (7.9 s of training)'
    """
    skipped = ("event", "epoch", "step", "split", "seconds")
    terms = "  ".join(f"{k} {v:.2f}" for k, v in event.items() if k not in skipped and isinstance(v, float))
    return f"epoch {event['epoch']:3d} {event['split']:5s}  {terms}  ({event['seconds']:.1f} s of training)"
