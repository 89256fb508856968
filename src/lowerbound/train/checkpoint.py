"""Checkpoints: the state of training, as safetensors and JSON, written atomically."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import CorruptArtifact
from ..ship.files import check_folder, read_json, save_tensors, write_folder, write_json

KEEP = 2


@dataclass
class State:
    """Everything that changes during training, apart from what `seed` and the step determine.

    Args:
        model: the model being trained.
        objective: its objective; critics and multipliers live there.
        optimizers: one for each player.
        progress: epoch, step, best monitor and other plain numbers.
        average: the moving average of the model's weights, if there is one.
        best: the best weights so far, by name; empty before the first epoch was judged.
    """

    model: nn.Module
    objective: nn.Module
    optimizers: Mapping[str, Optimizer]
    progress: dict[str, Any]
    average: nn.Module | None = None
    best: dict[str, Tensor] = field(default_factory=dict)

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules whose tensors are saved, by name."""
        named = {"model": self.model, "objective": self.objective, "average": self.average}
        return {name: module for name, module in named.items() if module is not None}


def save_checkpoint(folder: Path, state: State) -> Path:
    """Write `folder/step-000123` atomically and then remove all but the newest two.

    Raises:
        OutOfResource: if the disk is full; earlier checkpoints stay.
    """
    path = folder / f"step-{state.progress['step']:06d}"
    tensors, plain = {}, {}
    for name, module in state.modules().items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in state.best.items()}
    for name, optimizer in state.optimizers.items():
        plain[name], moved = _split(optimizer.state_dict())
        tensors |= {f"optimizer/{name}/{key}": value for key, value in moved.items()}

    def fill(target: Path) -> None:
        save_tensors(tensors, target / "state.safetensors")
        write_json(target / "state.json", {"progress": state.progress, "optimizers": plain})

    write_folder(path, fill)
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return path


def load_checkpoint(path: Path, state: State) -> None:
    """Put a checkpoint's tensors and progress into `state`.

    Raises:
        CorruptArtifact: if it is damaged or belongs to another model.
    """
    check_folder(path)
    saved = read_json(path / "state.json")
    try:
        tensors = load_file(path / "state.safetensors")
        for name, module in state.modules().items():
            module.load_state_dict(_under(tensors, f"{name}/"))
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(_joined(saved["optimizers"][name], _under(tensors, f"optimizer/{name}/")))
        state.best.update(_under(tensors, "best/"))
        state.progress.update(saved["progress"])
    except (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"the checkpoint does not fit the model: {error}", where=str(path)) from error


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Separate an optimiser's state_dict into JSON and tensors named `<parameter>/<key>`."""
    plain: dict[str, Any] = {"param_groups": state["param_groups"], "state": {}}
    tensors = {}
    for index, values in state["state"].items():
        plain["state"][str(index)] = {k: v for k, v in values.items() if not torch.is_tensor(v)}
        tensors |= {f"{index}/{k}": v for k, v in values.items() if torch.is_tensor(v)}
    return plain, tensors


def _joined(plain: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    state = {int(index): dict(values) for index, values in plain["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/")
        state[int(index)][name] = value
    return {"param_groups": plain["param_groups"], "state": state}
