"""Grey pixels of stored rows to 0 and 1, drawn once: a function of the seed and each row's place, computed as read."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..core.noise import Stream, mix

_AT_ONCE = 1 << 20  # values


@dataclass(frozen=True)
class Fixed:
    """Makes 0/1 pixels of stored grey ones.

    Rows that are not in memory cannot all be drawn in one go, so a pixel's draw is the splitmix64 hash of its number in
    the whole data (Steele et al. 2014): the same whichever rows are read together.

    Args:
        protocol: "drawn" with the grey value as chance, or "threshold": one half and above.
        scale: stored value that means 1.
        seed: seed of the data.
    """

    protocol: Literal["drawn", "threshold"]
    scale: int
    seed: int

    def __call__(self, x: Tensor, places: np.ndarray) -> Tensor:
        """Return 0/1 pixels `[n, *shape]` uint8 of the grey ones x, of the rows at `places` `[n]`."""
        if self.protocol == "threshold":
            return (x >= self.scale / 2).to(torch.uint8)
        rows = max(1, _AT_ONCE // max(1, x[0].numel()))
        pieces = [
            torch.from_numpy(self._draws(places[i : i + rows], x[0].numel())).view_as(part) * self.scale < part
            for i, part in zip(range(0, len(x), rows), x.split(rows), strict=True)
        ]
        return torch.cat(pieces).to(torch.uint8)

    def _draws(self, places: np.ndarray, values: int) -> np.ndarray:
        """Return numbers of [0, 1) `[n, values]`, float32, one for each value of each row."""
        start = np.uint64(mix(Stream.BINARISATION, self.seed))
        number = places.astype(np.uint64)[:, None] * np.uint64(values) + np.arange(values, dtype=np.uint64)
        state = start + (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2^64
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
        return (state >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
