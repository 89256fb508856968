"""The order of training rows: a function of seed and epoch, for rows in memory and for blocks of rows on disk."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.noise import Stream, generator


@dataclass(frozen=True)
class Order:
    """In which order an epoch visits rows.

    Without bounds it is a permutation of all rows. With bounds whole blocks are shuffled, and rows within a window of
    some blocks, so that no more than a window has to be at hand, and each block is read once.

    Args:
        count: number of rows, N.
        bounds: where blocks start, and N: `[B + 1]`, rising from 0; None if neighbours are not read together.
        window: rows of a window, at most one block more.
        sizes: rows of each block as it is read, `[B]`, others than these among them; None if there are none.
    """

    count: int
    bounds: Tensor | None = None
    window: int = 1
    sizes: Tensor | None = None

    def batches(self, seed: int, epoch: int, size: int, device: torch.device | None = None) -> Iterator[Tensor]:
        """Yield the row numbers of each batch, `[size]`, the last one shorter; each row comes once.

        >>> batches = list(Order(4, torch.tensor([0, 2, 4]), 2).batches(0, 1, 3))
        >>> [len(rows) for rows in batches], torch.cat(batches).sort().values.tolist()
        ([3, 1], [0, 1, 2, 3])
        """
        left = torch.empty(0, dtype=torch.long)
        for rows in self._windows(seed, epoch):
            rows = torch.cat([left, rows]) if len(left) else rows
            whole = len(rows) // size * size
            if whole:
                yield from rows[:whole].to(device).split(size)
            left = rows[whole:]
        if len(left):
            yield left.to(device)

    def _windows(self, seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each window in the order they are visited."""
        if self.bounds is None:
            yield torch.randperm(self.count, generator=generator(Stream.ORDER, seed, epoch))
            return
        sizes = self.bounds.diff() if self.sizes is None else self.sizes
        blocks = torch.randperm(len(sizes), generator=generator(Stream.ORDER, seed, epoch))
        before = sizes[blocks].cumsum(0) - sizes[blocks]
        windows = torch.unique_consecutive(before // self.window, return_counts=True)[1].tolist()
        for i, some in enumerate(blocks.split(windows)):
            rows = torch.cat([torch.arange(*self.bounds[b : b + 2].tolist()) for b in some.tolist()])
            yield rows[torch.randperm(len(rows), generator=generator(Stream.ORDER, seed, epoch, i + 1))]

    def some(self, wanted: int, seed: int, key: int) -> Tensor:
        """Return so many rows at random, each at most once, `[min(wanted, N)]`; blocks do not matter."""
        draws = generator(Stream.WEIGHTS, seed, key)
        if self.bounds is None or 2 * wanted >= self.count:
            return torch.randperm(self.count, generator=draws)[:wanted]
        rows = torch.randint(self.count, (wanted,), generator=draws)
        while len(known := rows.unique()) < wanted:  # a permutation of all would take 8 bytes a row
            rows = torch.cat([known, torch.randint(self.count, (wanted - len(known),), generator=draws)])
        return rows
