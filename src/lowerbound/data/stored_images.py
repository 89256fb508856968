"""Image files that are decoded when a batch needs them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .images import Pictures, list_images, split_folders
from .sources import Reading
from .stored import Source


class PictureRows(Source):
    """Pictures of one shape, those of several folders one after another; each is read by itself.

    Args:
        folders: the pictures of each folder.
    """

    def __init__(self, folders: Sequence[Pictures]) -> None:
        self.folders = folders
        self.before = np.cumsum([0, *(len(folder.heads) for folder in folders)])
        self.shape = (int(self.before[-1]), *folders[0].shape)
        self.dtype = torch.uint8
        self.bounds = np.arange(self.shape[0] + 1)
        self.files = tuple(folder.folder / file for folder in folders for file in folder.files)
        self._tallies = [Counter[str]() for _ in folders]

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the pictures at `places`, decoded."""
        dtype = np.uint8 if self.dtype == torch.uint8 else np.float32
        rows = np.empty((len(places), *self.shape[1:]), dtype)
        for row, place in zip(rows, places.tolist(), strict=True):
            folder = int(np.searchsorted(self.before, place, "right")) - 1
            row[:] = self.folders[folder].decode(place - int(self.before[folder]), self._tallies[folder])
        return rows

    def told(self) -> tuple[str, ...]:
        """Return what was found and changed; all pictures have been read once."""
        told: list[str] = []
        for folder, tally in zip(self.folders, self._tallies, strict=True):
            told += [*folder.told(tally), *(f"skipped {line}" for line in folder.skipped)]
        return tuple(told)


def picture_rows(path: Path, reading: Reading) -> tuple[PictureRows, list[str] | None, int, tuple[str, ...]]:
    """Return the images at a path, undecoded, the label and the file name of each, and how many are a test split.

    Labels and names are those that `find` gives, the test split's at the end.

    Raises:
        DataError: as `read_images` does, but for damage behind a header.
    """
    options = {"channels": reading.channels, "alpha": reading.alpha, "skip_bad": reading.skip_bad}
    splits = split_folders(path) if path.is_dir() else {}
    if not splits:
        made = list_images(path, size=reading.size, **options)
        return PictureRows([made]), None if made.labels is None else list(made.labels), 0, made.files
    train = list_images(splits["train"], size=reading.size, **options)
    like = {"size": train.shape[1:], **options, "channels": train.shape[0]}
    held = {key: list_images(splits[key], **like) for key in ("valid", "test") if key in splits}
    every = {"train": train, **held}
    files = tuple(f"{key}/{file}" for key, made in every.items() for file in made.files)
    labels: list[str] | None = [] if all(made.labels is not None for made in every.values()) else None
    if labels is not None:
        labels = [label for made in every.values() for label in made.labels or ()]
    return PictureRows(list(every.values())), labels, len(held["test"].heads) if "test" in held else 0, files
