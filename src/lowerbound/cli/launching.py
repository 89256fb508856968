"""A training in several processes: who starts them, and what a restart runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..train.processes import Launched
from .output import say

_KEPT = (
    "devices",
    "device",
    "process_timeout",
    "save_every",
    "track",
)  # options of a training that its resumption takes too


def to_launch(devices: int | None, max_restarts: int) -> bool:
    """Tell whether this process is to start those that train, and is none of them.

    Raises:
        UsageError: if restarts are asked for and there is nothing that could be started again.
    """
    if Launched.found() is not None:
        return False
    if max_restarts and devices is None:
        raise UsageError("--max-restarts is for trainings in processes of their own", fix="add --devices 1 or more")
    return devices is not None and (devices != 1 or max_restarts != 0)


def going_on(run: Path, chosen: Mapping[str, Any]) -> list[str]:
    """Return the words of `resume` by which a training goes on as it was asked for."""
    kept = {name: chosen[name] for name in _KEPT if chosen[name] is not None}
    words = [word for name, value in kept.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [str(run), *words, *([] if chosen["report"] else ["--no-report"])]


def in_processes(words: list[str], run: Path, chosen: Mapping[str, Any]) -> int:
    """Run `lowerbound WORDS` in several processes, which train the run; returns the exit code."""
    from ..train.launch import launch

    def again() -> list[str] | None:
        if (run / "status.json").exists():
            return ["resume", *going_on(run, chosen)]
        return None if run.exists() else words

    return launch(words, again, chosen["devices"], chosen["max_restarts"], say)
