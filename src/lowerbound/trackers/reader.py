"""What trackers are told of a run: its metrics.jsonl, read once while it grows, its options and its results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..explore.run_files import RunFiles, inside, number

Scalar = str | int | float | bool
_NO_TERMS = ("epoch", "step")


class Row(NamedTuple):
    """The terms of one split after one epoch, in nats, as `train/elbo`; beside those of `train` epoch and seconds."""

    step: int
    split: str
    values: dict[str, float]


class Reader:
    """Reads the epochs of a metrics.jsonl that may still be written to, each once.

    A run that is killed and resumed takes some epochs again. They count once: what was not read yet is read as it was
    written last; what was read before is left out, and if it has changed since (other options), `changed` says so.

    Args:
        path: of metrics.jsonl; it need not be there yet.
        sent: the last step of each split that was read before, by whoever.
    """

    def __init__(self, path: Path, sent: Mapping[str, int]) -> None:
        self.path, self.sent, self.changed = path, dict(sent), False
        self._place = 0
        self._rows: dict[str, dict[int, Row]] = {}

    def new(self) -> list[Row]:
        """Return the rows that were not read before, in the order of their steps."""
        for line in self._lines():
            row = _row(line)
            if row is not None:
                self._take(row)
        new = [row for rows in self._rows.values() for row in rows.values() if row.step > self._last(row.split)]
        self.sent |= {row.split: max(row.step, self._last(row.split)) for row in sorted(new)}
        return sorted(new, key=lambda row: (row.step, row.split != "train"))

    def _last(self, split: str) -> int:
        return self.sent.get(split, -1)

    def _lines(self) -> list[bytes]:
        """Return the lines that have come; one without its end is still being written, or will be cut off."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._place)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        return whole.splitlines()

    def _take(self, row: Row) -> None:
        """Put a row in the place of itself and of all that came after it."""
        rows = self._rows.setdefault(row.split, {})
        before = rows.get(row.step)
        if before is not None and row.step <= self._last(row.split) and _terms(before) != _terms(row):
            self.changed = True
        while rows and next(reversed(rows)) >= row.step:
            rows.popitem()
        rows[row.step] = row


def _terms(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.values.items() if name != "seconds"}


def _row(line: bytes) -> Row | None:
    """Return an epoch event as a row; what is null is left out. None for other events, and for what is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") != "epoch":
        return None
    step, split = event.get("step"), event.get("split")
    if not isinstance(step, int) or not isinstance(split, str):
        return None
    known = {name: value for name, value in ((k, number(v)) for k, v in event.items()) if value is not None}
    both = {name: known.pop(name) for name in ("epoch", "seconds") if name in known}
    terms = {f"{split}/{name}": value for name, value in known.items() if name not in _NO_TERMS}
    return Row(step, split, {**terms, **(both if split == "train" else {})})


def options_of(run: RunFiles) -> dict[str, Scalar]:
    """Return what a run was made of and where: recipe, training options, data, environment, by dotted names."""
    parts = {
        "recipe": inside(run.recipe, "options"),
        "training": inside(run.recipe, "training", "args"),
        "env": run.env,
    }
    found = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    named = {"recipe": run.recipe.get("name"), "data": inside(run.data, "spec").get("name")}
    return {k: v if isinstance(v, Scalar) else json.dumps(v) for k, v in {**named, **found}.items() if v is not None}


def results_of(run: RunFiles) -> dict[str, float]:
    """Return the best value that chose the weights, and each number of eval/*.json, as `eval/test/nll`."""
    found = {f"eval/{name}": value for name, value in _numbers(run.evaluations).items()}
    if run.best is not None:
        value, epoch, _ = run.best
        found |= {f"best/{run.monitor[0]}": value, "best/epoch": float(epoch)}
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, held in values.items():
        if not isinstance(held, dict):
            continue
        value = number(held.get("value"))
        if value is not None:
            found[name] = value
        found |= {f"{name}/{inner}": v for inner, v in _numbers(held).items()}
    return found
