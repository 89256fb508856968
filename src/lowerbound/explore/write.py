"""Write generated examples as people use them: images as a PNG grid, other data as CSV."""

import csv
from pathlib import Path

import torch
from torch import Tensor

from ..core.model import Show
from ..core.spec import DataSpec
from .figures import reconstruction_grid, sample_grid


def _named(path: Path, suffix: str) -> Path:
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def _rows(path: Path, header: list[str], values: Tensor) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(values.cpu().tolist())


def write_samples(path: Path, samples: Tensor, spec: DataSpec, show: Show) -> Path:
    """Write samples to `path` with the suffix that suits the data (.png or .csv); returns the path.

    Args:
        path: where, without suffix.
        samples: `[N, *shape]` in model units.
        spec: what they are.
        show: whether they are means or draws.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if spec.kind == "image":
        path = _named(path, ".png")
        sample_grid(samples, show).save(path)
        return path
    path = _named(path, ".csv")
    _rows(path, [f"x{i}" for i in range(spec.dims)], samples.flatten(1))
    return path


def write_reconstructions(path: Path, originals: Tensor, reconstructions: Tensor, spec: DataSpec, show: Show) -> Path:
    """Write originals and reconstructions to `path` with the suffix that suits the data; returns the path.

    Args:
        path: where, without suffix.
        originals: `[N, *shape]` in model units.
        reconstructions: the same shape.
        spec: what they are.
        show: whether the reconstructions are means or draws.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if spec.kind == "image":
        path = _named(path, ".png")
        reconstruction_grid(originals, reconstructions, show).save(path)
        return path
    path = _named(path, ".csv")
    header = [f"x{i}" for i in range(spec.dims)] + [f"reconstructed_x{i}" for i in range(spec.dims)]
    _rows(path, header, torch.cat([originals.flatten(1), reconstructions.flatten(1)], 1))
    return path
