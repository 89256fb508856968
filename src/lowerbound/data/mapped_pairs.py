"""What the encoder sees beside rows that stay on disk: it stays there, too, each row beside its partner."""

from dataclasses import replace

import numpy as np
import torch

from ..core.errors import DataError, UsageError
from .arrays import seen_scale_of
from .dataset import Data, Dataset
from .mapped import Mapped
from .sources import partners
from .stored import Source, Stored
from .survey import survey


class Partners(Source):
    """The rows of a source in the order of those they are paired with.

    Args:
        source: where they lie.
        order: the place in it of the partner of each row, `[N]`; None: the same place.
        beside: what they are paired with.
    """

    def __init__(self, source: Source, order: np.ndarray | None, beside: Source) -> None:
        self.source, self.order = source, order
        self.shape, self.dtype, self.bounds, self.files = source.shape, source.dtype, beside.bounds, source.files

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the partners of the rows at `places`."""
        return self.source.read(places if self.order is None else self.order[places])


def with_seen(data: Data, found: Mapped, shown: Mapped) -> Data:
    """Return data whose encoder sees rows of `shown`; all of them are looked at once.

    Raises:
        DataError: if a partner is missing, or they have another shape or other values than their scale allows.
        UsageError: if a test split is given by itself.
    """
    if found.held or shown.held:
        raise UsageError("seen rows cannot be given beside a separate test split", fix="give all rows together")
    name, source = f"{found.name} (seen)", shown.source
    order = partners((found.name, found.source.shape[0], found.files), (shown.name, source.shape[0], shown.files))
    if source.shape[1:] != found.source.shape[1:]:
        raise DataError(
            f"what is seen of {found.name} has shape {source.shape[1:]}",
            expected=f"{found.source.shape[1:]}, as {found.name} itself",
        )
    facts = survey(source, name)
    scale = 1 if found.source.dtype == torch.uint8 else data.train.scale
    if source.dtype == torch.uint8:
        scale = seen_scale_of(torch.tensor(facts.range[1]), data.train.scale)
    if scale != 1 and not (facts.range[0] >= 0 and facts.range[1] <= scale):
        raise DataError(f"{name} has values from {facts.range[0]:g} to {facts.range[1]:g}", expected=f"0 to {scale}")
    if scale == 1:
        source.dtype = torch.float32
    rows = Partners(source, order, found.source)

    def beside(part: Dataset) -> Dataset:
        assert isinstance(part.x, Stored)
        seen = Stored(rows, part.x.chosen)
        return replace(part, seen=seen, seen_scale=scale, spec=replace(part.spec, paired=True))

    notes = (*data.notes, *shown.notes, *source.told())
    return replace(data, train=beside(data.train), valid=beside(data.valid), test=beside(data.test), notes=notes)
