"""Sums of a long evaluation beside the run, so that an interrupted one goes on and a larger K needs only the rest."""

import hashlib
import time
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..core.model import VAE
from ..data.dataset import Dataset
from ..data.stored import Stored
from ..evaluation.importance import BLOCK_SAMPLES, Sums
from ..ship.files import replaced, save_tensors

EVERY = 15.0  # seconds between two writings


class Progress:
    """The sums of an evaluation, and the file they are kept in once it takes long.

    Args:
        path: the file.
        model: the model.
        rows: the rows that are scored.
        seed: seed of the sampler.
        num_samples: K that is asked for, or the largest that a tolerance may ask for; sums of more samples cannot be
            used, and stay in the file.
    """

    def __init__(self, path: Path, model: VAE, rows: Dataset, seed: int, num_samples: int) -> None:
        self.path, self.subject, self.num_samples = path, digest(model, rows, seed), num_samples
        self.written = time.monotonic()
        known = _read(path, self.subject)
        fits = known is not None and len(known.samples) == len(rows)
        usable = known is not None and fits and int(known.samples.max()) <= num_samples
        self.keeps_more = fits and not usable
        self.sums = self._continued(known) if known is not None and usable else Sums.empty(len(rows))

    @property
    def samples(self) -> int:
        """How many samples of each row are known already, on average."""
        return int(self.sums.samples.double().mean())

    def after_block(self) -> None:
        """Write the sums if the last writing is long ago."""
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Write the sums that can be continued, unless the file holds those of a larger K."""
        if self.keeps_more:
            return
        tensors = dict(vars(self._continued(self.sums)))
        tensors[f"subject-{self.subject}"] = torch.zeros(1)
        self.path.parent.mkdir(exist_ok=True)
        with replaced(self.path) as temporary:
            save_tensors(tensors, temporary)
        self.written = time.monotonic()

    def _continued(self, sums: Sums) -> Sums:
        """Return the sums of rows that are done or whose last chunk is whole; the other rows start anew."""
        rest = sums.samples % BLOCK_SAMPLES
        done = (sums.samples == self.num_samples) & (rest != 1)  # one more than a chunk: it was being added
        kept, empty = (rest == 0) | done, Sums.empty(len(rest))
        return Sums(*(torch.where(kept, getattr(sums, f.name), getattr(empty, f.name)) for f in fields(Sums)))


def digest(model: VAE, rows: Dataset, seed: int) -> str:
    """Return a digest of the weights, the rows and the seed: sums of anything else are of no use."""
    found = hashlib.sha256(str((seed, rows.split, rows.spec)).encode())
    values = [*model.state_dict().values(), *(getattr(rows, name) for name in ("x", "seen", "y", "mask"))]
    for tensor in values:
        if isinstance(tensor, Stored):  # by samples of its files, as where a run goes on
            found.update(tensor.digest())
        elif tensor is not None:
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _read(path: Path, subject: str) -> Sums | None:
    """Return the sums of a file, or None if there is none, or it is of something else or damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            if f"subject-{subject}" not in file.keys():  # noqa: SIM118 (this is no dictionary)
                return None
            return Sums(*(file.get_tensor(field.name).clone() for field in fields(Sums)))
    except (OSError, SafetensorError):
        return None
