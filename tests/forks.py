"""Commands as processes of their own that need not load torch: each is a fork of a server that has loaded it.

A fork has its own exit, standard output, standard error and folder, as a process started from a shell has. What Python
reads before its first line (the encoding of the terminal, the locale) is the server's: cases about that need a process
from the start.
"""

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HELD = ("cli.train", "cli.evaluate", "cli.denoise", "recipes", "cli.main")  # loaded by the server


class Server:
    """A process that runs commands in forks of itself, one at a time.

    Args:
        environment: of the server, and of each command.
        seconds: after which a command is killed.
    """

    def __init__(self, environment: dict[str, str], seconds: int) -> None:
        words = [sys.executable, str(Path(__file__)), str(seconds)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, words: list[str], folder: Path, out: Path, err: Path, *, kill_after: float | None = None) -> int:
        """Run `lowerbound WORDS` in a folder, its output to two files; returns the exit code, as `subprocess` does.

        With `kill_after` it gets SIGKILL after so many seconds.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"words": words, "folder": str(folder), "out": str(out), "err": str(err), "kill_after": kill_after}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self.process.communicate(timeout=10)


def _serve(seconds: int) -> dict | None:
    """Answer requests until there are none; returns the request in a fork, which is to carry it out."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(seconds)
            return asked
        if asked["kill_after"] is not None:
            signal.signal(signal.SIGALRM, functools.partial(_kill, child))
            signal.setitimer(signal.ITIMER_REAL, max(asked["kill_after"], 1e-6))
        _, status = os.waitpid(child, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def _kill(child: int, *_: object) -> None:
    os.kill(child, signal.SIGKILL)


def _become(asked: dict) -> None:
    """Be the command: its folder, and files for what it says."""
    os.chdir(asked["folder"])
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    for name in HELD:
        importlib.import_module(f"lowerbound.{name}")
    request = _serve(int(sys.argv[1]))
    if request is not None:
        _become(request)
        sys.modules["lowerbound.cli.main"].main(request["words"])
