"""Options of a training as a YAML (or JSON) file, and the run or recipe they are read from."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import CorruptArtifact, DataError, UsageError
from ..ship.files import read_json

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Config:
    """The options a file holds, the line each stands in, and what is written there of those that are one value."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    texts: dict[str, str] = field(default_factory=dict)

    def where(self, name: str) -> str:
        """Say where an option stands."""
        return f"{self.path}, line {self.lines[name]}"


def read_config(path: Path) -> Config:
    """Read a file of options: one `name: value` a line, as YAML or JSON.

    Raises:
        DataError: if there is no such file.
        UsageError: if it is no YAML, no list of options, or an option stands there twice; the message says where.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", expected="a file of options") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than a file of options", expected=f"at most {_MOST_BYTES:,} bytes")
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        values = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        form = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise UsageError(
            f"{path.name} is not {form}: {_problem(error)}",
            where=_place(path, error),
            fix="correct the line; lowerbound export-config RECIPE writes such a file",
        ) from error
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path.name} holds no options", where=str(path), expected="lines such as `latent_dim: 8`")
    lines: dict[str, int] = {}
    texts: dict[str, str] = {}
    for key, value in node.value:
        name = str(key.value).replace("-", "_")
        if name in lines:
            raise UsageError(
                f"the option {name} is there twice", where=f"{path}, line {key.start_mark.line + 1}", fix="keep one"
            )
        lines[name] = key.start_mark.line + 1
        if isinstance(value, yaml.ScalarNode):
            texts[name] = value.value
    return Config(path, {str(key).replace("-", "_"): value for key, value in values.items()}, lines, texts)


def _problem(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(path) if mark is None else f"{path}, line {mark.line + 1}, column {mark.column + 1}"


def words_of(config: Config, known: Iterable[str], switches: Container[str] | None = None) -> list[str]:
    """Return the options of a file as words of the command line.

    Args:
        config: the file.
        known: names of the options there are.
        switches: those that are on or off, without a value; of others, what YAML takes for true or false (yes, no, on,
            off) is a word. None: all whose value is true or false.

    Raises:
        UsageError: if one is unknown; the message says where it stands and names the nearest.
    """
    names, words = list(known), []
    for name, value in config.values.items():
        if name not in names:
            near = get_close_matches(name, names, 1)
            raise UsageError(
                f"there is no option {name!r}",
                where=config.where(name),
                expected=", ".join(sorted(names)),
                fix=f"did you mean {near[0]}?" if near else "remove it",
            )
        word = isinstance(value, bool) and switches is not None and name not in switches
        words += _words(name, config.texts.get(name, str(value)) if word else value, config)
    return words


def _words(name: str, value: Any, config: Config) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag] if value else [flag.replace("--", "--no-", 1)]
    if isinstance(value, list):
        if any(isinstance(v, list | dict) for v in value):
            raise UsageError(f"the option {name} holds a list of lists", where=config.where(name), expected="one list")
        return [flag, *(str(v) for v in value)]
    if isinstance(value, dict):
        raise UsageError(f"the option {name} holds further options", where=config.where(name), expected="a value")
    return [flag, str(value)]


def to_yaml(options: dict[str, Any]) -> str:
    """Return options as YAML, in their order, tuples and paths as what YAML has."""
    plain = {k: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None)


def options_of_run(folder: Path) -> dict[str, Any]:
    """Return the options that train a run again: recipe, data, how they were read, and how it was trained.

    Raises:
        CorruptArtifact: if the run's files do not say.
        DataError: if it was trained on arrays.
    """
    recipe, data, machine = (read_json(folder / f"{name}.json") for name in ("recipe", "data", "env"))
    try:
        origin = data["origin"]
        if origin is None:
            raise DataError(f"{folder} was not trained on data with a name or a path")
        reading = {("data_seed" if k == "seed" else k): v for k, v in origin.items() if k != "source"}
        return {
            "recipe": recipe["name"],
            "data": origin["source"],
            **recipe["options"],
            **reading,
            **recipe["training"]["args"],
            "seed": machine["seed"],
            "precision": machine["precision"],
            "kernels": machine.get("kernels", "eager"),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(f"the files of {folder.name} do not say how it was made: {error!r}") from error
