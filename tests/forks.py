"""Commands as processes of their own that need not load libraries: each is a fork of a server that has loaded them.

A fork has its own exit, standard output, standard error, folder and environment, as a process started from a shell
has. What Python reads before its first line (the encoding of the terminal, the locale) is the server's: cases about
that need a process from the start.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Of lowerbound, loaded by the server; and what else takes long to load and commands load when they need it.
HELD = ("cli.train", "cli.evaluate", "cli.denoise", "recipes", "explore.report", "explore.pictures", "cli.main")
HELD_TOO = ("torch._dynamo", "matplotlib.backends.backend_agg", "PIL.PngImagePlugin", "pyarrow.csv", "pyarrow.parquet",
            "scipy.stats", "sklearn.datasets")  # fmt: skip


# As a user's who has set nothing; PLAIN is the server's environment and that of its commands.
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
PLAIN["OMP_NUM_THREADS"] = "1"


class Server:
    """A process that runs commands in forks of itself, one at a time."""

    def __init__(self) -> None:
        words = [sys.executable, str(Path(__file__))]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN)

    def run(
        self,
        words: list[str],
        folder: Path,
        out: Path,
        err: Path,
        *,
        seconds: int = 120,
        environment: dict[str, str] | None = None,
        kill_after: float | None = None,
        kill_from: str | None = None,
    ) -> int:
        """Run `lowerbound WORDS` in a folder, its output to two files; returns the exit code, as `subprocess` does.

        It is killed after so many `seconds`; `environment` is added to the server's. With `kill_after` the system ends
        it after so many seconds, counted from the start or from the moment when a file or folder takes the name
        `kill_from`; nothing of it can run any more then.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"words": words, "folder": str(folder), "out": str(out), "err": str(err), "seconds": seconds}
        asked |= {"environment": environment or {}, "kill_after": kill_after, "kill_from": kill_from}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self.process.communicate(timeout=10)


def _serve() -> dict | None:
    """Answer requests until there are none; returns the request in a fork, which is to carry it out."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(asked["seconds"])  # which kills the process, as no handler is set
            return asked
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def _end_later(after: float, name: str | None) -> None:
    """Let the system end this process in so many seconds, from now or from a renaming to `name`."""

    def seen(event: str, arguments: tuple) -> None:
        if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == name:
            signal.setitimer(signal.ITIMER_REAL, max(after, 1e-6))

    if name is None:
        signal.setitimer(signal.ITIMER_REAL, max(after, 1e-6))
    else:
        sys.addaudithook(seen)


def _become(asked: dict) -> None:
    """Be the command: its folder, its environment, and files for what it says."""
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _code(main: Callable[[list[str]], None], words: list[str]) -> int:
    """Run a command and return its exit code, as Python would find it."""
    try:
        main(words)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """End this process as Python ends one, but for taking every module of the libraries apart, which takes seconds."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in (*(f"lowerbound.{part}" for part in HELD), *HELD_TOO):
        importlib.import_module(name)
    gc.freeze()  # what is shared with the forks stays shared
    request = _serve()
    if request is not None:
        _become(request)
        if request["kill_after"] is not None:
            _end_later(request["kill_after"], request["kill_from"])
        _leave(_code(sys.modules["lowerbound.cli.main"].main, request["words"]))
