"""Processes that train one model together: each holds a whole copy of it and passes its part of every batch."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..core.errors import Incompatible, UsageError
from ..core.objective import Objective

T = TypeVar("T")


class Processes:
    """A process on its own; `engine.Joined` has others beside it.

    Args:
        rank: number of this process.
        size: how many there are.
        device: where it computes, if it has others beside it.
    """

    rank = 0
    size = 1
    device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """True in the process that writes the run folder and talks."""
        return self.rank == 0

    def part(self, index: Tensor) -> tuple[Tensor, int]:
        """Return which rows of a batch this process passes, and how many of them count.

        A batch of fewer rows than processes leaves some without; those pass a row that does not count.
        """
        if self.size == 1:
            return index, len(index)
        mine = index.tensor_split(self.size)[self.rank]
        return (mine, len(mine)) if len(mine) else (index[:1], 0)

    def keys(self) -> tuple[int, ...]:
        """Return what is added to the keys of a step's noise."""
        return (self.rank,) if self.size > 1 else ()

    def average(self, parameters: Sequence[nn.Parameter], rows: int, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Make each gradient the mean over the rows of all processes, and return each number's sum over processes.

        Args:
            parameters: whose gradients, each the mean over the rows of this process.
            rows: of this process that count.
            numbers: tensors of any shape.
        """
        return list(numbers)

    def add(
        self, sums: Mapping[str, Tensor], total: Tensor | float | int
    ) -> tuple[dict[str, Tensor], Tensor | float | int]:
        """Return sums over the rows of all processes, in float64."""
        return dict(sums), total

    def total(self, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Return each tensor's sum over all processes, in float64."""
        return [number.detach().double() for number in numbers]

    def answering(self) -> AbstractContextManager[None]:
        """Return a context in which an exchange that another process does not answer raises ProcessLost."""
        return nullcontext()

    def agree(self, *numbers: int) -> tuple[int, ...]:
        """Return the largest of each number in any process."""
        return numbers

    def same(self, *modules: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first."""

    def from_first(self, made: Callable[[], T]) -> T:
        """Return in all processes what `made` returns in the first, which alone calls it."""
        return made()


ALONE = Processes()


@dataclass(frozen=True)
class Launched:
    """What torchrun, or `lowerbound train --devices N`, says of the process it started.

    Args:
        rank: number of this process.
        size: number of all processes.
        here: number of processes on this machine.
    """

    rank: int
    size: int
    here: int

    @property
    def machines(self) -> int:
        """Number of machines."""
        return self.size // self.here

    @classmethod
    def found(cls) -> "Launched | None":
        """Return what the environment says; None if this process was started by itself."""
        if not torch.distributed.is_available() or not torch.distributed.is_torchelastic_launched():
            return None
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))


def join(devices: int | None, device: str, seconds: float) -> Processes:
    """Return the processes that this one was started with; `ALONE` if there are none.

    Args:
        devices: how many there should be; None takes them as they are.
        device: "auto", "cpu", "cuda", ...
        seconds: that an exchange between them may take.

    Raises:
        UsageError: if there are others than asked for, or Lightning Fabric is not installed.
        ProcessLost: if another one does not come.
    """
    launched = Launched.found()
    size = 1 if launched is None else launched.size
    if devices is not None and devices != size:
        raise UsageError(
            f"{devices} devices were asked for, and there {'are' if size > 1 else 'is'} {size} "
            f"process{'es' if size > 1 else ''}",
            fix=f"start the script by torchrun --nproc-per-node={devices} SCRIPT, or use lowerbound train --devices",
        )
    if not 0 < seconds < math.inf:
        raise UsageError(f"processes cannot wait {seconds} seconds for each other", expected="a number above 0")
    if launched is None or size == 1:
        return ALONE
    check_installed()
    from .engine import Joined

    return Joined(launched, device, seconds)


def check_installed() -> None:
    """Raise UsageError unless Lightning Fabric is there."""
    if find_spec("lightning_fabric") is None:
        raise UsageError(
            "training in several processes needs Lightning Fabric", fix='pip install "lowerbound[distributed]"'
        )


def check_divisible(objective: Objective, why: str) -> None:
    """Raise Incompatible if an objective needs all rows of a batch at once, and so cannot be divided for `why`."""
    if objective.couples_batch:
        raise Incompatible(
            f"{type(objective).__name__} compares the codes of a whole batch with each other: it is not divided {why}",
            fix="train it in one process without --micro-batch, or with a smaller --batch-size",
        )


def packed(parameters: Sequence[nn.Parameter], rows: int, numbers: Sequence[Tensor]) -> Tensor:
    """Return one vector: gradients times rows, which of them there are, the numbers, and the number of rows."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad * rows for p in parameters]
    there = [*(float(p.grad is not None) for p in parameters), float(rows)]
    flags = torch.tensor(there, device=parameters[0].device)
    return torch.cat([*(g.flatten() for g in gradients), flags[:-1], *(n.flatten() for n in numbers), flags[-1:]])


def unpack(parameters: Sequence[nn.Parameter], summed: Tensor, numbers: Sequence[Tensor]) -> list[Tensor]:
    """Put mean gradients into the parameters from such a vector, summed over processes; return the summed `numbers`.

    A parameter without a gradient in any process keeps none, so that no optimiser moves it.
    """
    sizes = [p.numel() for p in parameters]
    values, rest = summed[: sum(sizes)] / summed[-1], summed[sum(sizes) : -1]
    for i, (parameter, value) in enumerate(zip(parameters, values.split(sizes), strict=True)):
        if parameter.grad is not None or bool(rest[i]):
            parameter.grad = value.view_as(parameter).to(parameter)
    each = rest[len(sizes) :].split([n.numel() for n in numbers])
    return [total.view_as(number) for total, number in zip(each, numbers, strict=True)]
