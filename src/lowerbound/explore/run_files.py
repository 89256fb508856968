"""What the files of a run folder say, read without torch and without trust: what is damaged is left out and named."""

import json
import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

# An objective's monitor, and whether more is better, by its name: the objectives themselves need torch. A test
# compares the table with them.
MONITORS: dict[str, tuple[str, bool]] = {
    "AAE": ("distortion", False),
    "CIWAE": ("ciwae_bound", True),
    "Capacity": ("penalized", False),
    "DIP": ("penalized", False),
    "DReG": ("iw_bound", True),
    "GECO": ("penalized", False),
    "HSIC": ("penalized", False),
    "IWAE": ("iw_bound", True),
    "MIWAE": ("miwae_bound", True),
    "MMD": ("penalized", False),
    "PIWAE": ("iw_bound", True),
    "Perceptual": ("perceptual_loss", False),
    "RAE": ("penalized", False),
    "Reconstruction": ("distortion", False),
    "Renyi": ("renyi_bound", True),
    "SSIM": ("ssim_loss", False),
    "STL": ("iw_bound", True),
    "SimpleRegularizer": ("penalized", False),
    "TotalCorrelation": ("penalized", False),
    "VAEGAN": ("distortion", False),
    "WeighedELBO": ("weighed_elbo", True),
}
USUAL_MONITOR = ("elbo", True)


@dataclass(frozen=True)
class RunFiles:
    """What a run folder says; a file that is missing or damaged counts as an empty one.

    Args:
        folder: the run folder.
        recipe: recipe.json.
        data: data.json.
        env: env.json.
        status: status.json.
        events: the lines of metrics.jsonl.
        evaluations: eval/*.json by their names without the suffix.
        damaged: one line for each file that is not what it should be.
    """

    folder: Path
    recipe: dict[str, Any]
    data: dict[str, Any]
    env: dict[str, Any]
    status: dict[str, Any]
    events: tuple[dict[str, Any], ...]
    evaluations: dict[str, dict[str, Any]]
    damaged: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's own name, also where it was given as `.`."""
        return self.folder.name or self.folder.resolve().name

    @cached_property
    def epochs(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Epoch events by split and epoch; those after the point from which a run was resumed count no more."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for event in self.events:
            epoch, split = event.get("epoch"), event.get("split")
            if event.get("event") == "epoch" and isinstance(epoch, int) and isinstance(split, str):
                known = found.setdefault(split, {})
                while known and next(reversed(known)) >= epoch:
                    known.popitem()
                known[epoch] = event
        return found

    @property
    def epochs_done(self) -> int | None:
        """Number of whole epochs; None if no file tells."""
        if not self.events:
            return None
        return max((epoch for by_epoch in self.epochs.values() for epoch in by_epoch), default=0)

    @property
    def epochs_planned(self) -> int | None:
        """Number of epochs that were asked for."""
        training = inside(self.recipe, "training", "args")
        starts = [e for e in self.events if e.get("event") == "start"]
        return _whole(training.get("epochs")) if training else _whole(starts[-1].get("epochs")) if starts else None

    @property
    def seconds(self) -> float | None:
        """Time of training steps, without validation."""
        times = [number(event.get("seconds")) for event in self.events]
        return next((t for t in reversed(times) if t is not None), None)

    @property
    def parameters(self) -> int | None:
        """Number of the model's parameters."""
        return next((_whole(e.get("parameters")) for e in self.events if e.get("event") == "start"), None)

    @property
    def monitor(self) -> tuple[str, bool]:
        """The term that decides which weights are best, and whether more of it is better."""
        objective, over = inside(self.recipe, "objective"), ""
        while inner := inside(objective, "args", "objective"):  # an objective that wraps another has its monitor
            over = "_of_sets" if objective.get("part") == "Subsets" else over
            objective = inner
        name, more = MONITORS.get(str(objective.get("part")), USUAL_MONITOR)
        return name + over, more

    @property
    def best(self) -> tuple[float, int, str] | None:
        """The monitor's best value, its epoch and the split it was measured on; without validation the last value.

        Of a run that was killed, only the epochs before its last checkpoint count: the weights on disk are of those.
        """
        name, maximize = self.monitor
        split = "valid" if "valid" in self.epochs else "train"
        events = self.epochs.get(split, {})
        if self.state == "killed":
            saved = [number(e.get("step")) or 0 for e in self.events if e.get("event") == "checkpoint"]
            events = {k: e for k, e in events.items() if (number(e.get("step")) or 0) <= max(saved, default=0)}
        values = {epoch: number(event.get(name)) for epoch, event in events.items()}
        known = {epoch: value for epoch, value in values.items() if value is not None}
        if not known:
            return None
        if split == "train":
            last = max(known)
            return known[last], last, split
        epoch = (max if maximize else min)(known, key=lambda e: known[e])
        return known[epoch], epoch, split

    @property
    def fitted_priors(self) -> list[str]:
        """The kinds of prior one of which took the place of the prior of training, once that was over; mostly none."""
        phases = self.recipe.get("after")
        if self.state != "done" or not isinstance(phases, list):
            return []
        priors = [inside(phase, "args").get("priors") for phase in phases[-1:]]
        return [str(inside({"": p}, "").get("part", "?")) for held in priors if isinstance(held, list) for p in held]

    @property
    def state(self) -> str:
        """What status.json says; "killed" if it says "running" and the process is gone, "?" if it says nothing.

        The number of a process means something on the machine that gave it alone: where env.json tells of another
        platform than this one, or of none, a run that may be running is "running?". A number that was given to
        another process since is not noticed.
        """
        said = self.status.get("status")
        if said != "running":
            return said if isinstance(said, str) and said else "?"
        alive = _is_alive(self.status.get("pid")) if self.env.get("platform") == platform.platform() else None
        return {True: "running", False: "killed", None: "running?"}[alive]


def is_run(folder: Path) -> bool:
    """Tell whether a folder is a run's."""
    return (folder / "status.json").is_file() or (folder / "recipe.json").is_file()


def find_runs(folder: Path) -> list[Path]:
    """Return the runs in `folder`, or itself if it is one, in no order."""
    return [folder] if is_run(folder) else [path for path in folder.iterdir() if is_run(path)]


def read_run(folder: Path) -> RunFiles:
    """Read the files of a run folder; nothing that stands in them raises an error."""
    damaged: list[str] = []
    parts = {name: _object(folder / f"{name}.json", damaged) for name in ("recipe", "data", "env", "status")}
    events = _events(folder / "metrics.jsonl", damaged)
    evaluations = {path.stem: _object(path, damaged) for path in sorted((folder / "eval").glob("*.json"))}
    return RunFiles(folder, **parts, events=events, evaluations=evaluations, damaged=tuple(damaged))


def _object(path: Path, damaged: list[str]) -> dict[str, Any]:
    """Return the object of a JSON file, empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        damaged.append(f"{path} cannot be read: {error.strerror}")
        return {}
    except (ValueError, RecursionError) as error:
        damaged.append(f"{path} is not JSON: {error}")
        return {}
    if not isinstance(value, dict):
        damaged.append(f"{path} holds no object")
        return {}
    return value


def _events(path: Path, damaged: list[str]) -> tuple[dict[str, Any], ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        damaged.append(f"{path} cannot be read: {error}")
        return ()
    events, bad = [], []
    for place, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            event = line
        if isinstance(event, dict):
            events.append(event)
        elif event is not None and place < len(lines):  # a last line without its end is still being written, or was
            bad.append(str(place))
    if bad:
        more = "" if len(bad) == 1 else f" and {len(bad) - 1} more"
        damaged.append(f"{path} line {bad[0]}{more} is no event")
    return tuple(events)


def inside(value: Any, *keys: str) -> dict[str, Any]:
    """Return the object that lies under `keys`, empty if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """Return a finite number as such, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if abs(float(value)) < float("inf") else None
    except OverflowError:
        return None


def texts(value: Any) -> list[str]:
    """Return a list's members as text, empty if it is no list."""
    return [str(v) for v in value] if isinstance(value, list) else []


def clean(text: object) -> str:
    """Return one line of text in which what cannot be shown, or moves a terminal's cursor, is replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text))


def size_on_disk(folder: Path) -> int:
    """Return the bytes of all files in a folder; files that vanish meanwhile count nothing."""
    return sum(_size(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def readable_size(count: int | float) -> str:
    """Return a number of bytes as people read it.

    >>> readable_size(999), readable_size(23_456_789)
    ('999 B', '23.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_alive(pid: Any) -> bool | None:
    """Tell whether a process of this number is there; None if that cannot be told."""
    if os.name != "posix" or not isinstance(pid, int) or isinstance(pid, bool) or pid < 1:
        return None  # elsewhere os.kill would end the process, and below 1 it would ask a whole group
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return None
    except PermissionError:  # somebody else's
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only its parent has not asked yet, where /proc tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]  # a command's name, in brackets, may hold anything
