"""Save a model as safetensors and JSON, and load it without running anything the files say."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from .. import families, groups, networks, objectives, posteriors, priors  # noqa: F401  (fills the registry of parts)
from .._version import __version__
from ..core.errors import CorruptArtifact, DataError
from ..core.model import VAE
from ..core.noise import seeded
from ..core.record import describe, rebuild
from .files import check_folder, newest, read_json, save_tensors, write_folder, write_json

FORMAT = 1
_MOST_CONSTANTS = 1 << 24
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(model: VAE, path: str | Path, *, recipe: str = "custom", options: dict[str, Any] | None = None) -> Path:
    """Write the folder `path` with model.safetensors, config.json and a manifest; returns the path.

    Args:
        model: the model; its parts must be recorded.
        path: folder to write, replaced whole if it exists.
        recipe: name of the recipe it came from.
        options: the recipe's options.

    Raises:
        OutOfResource: if the disk is full.
        UsageError: if `path` holds anything but a saved model.
    """
    path = Path(path)
    config = {
        "format": FORMAT,
        "lowerbound": __version__,
        "recipe": recipe,
        "options": describe(options or {}),
        "model": describe(model),
    }

    def fill(folder: Path) -> None:
        write_json(folder / CONFIG, config)
        save_tensors(model.state_dict(), folder / WEIGHTS)

    write_folder(path, fill)
    return path


def load(path: str | Path, *, device: str | torch.device = "cpu") -> VAE:
    """Load a model from a model folder or a run folder, in evaluation mode.

    Args:
        path: a folder written by `save`, or a run folder that has one in `model/`.
        device: where to put the weights.

    Raises:
        DataError: if there is no such folder.
        CorruptArtifact: if a file is missing, damaged, or does not fit its description.
    """
    folder = Path(path)
    inside = newest(folder / "model")
    folder = inside if inside.is_dir() else folder
    if not folder.is_dir():
        raise DataError(f"there is no model in {path}", expected="a run folder, or a folder written by lowerbound.save")
    check_folder(folder)
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CorruptArtifact(
            f"{CONFIG} has another format than {FORMAT}",
            where=str(folder),
            fix="load it with the version that wrote it",
        )
    _check_shapes(config.get("model"), folder / WEIGHTS)
    with seeded(0):
        model = rebuild(config["model"])
    weights = load_file(folder / WEIGHTS)
    broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CorruptArtifact(f"the weights {broken[0]} hold NaN or infinite values", where=str(folder / WEIGHTS))
    model.load_state_dict(weights)
    return model.to(device).eval()


def _check_shapes(description: Any, weights: Path) -> None:
    """Compare the description with the weights' header before any memory is taken."""
    with torch.device("meta"):
        model = rebuild(description)
    if not isinstance(model, VAE):
        raise CorruptArtifact(f"{CONFIG} describes no VAE", where=str(weights.parent))
    all_tensors = sum(t.numel() for t in [*model.parameters(), *model.buffers()])
    hidden = all_tensors - sum(t.numel() for t in model.state_dict().values())
    if hidden > _MOST_CONSTANTS:
        raise CorruptArtifact(f"{CONFIG} asks for {hidden:,} constants that no file holds", where=str(weights.parent))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        with safe_open(weights, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CorruptArtifact(f"{weights.name} cannot be read: {error}", where=str(weights)) from error
    rows = [
        f"{name}: {found.get(name, 'missing')} in the file, {wanted.get(name, 'none')} in the model"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if rows:
        raise CorruptArtifact(
            "the weights do not fit the model\n    " + "\n    ".join(rows[:20]), where=str(weights.parent)
        )
