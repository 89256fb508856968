"""Pictures of a model while it learns, kept in the run folder."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core.errors import CorruptArtifact
from ..core.model import VAE
from ..data.dataset import Dataset
from ..ship.files import replaced, save_tensors

ROWS = 8
NAMES = ("originals", "reconstructions", "samples")
MOST_VALUES = 1_000_000  # of the shown images together: larger images are shown in smaller numbers


class Snapshots:
    """Writes reconstructions of the first rows, and samples of always the same z, after 0, 1, 2, 5, 10, 20, ... epochs.

    Args:
        folder: where to write `epoch-00005.safetensors`; made when it is needed.
        rows: images as the model wants them.
    """

    def __init__(self, folder: Path, rows: Dataset) -> None:
        self.folder = folder
        self.rows = rows.take(min(ROWS, len(rows), max(1, MOST_VALUES // rows.spec.dims)))

    def __call__(self, model: VAE, epoch: int) -> None:
        """Write what the model makes after `epoch` epochs, if that is one of those kept."""
        if not is_kept(epoch):
            return
        batch = self.rows.batch(slice(None))
        y = batch.y if model.conditional else None
        rebuilt = model.reconstruct(batch.x if batch.seen is None else batch.seen, y, batch.mask, seed=0)
        made = dict(zip(NAMES, (batch.x, rebuilt, model.sample(len(self.rows), y, seed=0)), strict=True))
        self.folder.mkdir(exist_ok=True)
        with replaced(self.folder / f"epoch-{epoch:05d}.safetensors") as path:
            save_tensors({name: _small(x, unit=self.rows.spec.support != "real") for name, x in made.items()}, path)


def is_kept(epoch: int) -> bool:
    """Tell whether `epoch` is 0 or one of 1, 2, 5, 10, 20, 50, ...

    >>> [epoch for epoch in range(101) if is_kept(epoch)]
    [0, 1, 2, 5, 10, 20, 50, 100]
    """
    return str(epoch).rstrip("0") in ("", "1", "2", "5")


def read_snapshots(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Return the pictures kept in a folder by epoch: originals, reconstructions and samples `[N, C, H, W]`.

    Raises:
        CorruptArtifact: if a file is damaged.
    """
    found = {}
    for path in sorted(folder.glob("epoch-*.safetensors")):
        try:
            held = load_file(path)
            epoch = int(path.stem.removeprefix("epoch-"))
        except (SafetensorError, OSError, ValueError) as error:
            raise CorruptArtifact(f"{path.name} cannot be read: {error}", where=str(folder), fix="delete it") from error
        if set(held) != set(NAMES) or any(x.dim() != 4 for x in held.values()):
            raise CorruptArtifact(f"{path.name} holds other things than pictures", where=str(folder), fix="delete it")
        found[epoch] = {name: x.float() / 255 if x.dtype == torch.uint8 else x.float() for name, x in held.items()}
    return found


def _small(x: Tensor, *, unit: bool) -> Tensor:
    """Return images as bytes if they lie in [0, 1]."""
    x = x.detach().float()
    return (x.clamp(0, 1) * 255).round().to(torch.uint8) if unit else x
