"""What commands print: results on standard output, talk on standard error; nothing here imports torch."""

import json
import sys
from pathlib import Path
from typing import Any

from ..core.finite import finite


def say(line: str) -> None:
    """Talk: one line on standard error."""
    sys.stderr.write(line + "\n")


def result(text: str) -> None:
    """A result: on standard output."""
    sys.stdout.write(text + "\n")


def result_json(value: Any) -> None:
    """A result as one JSON object on standard output, with null for numbers that are not finite."""
    result(json.dumps(finite(value), indent=1))


def saved(where: Path, following: str) -> None:
    """The last line of a command: where the result is and what to do next."""
    say(f"saved: {where}")
    say(f"next:  {following}")


def wrote(path: Path, following: str, *, as_json: bool, **facts: Any) -> int:
    """Print the path a command wrote (with `as_json` an object with `path` and these facts), and what to do next."""
    if as_json:
        result_json({"path": str(path), **facts})
    else:
        result(str(path))
    saved(path, following)
    return 0
