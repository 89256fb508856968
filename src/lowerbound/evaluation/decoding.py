"""log p(x|z) of many samples of each row: a few rows at a time, so that what is decoded stays in the cache."""

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE, Conditional
from ..core.types import Batch

Kernels: TypeAlias = Literal["auto", "eager", "compiled"]
_AT_ONCE = 500_000  # values that a thread decodes at once: 2 MB, about the second-level cache of a core
_WORTH_COMPILING = 10_000_000_000  # values in all: a minute of work, of which it saves more than it takes

_log = logging.getLogger(__name__)
_Scorer: TypeAlias = Callable[[Conditional, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


def _score(decoder: Conditional, state: Tensor, x: Tensor, y: Tensor | None, mask: Tensor | None) -> Tensor:
    return decoder(state, y).log_prob(x, mask)


class Decoding:
    """Scores what a model decodes.

    Args:
        model: the model, in evaluation mode.
        num_samples: samples of each row in one call, K.
        rows: rows in most calls; compiled kernels are for a part of them, and what does not fit is decoded eagerly.
        total: rows times samples that will be scored, by which "auto" decides.
        kernels: "eager", "compiled" (`torch.compile`, for the CPU; eager where there is no C++ compiler), or "auto":
            compiled on the CPU where the work is worth it. Results differ by rounding only.

    Raises:
        UsageError: if there are no such kernels.
    """

    def __init__(self, model: VAE, num_samples: int, rows: int, total: int, kernels: Kernels = "auto") -> None:
        if kernels not in get_args(Kernels):
            raise UsageError(f"there are no kernels {kernels!r}", expected=", ".join(get_args(Kernels)))
        self.decoder = model.decoder
        values = max(1, torch.Size(model.decoder.network.out_shape).numel())
        on_cpu = model.device.type == "cpu"
        fitting = _AT_ONCE * torch.get_num_threads() // (num_samples * values) if on_cpu else rows
        self.step = max(n for n in range(1, rows + 1) if rows % n == 0 and n <= max(1, fitting))
        worth = on_cpu and total * values >= _WORTH_COMPILING
        self.compiled: _Scorer | None = None
        if kernels == "compiled" or (kernels == "auto" and worth):
            self.compiled = torch.compile(_score, dynamic=False, options={"fallback_random": True})

    def log_px(self, state: Tensor, batch: Batch, num_samples: int) -> Tensor:
        """Return log p(x|z) in nats, `[K, B]`, of the last groups' state `[K, B, *state]`."""
        rows = batch.x.shape[0]
        shared = state.shape[1] != rows  # one state for all rows
        parts = []
        for start in range(0, rows, self.step):
            some = slice(start, start + self.step)
            y, mask = (None if t is None else t[some] for t in (batch.y, batch.mask))
            whole = start + self.step <= rows  # other shapes would be compiled anew
            made = self._scored(state if shared else state[:, some], batch.x[some], y, mask, whole=whole)
            parts.append(made.expand(num_samples, made.shape[1]))
        return torch.cat(parts, 1)

    def _scored(self, state: Tensor, x: Tensor, y: Tensor | None, mask: Tensor | None, *, whole: bool) -> Tensor:
        if self.compiled is not None and whole:
            try:
                return self.compiled(self.decoder, state, x, y, mask)
            except RuntimeError as error:  # no C++ compiler, or a decoder that cannot be compiled
                _log.info("scoring goes on without compiling: %s", str(error).splitlines()[0])
                self.compiled = None
        return _score(self.decoder, state, x, y, mask)
