"""Starts a command in several processes on this machine, and again where one of them is lost."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ..core.errors import ProcessLost, UsageError
from .processes import check_installed

_GRACE = 30  # seconds that a process has to save its state before it is killed
_SHOWN = 20  # lines of what a process said that was not the first


def launch(
    words: Sequence[str],
    again: Callable[[], Sequence[str] | None],
    devices: int,
    max_restarts: int,
    say: Callable[[str], None],
) -> int:
    """Run `lowerbound WORDS` in as many processes as `devices` says; returns the exit code of the first that ended.

    Where one was killed or did not answer any more, the others are ended too, and all are started once more, by other
    words: so a training goes on from its last checkpoint. An error that would come again ends all.

    Args:
        words: the command and its options.
        again: returns the words of a restart; None if there is nothing to go on with.
        devices: number of processes.
        max_restarts: how often they may be started again.
        say: shows a line.

    Raises:
        UsageError: if there are fewer than 1 devices, less than no restarts, or Lightning Fabric is not installed.
    """
    if devices < 1:
        raise UsageError(f"there cannot be {devices} devices", expected="1 or more")
    if max_restarts < 0:
        raise UsageError(f"there cannot be {max_restarts} restarts", expected="0 or more")
    check_installed()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it shows every failure as a table
    now: Sequence[str] | None = words
    for left in range(max_restarts, -1, -1):
        with tempfile.TemporaryDirectory(prefix="lowerbound-") as logs, _threads_of_each(devices):
            code, ended = _run(now, devices, Path(logs))
            for failure in _unlike_the_first(ended):
                _show(failure, Path(logs), say)
        if code != ProcessLost.exit_code or not left or (now := again()) is None:
            return code
        say(f"all processes are started again, {left - 1} more times at most")
    raise AssertionError("the last round returns")


def _run(words: Sequence[str], devices: int, logs: Path) -> tuple[int, list[ProcessFailure]]:
    """Run the command once; returns its exit code, and how processes failed, the first first."""
    # what the first process says is shown as it comes, what others say only if they fail
    quiet = DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, devices), Std.ALL))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=logs.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        shutdown_timeout=_GRACE,
        logs_specs=quiet,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "lowerbound", *words)
    except ChildFailedError as error:
        failures = list(error.failures.values())
        return _judged(failures), failures
    except SignalException as error:
        return 128 + int(error.sigval), []
    return 0, []


def _judged(failures: Sequence[ProcessFailure]) -> int:
    """Return the exit code of the whole: an error that would come again, a signal, or that of a lost process."""
    signals = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # the others get one once the first has ended
    for failure in failures:
        if failure.exitcode > 0 and failure.exitcode not in (ProcessLost.exit_code, *signals):
            return failure.exitcode
    first = failures[0].exitcode
    return first if first in signals else ProcessLost.exit_code


def _unlike_the_first(failures: Sequence[ProcessFailure]) -> list[ProcessFailure]:
    """Return the failures without those that the first process had, too: what it says is shown as it comes."""
    code = next((failure.exitcode for failure in failures if failure.local_rank == 0), 0)
    told = {code} if code > 0 else set()
    if told - {ProcessLost.exit_code}:
        told.add(-signal.SIGTERM)  # the others are ended then, perhaps while they say the same
    return [failure for failure in failures if failure.local_rank == 0 or failure.exitcode not in told]


def _show(failure: ProcessFailure, logs: Path, say: Callable[[str], None]) -> None:
    """Say how a process ended; what it said itself, where that was not shown yet."""
    if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
        name = signal.Signals(-failure.exitcode).name
        say(f"process {failure.local_rank} was ended by {name}")
    for said in logs.glob(f"**/{failure.local_rank}/stderr.log"):
        for line in said.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:]:
            say(f"process {failure.local_rank}: {line}")


@contextmanager
def _threads_of_each(devices: int) -> Iterator[None]:
    """Divide the threads of this process among those that start inside, unless the user has said how many."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // devices))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
